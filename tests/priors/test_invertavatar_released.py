"""Published InvertAvatar and Next3D files in our networks: every tensor in its place, or one sentence why not."""

from __future__ import annotations

import pickle
import sys
import types

import pytest
import torch
from published import official_names, persistent
from test_animatable import SMALL
from test_next3d import SMALL as SMALL_NEXT3D
from torch import nn

from avatarzoo.errors import BadCheckpointError
from avatarzoo.networks.inversion_encoders import InversionEncoders
from avatarzoo.priors import (
    AnimatableTriPlaneGenerator,
    ImportedCheckpoint,
    ImportedModule,
    Next3DGenerator,
    import_checkpoint,
    load_invertavatar,
    load_next3d,
    official_key_map,
    released_invertavatar,
)  # fmt: skip
from avatarzoo.priors.keys import renamed
from avatarzoo.priors.keys_invertavatar import KINDS
from avatarzoo.priors.released_invertavatar import expected_shapes


def tree(names, state: dict[str, torch.Tensor]) -> nn.Module:
    """Persistent modules nested as the keys say."""
    root = persistent("TriPlaneGenerator", f"raise SystemExit({__name__!r})", names)
    for key, tensor in state.items():
        module, (*path, name) = root, key.split(".")
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, persistent("Layer", "", names))
            module = getattr(module, part)
        module.register_buffer(name, tensor)
    return root


def same(ours: nn.Module, original: nn.Module) -> bool:
    a, b = ours.state_dict(), original.state_dict()
    assert not any(x.is_meta for x in (*ours.parameters(), *ours.buffers()))
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def small(monkeypatch):
    """The loaders build networks of small sizes."""
    for name, network, config in (
        ("AnimatableTriPlaneGenerator", AnimatableTriPlaneGenerator, SMALL),
        ("Next3DGenerator", Next3DGenerator, SMALL_NEXT3D),
    ):
        monkeypatch.setattr(
            released_invertavatar,
            name,
            lambda network=network, config=config, **more: network(config, **more),
        )
    torch.manual_seed(0)


def small_state(network: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    """Under the published names."""
    state = network.state_dict()
    return {official: state[ours].clone() for official, ours in renamed(network, KINDS[kind][1]).items()}


def test_published_gan_file(small, tmp_path):
    original, averaged = AnimatableTriPlaneGenerator(SMALL), AnimatableTriPlaneGenerator(SMALL)
    with official_names() as names:
        content = {
            name: tree(names, small_state(network, "invertavatar"))
            for name, network in (("G", original), ("G_ema", averaged))
        }
        content["G_ema"].register_buffer("dataset_label_std", torch.ones(50))
        renderer = content["G_ema"].renderer = names.ImportanceRenderer()
        third = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
        renderer.plane_axes = torch.stack(
            [torch.eye(3), torch.eye(3)[[0, 2, 1]], third]
        )  # the inverse is stored
        (tmp_path / "ani3dgan512.pkl").write_bytes(pickle.dumps(content, 4))
    assert import_checkpoint(tmp_path / "ani3dgan512.pkl").plane_axes == "eg3d"
    loaded = load_invertavatar(tmp_path / "ani3dgan512.pkl")
    assert same(loaded.generator, averaged)
    assert (loaded.encoders, loaded.generator.training) == (None, False)


def test_generator_inside_an_inversion_network(small):
    original = AnimatableTriPlaneGenerator(SMALL)
    inner = {f"generator.{key}": x for key, x in small_state(original, "invertavatar").items()}
    state = {**inner, "encoder.something": torch.ones(1), "latent_avg": torch.ones(1, 512)}
    file = ImportedCheckpoint({"G": ImportedModule(None, state)}, {}, None, None, "")
    assert same(load_invertavatar(file, encoders=False).generator, original)
    with pytest.raises(BadCheckpointError, match="encoders=False leaves them") as refused:
        load_invertavatar(file)
    assert "lacks the tensor" in str(refused.value)
    state["stranger.weight"] = torch.ones(1)
    with pytest.raises(BadCheckpointError, match=r"'stranger\.weight', which InvertAvatar does not know"):
        load_invertavatar(file, encoders=False)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_strict_keys_and_shapes(change, small):
    state = small_state(AnimatableTriPlaneGenerator(SMALL), "invertavatar")
    key = "face_backbone.synthesis.b8.conv0.weight"
    words = {
        "missing": f"lacks the tensor '{key}'",
        "extra": "'face_backbone.new', which",
        "shape": "of shape",
    }
    if change == "missing":
        del state[key]
    else:
        state["face_backbone.new" if change == "extra" else key] = torch.ones(2)
    file = ImportedCheckpoint({"G_ema": ImportedModule(None, state)}, {}, None, None, "")
    with pytest.raises(BadCheckpointError, match=words[change]):
        load_invertavatar(file)


def test_published_next3d_file(small, tmp_path):
    original = Next3DGenerator(SMALL_NEXT3D)
    original.topology.uv.uniform_()
    state = small_state(original, "next3d")
    state["dense_faces"] = torch.zeros(1, 12, 3, dtype=torch.long)  # of another size, never read
    torch.save({"G_ema": state}, tmp_path / "next3d.pth")
    assert same(load_next3d(tmp_path / "next3d.pth"), original)


def test_expected_shapes_are_the_published_ones():
    shapes = expected_shapes("invertavatar")
    assert len(shapes) == 444
    assert shapes["face_backbone.synthesis.b64.conv0.weight"] == (512, 512, 3, 3)
    shapes = expected_shapes("invertavatar_encoders")
    assert len(shapes) == 1519
    assert shapes["latent_avg"] == (1, 512)
    assert shapes["unet_encoder.texture_unet.up2.conv_gru.ih.0.weight"] == (768, 768, 3, 3)
    assert shapes["unet_encoder.triplane_unet.condition_scale64.2.bias"] == (256,)
    assert shapes["encoder.styles.3.convs.0.weight"] == (512, 512, 3, 3)
    assert expected_shapes("next3d")["face_uvcoords"] == (1, 9976, 3, 3)


@pytest.mark.slow
def test_released_sizes_load_whole():
    """One number per tensor, so that 446 million parameters need no file."""
    state, values = {}, {}
    for prefix, kind in (("generator.", "invertavatar"), ("", "invertavatar_encoders")):
        for key, shape in expected_shapes(kind).items():
            values[prefix + key] = len(values) % 7
            dtype = torch.long if key.endswith("num_batches_tracked") else torch.float32
            state[prefix + key] = torch.tensor(values[prefix + key], dtype=dtype).expand(shape)
    file = ImportedCheckpoint({"G_ema": ImportedModule(None, state)}, {}, None, None, "")
    loaded = load_invertavatar(file)
    assert sum(p.numel() for p in loaded.generator.parameters()) == 88_301_010
    for prefix, kind, network in (
        ("generator.", "invertavatar", loaded.generator),
        ("", "invertavatar_encoders", loaded.encoders),
    ):
        ours = network.state_dict()
        for official, name in official_key_map(kind).items():
            expected = -1 if official == "black_uv_bg" else values[prefix + official]
            assert (ours[name] == expected).all(), official
    assert isinstance(loaded.encoders, InversionEncoders)
    assert not loaded.encoders.triplane.identity


def test_encoder_layers_stored_by_name_are_data(tmp_path):
    """Classes of the encoders that carry no source are known by their names; nothing of their modules is looked up."""
    before = set(sys.modules)
    place = types.ModuleType("encoder_inversion")
    sys.modules["encoder_inversion"] = place
    unit = type("bottleneck_IR_SE", (nn.Module,), {"__module__": "encoder_inversion"})
    place.bottleneck_IR_SE = unit
    try:
        with official_names() as names:
            root = persistent("inversionNet", "", names)
            root.body = nn.ModuleList([unit()])
            root.body[0].res_layer = nn.Sequential(nn.BatchNorm2d(2), nn.PReLU(2), nn.PixelShuffle(2))
            data = pickle.dumps({"G": root}, 4)
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "encoder_inversion":
                del sys.modules[name]
    (tmp_path / "fs.pkl").write_bytes(data)
    read = import_checkpoint(tmp_path / "fs.pkl").modules["G"]
    assert read.class_name == "inversionNet"
    assert list(read.state)[-1] == "body.0.res_layer.1.weight"
    assert len(read.state) == 6
