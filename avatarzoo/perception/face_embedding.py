"""Who a face is: five-point alignment and face recognition networks, for the cosine similarity of identities (CSIM).

An embedder is called with aligned faces ``(B, 3, size, size)`` in [0, 1] and returns ``(B, D)`` of unit length; it has a ``name``,
which belongs beside every number it makes, because cosines of different networks cannot be compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.geometry.crop import MOUTH_LEFT, MOUTH_RIGHT, Crop
from avatarzoo.optional import require
from avatarzoo.perception.faces import found_faces, to_uint8
from avatarzoo.perception.landmarks import LEFT_EYE, RIGHT_EYE
from avatarzoo.perception.parsing import similarity

TEMPLATE_SIZE = 112
TEMPLATE = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
    + 0.5
)  # fmt: skip
"""ArcFace's eyes, tip of the nose and corners of the mouth, the subject's right first; pixel centres at +0.5 as everywhere here."""
NOSE_TIP = 4
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SMALL_BATCH, LARGEST_BATCH = 8, 64

EmbedderName = Literal["arcface", "mobilefacenet", "facenet"]
AUTO_ORDER: tuple[EmbedderName, ...] = get_args(EmbedderName)
"""ArcFace is what the papers name; MobileFaceNet is trained with its loss, so its cosines read alike (the same person above 0.6,
others near 0); FaceNet, trained otherwise, gives strangers higher cosines."""


class FaceEmbedder(Protocol):
    """Aligned faces ``(B, 3, size, size)`` in [0, 1] -> ``(B, width)`` of unit length."""

    name: str
    size: int
    width: int

    def __call__(self, aligned: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]: ...


def five_points(landmarks: Float[np.ndarray, "b 478 3"]) -> Float[np.ndarray, "b 5 2"]:
    """Eyes (the middle of the lids, which gaze does not move), tip of the nose, corners of the mouth."""
    groups: tuple[tuple[int, ...], ...] = (RIGHT_EYE, LEFT_EYE, (NOSE_TIP,), (MOUTH_RIGHT,), (MOUTH_LEFT,))
    return np.stack([landmarks[:, list(g), :2].mean(1) for g in groups], 1)


def alignment(landmarks: Float[np.ndarray, "b 478 3"], size: int = TEMPLATE_SIZE) -> Crop:
    """The least-squares similarity that takes each face's five points to ArcFace's template, scaled to ``size``."""
    target = TEMPLATE * (size / TEMPLATE_SIZE)
    matrices = [similarity(points.astype(np.float64), target) for points in five_points(landmarks)]
    return Crop(torch.from_numpy(np.stack(matrices)), size)


def align_faces(
    pictures: Float[Tensor, "b 3 h w"], landmarks: Float[Tensor, "b 478 3"], size: int = TEMPLATE_SIZE
) -> Float[Tensor, "b 3 s s"]:
    """Faces as ArcFace is given them; black outside the picture, anti-aliased where a face shrinks by more than 1.5.

    Raises:
        ValueError: a landmark is not finite (leave out pictures without a face first).
    """
    if not torch.isfinite(landmarks).all():
        raise ValueError("A picture without a face cannot be aligned; leave it out and count it.")
    if len(pictures) == 0:
        return pictures.new_zeros(0, 3, size, size)
    crop = alignment(landmarks.detach().cpu().numpy(), size)
    cut = [crop.picture(frame, i, border="black") for i, frame in enumerate(to_uint8(pictures))]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).to(pictures.device).float() / 255


def embed_faces(
    pictures: Float[Tensor, "b 3 h w"], landmarks: Float[Tensor, "b 478 3"], embedder: FaceEmbedder
) -> Float[Tensor, "b d"]:
    """Embeddings of unit length, rows of NaN where the landmarks are NaN."""
    seen = found_faces(landmarks)
    found = embedder(align_faces(pictures[seen], landmarks[seen], embedder.size))
    rows = found.new_full((len(pictures), found.shape[1]), torch.nan)
    rows[seen] = found
    return rows


class OnnxEmbedder:
    """A face recognition network in an ONNX file, on the CPU.

    Args:
        file: one input ``(1 or any, 3, size, size)``, one output ``(same, D)``.
        name: what tables call it.
        mean, deviation: of the input, per channel, in [0, 1].

    Raises:
        MissingAssetError: there is no such file. ValueError: its input has another layout.
    """

    def __init__(
        self,
        file: str | Path,
        name: str,
        mean: tuple[float, float, float],
        deviation: tuple[float, float, float],
    ) -> None:
        import onnxruntime

        if not Path(file).is_file():
            raise MissingAssetError(
                f"There is no file {file}; give the path of a face embedding network in ONNX."
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # faces side by side are faster than threads within a small network
        self.name = name
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        entry, leaving = self.session.get_inputs()[0], self.session.get_outputs()[0]
        shape = list(entry.shape)
        batch, size = shape[0], shape[-1]
        if (
            shape[1:] != [3, size, size]
            or not isinstance(size, int)
            or (isinstance(batch, int) and batch != 1)
        ):
            raise ValueError(
                f"{file} wants {shape}, not square RGB faces (1 or any, 3, size, size); export it in that layout."
            )
        self.input, self.size, self.width = entry.name, size, leaving.shape[-1]
        self.batch = 1 if batch == 1 else SMALL_BATCH
        self.mean, self.deviation = (torch.tensor(v).view(3, 1, 1) for v in (mean, deviation))

    def __call__(self, aligned: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        x = ((aligned.detach().cpu() - self.mean) / self.deviation).contiguous()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            parts = list(pool.map(self._run, x.split(self.batch) if len(x) else ()))
        found = torch.cat(parts) if parts else torch.zeros(0, self.width)
        return F.normalize(found.to(aligned.device))

    def _run(self, faces: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {self.input: faces.numpy()})[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxEmbedder:
        return self


class MobileFaceNet(OnnxEmbedder):
    """MobileFaceNet (Chen et al. 2018) trained with ArcFace's loss: 128 numbers, open weights (asset ``mobilefacenet``).

    Raises:
        MissingAssetError: the file is not here.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        super().__init__(file or assets.find("mobilefacenet"), "MobileFaceNet", *IMAGENET)


class ArcFace(OnnxEmbedder):
    """The user's own ArcFace (Deng et al. 2019), such as InsightFace's w600k_r50 or r100: RGB scaled to [-1, 1].

    Args:
        file: the ONNX file; asset ``arcface`` by default.

    Raises:
        MissingAssetError: the file is not here.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        super().__init__(file or assets.find("arcface"), "ArcFace", *HALF)


class FaceNet:
    """InceptionResnetV1 of facenet-pytorch trained on VGGFace2 (asset ``facenet``): 512 numbers, 160 x 160 pictures.

    It was trained on boxes of a face detector; here it sees the same five-point alignment as the others, so that one picture is
    cut in one way only.

    Raises:
        MissingAssetError: the weights are not here. MissingExtraError: facenet-pytorch is not installed.
    """

    name, size, width = "FaceNet", 160, 512

    def __init__(self, file: str | Path | None = None) -> None:
        path = file or assets.find("facenet")
        network = require("facenet_pytorch", extra="identity").InceptionResnetV1(pretrained=None)
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(
            {k: v for k, v in weights.items() if not k.startswith("logits.")}, strict=True
        )
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, aligned: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        if len(aligned) == 0:
            return aligned.new_zeros(0, 512)
        self.network.to(aligned.device)
        x = (aligned * 255 - 127.5) / 128
        return F.normalize(torch.cat([self.network(part) for part in x.split(LARGEST_BATCH)]))


def load_embedder(name: Literal["auto"] | EmbedderName = "auto") -> FaceEmbedder:
    """An embedder with its published weights; ``auto`` is the first in :data:`AUTO_ORDER` whose file is here.

    Raises:
        MissingAssetError: its file is not here. MissingExtraError: its package is not. ValueError: there is no such name.
    """
    kinds: dict[str, type[OnnxEmbedder] | type[FaceNet]] = {
        "arcface": ArcFace, "mobilefacenet": MobileFaceNet, "facenet": FaceNet,
    }  # fmt: skip
    if name == "auto":
        here = [n for n in AUTO_ORDER if assets.locate(n) is not None]
        if not here:
            raise MissingAssetError(assets.way_out(assets.describe("mobilefacenet")))
        name = here[0]
    if name not in kinds:
        raise ValueError(f"There is no face embedder {name!r}; choose auto, {', '.join(kinds)}.")
    return kinds[name]()  # type: ignore[call-arg]
