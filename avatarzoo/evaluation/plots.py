"""Plots of result files: quality against training time (Déjà-vu Figures 6 and 11) and against the number of source frames
(InvertAvatar Figures 6 and 12), drawn from ``result.json`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from avatarzoo.evaluation.results import read_result
from avatarzoo.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B6D00")
"""Told apart by colour-blind eyes (Okabe and Ito 2008, without yellow); markers and dashes repeat the difference."""
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
BETTER = {
    **dict.fromkeys(("l1", "lpips", "fid", "frechet_face", "akd", "aed", "apd", "jitter", "warped_error"), "lower"),
    **dict.fromkeys(("psnr", "ssim", "msssim", "csim"), "higher"),
}  # fmt: skip
UNITS = {"psnr": "dB"}
FRAMES_COLUMN = re.compile(r"^(?:(?P<part>.*), )?(?P<count>\d+) frames? / (?P<metric>.+)$")


class Band(NamedTuple):
    """A line over people and seeds: abscissa, mean, least and greatest, each ``(N,)``; ``runs``: how many curves."""

    x: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    runs: int


def plots_of(result_path: str | Path) -> list[Path]:
    """Draw every plot that fits a result, as PNG beside it; empty where none fits.

    Raises:
        BadResultError: no such file, or no valid result. OutputError: the folder cannot be written.
    """
    path = Path(result_path)
    result = read_result(path)
    kinds: list[tuple[str, Callable[[Result], bool], Callable[[Result, Path], Path]]] = [
        ("against_time", lambda r: bool(curve_bands(r)), plot_curves),
        ("against_frames", lambda r: bool(frame_lines(r)), plot_against_frames),
    ]
    return [
        plot(result, path.with_name(f"{path.stem}_{name}.png")) for name, fits, plot in kinds if fits(result)
    ]


# ---- training time -------------------------------------------------------------------------------------------------------------


def plot_curves(result: Result, path: str | Path) -> Path:
    """Metrics of held-out frames against training time; see :func:`curves_figure`."""
    return _save(curves_figure(result), path)


def curve_bands(result: Result) -> dict[str, dict[str, Band]]:
    """Metric -> row -> its mean and range over people and seeds at every moment that one of them was scored.

    Between scorings a curve is straight; after the end of training it stays where it ended.
    """
    bands: dict[str, dict[str, Band]] = {}
    for row, curves in result.get("curves", {}).items():
        titles = {
            key: None for c in curves for p in c["points"] for key in p if key not in ("step", "seconds")
        }
        for title in titles:
            lines = [
                np.array([(p["seconds"], p[title]) for p in c["points"] if p.get(title) is not None])
                for c in curves
            ]
            lines = [line for line in lines if len(line)]
            if lines:
                x = np.unique(np.concatenate([line[:, 0] for line in lines]))
                y = np.stack([np.interp(x, line[:, 0], line[:, 1]) for line in lines])
                bands.setdefault(title, {})[row] = Band(x, y.mean(0), y.min(0), y.max(0), len(lines))
    return bands


def curves_figure(result: Result) -> Figure:
    """A panel per metric, a line per row, a band from the least to the greatest of people and seeds.

    A row that needs no training is a level line.
    """
    bands = curve_bands(result)
    longest = max((float(b.x[-1]) for rows in bands.values() for b in rows.values()), default=0.0)
    divisor, unit = (60.0, "minutes") if longest >= 180 else (1.0, "seconds")
    rows = list(dict.fromkeys(row for found in bands.values() for row in found))
    figure, panels = _panels(result, list(bands))
    for title, axes in panels.items():
        for row, band in bands[title].items():
            look = _look(rows.index(row))
            if len(band.x) == 1:
                axes.axhline(
                    band.mean[0],
                    label=f"{row} (no training)",
                    **{**look, "linestyle": DASHES[2], "marker": ""},
                )
                axes.axhspan(band.least[0], band.greatest[0], color=look["color"], alpha=0.15, linewidth=0)
                continue
            axes.plot(band.x / divisor, band.mean, label=row, markevery=band.runs, **look)
            axes.fill_between(
                band.x / divisor, band.least, band.greatest, color=look["color"], alpha=0.15, linewidth=0
            )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"training time [{unit}]")
    runs = max((band.runs for found in bands.values() for band in found.values()), default=0)
    told = f"mean and range of {runs} runs (people, seeds)" if runs > 1 else "one person, one seed"
    _finish(figure, panels, result, told)
    return figure


# ---- number of source frames ---------------------------------------------------------------------------------------------------


def plot_against_frames(result: Result, path: str | Path) -> Path:
    """Metrics against how many pictures of a person a method saw; see :func:`frames_figure`."""
    return _save(frames_figure(result), path)


def frame_lines(result: Result) -> dict[str, dict[tuple[str, str], Band]]:
    """Metric -> (row, part) -> mean by number of frames; the range is over seeds, or no more than the mean.

    Read from columns ``N frames / METRIC`` and ``PART, N frames / METRIC``. A metric needs two numbers of frames to be a line.
    """
    found: dict[str, dict[tuple[str, str], dict[int, list[float]]]] = {}
    for row, columns in result["metrics"].items():
        for title, numbers in columns.items():
            match = FRAMES_COLUMN.match(title)
            if match is None or numbers["mean"] is None:
                continue
            seeds = [v for v in numbers.get("per_seed", []) if v is not None]
            line = found.setdefault(match["metric"], {}).setdefault((row, match["part"] or ""), {})
            line[int(match["count"])] = [numbers["mean"], *seeds]
    return {
        metric: {key: _frames_band(line) for key, line in lines.items()}
        for metric, lines in found.items()
        if len({count for line in lines.values() for count in line}) > 1
    }


def _frames_band(line: dict[int, list[float]]) -> Band:
    counts = sorted(line)
    values = [line[count] for count in counts]
    runs = max(1, min(len(v) for v in values) - 1)
    return Band(
        np.array(counts, float), np.array([v[0] for v in values]), np.array([min(v) for v in values]),
        np.array([max(v) for v in values]), runs,
    )  # fmt: skip


def frames_figure(result: Result) -> Figure:
    """A panel per metric; colours are rows, dashes are parts (ordered, shuffled)."""
    lines = frame_lines(result)
    rows = list(dict.fromkeys(row for found in lines.values() for row, _ in found))
    parts = list(dict.fromkeys(part for found in lines.values() for _, part in found))
    figure, panels = _panels(result, list(lines))
    for metric, axes in panels.items():
        for (row, part), band in lines[metric].items():
            nth = parts.index(part)
            look = {**_look(rows.index(row)), "linestyle": DASHES[nth % len(DASHES)]}
            if nth:  # hollow and larger: still seen where parts agree
                look |= {"markerfacecolor": "none", "markersize": 4 + 3 * nth}
            axes.plot(band.x, band.mean, label=f"{row}, {part.lower()}" if part else row, **look)
            axes.fill_between(band.x, band.least, band.greatest, color=look["color"], alpha=0.15, linewidth=0)
        counts = sorted({int(x) for band in lines[metric].values() for x in band.x})
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("source frames")
    runs = max((band.runs for found in lines.values() for band in found.values()), default=1)
    told = f"mean and range of {runs} seeds" if runs > 1 else "mean over all test frames"
    _finish(figure, panels, result, told)
    return figure


# ---- drawing -------------------------------------------------------------------------------------------------------------------


def _panels(result: Result, metrics: list[str]) -> tuple[Figure, dict[str, Axes]]:
    """A figure without a window, at most three panels abreast."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = {4: 2}.get(len(metrics), min(3, len(metrics)) or 1)
    down = -(-len(metrics) // across) or 1
    figure = Figure(figsize=(max(8.8, 4.4 * across + 0.4), 3.4 * down + 1.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = {}
    for number, metric in enumerate(metrics):
        axes = figure.add_subplot(down, across, number + 1)
        axes.set_ylabel(axis_label(result, metric))
        axes.grid(alpha=0.3)
        panels[metric] = axes
    return figure, panels


def axis_label(result: Result, column: str) -> str:
    """``PSNR [dB], higher is better``: what a column of a result means."""
    known = {
        c["column"].rsplit("{subset} / ", 1)[-1]: c["metric"]
        for c in result.get("protocol", {}).get("columns", [])
    }
    metric = known.get(column, "")
    unit = f" [{UNITS[metric]}]" if metric in UNITS else ""
    return f"{column}{unit}" + (f", {BETTER[metric]} is better" if metric in BETTER else "")


def _look(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4, "linewidth": 1.6,
        "linestyle": "-",
    }  # fmt: skip


def _finish(figure: Figure, panels: dict[str, Axes], result: Result, told: str) -> None:
    """A title that says what the lines are and whether the people are real, and one legend below all panels."""
    title = result.get("protocol", {}).get("title") or result.get("method", "")
    people = "procedural people: says nothing about real ones; " if result["procedural"] else ""
    figure.suptitle(f"{title}\n{people}{told}", fontsize=11)
    entries: dict[str, Any] = {}
    for axes in panels.values():
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(3, len(entries) or 1),
        fontsize=8,
    )


def _save(figure: Figure, path: str | Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)
