"""Every protocol loads, fills the columns its paper prints under the printed names, and marks what is ours."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from avatarzoo import metrics
from avatarzoo.data.layouts import LAYOUTS, select
from avatarzoo.data.splits import load_split
from avatarzoo.errors import UsageError
from avatarzoo.evaluation.asked_pose import AskedPoseDistance
from avatarzoo.evaluation.baselines import BASELINES
from avatarzoo.evaluation.protocol import MetricSpec, Part, Protocol, Row, load_protocol
from avatarzoo.evaluation.published import load_published, published_table
from avatarzoo.evaluation.scoring import COST_METRICS
from avatarzoo.models import METHODS, GaussianReconstruction

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "protocols"
PROTOCOLS = {path.stem: load_protocol(path) for path in sorted(FOLDER.glob("*.yaml"))}
EACH = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))

FIGURES = {
    "dejavu_figure4", "dejavu_figure6", "dejavu_figure11", "invertavatar_figure6", "invertavatar_figure12"
}  # fmt: skip
STEMS = {
    "gaussian_dejavu": "dejavu", "gaussian_dejavu_supplement": "dejavu_supplement", "nofaplusplus": "nofaplusplus",
    "invertavatar": "invertavatar", "styleavatar": "styleavatar",
}  # fmt: skip
ROLES = {
    "reconstruction": {"images"}, "self_reenactment": {"clips"}, "cross_reenactment": {"sources", "drivers"},
    "few_shot": {"clips"}, "novel_view": {"views"}, "audio_driven": {"sources", "audio"}, "generation": {"conditions"},
    "novelty": {"train", "drivers"}, "convergence": {"clips"}, "features": set(),
}  # fmt: skip
SETTINGS = {
    "reconstruction": set(), "self_reenactment": {"source", "drive_frames", "train_fraction", "subset_names"},
    "cross_reenactment": {"pairing", "pairs", "seed", "drive_frames", "spread", "transfer"},
    "few_shot": {"counts", "source_range", "test_range", "order", "seed"}, "novel_view": {"source_view"},
    "audio_driven": {"pairing", "pairs", "seed", "frames", "yaw_degrees"}, "generation": {"people", "conditions", "seed"},
    "novelty": {"train_fraction"}, "convergence": {"train_fraction", "every"}, "features": set(),
}  # fmt: skip
CLASSES = {
    "l1": metrics.L1, "psnr": metrics.PSNR, "ssim": metrics.SSIM, "msssim": metrics.MSSSIM, "lpips": metrics.LPIPS, "fid": metrics.FID,
    "frechet_face": metrics.FaceFrechetDistance, "csim": metrics.CSIM, "akd": metrics.AKD, "aed": metrics.AED, "apd": metrics.APD,
    "jitter": metrics.Jitter, "warped_error": metrics.WarpedError, "csim_pairs": metrics.PairwiseCSIM, "apd_asked": AskedPoseDistance,
}  # fmt: skip
STUDY_METRICS = {"features", "novelty_translation", "novelty_rotation", "novelty_expression"}
COMING = {"GaussianDejaVu", "GaussianReconstruction", "NOFAPlusPlus", "InvertAvatar", "StyleAvatar", "Next3D"}
"""Methods that rows may name; those that this version lacks are reported as absent by the runner."""


def titles(part: Part, spec: MetricSpec) -> list[str]:
    """Names of a column in the table, with a group of cases written out by the part's ``subset_names``."""
    if not part.group or not spec.grouped:
        return [spec.column]
    names = part.settings.get("subset_names", {"": "{subset}"}).values()
    return [f"{part.group.replace('{subset}', name)} / {spec.column}" for name in names]


def columns(protocol: Protocol, extra: bool) -> list[str]:
    return [
        title for part in protocol.parts for spec in part.metrics if spec.extra == extra for title in titles(part, spec)
    ]  # fmt: skip


def printed(protocol: Protocol) -> tuple[set[str], set[str]]:
    """Rows and columns of the published table; a feature table's methods are its columns and count as both ways round."""
    table = published_table(protocol.paper, protocol.table)
    rows, names = set(table), {cell for cells in table.values() for cell in cells}
    return (names, {"Ours"}) if protocol.parts[0].task == "features" else (rows, names - {"*"})


def test_every_published_table_has_a_protocol() -> None:
    wanted = {f"{STEMS[entry.paper]}_{entry.table}" for entry in load_published()}
    assert set(PROTOCOLS) == wanted | FIGURES
    assert {name for name, p in PROTOCOLS.items() if not p.table} == FIGURES
    assert all(name == f"{STEMS[p.paper]}_{p.table}" for name, p in PROTOCOLS.items() if p.table)


@EACH
def test_printed_columns_are_filled_and_ours_are_marked(protocol: Protocol) -> None:
    paper = printed(protocol)[1] if protocol.table else set()
    assert set(columns(protocol, extra=False)) == paper
    assert not set(columns(protocol, extra=True)) & paper


@EACH
def test_column_names_are_unique(protocol: Protocol) -> None:
    names = columns(protocol, extra=False) + columns(protocol, extra=True)
    assert len(names) == len(set(names))


@EACH
def test_rows_are_those_of_the_paper_or_marked_as_ours(protocol: Protocol) -> None:
    paper = printed(protocol)[0] if protocol.table else None
    for rows in (protocol.rows, protocol.twin.rows):
        assert len({row.row for row in rows}) == len(rows)
        for row in rows if paper is not None else ():
            assert (row.row in paper) != row.extra, row.row


@EACH
def test_every_choice_is_explained(protocol: Protocol) -> None:
    choices = protocol.open_choices
    assert choices
    assert all(c.choice and c.paper and c.ours for c in choices)
    assert len({c.choice for c in choices}) == len(choices)
    said = " ".join(c.choice for c in choices)
    used = {spec.metric for part in protocol.parts for spec in part.metrics}
    needed = {"lpips": "LPIPS", "ssim": "SSIM", "fid": "FID", "csim": "CSIM", "akd": "AKD", "aed": "AED"}
    printed_metrics = {s.metric for p in protocol.parts for s in p.metrics if not s.extra}
    missing = [
        words for metric, words in needed.items() if metric in printed_metrics & used and words not in said
    ]
    assert not missing


@EACH
def test_parts_are_complete(protocol: Protocol) -> None:
    for part in protocol.parts:
        assert {role.partition("/")[0] for role in part.data} == ROLES[part.task] | (
            {"train"} if part.settings.get("source") == "other_clip" else set()
        )
        assert set(part.settings) <= SETTINGS[part.task]
        for spec in part.data.values():
            assert spec.layout in LAYOUTS
            assert spec.what
            assert set(spec.select) <= set(inspect.signature(select).parameters) - {"items"}
    assert set(protocol.twin.settings) <= set().union(*(SETTINGS[part.task] for part in protocol.parts))


@EACH
def test_metrics_exist_and_take_their_options(protocol: Protocol) -> None:
    for part in protocol.parts:
        for spec in part.metrics:
            known = spec.metric in CLASSES or spec.metric in COST_METRICS or spec.metric in STUDY_METRICS
            assert known, spec.metric
            allowed = {"estimator"} if spec.metric in ("aed", "apd") else set()
            if spec.metric in CLASSES:
                allowed |= set(inspect.signature(CLASSES[spec.metric]).parameters)
            assert set(spec.options) <= allowed, spec.column
            if spec.metric in ("lpips", "ssim", "akd"):
                assert spec.options, f"{spec.column} does not state its preset"
            if spec.metric in ("fid", "frechet_face"):
                assert spec.against, f"{spec.column} does not state its reference set"


@EACH
def test_methods_and_configs_exist(protocol: Protocol) -> None:
    here = {method.__name__: method for method in (*METHODS, GaussianReconstruction)}
    for row in (*protocol.rows, *protocol.twin.rows):
        assert row.method in COMING | set(BASELINES), row.method
        if row.fit:
            config = yaml.safe_load((FOLDER.parents[1] / row.fit).read_text())
            assert config["model"]["class_path"].endswith(f".{row.method}")
        kind = {**here, **BASELINES}.get(row.method)
        if kind is not None:
            assert set(row.model) <= set(inspect.signature(kind).parameters), row.row


@EACH
def test_twins_are_small_and_run_what_is_here(protocol: Protocol) -> None:
    twin = protocol.twin
    assert twin.people <= 8
    assert twin.frames <= 30
    assert twin.size <= 192
    trained = {"GaussianReconstruction"} | set(BASELINES)
    here = {method.__name__ for method in METHODS} | trained
    if protocol.parts[0].task == "novelty":
        assert not twin.rows  # no method is asked
        return
    assert twin.rows
    assert all(row.method in here for row in twin.rows)
    assert all(row.fit.endswith("smoke.yaml") for row in twin.rows if row.method not in trained)


@EACH
def test_baselines_keep_the_background_the_protocol_keeps(protocol: Protocol) -> None:
    for row in (*protocol.rows, *protocol.twin.rows):
        if row.method in BASELINES:
            assert row.model.get("background", 1.0) == protocol.picture.ground


def test_reconstruction_does_not_ask_for_copies() -> None:
    for protocol in PROTOCOLS.values():
        if protocol.parts[0].task == "reconstruction":
            assert not [
                row
                for row in (*protocol.rows, *protocol.twin.rows)
                if row.method in ("SourceCopy", "NearestSample")
            ]


def test_frozen_lists_are_those_of_the_data_package() -> None:
    names = load_split("hdtf_styleheat_19").names
    sets = [part.data for part in PROTOCOLS["invertavatar_table2"].parts]
    hdtf = [spec for data in sets for spec in data.values() if spec.layout == "hdtf"]
    assert len(hdtf) == 4
    assert all(tuple(spec.select["names"]) == names for spec in hdtf)
    subjects = load_split("pointavatar_dejavu")
    part = PROTOCOLS["dejavu_table4"].parts[0]
    assert part.data["clips"].select["identities"] == list(subjects.identities)
    assert part.settings["train_fraction"] == subjects.train_fraction


def test_counts_of_the_papers() -> None:
    def count(name: str, part: int, role: str, key: str = "count") -> int:
        return PROTOCOLS[name].parts[part].data[role].select[key]

    assert count("dejavu_table2", 0, "images") == 550
    assert count("dejavu_table3", 0, "images", "first") == 1000
    clips = PROTOCOLS["nofaplusplus_table1"].parts[0].data
    assert sum(spec.select["count"] * spec.frames for spec in clips.values()) == 12_000
    assert sum(count("nofaplusplus_table1", 1, f"sources/{s}") for s in ("ffhq", "lpff")) == 2000
    assert sum(count("nofaplusplus_table2", 0, f"sources/{s}") for s in ("ffhq", "lpff")) == 100
    celeba = PROTOCOLS["invertavatar_table2"].parts[2]
    clips = 19 + celeba.data["drivers/vfhq"].select["count"]
    assert celeba.data["sources"].select["count"] * clips * celeba.settings["drive_frames"] == 100_000
    for name in ("invertavatar_table1", "invertavatar_table5"):
        quality, animation = (part.settings for part in PROTOCOLS[name].parts)
        assert quality["people"] * quality["conditions"] == 50_000
        assert animation["people"] * animation["conditions"] == 10_000


@pytest.mark.parametrize(
    ("change", "word"),
    [({"colour": 1}, "colour"), ({"version": None, "parts": 3}, "parts"), ({"picture": {"sise": 3}}, "sise")],
)
def test_unknown_keys_are_errors_that_name_the_place(tmp_path: Path, change: dict, word: str) -> None:
    content = yaml.safe_load((FOLDER / "styleavatar_table5.yaml").read_text()) | change
    path = tmp_path / "styleavatar_table5.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=word):
        load_protocol(path)


def test_the_file_names_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text((FOLDER / "styleavatar_table5.yaml").read_text())
    with pytest.raises(UsageError, match="other"):
        load_protocol(path)


def test_parts_do_not_fill_the_same_column(tmp_path: Path) -> None:
    content = yaml.safe_load((FOLDER / "invertavatar_figure12.yaml").read_text())
    for part in content["parts"]:
        part["group"] = "{subset}"
    path = tmp_path / "invertavatar_figure12.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match="'ordered' and 'shuffled' both fill"):
        load_protocol(path)


def test_the_hash_changes_with_what_is_measured(tmp_path: Path) -> None:
    text = (FOLDER / "dejavu_table2.yaml").read_text()
    path = tmp_path / "dejavu_table2.yaml"
    path.write_text(text + "# a comment\n")
    assert load_protocol(path).hash == PROTOCOLS["dejavu_table2"].hash
    path.write_text(text.replace("net: alex", "net: vgg", 1))
    assert load_protocol(path).hash != PROTOCOLS["dejavu_table2"].hash


def test_rows_have_no_surprising_defaults() -> None:
    row = Row("Ours", "GaussianDejaVu")
    assert (row.fit, row.model, row.extra) == ("", {}, False)
