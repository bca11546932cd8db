"""Writes checkpoints in the structure of the published ones: module trees as pickles that carry their own source code."""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

PLANES = torch.eye(3).repeat(3, 1, 1)
PLANES[1] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
EG3D, FIXED = PLANES.clone(), PLANES.clone()
EG3D[2] = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
FIXED[2] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])


def reconstruct(meta: dict) -> None:
    raise AssertionError("embedded source would run here")


@contextlib.contextmanager
def official_names():
    """Classes under the names of the published files, only while pickling; yields them."""
    made = types.SimpleNamespace()

    def place(module: str, attribute: str, thing: Any) -> None:
        thing.__module__, thing.__qualname__ = module, attribute
        for end in range(module.count(".") + 1):
            name = ".".join(module.split(".")[: end + 1])
            sys.modules.setdefault(name, types.ModuleType(name))
        setattr(sys.modules[module], attribute, thing)
        setattr(made, attribute, thing)

    before = set(sys.modules)
    function = types.FunctionType(reconstruct.__code__, globals(), "_reconstruct_persistent_obj")
    place("torch_utils.persistence", "_reconstruct_persistent_obj", function)
    place("dnnlib.util", "EasyDict", type("EasyDict", (dict,), {}))
    place("training.triplane", "OSGDecoder", type("OSGDecoder", (nn.Module,), {}))
    for path, name in (
        ("renderer", "ImportanceRenderer"),
        ("ray_marcher", "MipRayMarcher2"),
        ("ray_sampler", "RaySampler"),
    ):
        place(f"training.volumetric_rendering.{path}", name, type(name, (nn.Module,), {}))
    try:
        yield made
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("torch_utils", "dnnlib", "training"):
                del sys.modules[name]


def persistent(class_name: str, source: str, names: Any, **kwargs: Any) -> nn.Module:
    """A module that pickles as the published ones do: a call with its source, class name and attributes."""

    def reduce(self: nn.Module, protocol: int) -> tuple:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": class_name,
            "state": self.__dict__,
        }
        return names._reconstruct_persistent_obj, (meta,)

    module = type(class_name, (nn.Module,), {"__reduce_ex__": reduce})()
    module._init_args, module._init_kwargs = (), names.EasyDict(kwargs)
    return module


def generator(names: Any, source: str, axes: torch.Tensor | None) -> nn.Module:
    rendering = {
        "depth_resolution": 48,
        "ray_start": np.float64(2.25),
        "avg_camera_pivot": [0, 0, 0.2],
        "white_back": False,
    }
    g = persistent(
        "TriPlaneGenerator",
        source,
        names,
        z_dim=512,
        img_resolution=512,
        rendering_kwargs=names.EasyDict(rendering),
    )
    g.neural_rendering_resolution, g.z_dim, g._last_planes = 128, 512, None
    g.backbone = persistent("StyleGAN2Backbone", source, names)
    g.backbone.b4 = persistent("SynthesisBlock", source, names)
    g.backbone.b4.const = nn.Parameter(torch.randn(8, 4, 4))
    g.backbone.b4.register_buffer("resample_filter", torch.randn(4, 4).t())
    g.backbone.b4.register_buffer("noise_strength", torch.tensor(0.5))
    g.backbone.b4.register_buffer("scratch", torch.zeros(7), persistent=False)
    g.backbone.b4.narrow = nn.Parameter(torch.randn(3, 2).half(), requires_grad=False)
    g.decoder = names.OSGDecoder()
    g.decoder.net = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2))
    g.renderer, g.ray_sampler = names.ImportanceRenderer(), names.RaySampler()
    g.renderer.ray_marcher = names.MipRayMarcher2()
    if axes is not None:
        g.renderer.plane_axes = axes
    g.register_buffer("dataset_label_std", torch.ones(25))
    return g.eval().requires_grad_(False)


def published(
    marker: Path, protocol: int = 4, axes: torch.Tensor | None = EG3D, **more: Any
) -> tuple[dict, bytes]:
    """The modules and the pickle of a checkpoint whose embedded source would create ``marker``."""
    source = f"open({str(marker)!r}, 'w').close()\nclass TriPlaneGenerator: pass\n"
    torch.manual_seed(0)
    with official_names() as names:
        d = persistent("DualDiscriminator", source, names)
        d.b4 = nn.ModuleList([nn.Conv2d(3, 2, 1)])
        content = {
            "training_set_kwargs": names.EasyDict(path="ffhq.zip", resolution=512), "augment_pipe": None, "D": d,
            "G": generator(names, source, axes), "G_ema": generator(names, source, axes), **more,
        }  # fmt: skip
        return content, pickle.dumps(content, protocol)
