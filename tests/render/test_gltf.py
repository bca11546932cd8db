"""glTF with KHR_gaussian_splatting: a validator finds no error, and what is read back renders the same picture."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.spherical_harmonics import sh0_to_rgb
from avatarzoo.render import Gaussians, rasterize_gaussians
from avatarzoo.render.gltf import EXTENSION, glb_bytes, write_glb

VALIDATE = """
const validator = require(process.argv[1]);
validator.validateBytes(new Uint8Array(require("fs").readFileSync(process.argv[2])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


def cloud(count=200):
    random = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(1, count, 3, generator=random) * 0.06,
        torch.nn.functional.normalize(torch.randn(1, count, 4, generator=random), dim=-1),
        torch.rand(1, count, 3, generator=random) * 0.02 + 0.002,
        torch.rand(1, count, generator=random),
        torch.rand(1, count, 3, generator=random),
    )


def read(data: bytes):
    """By the specifications alone: JSON, and every accessor as an array."""
    magic, version, length, size, kind = struct.unpack_from("<4sIIII", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), 0x4E4F534A)
    content = json.loads(data[20 : 20 + size])
    body, kind = struct.unpack_from("<II", data, 20 + size)
    assert kind == 0x004E4942
    binary = data[28 + size : 28 + size + body]
    arrays = []
    for accessor in content["accessors"]:
        view = content["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        values = np.frombuffer(binary, "<f4", accessor["count"] * width, view["byteOffset"])
        arrays.append(torch.from_numpy(values.reshape(-1, width).copy()))
    (primitive,) = content["meshes"][0]["primitives"]
    return content, primitive, {name: arrays[n] for name, n in primitive["attributes"].items()}


def test_read_back_it_renders_the_same_picture(tmp_path):
    gaussians, camera = cloud(), look_at_face(size=64)
    content, primitive, found = read(write_glb(tmp_path / "a.glb", gaussians, {"a": 1}).read_bytes())
    assert content["extensionsUsed"] == [EXTENSION]
    assert content["asset"]["extras"] == {"a": 1}
    assert primitive["mode"] == 0
    assert primitive["extensions"][EXTENSION] == {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    again = Gaussians(
        found["POSITION"][None],
        found[f"{EXTENSION}:ROTATION"][None, :, [3, 0, 1, 2]],
        found[f"{EXTENSION}:SCALE"][None],
        found[f"{EXTENSION}:OPACITY"][None, :, 0],
        sh0_to_rgb(found[f"{EXTENSION}:SH_DEGREE_0_COEF_0"])[None],
    )
    a, b = (rasterize_gaussians(g, camera, backend="torch").rgb for g in (gaussians, again))
    assert float((a - b).abs().max()) < 2 / 255
    assert float((a - 1).abs().max()) > 0.3
    assert torch.allclose(found["COLOR_0"][:, :3], gaussians.colors[0], atol=1e-6)


def test_what_is_not_finite_is_left_out():
    gaussians = cloud(10)
    gaussians.means[0, 3, 1] = torch.nan
    _, _, found = read(glb_bytes(gaussians))
    assert {len(x) for x in found.values()} == {9}


def test_the_validator_finds_no_error(tmp_path):
    """npm's gltf-validator, where node has it (``npm install gltf-validator``, folder in AVATARZOO_GLTF_VALIDATOR)."""
    package = os.environ.get("AVATARZOO_GLTF_VALIDATOR", "")
    if shutil.which("node") is None or not (Path(package) / "package.json").is_file():
        pytest.skip(
            "node or gltf-validator is not here: npm install gltf-validator, AVATARZOO_GLTF_VALIDATOR=FOLDER"
        )
    path = write_glb(tmp_path / "a.glb", cloud())
    command = ["node", "-e", VALIDATE, package, str(path)]
    issues = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    )
    # releases up to 2.0.0-dev.3.10 do not know the extension, whose attributes' names have a colon, and nothing else may trouble them
    unknown = {"UNSUPPORTED_EXTENSION"}
    others = [m for m in issues["messages"] if m["code"] not in unknown and EXTENSION not in m["pointer"]]
    assert not others, others
