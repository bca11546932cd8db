"""Which processors torch can use here, and why not: builds of torch, drivers, cards, the CUDA compiler of gsplat."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from avatarzoo.apps.doctor_findings import Finding

TURING, BLACKWELL = (7, 5), (10, 0)
"""Compute capabilities (V100 is 7.0, RTX 50 cards are 12.0): builds for CUDA 12.8 and newer have no code below the first (torch
2.11; earlier ones had Volta's in some releases), those for CUDA 12.6 none from the second on."""
OLDEST_TORCH = "2.7"
DRIVERS = {12: "525", 13: "580"}
"""The oldest Linux driver of each major version of CUDA; within one, older drivers run newer builds."""
LITTLE_MEMORY = 8.0
"""GiB below which the paper configurations of no method fit."""


class Driver(NamedTuple):
    """NVIDIA's driver on this machine: the newest CUDA version it knows."""

    cuda: tuple[int, int]


def way_to(build: str) -> str:
    """How to get another build of torch: ``cu126``, ``cu128`` or ``cu130``."""
    return f"python -m uv pip install --reinstall 'torch>={OLDEST_TORCH}' torchvision --torch-backend {build}"


def devices() -> Iterator[Finding]:
    """CPU threads, CUDA cards and whether this build of torch has code for them."""
    import torch

    yield Finding("ok", "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield card(index)
        yield from compiler()
    else:
        yield without_card(torch.version.cuda, driver())


def without_card(build: str | None, found: Driver | None) -> Finding:
    """Why CUDA does not work: no driver, a torch without CUDA, a driver that is too old, or cards that are hidden.

    Args:
        build: CUDA version that torch is built for, ``None`` without CUDA.
    """
    if found is None:
        apple = platform.system() == "Darwin"
        why = "Apple's GPU is not used" if apple else "no NVIDIA driver is on this machine"
        return Finding(
            "note", "cuda", f"{why}; everything runs on the CPU (configs named *_cpu and *small* are for it)"
        )
    newest = "{}.{}".format(*found.cuda)
    if build is None:
        way = f"this torch has no CUDA, but the driver knows CUDA {newest}; {way_to(build_for(found.cuda))}"
        return Finding("note", "cuda", way)
    major = int(build.split(".")[0])
    if found.cuda[0] < major:
        newer = f"install a driver {DRIVERS.get(major, 'of this year')} or newer"
        other = f"take a torch for it: {way_to(build_for(found.cuda))}"
        if found.cuda[0] < min(DRIVERS):
            return Finding("note", "cuda", f"the driver knows CUDA {newest} at most; {newer}")
        return Finding(
            "note",
            "cuda",
            f"torch is built for CUDA {build}, the driver knows {newest} at most; {newer}, or {other}",
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return Finding("note", "cuda", f"CUDA_VISIBLE_DEVICES={hidden} hides the cards; unset it to use them")
    return Finding(
        "note",
        "cuda",
        f"driver (CUDA {newest}) and torch (CUDA {build}) fit, but no card answers; run nvidia-smi, in a container pass the GPU on",
    )


def build_for(cuda: tuple[int, int]) -> str:
    """The newest build of torch that a driver of this CUDA version runs."""
    if cuda[0] >= 13:
        return "cu130"
    return "cu128" if cuda >= (12, 8) else "cu126"


def driver() -> Driver | None:
    """Asked of the driver's own library, which needs no torch."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        number = ctypes.c_int()
        try:
            failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number))
        except OSError:
            continue
        if not failed and number.value:
            return Driver((number.value // 1000, number.value % 1000 // 10))
    return None


def card(index: int) -> Finding:
    """One card: whether torch has code for it, and its memory."""
    import torch

    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    code = f"sm_{capability[0]}{capability[1]}"
    if any(runs_on(build, capability) for build in torch.cuda.get_arch_list()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        text = f"{name}, compute capability {capability[0]}.{capability[1]}, {memory:.0f} GiB"
        if memory < LITTLE_MEMORY:
            return Finding("note", f"cuda:{index}", f"{text}; take small configs, or --data.batch_size 1")
        return Finding("ok", f"cuda:{index}", text)
    if capability < TURING:
        way = f"cards before Turing (V100 and older) need the build for CUDA 12.6: {way_to('cu126')}"
    elif capability >= BLACKWELL:
        way = f"Blackwell cards (RTX 50) need a build for CUDA 12.8 or newer: {way_to('cu128')}"
    else:
        way = f"install a regular build: {way_to('cu128')}"
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


def compiler() -> Iterator[Finding]:
    """gsplat compiles its kernels at first use, with a CUDA compiler of torch's major version."""
    import torch

    wanted = torch.version.cuda
    program = shutil.which("nvcc")
    if program is None or wanted is None:
        text = f"no nvcc on the path; gsplat compiles at first use and needs the CUDA toolkit {wanted}"
        yield Finding("note", "nvcc", text)
        return
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+)\.(\d+)", said)
    if found and found[1] != wanted.split(".")[0]:
        text = f"{found[1]}.{found[2]} at {program}, but torch is built for {wanted}; install that toolkit, or gsplat cannot compile"
        yield Finding("note", "nvcc", text)
    else:
        yield Finding("ok", "nvcc", f"{found[1]}.{found[2]} at {program}" if found else program)
