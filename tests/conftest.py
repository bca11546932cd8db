"""What all tests share: one core a worker, and one smoke run of each method."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:  # so are the programs that its tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported


@pytest.fixture(scope="session", autouse=True)
def settings_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Signing what is written leaves no key in the user's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVATARZOO_CONFIG", str(tmp_path_factory.mktemp("settings")))
        yield


def smoke_config(method: type) -> Path:
    """Of the method's folder."""
    return ROOT / "configs" / method.__module__.split(".")[2] / "smoke.yaml"


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type], Path]:
    """Folder in which a method's smoke configuration was trained, once for all tests and workers; ``printed.txt`` is what it said.

    Nobody writes into it.
    """
    from filelock import FileLock

    from avatarzoo.apps.training import AvatarCLI

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def trained(method: type) -> Path:
        folder = shared / f"smoke_{method.__name__}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "printed.txt").exists():
                folder.mkdir()  # a run that failed fails the others at once
                options = ["--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"]
                with (folder / "printing.txt").open("w") as file, contextlib.redirect_stdout(file):
                    AvatarCLI.launch("fit", ["-c", str(smoke_config(method)), *options])
                (folder / "printing.txt").rename(folder / "printed.txt")
        return folder

    return trained


@pytest.fixture(scope="session")
def fifth_method(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What ``pip install examples/fifth_method`` leaves, without a network: the package, and its metadata beside it."""
    import tomllib

    example, site = ROOT / "examples" / "fifth_method", tmp_path_factory.mktemp("site")
    shutil.copytree(example / "painted_head", site / "painted_head")
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    info = site / f"painted_head-{project['version']}.dist-info"
    info.mkdir()
    facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(facts)
    named = "".join(
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(named)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield example
