"""Heads that the tests of the methods share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.heads.procedural import ProceduralHead

GRID = 33
"""Vertices a side of the stand-in's sheet."""


class SheetFlame(HeadModel):
    """Named like FLAME, made of nothing of it: a bent sheet whose texture fills the square, with a slit for the lips."""

    name, version, source_hash = "flame", "stand-in", "00"
    n_identity, n_expression = 1, 2
    expression_names = ("exp_000", "exp_001")
    expression_bounds = None

    def __init__(self) -> None:
        super().__init__()
        row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        u, v = column.flatten() / (GRID - 1), 1 - row.flatten() / (GRID - 1)
        self.uv = torch.stack([u, v], -1)
        self.v_template = torch.stack([0.2 * (u - 0.5), 0.25 * (v - 0.5), 0.1 - 0.3 * (u - 0.5) ** 2], -1)
        a = (row[:-1, :-1] * GRID + column[:-1, :-1]).flatten()
        self.faces = torch.cat(
            [torch.stack([a, a + GRID, a + GRID + 1], -1), torch.stack([a, a + GRID + 1, a + 1], -1)]
        )
        self.uv_faces = self.faces
        self.vertex_regions, self.face_regions = {}, {"skin": torch.arange(len(self.faces))}

    def mouth_loop(self) -> tuple[Tensor, Tensor]:
        """19 vertices above and 15 below, corners shared, smallest x first, as many as FLAME has."""
        upper = 22 * GRID + torch.arange(7, 26)
        below = 23 * GRID + torch.arange(9, 22)
        return upper, torch.cat([upper[:1], below, upper[-1:]])

    def forward(self, params: HeadParams) -> Tensor:
        bend = torch.zeros_like(self.v_template)
        bend[:, 1] = self.v_template[:, 0].square()
        return self.v_template + params.expression[:, :1, None] * bend + params.translation[:, None]

    def linear_basis(self):
        raise NotImplementedError

    def landmarks(self):
        raise NotImplementedError

    def joints(self, params: HeadParams) -> dict[str, Tensor]:
        eye = torch.tensor([[0.03, 0.02, 0.1]]).expand(params.batch, 3)
        return {
            "eye_left": eye,
            "eye_right": eye * eye.new_tensor([-1, 1, 1]),
            "neck": 0 * eye,
            "jaw": 0 * eye,
        }


@pytest.fixture(scope="session")
def head() -> ProceduralHead:
    return ProceduralHead()


@pytest.fixture(scope="session")
def sheet() -> SheetFlame:
    return SheetFlame()


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path, request: pytest.FixtureRequest) -> None:
    """Tests neither read nor write the user's folders, unless they say so."""
    if "assets" not in request.keywords:
        monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
        monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))
