"""The notebook's cells run, one after the other, on avatars that the smoke configurations trained."""

from __future__ import annotations

import json
import shutil

import pytest
from doc_blocks import ROOT

from avatarzoo.models import METHODS


def cells():
    found = json.loads((ROOT / "docs" / "avatarzoo.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_its_code_compiles_and_its_results_are_shown():
    for number, cell in enumerate(cells()):
        compile(cell, f"cell {number}", "exec")
    stored = json.loads((ROOT / "docs" / "avatarzoo.ipynb").read_text())["cells"]
    assert any("image/png" in out.get("data", {}) for cell in stored for out in cell.get("outputs", []))


@pytest.mark.slow
def test_all_cells_run(at_the_desk, smoke_run):
    import matplotlib

    matplotlib.use("Agg")
    for method in METHODS:
        shutil.copytree(smoke_run(method), at_the_desk / "runs" / "notebook" / method.__name__)
    names: dict = {}
    for number, cell in enumerate(cells()):
        exec(compile(cell, f"cell {number}", "exec"), names)
    pictures = names["pictures"]
    assert set(pictures) == {m.__name__ for m in METHODS}
    for frames in pictures.values():
        assert (frames[3:] - frames[:1]).abs().amax(
            (1, 2, 3)
        ).min() > 0.02  # turned heads, even of what has hardly learnt
