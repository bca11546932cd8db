"""Names of the regions in a parsed head picture (the label map's pixel values)."""

from enum import IntEnum


class Region(IntEnum):
    """Pixel values of a label map; left and right are not told apart."""

    BACKGROUND = 0
    SKIN = 1
    HAIR = 2
    BODY = 3
    BROWS = 4
    EYES = 5
    LIPS = 6
    NOSE = 7
    EARS = 8


FEATURES = (Region.BROWS, Region.EYES, Region.LIPS, Region.NOSE)
"""The regions whose errors the eye forgives least; losses weigh them more."""
HEAD = (Region.SKIN, Region.HAIR, Region.EARS, *FEATURES)
"""Everything that moves with the head."""
