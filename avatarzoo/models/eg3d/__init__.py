"""EG3D as a GAN that trains; the generator itself is :class:`avatarzoo.priors.TriPlaneGenerator`."""

from avatarzoo.models.eg3d.module import EG3DTraining

__all__ = ["EG3DTraining"]
