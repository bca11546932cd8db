"""The prior's adversarial training at a toy size, with landmark maps and without; the maps themselves."""

from __future__ import annotations

import dataclasses

import lightning as L
import pytest
import torch

from avatarzoo.data.clip_pairs_modules import ProceduralClipPairsDataModule
from avatarzoo.data.procedural_people import portrait_cameras
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import project
from avatarzoo.models.invertavatar.contours import contour_maps
from avatarzoo.models.invertavatar.gan import AnimatableTraining
from avatarzoo.priors import AnimatableTriPlaneGenerator, load_generator


@pytest.fixture(scope="module")
def data():
    return ProceduralClipPairsDataModule(people=2, held_out=1, length=3, size=32, batch_size=2)


@pytest.fixture
def changes(prior_file):
    config = load_generator(prior_file).config
    default = dataclasses.asdict(type(config)())
    return {k: v for k, v in dataclasses.asdict(config).items() if default[k] != v}


@pytest.mark.parametrize("contours", [True, False])
def test_it_trains_and_exports(changes, data, tmp_path, contours):
    module = AnimatableTraining(changes=changes, contours=contours, neural_start=None, seed=2)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    moved = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    for part in (
        "generator.texture_backbone.",
        "generator.face_backbone.",
        "generator.backbone.",
        "average.",
    ):
        assert any(k.startswith(part) for k in moved), part
    assert module.discriminator.blocks["32"].from_rgb.weight.shape[1] == (9 if contours else 6)
    assert isinstance(load_generator(module.export(tmp_path)), AnimatableTriPlaneGenerator)


def test_the_drawn_landmarks_lie_on_the_face(head):
    params = head.zeros(2)
    params.expression[1, head.expression_names.index("jawOpen")] = 1
    camera = portrait_cameras(torch.zeros(2), torch.zeros(2), 128)
    maps = contour_maps(head, params, camera, 128)
    assert set(maps.unique().tolist()) == {-1.0, 1.0}
    red, green, blue = (maps > 0).unbind(1)
    assert not (red & green).any()
    assert not (blue & green).any()
    points = project(head.landmark_points(head(params)), camera)[..., :2]
    for i in range(2):
        pupil = points[i, 468].round().long()
        assert red[i, pupil[1], pupil[0]]
        corner = points[i, 291].floor().long()
        assert blue[i, corner[1] - 1 : corner[1] + 2, corner[0] - 1 : corner[0] + 2].any()
    rows = [blue[i].any(1).nonzero()[:, 0] for i in range(2)]
    assert rows[1].max() > rows[0].max() + 3  # the open mouth reaches further down


def test_wrong_options_are_one_sentence(changes):
    with pytest.raises(UsageError, match="no field"):
        AnimatableTraining(changes={"plane_side": 3})
