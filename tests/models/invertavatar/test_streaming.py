"""Reconstruction from one, several and many pictures; states; bad pictures. Weights are random: numbers mean nothing, rules do."""

from __future__ import annotations

import time
import warnings
from itertools import pairwise

import pytest
import torch

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.clip_pairs_procedural import draw_clip
from avatarzoo.errors import HeadModelMismatchError, NoFaceError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.models import AvatarState

FRAMES = 6


@pytest.fixture(scope="module")
def clip() -> AvatarBatch:
    frames = draw_clip(3, FRAMES, 32, 1.0)
    return AvatarBatch(image=frames.images.float() / 255, params=frames.params, camera=frames.camera)


@pytest.fixture(scope="module")
def stranger() -> AvatarBatch:
    frames = draw_clip(8, 2, 32, 1.0)
    return AvatarBatch(image=frames.images.float() / 255, params=frames.params, camera=frames.camera)


@pytest.fixture(scope="module")
def model(prior_file):
    from avatarzoo.models.invertavatar import InvertAvatar

    module = InvertAvatar(prior=str(prior_file), seed=1).eval()
    torch.manual_seed(2)
    for encoder in (module.networks.encoders.texture, module.networks.encoders.triplane):
        for name, parameter in encoder.named_parameters():
            if "unet" not in name:  # heads that say something
                parameter.data.add_(0.05 * torch.randn_like(parameter))
    return module


def some(clip: AvatarBatch, *rows: int) -> AvatarBatch:
    index = torch.tensor(rows)
    return AvatarBatch(
        image=clip["image"][index], params=clip["params"].rows(index), camera=clip["camera"].rows(index)
    )


def picture(model, state: AvatarState, clip: AvatarBatch) -> torch.Tensor:
    return model.animate(state, clip["params"].rows(slice(0, 2)), look_at_face(size=40)).rgb


def all_of(state: AvatarState) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.tensors.items() if not k.startswith("networks.")}


def test_every_further_picture_changes_the_person(model, clip):
    states = [model.start(some(clip, 0))]
    for row in range(1, 4):
        states.append(model.update(states[-1], some(clip, row)))
    pictures = [picture(model, s, clip) for s in states]
    assert [s.meta["frames"] for s in states] == [1, 2, 3, 4]
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(pictures))
    codes = [s.tensors["codes"] for s in states]
    assert all(torch.equal(codes[0], c) for c in codes)  # the first picture gives the code


def test_one_by_one_is_nearly_all_at_once(model, clip):
    """Blocks read all frames of a pass before the next block starts, so the two differ a little; a chunk of one does not."""
    state = model.start(some(clip, 0))
    for row in range(1, 4):
        state = model.update(state, some(clip, row))
    whole = model.start(some(clip, 0, 1, 2, 3))
    other = model.start(some(clip, 0, 3, 2, 1))
    name = "memory.texture.3"
    step = (whole.tensors[name] - state.tensors[name]).abs().mean()
    assert step < 0.5 * (whole.tensors[name] - model.start(some(clip, 0)).tensors[name]).abs().mean()
    assert not torch.equal(whole.tensors[name], other.tensors[name])
    model.hparams["chunk"] = 1
    again = model.start(some(clip, 0, 1, 2, 3))
    model.hparams["chunk"] = 4
    for name, tensor in all_of(again).items():
        torch.testing.assert_close(tensor, state.tensors[name], atol=2e-5, rtol=1e-4)


def test_states_are_repeatable_and_survive_a_file(model, clip, tmp_path):
    state = model.start(some(clip, 0, 1))
    again = model.start(some(clip, 0, 1))
    assert all(torch.equal(x, again.tensors[k]) for k, x in state.tensors.items())
    read = AvatarState.load(state.save(tmp_path / "person.safetensors"))
    direct, after = (model.update(s, some(clip, 2)) for s in (state, read))
    assert all(torch.equal(x, after.tensors[k]) for k, x in direct.tensors.items())
    assert torch.equal(picture(model, direct, clip), picture(model, after, clip))


def test_pictures_do_not_depend_on_their_batch(model, clip):
    state = model.start(some(clip, 0))
    params, camera = clip["params"].rows(slice(0, 3)), clip["camera"].rows(slice(0, 3))
    together = model.animate(state, params, camera)
    for i in range(3):
        alone = model.animate(state, params.rows(i), camera.rows([i]))
        assert (alone.rgb - together.rgb[i : i + 1]).abs().max() < 1e-4


def test_the_driver_lends_everything_but_shape(model, clip, stranger):
    state = model.start(some(clip, 0))
    params = stranger["params"].rows(slice(0, 1))
    own = params._replace(identity=clip["params"].identity[:1])
    camera = look_at_face(size=40)
    assert (
        model.animate(state, params, camera).rgb - model.animate(state, own, camera).rgb
    ).abs().max() < 1e-5


def test_untrained_second_stage_changes_nothing(build, clip):
    """Identity start: until it learns, the whole chain is E_latent's avatar, whatever the number of pictures."""
    module = build().eval()
    state = module.start(some(clip, 0, 1, 2))
    coarse = module.networks.coarse(state.tensors["codes"])
    for i in range(4):
        assert torch.equal(state.tensors[f"texture.{i}"], coarse.features.texture[i])
        torch.testing.assert_close(state.tensors[f"static.{i}"], coarse.features.static[i])


def test_one_shot_models_average(build, clip):
    module = build(stage="image").eval()
    one, two, both = (module.start(some(clip, *rows)) for rows in ((0,), (1,), (0, 1)))
    mean = (one.tensors["texture.1"] + two.tensors["texture.1"]) / 2
    torch.testing.assert_close(both.tensors["texture.1"], mean)
    streamed = module.update(one, some(clip, 1))
    torch.testing.assert_close(streamed.tensors["codes"], both.tensors["codes"])


@pytest.mark.parametrize("aggregation", ["conv", "attention"])
def test_fixed_windows(build, clip, aggregation):
    module = build(aggregation=aggregation).eval()
    assert module.start(some(clip, *range(FRAMES))).meta["frames"] == FRAMES


def test_many_pictures_cost_the_same_each(model, clip):
    """Bar 6 and bar 4: the state does not grow, nor does the time of a picture."""
    state = model.start(some(clip, 0))
    size = sum(x.numel() for x in state.tensors.values())
    spent = []
    for row in range(12):
        began = time.process_time()
        state = model.update(state, some(clip, row % FRAMES))
        spent.append(time.process_time() - began)
    assert sum(x.numel() for x in state.tensors.values()) == size
    assert min(spent[6:]) < 2 * min(spent[:6])


def test_pictures_without_a_face_are_skipped_and_counted(model, clip):
    broken = some(clip, 0, 1, 2)
    broken["params"].expression[1] = torch.nan
    with pytest.warns(UserWarning, match="1 of 3 pictures show no face"):
        state = model.start(broken)
    assert (state.meta["frames"], state.meta["skipped"]) == (2, 1)
    good = model.start(some(clip, 0, 2))
    assert torch.equal(state.tensors["memory.triplane.0"], good.tensors["memory.triplane.0"])
    with pytest.warns(UserWarning, match="no face"):
        later = model.update(good, some(broken, 1))
    assert later.meta["skipped"] == 1
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(NoFaceError, match="None of the 1 pictures"),
    ):
        model.start(some(broken, 1))


def test_different_people_are_warned_of(model, clip, stranger):
    state = model.start(some(clip, 0))
    with pytest.warns(UserWarning, match="different people"):
        model.update(state, stranger)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy = some(clip, 1)
        noisy["params"] = noisy["params"]._replace(identity=noisy["params"].identity + 0.05)
        model.update(state, noisy)


def test_wrong_use_is_one_sentence(model, clip):
    with pytest.raises(UsageError, match="at least one picture"):
        model.reconstruct(clip["image"][:0], clip["params"].rows(slice(0, 0)), clip["camera"])
    with pytest.raises(UsageError, match="tracked head parameters"):
        model.reconstruct(clip["image"])
    foreign = HeadParams(*(x[:1] for x in clip["params"]))._replace(identity=torch.zeros(1, 7))
    with pytest.raises(HeadModelMismatchError, match="7 identity"):
        model.animate(model.start(some(clip, 0)), foreign, look_at_face(size=32))
