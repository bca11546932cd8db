"""``avatarzoo doctor``: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

CORE = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "numba",
    "mediapipe",
    "av",
    "cv2",
    "onnxruntime",
    "safetensors",
)
DISTRIBUTIONS = {"cv2": "opencv-python-headless"}
OLDEST_CUDA = (7, 5)
"""Compute capability below which the default torch builds carry no code (V100 is 7.0)."""


class Finding(NamedTuple):
    """One line of the report: state is ``ok``, ``note`` or ``missing``."""

    state: str
    subject: str
    detail: str


def main(argv: list[str]) -> int:
    """Print the report; the exit code is 1 when something that everybody needs does not work."""
    text = (
        "Say what works on this machine (versions, devices, backends, assets) and what to do about the rest."
    )
    argparse.ArgumentParser(prog="avatarzoo doctor", description=text).parse_args(argv)
    broken = False
    for title, findings in (
        ("Packages", packages()),
        ("Devices", devices()),
        ("Renderers", renderers()),
        ("Assets", assets()),
    ):
        print(f"\n{title}")
        for finding in findings:
            mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[finding.state]
            print(f"  {mark} {finding.subject:<24} {finding.detail}", flush=True)
            broken |= finding.state == "missing"
    print("\nEverything that is needed works." if not broken else "\nFix the lines marked MISSING first.")
    return int(broken)


def packages() -> Iterator[Finding]:
    """Python and the packages everything needs: versions, and whether they import."""
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        "ok" if good else "missing",
        "python",
        platform.python_version() + ("" if good else "; take 3.11 or 3.12"),
    )
    for name in CORE:
        try:
            importlib.import_module(name)
            yield Finding("ok", name, _version(DISTRIBUTIONS.get(name, name)))
        except Exception as error:  # an import can fail in any way on a broken machine
            yield Finding(
                "missing", name, f"does not import ({str(error)[:120]}); {_remedy(name, str(error))}"
            )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "version unknown"


def _remedy(name: str, error: str) -> str:
    if "libGL" in error:
        return "pip uninstall opencv-contrib-python && pip install --force-reinstall opencv-python-headless"
    if "torchvision::nms" in error:
        return "torch and torchvision are of different builds; install both from the same place"
    return f"pip install --force-reinstall {DISTRIBUTIONS.get(name, name)}"


def devices() -> Iterator[Finding]:
    """CPU threads, CUDA cards and whether this build of torch has code for them."""
    import torch

    yield Finding("ok", "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        build = (
            f"this torch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "this torch has no CUDA"
        )
        yield Finding("note", "cuda", f"no usable card ({build}); everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        yield _card(index)


def _card(index: int) -> Finding:
    import torch

    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    code = f"sm_{capability[0]}{capability[1]}"
    if any(runs_on(build, capability) for build in torch.cuda.get_arch_list()):
        return Finding("ok", f"cuda:{index}", f"{name}, compute capability {capability[0]}.{capability[1]}")
    if capability < OLDEST_CUDA:
        way = "install a torch (2.7 or newer) that is built for CUDA 12.6"
    else:
        way = "install torch 2.7 or newer for CUDA 12.8 or newer (RTX 50 cards need it)"
    return Finding("missing", f"cuda:{index}", f"{name} ({code}) has no code in this torch; {way}")


def runs_on(build: str, card: tuple[int, int]) -> bool:
    """Whether code of one of torch's builds (``sm_86``, ``compute_90``) runs on a card of this compute capability.

    Machine code (sm) serves the same major version from its minor on; intermediate code (compute) every newer card.
    Architecture-specific builds (``sm_90a``) serve that card alone.
    """
    kind, _, number = build.partition("_")
    digits = number.rstrip("af")
    if not digits.isdigit():
        return False
    major, minor = int(digits[:-1]), int(digits[-1])
    if digits != number:
        return (major, minor) == card
    return (major, minor) <= card and (kind == "compute" or major == card[0])


def renderers() -> Iterator[Finding]:
    """Gaussian backends, each tried on a tiny scene where it can run."""
    import torch

    from avatarzoo.optional import available

    for backend, device in (("torch", "cpu"), ("cpu", "cpu")):
        yield _try_backend(backend, device)
    for backend, package, way in (
        ("gsplat", "gsplat", "pip install 'avatarzoo[cuda]'"),
        ("inria", "diff_gaussian_rasterization", "the user's own build; non-commercial licence"),
    ):
        if not torch.cuda.is_available():
            yield Finding("note", f"gaussians: {backend}", "needs a CUDA card")
        elif not available(package):
            state = "missing" if backend == "gsplat" else "note"
            yield Finding(state, f"gaussians: {backend}", f"not installed: {way}")
        else:
            yield _try_backend(backend, "cuda")


def _try_backend(backend: str, device: str) -> Finding:
    import torch

    from avatarzoo.geometry.camera import look_at_face
    from avatarzoo.render import Gaussians, rasterize_gaussians

    one = Gaussians(
        torch.zeros(1, 1, 3),
        torch.tensor([[[1.0, 0, 0, 0]]]),
        torch.full((1, 1, 3), 0.02),
        torch.ones(1, 1),
        torch.zeros(1, 1, 3),
    )
    try:
        image = rasterize_gaussians(one.to(device), look_at_face(size=32).to(device), backend=backend)  # type: ignore[arg-type]
        dark = float(image.rgb[0, 0, 16, 16])
        state, detail = (
            ("ok", "renders") if dark < 0.1 else ("missing", f"renders wrongly (centre {dark:.2f}, not 0)")
        )
    except Exception as error:
        state, detail = "missing", str(error)[:160]
    return Finding(state, f"gaussians: {backend}", detail)


def assets() -> Iterator[Finding]:
    """Which weights and head models are here; none is needed for the quickstart."""
    from avatarzoo.assets import ASSETS, find
    from avatarzoo.errors import AvatarZooError

    for name in ASSETS:
        try:
            yield Finding("ok", name, str(find(name)))
        except AvatarZooError as error:
            yield Finding("note", name, str(error))
