"""Floors of the tables: each baseline does what it says, no better and no worse, and refuses in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.errors import HeadModelMismatchError, UsageError
from avatarzoo.evaluation.baselines import (
    BASELINES,
    LoudnessMouth,
    NearestSample,
    ProceduralPeople,
    SourceCopy,
    TexturedHead,
)
from avatarzoo.evaluation.baselines.baking import STOCK
from avatarzoo.evaluation.baselines.speech import GAIN
from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.models.base import AvatarState
from avatarzoo.render.mesh import interpolate, rasterize_mesh

SIZE = 112
STEP = 1 / 255


def psnr(a, b):
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)))


@pytest.fixture(scope="module")
def actor():
    return ProceduralActor(seed=3, size=SIZE)


@pytest.fixture(scope="module")
def sources(actor):
    """Twelve frames on white."""
    params = actor.motion(120).rows(torch.arange(0, 120, 10))
    return on_white(actor, params), params, actor.camera


@pytest.fixture(scope="module")
def wild(actor):
    """Frames with heads turned, moved and mouths open wider than in any source."""
    params = actor.motion(4).rows(torch.arange(4))
    jaw = actor.head.expression_names.index("jawOpen")
    params.rotation[:, 1] += torch.tensor([-0.6, -0.4, 0.4, 0.6])
    params.translation[:, 0] += torch.tensor([-0.03, 0.02, -0.02, 0.03])
    params.expression[:, jaw] = 0.7
    return on_white(actor, params), params


def on_white(actor, params):
    rgb, _, head = actor.render(params)
    return rgb * head + 1 - head


@pytest.fixture(scope="module")
def textured(sources):
    method = TexturedHead(uv_size=256)
    return method, method.reconstruct(*sources)


# ---- copies ----------------------------------------------------------------------------------------------------------


def test_source_copy_always_shows_the_first_source(sources, wild):
    method = SourceCopy()
    state = method.reconstruct(*sources)
    shown = method.animate(state, wild[1], sources[2])
    assert shown.rgb.shape == (4, 3, SIZE, SIZE)
    assert (shown.rgb - sources[0][:1]).abs().max() <= 0.51 * STEP
    assert (shown.alpha == 1).all()
    small = method.animate(state, wild[1], sources[2].resized(56, 56)).rgb
    expected = torch.nn.functional.avg_pool2d(sources[0][:1], 2)
    assert psnr(small, expected).min() > 30


@pytest.mark.parametrize("by", ["landmarks", "parameters"])
def test_nearest_sample_is_exact_on_its_sources(sources, by):
    method = NearestSample(by=by)
    state = method.reconstruct(*sources)
    order = torch.tensor([7, 0, 11, 4])
    shown = method.animate(state, sources[1].rows(order), sources[2]).rgb
    assert (shown - sources[0][order]).abs().max() <= 0.51 * STEP


def test_nearest_sample_keeps_its_person(sources, wild):
    """Another driver's identity does not change which frame is nearest; nor does the camera's size."""
    method = NearestSample()
    state = method.reconstruct(*sources)
    plain = method.animate(state, wild[1], sources[2]).rgb
    stranger = wild[1]._replace(identity=-wild[1].identity)
    assert torch.equal(method.animate(state, stranger, sources[2]).rgb, plain)
    larger = method.animate(state, wild[1], sources[2].resized(2 * SIZE, 2 * SIZE)).rgb
    assert psnr(torch.nn.functional.avg_pool2d(larger, 2), plain).min() > 30


def test_nearest_sample_beats_the_source_copy(sources, actor):
    between = actor.motion(120).rows(torch.tensor([42, 58, 77, 93, 108]))
    truth = on_white(actor, between)
    scores = [
        psnr(method.animate(method.reconstruct(*sources), between, sources[2]).rgb, truth).mean()
        for method in (NearestSample(), SourceCopy())
    ]
    assert scores[0] > scores[1] + 1


def test_nearest_sample_of_one_picture(sources):
    one = sources[0][:1], sources[1].rows(0), sources[2]
    for by in ("landmarks", "parameters"):
        method = NearestSample(by=by)
        shown = method.animate(method.reconstruct(*one), sources[1], sources[2]).rgb
        assert (shown - one[0]).abs().max() <= 0.51 * STEP


# ---- the textured head -----------------------------------------------------------------------------------------------


def test_textured_head_beats_the_copy_where_the_head_moves(textured, sources, wild):
    truth, params = wild
    method, state = textured
    copy = SourceCopy()
    score = psnr(method.animate(state, params, sources[2]).rgb, truth)
    floor = psnr(copy.animate(copy.reconstruct(*sources), params, sources[2]).rgb, truth)
    assert (score > floor + 3).all(), (score, floor)


def test_textured_head_opens_its_mouth(textured, actor, sources):
    """The wanted expression shows: opening the jaw changes the mouth and leaves the forehead alone."""
    method, state = textured
    params = actor.head.zeros(2)
    params.expression[1, actor.head.expression_names.index("jawOpen")] = 0.8
    closed, opened = method.animate(state, params, sources[2]).rgb
    change = (opened - closed).abs().amax(0)
    points = actor.landmarks(params._replace(identity=actor.identity.expand(2, -1)))
    mouth = int(points[1, [13, 14], 1].mean())
    brow = int(points[0, 107, 1])
    assert change[mouth - 2 : mouth + 2, SIZE // 2 - 3 : SIZE // 2 + 3].mean() > 0.05
    assert change[:brow].max() < 0.02


def test_baking_recovers_a_known_texture():
    """A head painted with smooth colours of its own: every texel that is seen, and every mirrored one, gets them back."""
    method = TexturedHead(uv_size=128)
    head = method.head
    x, y, _ = head.v_template.T
    paint = torch.stack([0.5 + 4 * x.abs(), 0.5 + 3 * y, torch.full_like(x, 0.3)], 1).clamp(0, 0.95)
    yaw = torch.tensor([0.0, 0.7])  # the left side only: the right side is a mirror's
    camera = look_at_face(1.0, 20.0, 256, yaw=yaw)
    params = head.zeros(2)
    drawn = rasterize_mesh(head(params), head.faces, camera)
    images = interpolate(drawn, head.faces, paint[None]) + (~drawn.covered)[:, None].float()
    state = method.reconstruct(images, params, camera)
    baked = method.atlas.gather(state.tensors["texture"])[0]
    truth = method.atlas.points(paint[None])[0]
    place = method.atlas.points(head.v_template[None])[0]
    normal_skin = torch.isin(method.atlas.face_id.flatten()[method.atlas.pixels], head.face_regions["skin"])
    face = normal_skin & (place[:, 2] > 0.03) & (place[:, 1].abs() < 0.06)
    error = (baked[face, :3] - truth[face]).abs()
    assert error.median() < 0.01
    assert error.mean() < 0.02
    shown = method.animate(state, params, camera)
    assert psnr(shown.rgb, images).min() > 27
    mirrored = look_at_face(1.0, 20.0, 256, yaw=-yaw[1:])
    other = method.animate(state, head.zeros(1), mirrored).rgb
    assert psnr(other.flip(3), shown.rgb[1:]).min() > 30


def test_what_sources_show_as_background_is_left_out(sources, actor):
    """A neck that was cut away stays away."""
    images, params, camera = sources
    chin = actor.landmarks(params)[:, 152, 1]
    rows = torch.arange(SIZE)
    cut = torch.where(rows[None, None, :, None] > chin[:, None, None, None] + 2, 1.0, images)
    method = TexturedHead(uv_size=128)
    still = actor.head.zeros(1)
    low = int(actor.landmarks(still._replace(identity=actor.identity))[0, 152, 1]) + 6
    whole = method.animate(method.reconstruct(images, params, camera), still, camera).alpha
    short = method.animate(method.reconstruct(cut, params, camera), still, camera).alpha
    assert whole[..., low:, :].sum() > 5 * short[..., low:, :].sum()
    assert short[..., : low - 12, :].sum() > 0.9 * whole[..., : low - 12, :].sum()


def test_kept_background_is_the_first_source(sources, actor):
    rgb = actor.render(sources[1].rows(0))[0]
    method = TexturedHead(uv_size=128, background=None)
    state = method.reconstruct(rgb, sources[1].rows(0), sources[2])
    shown = method.animate(state, sources[1].rows(0), sources[2])
    assert (shown.rgb - rgb)[..., :8, :8].abs().max() < 1e-6
    assert psnr(shown.rgb, rgb).min() > 25
    assert shown.alpha.mean() < 0.6


def test_unseen_teeth_are_no_lips(actor, sources):
    """Closed mouths only: teeth take the stock colour."""
    params = actor.head.zeros(2)._replace(identity=actor.identity.expand(2, -1))
    method = TexturedHead(uv_size=128)
    texture = method.reconstruct(on_white(actor, params), params, sources[2]).tensors["texture"]
    texels = torch.isin(
        method.atlas.face_id.flatten()[method.atlas.pixels], method.head.face_regions["teeth"]
    )
    color = method.atlas.gather(texture)[0, texels, :3].mean(0)
    assert (color - torch.tensor(STOCK["teeth"][1])).abs().max() < 1e-3


# ---- made-up people --------------------------------------------------------------------------------------------------


def test_procedural_people(actor, wild, sources):
    method = ProceduralPeople()
    state = method.generate(3)
    shown = method.animate(state, wild[1]._replace(identity=-wild[1].identity), sources[2])
    assert psnr(shown.rgb, wild[0]).min() > 30  # the actor of that seed, its identity kept
    other = method.animate(method.generate(4), wild[1], sources[2])
    assert psnr(other.rgb, shown.rgb).max() < 25
    with pytest.raises(UsageError, match="does not reconstruct"):
        method.reconstruct(*sources)
    with pytest.raises(UsageError, match="--head procedural"):
        ProceduralPeople(head="ict")


# ---- sound -----------------------------------------------------------------------------------------------------------


def voice(frames, fps=25.0, rate=16000, seed=0):
    """A jaw that opens in syllables with pauses, and hiss as loud as it is open."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps
    phrase = np.sin(2 * np.pi * 0.4 * time) > -0.6
    jaw = (
        phrase * (0.5 - 0.5 * np.cos(2 * np.pi * 3.1 * time)) * (0.7 + 0.3 * np.sin(2 * np.pi * 0.23 * time))
    )
    at = (np.arange(int(frames * rate / fps)) + 0.5) / rate
    loud = np.interp(at, time + 0.5 / fps, jaw)
    return torch.from_numpy(jaw), torch.from_numpy(0.2 * loud * rng.normal(size=len(at))).float()


@pytest.mark.parametrize(("fps", "rate"), [(25.0, 16000), (29.97, 44100)])
def test_loudness_recovers_the_jaw(fps, rate):
    method = LoudnessMouth()
    jaw, samples = voice(200, fps, rate)
    state = AvatarState("LoudnessMouth", {})
    expression = method.speak(state, samples, rate, fps, 200)
    index = method.head.expression_names.index("jawOpen")
    found = expression[:, index]
    assert expression.shape == (200, method.head.n_expression)
    assert np.corrcoef(found, jaw)[0, 1] > 0.8
    assert found.max() == pytest.approx(GAIN)
    assert found.min() >= 0
    assert (expression != 0).any(0).nonzero().tolist() == [[index]]  # nothing else moves
    late = method.speak(state, samples, rate, fps, 260)[210:, index]
    assert late.max() < 0.01  # silence after the end of the sound
    louder = method.speak(state, 0.1 * samples, rate, fps, 200)[:, index]
    assert torch.allclose(louder, found, atol=1e-4)  # loudness is relative to the clip


def test_silence_and_no_sound():
    method = LoudnessMouth()
    state = AvatarState("LoudnessMouth", {})
    assert method.speak(state, torch.zeros(16000), 16000, 25, 25).abs().max() == 0
    for bad in (torch.zeros(0), torch.full((100,), torch.nan)):
        with pytest.raises(UsageError, match="sound is empty or not finite"):
            method.speak(state, bad, 16000, 25, 25)
    method.head.expression_names = tuple(f"exp_{i:03d}" for i in range(method.head.n_expression))
    with pytest.raises(UsageError, match="jawOpen, which head model procedural lacks"):
        method.speak(state, torch.zeros(16000), 16000, 25, 25)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BASELINES))
def test_contract(name, sources, wild, tmp_path):
    """Deterministic, no parameters, plain hyper-parameters; a saved state draws the same; strangers are refused."""
    small = {"uv_size": 128} if issubclass(BASELINES[name], TexturedHead) else {}
    method = BASELINES[name](head="procedural", head_file=None, background=1.0, **small)
    assert type(method).__name__ == name
    assert not list(method.parameters())
    assert method.hparams["background"] == 1.0
    made = name == "ProceduralPeople"
    states = [method.generate(1) if made else method.reconstruct(*sources) for _ in range(2)]
    stored = AvatarState.load(states[0].save(tmp_path / "state.safetensors"))
    assert stored.method == name
    pictures = [method.animate(s, wild[1], sources[2]) for s in (*states, stored)]
    for image in pictures:
        assert torch.equal(image.rgb, pictures[0].rgb)
        assert image.rgb.shape == (4, 3, SIZE, SIZE)
        assert image.alpha.shape == (4, 1, SIZE, SIZE)
        assert 0 <= image.rgb.min() <= image.rgb.max() <= 1
    stored.meta["head"] = {"name": "ict", "version": "light", "hash": "0" * 64}
    with pytest.raises(HeadModelMismatchError, match="ict"):
        method.animate(stored, wild[1], sources[2])


def test_what_a_method_cannot_do_is_one_sentence(sources):
    copy = SourceCopy()
    with pytest.raises(UsageError, match="SourceCopy reconstructs people, it does not make them up"):
        copy.generate(0)
    with pytest.raises(UsageError, match="NearestSample is not driven by sound"):
        NearestSample().speak(AvatarState("NearestSample", {}), torch.zeros(10), 16000, 25, 1)
    assert not copy.speak(AvatarState("SourceCopy", {}), torch.ones(10), 16000, 25, 3).any()
    with pytest.raises(UsageError, match="needs at least one source picture"):
        copy.reconstruct()
    with pytest.raises(UsageError, match="12 source pictures came with 3 rows"):
        copy.reconstruct(sources[0], sources[1].rows(slice(0, 3)), sources[2])
    with pytest.raises(UsageError, match="by landmarks or by parameters"):
        NearestSample(by="guess")
    still = sources[1].rows(torch.zeros(12, dtype=torch.long))
    with pytest.raises(UsageError, match="does not move"):
        NearestSample(by="parameters").reconstruct(sources[0], still, sources[2])


def test_one_camera_per_source(sources):
    images, params, camera = sources
    many = Camera(camera.world_to_camera.expand(12, 4, 4), camera.intrinsics.expand(12, 3, 3), camera.size)
    method = TexturedHead(uv_size=64)
    one = method.reconstruct(images, params, camera).tensors["texture"]
    assert torch.equal(method.reconstruct(images, params, many).tensors["texture"], one)


def test_a_head_outside_the_picture(textured, sources, wild):
    """Nothing but background, and no error."""
    method, state = textured
    away = wild[1]._replace(translation=wild[1].translation + torch.tensor([3.0, 0.0, 0.0]))
    image = method.animate(state, away, sources[2])
    assert (image.rgb == 1).all()
    assert (image.alpha == 0).all()
