"""One table of weights and licensed files: where each comes from, what pins it, and how a person gets it.

Files are looked for in ``$AVATARZOO_ASSETS`` and then in the cache folder (``$AVATARZOO_CACHE`` or the platform's), and
their hash is verified before the first use. Nothing is downloaded unless :func:`fetch` is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avatarzoo.errors import MissingAssetError, OutputError
from avatarzoo.files import atomic_path, user_folder
from avatarzoo.files import file_hash as _sha256

BLOCK = 1 << 20


@dataclass(frozen=True)
class Asset:
    """One file the project can use.

    Attributes:
        name: what a person types, e.g. ``avatarzoo assets fetch ict-facekit``.
        file: file name in the assets folder.
        what, licence: one line each.
        url: where :func:`fetch` gets it; ``None`` for files that need a registration.
        sha256: hash of the file, or its first digits where the publisher gives only those; ``None`` where none is published.
        members: for an .npz that is made here from an archive at ``url``: the arrays that must be the published ones.
        members_sha256: their :func:`members_hash`; it pins the file as well as ``sha256`` does.
        obtain: for files without url: where to register and what to take from there.
    """

    name: str
    file: str
    what: str
    licence: str
    url: str | None = None
    sha256: str | None = None
    members: tuple[str, ...] = ()
    members_sha256: str | None = None
    obtain: str | None = None


def _github(repository: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{urllib.request.quote(path)}"  # type: ignore[attr-defined]


ICT_MEMBERS = (
    "v_template",
    "faces",
    "uv",
    "uv_faces",
    "identity_basis",
    "expression_basis",
    "expression_names",
)
_FLAME = "Register at https://flame.is.tue.mpg.de, accept the licence"
_DEEP3D = "Follow the model links of https://github.com/sicxu/Deep3DFaceRecon_pytorch"
_FACEVERSE = "Follow the model links of https://github.com/LizhenWangT/FaceVerse"

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            "face-landmarker", "face_landmarker.task", "MediaPipe Tasks bundle: 478 landmarks, 52 blendshapes, pose",
            "Apache-2.0",
            url=_github("google-ai-edge/mediapipe-samples", "ece8a1f99726",
                        "examples/face_landmarker/ios/FaceLandmarker/face_landmarker.task"),
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        ),
        Asset(
            "mobilefacenet", "MobileFaceNet.onnx", "face embedding, 128 numbers, for identity similarity", "Apache-2.0",
            url=_github("foamliu/MobileFaceNet", "a6cc9032a659", "weights/MobileFaceNet.onnx"),
            sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
        ),
        Asset("arcface", "arcface.onnx", "your ArcFace network, for identity similarity", "non-commercial research (InsightFace)",
              obtain="Download the buffalo_l (w600k_r50) or antelopev2 (glintr100) models of InsightFace, accept their licence "
                     "and name the recognition network arcface.onnx"),
        Asset("facenet", "20180402-114759-vggface2.pt", "InceptionResnetV1 trained on VGGFace2, for identity similarity", "MIT",
              url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"),
        Asset(
            "skin-clothes-hair", "skin_clothes_hair_512.onnx", "skin / clothes / hair segmentation at 512x512", "MIT",
            url=_github("Kazuhito00/Skin-Clothes-Hair-Segmentation-using-SMP", "043fc08bf0ed",
                        "02.model/_old/PAN(timm-mobilenetv3_small_100)_452_1.02M_0.8028/best_model.onnx"),
            sha256="26067d9f44e0ec9e4dc2a421eff77a634f7b3e5732d5aa7ea5a291cd67d00b30",
        ),
        Asset(
            "ict-facekit", "ict_facekit_light.npz", "the ICT head: 26,719 vertices, 100 identities, 53 expressions", "MIT",
            url="https://github.com/ICT-VGL/ICT-FaceKit/archive/da5f95a607f5.zip",
            sha256="5f566f7f76e8aa4be506e1af7c2d711759b33ccf16dad075a0f7605c883785af",
            members=ICT_MEMBERS,
            members_sha256="364ab7f5b46ada71dd605231d8019624a74ee9ef7d1b9d3ceb4f210b419f9af4",
        ),
        Asset("flame2020", "generic_model.pkl", "FLAME 2020 head model", "FLAME licence, non-commercial research",
              obtain=f"{_FLAME} and download FLAME 2020"),
        Asset("flame2023", "flame2023.pkl", "FLAME 2023 head model", "FLAME licence, non-commercial research",
              obtain=f"{_FLAME} and download FLAME 2023"),
        Asset("flame2023-open", "flame2023_Open.pkl", "FLAME 2023 Open head model", "CC-BY-4.0",
              obtain=f"{_FLAME} and download FLAME 2023 Open"),
        Asset("flame-template", "head_template.obj", "FLAME's template mesh with texture coordinates", "FLAME licence",
              obtain=f"{_FLAME} and take head_template.obj from the FLAME template or texture download"),
        Asset("flame-texture", "FLAME_texture.npz", "FLAME's texture space; its keys vt and ft are the coordinates",
              "FLAME licence", obtain=f"{_FLAME} and download the FLAME texture space"),
        Asset("flame-eyelids", "flame_eyelids.npz", "two eyelid shapes for FLAME: arrays left and right, (5023, 3) metres",
              "FLAME licence", obtain="Save the two eyelid shapes of your FLAME tracker as arrays left and right"),
        Asset("faceverse3", "faceverse_v3_6_s.npy", "FaceVerse v3 head model", "see its authors' repository",
              obtain=f"{_FACEVERSE} (version 3)"),
        Asset("faceverse3.1", "faceverse_v3_1.npy", "FaceVerse v3.1 head model", "see its authors' repository",
              obtain=f"{_FACEVERSE} (version 3.1)"),
        Asset("faceverse4", "faceverse_v4_2.npy", "FaceVerse v4 head model", "see its authors' repository",
              obtain=f"{_FACEVERSE} (version 4)"),
        Asset("vgg16", "vgg16-397923af.pth", "VGG16 ImageNet weights, for LPIPS", "BSD-3-Clause (torchvision)",
              url="https://download.pytorch.org/models/vgg16-397923af.pth", sha256="397923af"),
        Asset("vgg19", "vgg19-dcbb9e9d.pth", "VGG19 ImageNet weights, for the feature loss of StyleAvatar",
              "BSD-3-Clause (torchvision)", url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", sha256="dcbb9e9d"),
        Asset("alexnet", "alexnet-owt-7be5be79.pth", "AlexNet ImageNet weights, for LPIPS", "BSD-3-Clause (torchvision)",
              url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", sha256="7be5be79"),
        Asset("inception", "weights-inception-2015-12-05-6726825d.pth", "Inception weights of the FID definition",
              "Apache-2.0",
              url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                  "weights-inception-2015-12-05-6726825d.pth",
              sha256="6726825d"),
        Asset("dejavu-network", "dejavu_network.pt", "Gaussian Déjà-vu's reconstruction network", "research use only",
              url="https://github.com/PeizhiYan/gaussian-dejavu/releases/download/v1.1/dejavu_network.pt"),
        Asset("deep3d", "epoch_20.pth", "Deep3DFaceRecon_pytorch's network, for AED and APD as published", "MIT code, BFM terms",
              obtain=f"{_DEEP3D} and take the model's epoch_20.pth (the first release: published numbers use it)"),
        Asset("deep3d-landmarks", "similarity_Lm3D_all.mat", "Deep3DFaceRecon's 68 standard 3D landmarks", "MIT code, BFM terms",
              obtain=f"{_DEEP3D} and take similarity_Lm3D_all.mat from the folder BFM"),
    )
}  # fmt: skip


def cache_folder() -> Path:
    """``$AVATARZOO_CACHE``, or avatarzoo's folder in the platform's cache folder (not created here)."""
    return user_folder(
        "AVATARZOO_CACHE", ("LOCALAPPDATA", "~/AppData/Local"), "~/Library/Caches", ("XDG_CACHE_HOME", "~/.cache")
    )  # fmt: skip


def search_folders() -> list[Path]:
    """Where files are looked for, in order."""
    given = os.environ.get("AVATARZOO_ASSETS")
    return ([Path(given).expanduser()] if given else []) + [cache_folder() / "assets"]


def describe(name: str) -> Asset:
    """The table's row.

    Raises:
        MissingAssetError: no such row.
    """
    if name not in ASSETS:
        raise MissingAssetError(f"There is no asset named {name!r}; the names are {', '.join(ASSETS)}.")
    return ASSETS[name]


def locate(name: str) -> Path | None:
    """Where the file lies, unverified, or ``None``."""
    candidates = (folder / describe(name).file for folder in search_folders())
    return next((path for path in candidates if path.is_file()), None)


def find(name: str) -> Path:
    """The verified local file.

    Raises:
        MissingAssetError: it is not here (the message says how to get it) or its hash is wrong.
    """
    asset = describe(name)
    path = locate(name)
    if path is None:
        raise MissingAssetError(way_out(asset))
    check(asset, path)
    return path


def way_out(asset: Asset) -> str:
    """One sentence: what is missing and how to get it."""
    if asset.url:
        return f"{asset.what} ({asset.file}) is not on this machine; run: avatarzoo assets fetch {asset.name}"
    return (
        f"{asset.what} ({asset.file}) is not on this machine: {asset.obtain}, then put {asset.file} into "
        f"{search_folders()[0]}."
    )


def matches(asset: Asset, path: Path) -> bool:
    """Whether a file has the pinned hash; where nothing is pinned, every file has."""
    if asset.sha256 is None or file_hash(path).startswith(asset.sha256):
        return True
    if not asset.members or not zipfile.is_zipfile(path):
        return False
    return file_hash(path, asset.members) == asset.members_sha256


def check(asset: Asset, path: Path) -> None:
    """Refuse a file that is not the published one.

    Raises:
        MissingAssetError: its hash is another one.
    """
    if not matches(asset, path):
        again = (
            f"run: avatarzoo assets fetch {asset.name}" if asset.url else "get it again from its publisher"
        )
        raise MissingAssetError(
            f"{path} is not the {asset.file} that was published (its sha256 differs): delete it, then {again}."
        )


def check_download(asset: Asset, path: Path) -> None:
    """As :func:`check`, for a file that is about to get its name.

    Raises:
        MissingAssetError: its hash is another one.
    """
    if not matches(asset, path):
        raise MissingAssetError(
            f"What {asset.url} delivered is not the published {asset.file} (its sha256 differs), so it was thrown away; "
            f"try again, or put the right file into {search_folders()[0]}."
        )


def verify(name: str) -> bool | None:
    """Whether the local file has the pinned hash; ``None`` when it is not here or nothing is pinned."""
    asset, path = describe(name), locate(name)
    return None if path is None or asset.sha256 is None else matches(asset, path)


def fetch(name: str, progress: Callable[[int, int], None] | None = None) -> Path:
    """Download ``name`` into the first search folder unless it is here already.

    It is verified before it gets its name. ``ict-facekit`` is built, see :func:`avatarzoo.heads.ict_build.fetch_ict`.

    Args:
        progress: called with ``(bytes so far, bytes in all or 0)``.

    Raises:
        MissingAssetError: the file needs a registration, the server refuses, or the hash is wrong.
    """
    asset = describe(name)
    if locate(name) is not None:
        return find(name)
    if asset.url is None or asset.members:  # those with members are built by the heads package
        raise MissingAssetError(way_out(asset))
    target = search_folders()[0] / asset.file
    with atomic_path(target) as temporary:
        download(asset.url, temporary, progress)
        check_download(asset, temporary)
    return target


def download(url: str, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Stream ``url`` into ``target``.

    Raises:
        MissingAssetError: the server cannot be reached, refuses, or stops early.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as out:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(BLOCK):
                out.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise MissingAssetError(
            f"{url} cannot be downloaded ({error}); check the connection and try again."
        ) from error
    if total and done != total:
        raise MissingAssetError(f"{url} ended after {done} of {total} bytes; try again.")


def file_hash(path: Path, members: tuple[str, ...] = ()) -> str:
    """sha256 of a file, or of these arrays of an .npz (:func:`members_hash`).

    It is remembered in the cache folder until size or time of the file changes.
    """
    path = Path(path).resolve()
    stat = path.stat()
    key = ":".join(
        [*(("values", *members) if members else ()), str(path), str(stat.st_size), str(stat.st_mtime_ns)]
    )
    store = cache_folder() / "hashes.json"
    try:
        known = json.loads(store.read_text())
    except (OSError, ValueError):
        known = {}
    if isinstance(known, dict) and isinstance(known.get(key), str):
        return known[key]
    value = members_hash(path, members) if members else _sha256(path)
    with (
        contextlib.suppress(OutputError),
        atomic_path(store) as temporary,
    ):  # a read-only home only costs time
        temporary.write_text(json.dumps({**known, key: value}))
    return value


def members_hash(path: Path, members: tuple[str, ...]) -> str:
    """sha256 over names, types, shapes and values of an .npz's arrays: independent of how they were written."""
    import numpy as np

    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as file:
        for name in members:
            array = np.ascontiguousarray(file[name]) if name in file.files else np.zeros(0)
            array = array + array.dtype.type(0) if array.dtype.kind == "f" else array  # -0.0 becomes 0.0
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
