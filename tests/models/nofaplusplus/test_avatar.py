"""From a picture to a driven head: crops, states, adaptation, made-up people, speech."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatarzoo.data.procedural_people import HEAD_CENTRE, portrait_cameras
from avatarzoo.errors import MissingAssetError, UsageError
from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.models import AvatarState, load_avatar
from avatarzoo.models.nofaplusplus.adaptation import Schedule, adapt_feature
from avatarzoo.models.nofaplusplus.pairs import cropped
from avatarzoo.models.nofaplusplus.person import cleared
from avatarzoo.networks.ops import resize
from avatarzoo.perception.speech import Speech
from avatarzoo.priors.cameras import frontal_label
from tests.models.nofaplusplus.conftest import SIDE, clip_pairs, warm


def at_rest(head, count: int = 1):
    return head.zeros(count)._replace(translation=-torch.tensor([HEAD_CENTRE]).expand(count, 3))


def frontal(size: int = SIDE) -> Camera:
    return portrait_cameras(torch.zeros(1), torch.zeros(1), size)


def test_eg3ds_own_camera_sees_exactly_what_the_networks_draw(make) -> None:
    module = warm(make()).eval()
    image = torch.rand(1, 3, SIDE, SIDE)
    state = module.reconstruct(image, at_rest(module.head), frontal())
    drawn = module.animate(state, at_rest(module.head), frontal()).rgb
    shown = cropped(image, at_rest(module.head), frontal(), SIDE, 1.0)
    torch.testing.assert_close(shown.image, image, atol=1e-4, rtol=0)
    own = module.generator.field.prepare(
        module.condition.identity(shown.params), module.condition.expression(shown.params)
    )
    volume = module.generator.fine(shown.image, shown.label, own)
    view = cleared(module.generator.render(volume, shown.label, own), 1.0)
    inside = (..., slice(1, -1), slice(1, -1))  # where the crop ends a frame may be drawn, which is not shown
    torch.testing.assert_close(drawn[inside], view.clamp(0, 1)[inside], atol=2e-3, rtol=0)
    torch.testing.assert_close(drawn[..., 0, 1:-1], drawn[..., 1, 1:-1], atol=1e-2, rtol=0)
    front = frontal_label(1, module.generator.prior.config)
    assert shown.label.shape == front.shape


def test_larger_pictures_hold_the_same_head(make) -> None:
    """A camera of another size and lens: the head's centre stays where the camera projects it."""
    module = warm(make()).eval()
    state = module.reconstruct(torch.rand(1, 3, SIDE, SIDE), at_rest(module.head), frontal())
    small = module.animate(state, at_rest(module.head), frontal())
    large = module.animate(state, at_rest(module.head), frontal(4 * SIDE))
    assert (resize(large.rgb, SIDE) - small.rgb).abs().mean() < 0.03
    wide = frontal()._replace(intrinsics=frontal().intrinsics * torch.tensor([0.5, 0.5, 1.0])[:, None])
    corner = module.animate(state, at_rest(module.head), wide)
    half = SIDE // 2
    assert (corner.rgb[..., :half, :half] - resize(small.rgb, half)).abs().mean() < 0.05
    assert corner.alpha[..., half:, half:].max() < 1e-6
    assert corner.rgb[..., half:, half:].min() > 1 - 1e-6


def test_expression_moves_the_head_and_the_drivers_identity_does_not(make) -> None:
    module = warm(make(), field=0.5).eval()
    head = module.head
    state = module.reconstruct(torch.rand(1, 3, SIDE, SIDE), at_rest(head), frontal())
    rest = at_rest(head, 3)
    rest.expression[1, 3] = 1.0
    rest.identity[2, 3] = 2.0
    seen = module.animation(state)(rest, frontal()).rgb
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_checkpoint_and_state_keep_everything(make, fit, tmp_path: Path, average: float) -> None:
    module = make(stage="2", average=average, lr=1e-2)
    fit(module, "vv").save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    if average:
        assert not torch.equal(
            *(n.field.displacement_net.last.bias for n in (module.generator, module.average))
        )
    image, params = torch.rand(1, 3, SIDE, SIDE), at_rest(module.head)
    expected = module.animate(module.reconstruct(image, params, frontal()), params, frontal()).rgb
    again = load_avatar(tmp_path / "x.ckpt")
    state = again.reconstruct(image, params, frontal())
    torch.testing.assert_close(again.animate(state, params, frontal()).rgb, expected, atol=1e-5, rtol=0)
    kept = AvatarState.load(state.save(tmp_path / "person.safetensors"))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1)
    torch.testing.assert_close(again.animate(kept, params, frontal()).rgb, expected, atol=1e-5, rtol=0)


def test_a_checkpoint_loads_where_the_prior_is_not(make, fit, tiny_prior: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "prior.safetensors"
    elsewhere.write_bytes(Path(tiny_prior).read_bytes())
    fit(make(prior=str(elsewhere)), "s").save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    elsewhere.unlink()
    assert load_avatar(tmp_path / "x.ckpt").generate(1).tensors["planes"].isfinite().all()
    with pytest.raises(MissingAssetError, match="no prior"):
        make(prior=str(elsewhere))


def test_made_up_people(make) -> None:
    module = warm(make()).eval()
    first, same, other = module.generate(1), module.generate(1), module.generate(2)
    assert torch.equal(first.tensors["planes"], same.tensors["planes"])
    assert not torch.equal(first.tensors["planes"], other.tensors["planes"])
    assert torch.equal(module.reconstruct().tensors["planes"], module.generate(0).tensors["planes"])


def test_pictures_need_their_tracking(make) -> None:
    with pytest.raises(UsageError, match="tracked head parameters"):
        make().reconstruct(torch.rand(1, 3, SIDE, SIDE))


def test_adaptation_lowers_the_loss_and_touches_no_network(make) -> None:
    module = warm(make()).eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    picture = clip_pairs(module.head, 4, 1)["source"]
    with torch.inference_mode():
        shown = cropped(picture["image"], picture["params"], picture["camera"], SIDE, 1.0)
        own = module.generator.field.prepare(*module.condition.rest(1))
        adapted = adapt_feature(
            module.generator, module.loss, shown, own, Schedule(40, rate=0.05), quiet=True
        )
    assert min(adapted.losses) < 0.7 * adapted.losses[0]
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_adaptation_stops_when_nothing_is_gained(make) -> None:
    module = make().eval()
    picture = clip_pairs(module.head, 4, 1)["source"]
    shown = cropped(picture["image"], picture["params"], picture["camera"], SIDE, 1.0)
    own = module.generator.field.prepare(*module.condition.rest(1))
    adapted = adapt_feature(module.generator, module.loss, shown, own, Schedule(500, rate=0.0), quiet=True)
    assert len(adapted.losses) == 21


def test_reconstruction_adapts_when_asked(make) -> None:
    module = warm(make()).eval()
    picture = clip_pairs(module.head, 4, 1)["source"]
    arguments = picture["image"], picture["params"], picture["camera"]
    plain = module.reconstruct(*arguments)
    module.hparams["adaptation_steps"] = 15
    errors = [
        (module.animate(s, *arguments[1:]).rgb - arguments[0]).square().mean()
        for s in (plain, module.reconstruct(*arguments))
    ]
    assert errors[1] < errors[0]


def test_speech_is_kept_by_the_checkpoint(make, fit, tmp_path: Path) -> None:
    module = make(stage="4")
    state, silence = module.generate(0), torch.zeros(8000)
    with pytest.raises(UsageError, match=r"speech\.yaml"):
        module.speak(state, silence, 16000, 25.0, 5)
    speech = Speech(module.head.n_expression, module.head.signature, 1, 16)
    weights = {f"speech.{k}": v for k, v in speech.state_dict().items()}
    torch.save({"avatarzoo_speech": speech.config, "state_dict": weights}, tmp_path / "speech.ckpt")
    module = make(stage="4", speech=str(tmp_path / "speech.ckpt"))
    assert module.speak(state, silence, 16000, 25.0, 5).shape == (5, module.head.n_expression)
    fit(module, "v").save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    (tmp_path / "speech.ckpt").unlink()
    said = load_avatar(tmp_path / "x.ckpt").speak(state, silence, 16000, 25.0, 5)
    assert torch.equal(said, speech.rest.expand(5, -1))


def test_another_ground(make) -> None:
    dark = make(background=0.0).eval()
    image = dark.animate(dark.generate(0), at_rest(dark.head), look_at_face(size=SIDE))
    empty = image.alpha < 1e-3
    assert (image.rgb[empty.expand_as(image.rgb)] < 0.01).all()
