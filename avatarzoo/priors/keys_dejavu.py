"""Names of the released Gaussian Deja-vu network's entries in :class:`avatarzoo.networks.ednet.EDNet`."""

from __future__ import annotations

import re

from avatarzoo.networks.ednet import EDNet

RULES = [
    (r"^encoder\.0\.", "inc.double_conv."),
    (r"^encoder\.(\d)\.", r"down\1.maxpool_conv.1.double_conv."),
    *[(rf"^decoder\.{k}\.", f"up{k + 1}.") for k in range(4)],
    (r"^(up\d)\.conv\.", r"\1.conv.double_conv."),
    (r"\.blur\.taps$", ".blur_layer.f"),
    (r"^head\.", "outc.conv."),
]
"""From our names to the released ones, applied one after the other."""


def dejavu_key_map() -> dict[str, str]:
    """Released state-dict key -> our key: 32 entries."""
    names = {}
    for ours in EDNet(32, width=1).state_dict():  # names do not depend on widths
        official = ours
        for pattern, replacement in RULES:
            official = re.sub(pattern, replacement, official)
        names[official] = ours
    return names
