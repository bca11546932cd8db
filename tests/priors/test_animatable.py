"""The animatable prior at a small size; its numbers are compared with the official ones in test_invertavatar_golden.py."""

import json
from dataclasses import replace

import pytest
import torch

from avatarzoo.networks.inversion_encoders import Modulation
from avatarzoo.priors import AnimatableConfig, AnimatableTriPlaneGenerator
from avatarzoo.priors.animatable import RELEASED_ANIMATABLE
from avatarzoo.priors.cameras import frontal_label, sphere_label

SMALL = AnimatableConfig(
    latent_dim=16,
    code_dim=16,
    plane_resolution=32,
    channel_base=256,
    channel_max=8,
    superresolution="2X",
    neural_resolution=16,
    coarse_samples=6,
    fine_samples=6,
)
LABEL = sphere_label(torch.tensor([0.3, -0.4]), torch.tensor([-0.1, 0.2]))


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = AnimatableTriPlaneGenerator(SMALL).eval()
    network.decoder.output.weight.data[0] *= 20  # densities that differ
    return network


@pytest.fixture(scope="module")
def codes(generator):
    with torch.no_grad():
        return generator.codes(
            torch.randn(2, 16, generator=torch.Generator().manual_seed(3)), frontal_label(2)
        )


@pytest.fixture(scope="module")
def person(generator, codes):
    with torch.no_grad():
        return generator.person(codes)


def maps(views: int = 1, side: int = 32) -> torch.Tensor:
    """A disc with a mouth in it; the second sample looks at a smaller part of its texture."""
    line = (2 * torch.arange(side) + 1) / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    covered = ((x**2 + y**2 < 0.6) & ~((x.abs() < 0.3) & (y > 0.2) & (y < 0.4))).float()
    one = torch.stack([x * covered, y * covered, covered], -1)
    both = torch.stack([one, one * torch.tensor([0.5, 0.5, 1])])
    return both[:, None].expand(-1, views, -1, -1, -1)


@torch.no_grad()
def test_the_frontal_plane_is_driven_inside_its_square(generator, codes, person):
    planes, static = generator.animate(codes, person, maps()), generator.planes(codes)
    assert torch.equal(planes[:, 1:], static[:, 1:])
    changed = (planes[:, 0] != static[:, 0]).any(1)
    top, left, size = generator.box(32)
    assert (top, left, size) == (7, 8, 16)
    inside = torch.zeros_like(changed)
    inside[:, top : top + size, left : left + size] = True
    assert not (changed & ~inside).any()
    middle = slice(top + 5, top + 11), slice(left + 5, left + 11)
    assert changed[:, *middle].all()  # the mouth belongs to the face


@torch.no_grad()
def test_three_views_drive_three_planes(generator, codes, person):
    one, three = generator.animate(codes, person, maps()), generator.animate(codes, person, maps(3))
    static = generator.planes(codes)
    torch.testing.assert_close(one[:, 0], three[:, 0])
    assert all((three[:, i] != static[:, i]).any() for i in range(3))


@torch.no_grad()
def test_no_surface_leaves_the_static_person(generator, codes, person):
    assert torch.equal(generator.animate(codes, person, torch.zeros_like(maps())), generator.planes(codes))


@torch.no_grad()
def test_driving_changes_the_picture_and_repeats_exactly(generator, codes, person):
    first, again, other = (
        generator(codes, LABEL, generator.animate(codes, person, m)) for m in (maps(), maps(), maps().flip(3))
    )
    assert first.rgb.shape == (2, 3, 128, 128)
    assert torch.equal(first.rgb, again.rgb)
    assert (first.rgb - other.rgb).abs().max() > 1e-3


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_neighbours(generator, codes):
    """Cameras at different distances: with the released averaged range it does."""
    label = LABEL.clone()
    label[1, [3, 7, 11]] *= 1.2
    shared = AnimatableTriPlaneGenerator(replace(SMALL, shared_range=True)).eval()
    shared.load_state_dict(generator.state_dict())
    differences = []
    for network in (generator, shared):
        views = []
        for part in (slice(0, 2), slice(1, 2)):
            own = codes[part]
            planes = network.animate(own, network.person(own), maps()[part])
            views.append(network(own, label[part], planes))
        together, alone = views
        differences.append((together.rgb[1:] - alone.rgb).abs().max().item())
        differences.append((together.depth[1:] - alone.depth).abs().max().item())
    assert max(differences[:2]) < 1e-4
    assert min(differences[2:]) > 1e-3


@torch.no_grad()
def test_empty_space_is_as_deep_as_its_own_camera_sees(generator, codes):
    label = LABEL.clone()
    label[1, [3, 7, 11]] *= 1.2
    bias = generator.decoder.output.bias
    before, bias[0] = bias[0].item(), -1e4
    view = generator.render(generator.planes(codes), label)
    bias[0] = before
    assert not view.opacity.any()
    step = (0.45 + 0.6) / 5
    farthest = label[:, [3, 7, 11]].norm(dim=1) + 0.6 + step / 2
    torch.testing.assert_close(view.depth, farthest[:, None, None, None].expand_as(view.depth))


@torch.no_grad()
def test_corrections_of_nothing_change_nothing(generator, codes, person):
    offsets = [torch.zeros_like(x) for x in person.texture[:4]]
    identity = [Modulation(torch.ones(2, 4, s, s), torch.zeros(2, 4, s, s)) for s in (8, 16, 32)]
    same = generator.person(codes, offsets, identity)
    for a, b in zip((*same.texture, *same.static), (*person.texture, *person.static)):
        assert torch.equal(a, b)
    offsets[1] += 1
    moved = generator.person(codes, offsets, [m._replace(shift=m.shift + 1) for m in identity])
    assert torch.equal(moved.texture.eighth, person.texture.eighth + 1)
    assert torch.equal(moved.texture.full, person.texture.full)
    assert not torch.equal(moved.static.picture, person.static.picture)
    with pytest.raises(ValueError, match=r"no site b64\.conv0"):
        generator.person(codes, modulations=[Modulation(torch.ones(2, 4, 64, 64), torch.ones(2, 4, 64, 64))])


def test_gradients_reach_all_three_backbones(generator, codes):
    own = codes.clone().requires_grad_()
    planes = generator.animate(own, generator.person(own), maps())
    generator(own, LABEL, planes).rgb.square().mean().backward()
    assert own.grad.abs().sum() > 0
    for network in (generator.texture_backbone, generator.face_backbone, generator.backbone):
        assert network.blocks["16"].conv1.weight.grad.abs().sum() > 0
    generator.zero_grad()


def test_closed_samples_reach_both_ends(generator, codes, person):
    with torch.no_grad():
        planes = generator.animate(codes, person, maps())
        middles = generator.render(planes, LABEL).features
        generator.config = replace(SMALL, closed_samples=True)
        ends = generator.render(planes, LABEL).features
        generator.config = SMALL
    assert 0 < (middles - ends).abs().max() < 0.5


def test_configuration_survives_json():
    text = json.dumps(RELEASED_ANIMATABLE.to_dict())
    assert AnimatableConfig.from_dict(json.loads(text)) == RELEASED_ANIMATABLE


@torch.no_grad()
def test_it_begins_with_a_trained_eg3d(generator):
    """Undriven, it then makes the same people; the new networks copy what fits."""
    from avatarzoo.priors import EG3DConfig, TriPlaneGenerator

    fields = EG3DConfig.__dataclass_fields__
    heads = TriPlaneGenerator(EG3DConfig(**{k: v for k, v in SMALL.to_dict().items() if k in fields})).eval()
    new = AnimatableTriPlaneGenerator(SMALL).eval().begin_with(heads)
    latent = torch.randn(2, 16, generator=torch.Generator().manual_seed(4))
    codes = new.codes(latent, frontal_label(2))
    torch.testing.assert_close(codes, heads.codes(latent, frontal_label(2)))
    torch.testing.assert_close(new.planes(codes), heads.planes(codes))
    own = heads.backbone.blocks["16"].conv1.weight
    for network in (new.texture_backbone, new.face_backbone):
        assert torch.equal(network.blocks["16"].conv1.weight, own)
    assert not torch.equal(
        new.texture_backbone.blocks["32"].to_rgb.weight[:32], heads.backbone.blocks["32"].to_rgb.weight[:32]
    )


@torch.no_grad()
def test_the_embedded_animatable_prior_is_driven():
    """Made-up heads with a face that the map moves; the background is empty."""
    from avatarzoo.heads.procedural import ProceduralHead
    from avatarzoo.models.invertavatar.maps import HeadMaps
    from avatarzoo.priors import small_animatable_prior

    prior, head = small_animatable_prior(), ProceduralHead()
    assert 3e6 < sum(p.numel() for p in prior.parameters()) < 4e6
    params = head.zeros(2)
    params.expression[1, head.expression_names.index("jawOpen")] = 1
    latent = torch.randn(1, 48, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    label = frontal_label(2, prior.config)
    codes = prior.codes(latent, label)
    planes = prior.animate(codes, prior.person(codes), HeadMaps(head, prior.config).driving(params))
    view = prior(codes, label, planes)
    assert view.rgb.shape == (2, 3, 128, 128)
    assert 0.2 < view.opacity.mean() < 0.8
    difference = (view.rgb[0] - view.rgb[1]).abs().mean(0)
    assert (
        difference[80:110, 45:83].mean() > 3 * difference[:50].mean()
    )  # the mouth moves, the forehead does not
