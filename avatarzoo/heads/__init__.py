"""Head models: parameters in, vertices out (metres, y up, face towards +z)."""

from avatarzoo.heads.base import HeadModel, HeadParams, LandmarkEmbedding
from avatarzoo.heads.ict import ICTFace

__all__ = ["HeadModel", "HeadParams", "ICTFace", "LandmarkEmbedding"]
