"""What a training step compares lies where the window lies."""

from __future__ import annotations

import torch

from avatarzoo.data.frames import FrameStore
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head
from avatarzoo.models.styleavatar.cache import ConditionCache
from avatarzoo.models.styleavatar.conditions import ConditionRenderer
from avatarzoo.models.styleavatar.samples import make_sample, offsets

R, G, S = 32, 16, 64


def frames(count: int = 3) -> tuple[FrameStore, ConditionRenderer]:
    head = load_head("procedural")
    params = head.zeros(count)
    params.rotation[:, 1] = torch.linspace(-0.4, 0.4, count)
    pictures = torch.randint(0, 256, (count, 3, S, S), dtype=torch.uint8)
    masks = torch.zeros(count, S, S, dtype=torch.uint8)
    masks[:, S // 4 : -S // 4, S // 4 : -S // 4] = 255
    store = FrameStore(pictures, masks, masks, params, look_at_face(size=S), torch.arange(count) + 100)
    return store, ConditionRenderer(head, R)


def test_cached_conditions_are_those_of_the_renderer() -> None:
    store, renderer = frames()
    video = torch.tensor([0, 1, 1])
    identity = torch.zeros(2, renderer.head.n_identity)
    identity[1, 0] = 2.0
    cache = ConditionCache(renderer, store, video, identity, torch.device("cpu"), lambda text: None)
    found = cache(torch.tensor([1, 0]), torch.tensor([102, 100]))
    params = store.params.rows([2, 0])._replace(identity=identity[[1, 0]])
    exact = renderer(params, store.camera)
    assert (found.render - exact.render).abs().max() <= 1 / 255
    assert (found.uv - exact.uv).abs().max() < 1e-3
    other = renderer(params._replace(identity=identity[[0, 0]]), store.camera)
    assert (other.render[0] - exact.render[0]).abs().max() > 0.1


def test_targets_move_with_the_window_and_stop_where_nothing_was_filmed() -> None:
    store, renderer = frames(2)
    cache = ConditionCache(
        renderer, store, torch.zeros(2, dtype=torch.long), torch.zeros(1, renderer.head.n_identity),
        torch.device("cpu"), lambda text: None,
    )  # fmt: skip
    batch = {
        "image": store.images.float() / 255, "mask": store.masks[:, None].float() / 255, "index": store.index,
        "features": store.features[:, None].float() / 255,
    }  # fmt: skip
    seed = next(s for s in range(50) if (offsets("sample", 2, G, 0, s) != G // 4).any())
    moved = make_sample(batch, cache, G, S, "sample", 0, seed)  # type: ignore[arg-type]
    for i, (x, y) in enumerate((moved.offset - G // 4).mul(S // G).tolist()):
        wide = torch.nn.functional.pad(batch["image"][i] * 2 - 1, (S,) * 4, value=9.0)
        expected = wide[:, S + y : 2 * S + y, S + x : 2 * S + x]
        filmed = expected != 9.0
        assert torch.equal(moved.valid[i].expand(3, -1, -1) > 0, filmed)
        assert torch.allclose(moved.target[i][filmed], expected[filmed])
        seen = torch.nn.functional.pad(batch["features"][i], (S,) * 4)[
            :, S + y : 2 * S + y, S + x : 2 * S + x
        ]
        assert torch.equal(moved.features[i], seen)
    still = make_sample(batch, cache, G, S, "sample", 1, seed)  # type: ignore[arg-type]
    assert torch.allclose(still.target, batch["image"] * 2 - 1)
    assert still.valid.min() == still.known.min() == 1
    inside = still.background[0, 0, G // 4 : -G // 4, G // 4 : -G // 4]
    assert inside.max() == 0
    assert still.background.mean() == 0.75


def test_pictures_of_another_size_are_brought_to_the_networks() -> None:
    store, renderer = frames(2)
    cache = ConditionCache(
        renderer, store, torch.zeros(2, dtype=torch.long), torch.zeros(1, renderer.head.n_identity),
        torch.device("cpu"), lambda text: None,
    )  # fmt: skip
    large = torch.rand(2, 5, 2 * S, 2 * S)
    batch = {"image": large[:, :3], "mask": large[:, 3:4], "features": large[:, 4:], "index": store.index}
    sample = make_sample(batch, cache, G, S, "none", 0, 0)  # type: ignore[arg-type]
    assert sample.target.shape == (2, 3, S, S)
    assert (sample.target.mean() - (large[:, :3] * 2 - 1).mean()).abs() < 1e-3
