"""FLAME from files the tests write, against the paper's equations in numpy."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatarzoo.errors import HeadModelMismatchError, MissingAssetError, UnsafeCheckpointError
from avatarzoo.heads import FLAME, load_head


def native(data, betas, pose, translation):
    """FLAME as its paper writes it (Eq. 1-6): everything, the joints too, from shape and expression; root included."""
    spec = importlib.util.spec_from_file_location("lbs_reference", Path(__file__).with_name("test_lbs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shaped = data["v_template"] + data["shapedirs"] @ betas
    joints = data["J_regressor"].toarray() @ shaped
    angles = pose.reshape(5, 3)
    features = np.concatenate([(Rotation.from_rotvec(a).as_matrix() - np.eye(3)).ravel() for a in angles[1:]])
    return (
        module.reference(shaped + data["posedirs"] @ features, joints, angles, data["weights"]) + translation
    )


@pytest.fixture(scope="module")
def flame(flame_file):
    return FLAME(str(flame_file))


def test_forward_equals_the_paper(flame, flame_data):
    rng = np.random.default_rng(1)
    betas, pose, translation = (
        rng.normal(size=(2, 400)),
        rng.normal(size=(2, 15)) * 0.4,
        rng.normal(size=(2, 3)),
    )
    to = lambda x: torch.from_numpy(x).float()  # noqa: E731
    params = flame.from_native(to(betas[:, :300]), to(betas[:, 300:]), to(pose), to(translation))
    vertices = flame(params)
    for b in range(2):
        np.testing.assert_allclose(
            vertices[b], native(flame_data, betas[b], pose[b], translation[b]), atol=2e-6
        )


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("chumpy", [True, False])
def test_every_way_to_write_the_file_gives_the_same_head(
    protocol, chumpy, flame, flame_data, make_flame, tmp_path
):
    other = FLAME(str(make_flame(tmp_path / "m.pkl", flame_data, protocol, chumpy)), version="2023")
    assert torch.equal(other.v_template, flame.v_template)
    assert torch.equal(other.identity_basis, flame.identity_basis)
    assert torch.equal(other.faces, flame.faces)
    assert other.signature["version"] == "2023"
    assert (other.signature["hash"] == flame.signature["hash"]) == (protocol == 2 and chumpy)


def test_skipping_what_rests_changes_nothing(flame):
    """The fast paths (cached identity, joints at rest, part of the vertices) equal the plain one that gradients take."""
    generator = torch.manual_seed(0)
    zeros = flame.zeros(2)
    full = type(zeros)(*(torch.randn(x.shape, generator=generator) * 0.3 for x in zeros))
    same = full._replace(identity=full.identity[:1].expand(2, -1))
    cases = [
        full, same, same._replace(neck=zeros.neck), same._replace(neck=zeros.neck, jaw=zeros.jaw, eyes=zeros.eyes),
        same.in_head_frame(), zeros,
    ]  # fmt: skip
    for params in cases:
        watched = type(params)(*(x.clone().requires_grad_() for x in params))
        torch.testing.assert_close(flame(params), flame(watched).detach(), atol=1e-6, rtol=1e-5)


def test_identity_cache_follows_the_identity_and_stays_out_of_graphs(flame):
    a, b = (flame.zeros()._replace(identity=torch.full((1, 300), x)) for x in (0.1, 0.2))
    with torch.inference_mode():
        first = flame(a).clone()
    assert not torch.allclose(first, flame(b))
    with torch.inference_mode():  # what it leaves in the cache must serve training afterwards
        assert torch.allclose(first, flame(a))
    expression = torch.zeros(1, 100, requires_grad=True)
    flame(a._replace(expression=expression, neck=torch.full((1, 3), 0.1))).square().sum().backward()
    assert expression.grad.abs().sum() > 0
    changed = torch.full((1, 300), 0.1)
    before = flame(a._replace(identity=changed))
    changed.fill_(0.3)
    assert not torch.allclose(before, flame(a._replace(identity=changed)))


def test_joints_depend_on_identity_and_expression_as_in_flame(flame, flame_data):
    betas = np.random.default_rng(2).normal(size=400)
    params = flame.zeros()._replace(
        identity=torch.from_numpy(betas[None, :300]).float(),
        expression=torch.from_numpy(betas[None, 300:]).float(),
    )
    expected = flame_data["J_regressor"].toarray() @ (
        flame_data["v_template"] + flame_data["shapedirs"] @ betas
    )
    joints = flame.joints(params)
    for i, name in enumerate(("neck", "jaw", "eye_left", "eye_right"), 1):
        np.testing.assert_allclose(joints[name][0], expected[i], atol=1e-6)


def test_linear_basis_rebuilds_the_rest_shape(flame):
    params = flame.zeros()._replace(identity=torch.randn(1, 300), expression=torch.randn(1, 100))
    template, identity, expression = flame.linear_basis()
    expected = template + identity @ params.identity[0] + expression @ params.expression[0]
    torch.testing.assert_close(flame(params)[0], expected, atol=1e-6, rtol=1e-5)


def test_regions(flame):
    counts = {name: len(ids) for name, ids in flame.vertex_regions.items()}
    assert counts["skin"] + counts["eyeball_left"] + counts["eyeball_right"] == len(flame.v_template)
    assert flame.v_template[flame.vertex_regions["eyeball_left"], 0].min() > 0
    total = sum(len(flame.face_regions[name]) for name in ("skin", "eyeball_left", "eyeball_right"))
    assert total == len(flame.faces)


def test_mouth_loop(flame):
    upper, lower = flame.mouth_loop()
    points = flame.v_template
    assert upper[0] == lower[0]
    assert upper[-1] == lower[-1]
    assert points[upper[0], 0] == points[torch.cat([upper, lower]), 0].min()
    assert points[upper[-1], 0] == points[torch.cat([upper, lower]), 0].max()
    assert points[upper[1:-1], 1].mean() > points[lower[1:-1], 1].mean() + 0.01
    assert len(set(upper.tolist()) & set(lower.tolist())) == 2
    edges = {frozenset(e) for f in flame.faces.tolist() for e in zip(f, f[1:] + f[:1])}
    assert all(frozenset(e) in edges for line in (upper.tolist(), lower.tolist()) for e in pairwise(line))


def test_head_without_a_hole_has_no_mouth_loop(flame_data, make_flame, tmp_path):
    from avatarzoo.heads.flame import boundary_loops

    data = dict(flame_data)
    loop = max(boundary_loops(data["f"].astype(int)), key=lambda ids: data["v_template"][ids, 1].mean())
    fan = np.array([[loop[0], loop[i + 1], loop[i]] for i in range(1, len(loop) - 1)])
    data["f"] = np.concatenate([data["f"], fan])
    with pytest.raises(HeadModelMismatchError, match="no open mouth"):
        FLAME(str(make_flame(tmp_path / "m.pkl", data))).mouth_loop()


def obj_text(data, uv):
    lines = [f"v {x} {y} {z}" for x, y, z in data["v_template"]] + [f"vt {u} {v}" for u, v in uv]
    return "\n".join(
        [*lines, *("f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in data["f"].astype(int))]
    )


def test_texture_coordinates_come_from_the_template(flame, flame_file, flame_data, tmp_path, monkeypatch):
    with pytest.raises(MissingAssetError, match=r"head_template\.obj.*flame\.is\.tue\.mpg\.de"):
        _ = flame.uv
    uv = np.random.default_rng(0).random((len(flame_data["v_template"]), 2))
    (tmp_path / "head_template.obj").write_text(obj_text(flame_data, uv))
    np.savez(tmp_path / "texture.npz", vt=uv, ft=flame_data["f"])
    for file in ("head_template.obj", "texture.npz"):
        head = FLAME(str(flame_file), template=str(tmp_path / file))
        np.testing.assert_allclose(head.uv, uv, atol=1e-6)
        assert torch.equal(head.uv_faces, head.faces)
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    np.testing.assert_allclose(FLAME(str(flame_file)).uv, uv, atol=1e-6)
    data = {**flame_data, "f": flame_data["f"][:, [1, 2, 0]]}
    (tmp_path / "other.obj").write_text(obj_text(data, uv))
    with pytest.raises(HeadModelMismatchError, match="other triangles"):
        FLAME(str(flame_file), template=str(tmp_path / "other.obj"))
    (tmp_path / "empty.obj").write_text("hello")
    with pytest.raises(MissingAssetError, match="no texture coordinates"):
        FLAME(str(flame_file), template=str(tmp_path / "empty.obj"))


def test_eyelids(flame, flame_file, tmp_path):
    shapes = np.random.default_rng(0).normal(size=(2, len(flame.v_template), 3)) * 1e-3
    np.savez(tmp_path / "lids.npz", left=shapes[0], right=shapes[1])
    for side, shape in zip("lr", shapes):
        np.save(tmp_path / f"{side}_eyelid.npy", shape)
    lids = torch.tensor([[1.0, 0.5]])
    for source in ("lids.npz", "."):
        head = FLAME(str(flame_file), eyelids=str(tmp_path / source))
        moved = head(head.zeros()._replace(eyelids=lids)) - head(head.zeros())
        np.testing.assert_allclose(moved[0], shapes[0] + 0.5 * shapes[1], atol=1e-7)
    np.savez(tmp_path / "wrong.npz", left=shapes[0][:5], right=shapes[1])
    with pytest.raises(MissingAssetError, match="left and right"):
        FLAME(str(flame_file), eyelids=str(tmp_path / "wrong.npz"))


def test_widths_can_be_cut(flame_file, flame):
    small = FLAME(str(flame_file), n_identity=100, n_expression=50)
    assert (small.n_identity, small.n_expression, len(small.expression_names)) == (100, 50, 50)
    params = small.zeros()._replace(identity=torch.randn(1, 100), expression=torch.randn(1, 50))
    padded = flame.zeros()
    padded.identity[:, :100], padded.expression[:, :50] = params.identity, params.expression
    torch.testing.assert_close(small(params), flame(padded), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("version", ["2020", "2023", "2023_open"])
def test_missing_file_says_where_to_register(version, monkeypatch, tmp_path):
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    with pytest.raises(MissingAssetError) as missing:
        FLAME(version=version)
    for part in ("flame.is.tue.mpg.de", ".pkl", str(tmp_path)):
        assert part in str(missing.value)


def test_foreign_and_malicious_files_are_refused(tmp_path, flame_data, make_flame):
    import os

    with pytest.raises(MissingAssetError, match="not a FLAME model"):
        FLAME(str(make_flame(tmp_path / "smpl.pkl", {**flame_data, "weights": np.ones((3, 24))})))
    with pytest.raises(MissingAssetError, match="cannot be read"):
        FLAME(str(tmp_path / "none.pkl"))

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = make_flame(tmp_path / "evil.pkl", {**flame_data, "posedirs": Evil()}, chumpy=False)
    with pytest.raises(UnsafeCheckpointError, match=r"evil\.pkl asks for posix\.system"):
        load_head("flame", str(path))
    assert not (tmp_path / "ran").exists()


def test_nothing_of_the_model_enters_checkpoints(flame):
    assert flame.state_dict() == {}
