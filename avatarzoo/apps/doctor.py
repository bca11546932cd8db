"""``avatarzoo doctor``: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from avatarzoo.apps.doctor_assets import assets, features, flame
from avatarzoo.apps.doctor_devices import devices, way_to
from avatarzoo.apps.doctor_findings import Finding

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


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="avatarzoo doctor",
        description="Say what works on this machine (versions, devices, renderers, files) and what to do about the rest. Exit code 1: "
        "something that is needed does not work.",
    )


def main(argv: list[str]) -> int:
    """Print the report; the exit code is 1 when something that everybody needs does not work."""
    parser().parse_args(argv)
    broken = False
    for title, findings in (
        ("Packages", packages()),
        ("Devices", devices()),
        ("Renderers", renderers()),
        ("What the files here allow", features()),
        ("FLAME", flame()),
        ("Assets", assets()),
    ):
        for number, finding in enumerate(findings):
            if number == 0:
                print(f"\n{title}")
            mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[finding.state]
            print(f"  {mark} {finding.subject:<26} {finding.detail}", flush=True)
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
    builds = {name: _build(name) for name in ("torch", "torchvision")}
    if len(set(filter(None, builds.values()))) > 1:
        both = " and ".join(f"{name} is of {build}" for name, build in builds.items())
        yield Finding("missing", "torch and torchvision", f"{both}; {way_to(builds['torch'])}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "version unknown"


def _build(name: str) -> str:
    """Of an imported package: ``cpu``, ``cu130``...; empty where it does not say."""
    return getattr(sys.modules.get(name), "__version__", "").partition("+")[2]


def _remedy(name: str, error: str) -> str:
    if "libGL" in error:
        return "pip uninstall opencv-contrib-python && pip install --force-reinstall opencv-python-headless"
    if "torchvision::nms" in error:
        return "torch and torchvision are of different builds; install both from the same place"
    return f"pip install --force-reinstall {DISTRIBUTIONS.get(name, name)}"


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
