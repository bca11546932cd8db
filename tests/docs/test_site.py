"""The documentation site builds without a warning and holds what it promises."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from doc_blocks import ROOT

from avatarzoo import cli
from avatarzoo.assets import ASSETS


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return folder


def environment():
    import os

    return {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's remark about a later release of mkdocs


def test_every_page_of_the_menu_is_there(site):
    menu = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert len(menu) >= 20
    assert [page for page in menu if not (site / page).with_suffix(".html").is_file()] == []


def test_pictures_are_there(site):
    shown = 0
    for page in site.rglob("*.html"):
        for source in re.findall(r'<img [^>]*src="([^"]+)"', page.read_text()):
            assert (page.parent / source).is_file(), (page, source)
            shown += 1
    assert shown >= 8


def test_the_command_line_comes_from_the_parsers(site):
    text = (site / "reference" / "cli.html").read_text()
    for name in (*cli.APPS, *cli.TRAINING):
        assert f'id="avatarzoo-{name}"' in text
    for option in (
        "--foreground-window",
        "--no-credentials",
        "--predictions",
        "--expect",
        "--consent-statement",
    ):
        assert option in text


def test_files_and_configurations_come_from_the_code(site):
    files, configs = ((site / "reference" / f"{name}.html").read_text() for name in ("assets", "configs"))
    assert [name for name in ASSETS if f"<code>{name}</code>" not in files] == []
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert str(path.relative_to(ROOT)) in configs


def test_cards_say_what_has_to_be_said(site):
    for page in (ROOT / "docs" / "methods").glob("[!a]*.md"):
        text = page.read_text()
        for wanted in ("what it is", "goes in", "## Measured", "## Known limits", "<!-- card: "):
            assert wanted in text, (page, wanted)
        built = (site / "methods" / page.name).with_suffix(".html").read_text()
        assert "<!-- card" not in built
        assert "Licence" in built


def test_configuration_of_the_site_is_plain():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False  # the site asks no other server for anything
    assert "repo_url" not in settings
