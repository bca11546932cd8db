"""Frechet distance of face embeddings: a distance between sets of faces that needs no Inception weights, under its own name."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.metrics.base import Images
from avatarzoo.metrics.distribution import FrechetDistance
from avatarzoo.perception.face_embedding import EmbedderName, FaceEmbedder, embed_faces, load_embedder
from avatarzoo.perception.faces import FaceReader, shared_reader


class FaceFeatures(nn.Module):
    """Pictures to embeddings of their faces, NaN where there is none."""

    def __init__(self, embedder: FaceEmbedder, reader: FaceReader) -> None:
        super().__init__()
        self.embedder, self.reader = embedder, reader

    def forward(self, pictures: Images) -> Float[Tensor, "b d"]:
        return embed_faces(pictures, self.reader(pictures), self.embedder)


class FaceFrechetDistance(FrechetDistance):
    """:class:`FrechetDistance` on aligned faces; no FID, and comparable with none. A picture without a face is a failure.

    Args:
        embedder: the network, or its name as for :func:`.load_embedder`. reader: finds the faces; shared by default.

    Raises:
        MissingAssetError: the network is not on this machine.
    """

    def __init__(
        self,
        embedder: FaceEmbedder | Literal["auto"] | EmbedderName = "auto",
        reader: FaceReader | None = None,
    ) -> None:
        network = load_embedder(embedder) if isinstance(embedder, str) else embedder
        features = FaceFeatures(network, reader or shared_reader())
        super().__init__(features, network.width, f"Frechet distance of faces ({network.name})")
