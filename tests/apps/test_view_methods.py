"""``avatarzoo view`` with a checkpoint of every method: sliders, the camera and a driver move its picture."""

from __future__ import annotations

import numpy as np
import pytest

from avatarzoo.apps import view
from avatarzoo.apps.drive_driver import kind_of
from avatarzoo.apps.view_stage import Request, View
from avatarzoo.models import METHODS, load_avatar

# a picture of a volume takes a second on a CPU
EVERY = [pytest.param(m, id=m.__name__, marks=[pytest.mark.slow] * m.takes_pictures) for m in METHODS]
SIZE = 64


@pytest.mark.parametrize("method", EVERY)
def test_every_method_is_shown(method, smoke_run, tmp_path):
    checkpoint = smoke_run(method) / "avatar.ckpt"
    head = load_avatar(checkpoint).head
    translation = np.zeros((5, 3), np.float32)
    translation[:, 0] = np.linspace(0, 0.05, 5)
    np.savez(tmp_path / "moves.npz", translation=translation, fps=np.float32(10))
    who = ["--seed", "0"] if method.takes_pictures else []
    options = [
        "--with",
        str(tmp_path / "moves.npz"),
        "--size",
        str(SIZE),
        "--device",
        "cpu",
        "--no-credentials",
    ]
    args = view.parser().parse_args([str(checkpoint), *who, *options])
    studio, fps, size = view.studio_of(args, kind_of(args.driver))
    assert (fps, size, studio.frames) == (10, SIZE, 5)
    assert {c.label for c in studio.sitters[0].controls} >= {"Open mouth", "Look sideways", "Turn head"}
    assert len(studio.sitters[0].controls) > head.n_expression

    rest = Request(View.home(studio.fov), {}, None, (0,), True, SIZE)
    nearer = View.of_pose(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 70.0]), studio.fov)

    def drawn(request):
        (picture,) = studio.draw(request)
        assert picture.shape == (SIZE, SIZE, 3)
        return picture.astype(int)

    first = drawn(rest)
    assert np.ptp(first) > 20
    for other in (
        rest._replace(values={("", "Turn head"): 30.0}),
        rest._replace(view=nearer),
        rest._replace(frame=4),
    ):
        assert np.abs(drawn(other) - first).max() > 15
