"""Result tables as plain text and Markdown."""

from __future__ import annotations

import math
from typing import Any

COLUMNS = {
    "l1": ("L1 ↓", "{:.4f}"),
    "psnr": ("PSNR ↑", "{:.2f}"),
    "ssim": ("SSIM ↑", "{:.4f}"),
    "lpips_alex": ("LPIPS-alex ↓", "{:.4f}"),
    "lpips_vgg": ("LPIPS-vgg ↓", "{:.4f}"),
}


def markdown_table(rows: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A Markdown table; rows: name -> metric -> ``{"mean": float or None, "failures": int}``.

    A metric that was not computed shows a dash; failed pictures are counted in their own column.
    """
    names = [name for name in COLUMNS if any(name in row for row in rows.values())]
    header = ["", *(COLUMNS[name][0] for name in names), "failed pictures"]
    lines = [header]
    for title, row in rows.items():
        cells = [_cell(row.get(name), COLUMNS[name][1]) for name in names]
        lines.append([title, *cells, str(max((m["failures"] for m in row.values()), default=0))])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def _cell(metric: dict[str, Any] | None, pattern: str) -> str:
    if metric is None or metric["mean"] is None or math.isnan(metric["mean"]):
        return "-"
    return pattern.format(metric["mean"])
