"""Whether it is the same person: cosine similarity of face embeddings (CSIM).

A value depends on the network that makes the embeddings: :attr:`CSIM.label` names it, and tables print that. Published CSIM
(InvertAvatar, NOFA) is ArcFace's, weights and crop unstated; here faces are aligned by ArcFace's five points.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.metrics.base import AvatarMetric, Images, Masks, PerImage
from avatarzoo.perception.face_embedding import EmbedderName, FaceEmbedder, embed_faces, load_embedder
from avatarzoo.perception.faces import FaceReader, shared_reader


def cosine_similarity(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> PerImage:
    """Cosine of the angle between each two rows, -1 to 1; NaN where a row has NaN or no length."""
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return (a * b).sum(1) / lengths


def pairwise_csim(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean cosine over all pairs of N pictures of one person: CSIM "for each identity" (InvertAvatar, Table 1).

    (The paper does not say how it pairs the pictures of an identity; all pairs is our reading.)

    Raises:
        ValueError: fewer than two pictures, or one without a face (leave it out and count it).
    """
    if len(embeddings) < 2 or not torch.isfinite(embeddings).all():
        raise ValueError(
            "Pairwise CSIM needs two or more pictures with a face; leave out and count those without."
        )
    unit = F.normalize(embeddings)
    n = len(unit)
    return (unit.sum(0).square().sum() - n) / (n * (n - 1))


class CSIM(AvatarMetric):
    """Cosine similarity of the face in the prediction and the face in the reference (the identity's picture).

    A face missing in either is a failure. Masks are ignored: the aligned face is the region.

    Args:
        embedder: the network, or its name as for :func:`.load_embedder`.
        reader: finds the faces; shared by all metrics by default.

    Attributes:
        label: what a table calls the numbers, such as ``CSIM (MobileFaceNet)``.

    Raises:
        MissingAssetError: the network is not on this machine.
    """

    higher_is_better = True

    def __init__(
        self,
        embedder: FaceEmbedder | Literal["auto"] | EmbedderName = "auto",
        reader: FaceReader | None = None,
    ) -> None:
        super().__init__()
        self.embedder = load_embedder(embedder) if isinstance(embedder, str) else embedder
        self.reader = reader or shared_reader()
        self.label = f"CSIM ({self.embedder.name})"

    def embed(self, pictures: Images) -> Float[Tensor, "b d"]:
        """Embeddings of unit length; rows of NaN where no face is found."""
        return embed_faces(pictures, self.reader(pictures), self.embedder)

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return cosine_similarity(self.embed(prediction), self.embed(reference))


class PairwiseCSIM(CSIM):
    """How alike the pictures of one made-up person are: :func:`pairwise_csim` of each clip's predictions, one value per clip.

    The reference plays no part. A picture without a face is a failure of its own; so is a clip of fewer than two faces.
    """

    def __init__(
        self,
        embedder: FaceEmbedder | Literal["auto"] | EmbedderName = "auto",
        reader: FaceReader | None = None,
    ) -> None:
        super().__init__(embedder, reader)
        self.label = f"pairwise {self.label}"
        self.gathered: list[Tensor] = []

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:  # type: ignore[override]
        self.gathered.append(self.embed(prediction))

    def end_clip(self) -> None:
        if not self.gathered:
            return
        rows = torch.cat(self.gathered)
        self.gathered = []
        found = torch.isfinite(rows).all(1)
        lost = rows.new_full((int((~found).sum()),), torch.nan)
        value = pairwise_csim(rows[found]) if found.sum() > 1 else rows.new_tensor(torch.nan)
        self.add(torch.cat([value[None], lost]))

    def reset(self) -> None:
        super().reset()
        self.gathered = []
