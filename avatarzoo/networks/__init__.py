"""Layers that two methods or more are made of, in plain torch."""

from avatarzoo.networks.discriminator import Discriminator, DualDiscriminator
from avatarzoo.networks.modulation import SynthesisLayer, ToRGB, modulated_convolution
from avatarzoo.networks.ops import EqualLinear, resampling_filter, resize, upfirdn, upsample
from avatarzoo.networks.stylegan2 import MappingNetwork, Stage, SynthesisBlock, SynthesisNetwork
from avatarzoo.networks.superresolution import SuperResolution

__all__ = [
    "Discriminator",
    "DualDiscriminator",
    "EqualLinear",
    "MappingNetwork",
    "Stage",
    "SuperResolution",
    "SynthesisBlock",
    "SynthesisLayer",
    "SynthesisNetwork",
    "ToRGB",
    "modulated_convolution",
    "resampling_filter",
    "resize",
    "upfirdn",
    "upsample",
]
