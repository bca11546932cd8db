"""Finished predictions to look at: all rows side by side, and where on the picture the worst frames are wrong."""

from __future__ import annotations

import contextlib
import heapq
import math
import tempfile
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatarzoo.data.video import write_video
from avatarzoo.errors import UsageError
from avatarzoo.evaluation.case import Case, Shot, Sound
from avatarzoo.evaluation.pictures import read_manifest, read_pictures
from avatarzoo.files import atomic_path

Picture = UInt8[np.ndarray, "h w 3"]
Rows = Mapping[str, Path]
"""Name of a row -> folder of its finished pictures of this case."""
ACROSS = 8
"""Most pictures abreast; more go below."""
WIDEST = 3840
"""Most pixels abreast; larger pictures are shrunk."""
SHEET_SIDE = 256
GREY = 128
COLOURMAP = "inferno"
STEPS = (1.0, 2.0, 5.0, 10.0)


def compare(case: Case, rows: Rows, path: Path) -> list[Path]:
    """``path.mp4`` with all rows side by side (``path.png`` of a case of one picture), and ``path_errors.png`` where there is a truth.

    Raises:
        BadSequenceError: a finished picture is missing or of another size. OutputError: the folder cannot be written.
    """
    made = [side_by_side_video(case, rows, path.with_name(f"{path.name}.mp4"))]
    if has_truth(case):
        made.append(heatmap_sheet(case, rows, path.with_name(f"{path.name}_errors.png")))
    return made


def has_truth(case: Case) -> bool:
    """Whether the asked pictures exist, as in self-reenactment."""
    return next(iter(case.shots)).target is not None


# ---- side by side --------------------------------------------------------------------------------------------------------------


def side_by_side_video(case: Case, rows: Rows, path: Path) -> Path:
    """Source, truth (or driver), and every row's prediction, named above, at the speed of the case and with its sound.

    A case of one picture becomes a PNG of the same name. Returns what was written.

    Raises:
        BadSequenceError: a finished picture is missing or of another size. OutputError: the folder cannot be written.
    """
    if case.count == 1:
        return write_picture(next(compositions(case, rows)), path.with_suffix(".png"))
    with sound_file(case.sound) as sound:
        write_video(path, compositions(case, rows), case.fps, audio_from=sound)
    return path


def compositions(case: Case, rows: Rows) -> Iterator[Picture]:
    """One picture per asked frame."""
    header: dict[str, Picture] = {}
    for shot in case.shots:
        cells = {name: to_bytes(pictures) for name, pictures in columns(shot, rows).items()}
        abreast = min(ACROSS, len(cells))
        side = min(shot.camera.size[0], WIDEST // abreast)
        header = header or {name: caption(name, side, label_height(side)) for name in cells}
        for i in range(len(shot.rows)):
            yield grid([np.concatenate([header[name], fit(cells[name][i], side)]) for name in cells], abreast)


def columns(shot: Shot, rows: Rows) -> dict[str, Float[Tensor, "b 3 h w"]]:
    """Name above -> pictures."""
    shown = {"Source": shot.source, "Truth": shot.target} if shot.target is not None else {}
    shown = shown or {"Source": shot.source, "Driver": shot.driver}
    found = {name: pictures for name, pictures in shown.items() if pictures is not None}
    return {**found, **{name: finished(folder, shot) for name, folder in rows.items()}}


def finished(folder: Path, shot: Shot) -> Float[Tensor, "b 3 h w"]:
    """A row's pictures; those that were not finite are NaN."""
    manifest = read_manifest(folder) or {}
    return read_pictures(folder, shot.rows, shot.camera.size, manifest.get("broken", ()))


@contextlib.contextmanager
def sound_file(sound: Sound | None) -> Iterator[Path | None]:
    """Audio as a temporary 16-bit WAV file."""
    if sound is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, sound.rate, 0, "NONE", "not compressed"))
            file.writeframes((sound.samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
        yield path


# ---- errors --------------------------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame of one row: its mean absolute error (infinite for a picture that is not finite), number, truth and prediction."""

    l1: float
    number: int
    target: Float[Tensor, "3 h w"]
    prediction: Float[Tensor, "3 h w"]


def absolute_error(
    prediction: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"]
) -> Float[Tensor, "h w"]:
    """Mean over the channels of the absolute difference, in [0, 1]."""
    return (prediction - target).abs().mean(0)


def error_heatmap(
    prediction: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"], top: float | None = None
) -> Picture:
    """Absolute error as colours of ordered lightness, with a colour bar at the right that prints its scale.

    Args:
        prediction, target: RGB in [0, 1]. top: error shown as the brightest colour (larger ones too); by default a round number
            that few pixels exceed. Pixels that are not finite are grey.
    """
    top = round_up(peak(prediction, target)) if top is None else top
    colours = coloured(absolute_error(prediction, target), top)
    return np.concatenate([colours, colour_bar(colours.shape[0], top)], 1)


def heatmap_sheet(case: Case, rows: Rows, path: Path, count: int = 3) -> Path:
    """A line per row with its ``count`` worst frames (largest L1): truth, prediction, error; all errors on one scale.

    Raises:
        UsageError: the case has no truth. BadSequenceError: a finished picture is missing or of another size.
    """
    if not has_truth(case):
        raise UsageError(f"{case.name} has no true pictures to tell errors by; show it side by side.")
    found = worst_frames(case, rows, count)
    top = round_up(
        max((peak(f.prediction, f.target) for frames in found.values() for f in frames), default=0.0)
    )
    side = min(SHEET_SIDE, next(iter(case.shots)).camera.size[0])
    lines = []
    for name, frames in found.items():
        words = [f"{name}: frame {f.number}, L1 {f.l1:.4f}" if math.isfinite(f.l1) else f"{name}: frame {f.number}, not finite"
                 for f in frames]  # fmt: skip
        line = np.concatenate([triple(f, text, top, side) for f, text in zip(frames, words)], 1)
        lines.append(np.concatenate([line, colour_bar(line.shape[0], top)], 1))
    return write_picture(np.concatenate(lines), path)


def worst_frames(case: Case, rows: Rows, count: int) -> dict[str, list[Frame]]:
    """The frames of each row with the largest L1, worst first; pictures that are not finite come before all."""
    worst: dict[str, list[Frame]] = {name: [] for name in rows}
    for shot in case.shots:
        assert shot.target is not None
        for name, folder in rows.items():
            predictions = finished(folder, shot)
            errors = (predictions - shot.target).abs().mean((1, 2, 3)).nan_to_num(math.inf).tolist()
            frames = map(Frame, errors, shot.rows.tolist(), shot.target, predictions)
            worst[name] = heapq.nlargest(count, [*worst[name], *frames], key=lambda f: f.l1)
    return worst


def triple(frame: Frame, words: str, top: float, side: int) -> Picture:
    """Truth, prediction and error of one frame under its caption."""
    error = coloured(absolute_error(frame.prediction, frame.target), top)
    pictures = [*to_bytes(torch.stack([frame.target, frame.prediction])), error]
    line = np.concatenate([fit(p, side) for p in pictures], 1)
    return np.concatenate([caption(words, line.shape[1], label_height(side)), line])


def peak(prediction: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"]) -> float:
    """The error that one pixel in fifty exceeds; 0 where nothing is finite."""
    errors = absolute_error(prediction, target)
    errors = errors[torch.isfinite(errors)]
    return float(np.quantile(errors.numpy(), 0.98)) if len(errors) else 0.0


def round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten, from 0.01 to 1."""
    value = min(max(value, 0.01), 1.0)
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return next(step * power for step in STEPS if step * power >= value * (1 - 1e-6))


def coloured(error: Float[Tensor, "h w"], top: float) -> Picture:
    from matplotlib import colormaps

    values = error.numpy()
    pixels = colormaps[COLOURMAP](np.nan_to_num(values / top).clip(0, 1), bytes=True)[..., :3].copy()
    pixels[~np.isfinite(values)] = GREY
    return pixels


def colour_bar(height: int, top: float) -> Picture:
    """``(height, 56, 3)``: black ground, the scale from 0 below to ``top`` above, with numbers."""
    label = min(16, height // 4)
    levels = torch.linspace(top, 0, height - label)[:, None].expand(-1, 14)
    bar = np.zeros((height, 56, 3), np.uint8)
    bar[label // 2 : label // 2 + height - label, 4:18] = coloured(levels, top)
    marks = ((f"≥{top:g}", 0), (f"{top / 2:g}", (height - label) // 2), ("0", height - label))
    for words, row in marks:
        bar[row : row + label, 20:] = caption(words, 36, label)
    return bar


# ---- drawing -------------------------------------------------------------------------------------------------------------------


def caption(words: str, width: int, height: int) -> Picture:
    """White words on black in the largest letters that fit, on as many lines as fit."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font_file = str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for size in range(min(24, max(7, int(0.7 * height))), 6, -1):
        font = ImageFont.truetype(font_file, size)
        text = wrapped(words, lambda line: font.getlength(line) <= width - 4)  # noqa: B023 - used at once
        box = draw.multiline_textbbox((0, 0), text, font=font, spacing=1)
        if box[2] - box[0] <= width - 4 and box[3] <= height:
            break
    draw.multiline_text((width / 2, height / 2), text, font=font, spacing=1, anchor="mm", align="center")
    return np.array(picture)


def wrapped(words: str, fits) -> str:
    """Lines of whole words, each as long as fits."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if fits(longer) or not lines[-1] else [*lines, word]
    return "\n".join(lines)


def label_height(side: int) -> int:
    return max(24, side // 10)


def grid(cells: list[Picture], abreast: int) -> Picture:
    """Cells of one size, row by row; what is left over is black."""
    cells = cells + [np.zeros_like(cells[0])] * (-len(cells) % abreast)
    lines = [np.concatenate(cells[i : i + abreast], 1) for i in range(0, len(cells), abreast)]
    return np.concatenate(lines)


def fit(picture: Picture, side: int) -> Picture:
    if picture.shape[0] == side:
        return picture
    width = max(1, round(picture.shape[1] * side / picture.shape[0]))
    return cv2.resize(picture, (width, side), interpolation=cv2.INTER_AREA)


def to_bytes(pictures: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Grey where a picture is not finite."""
    known = pictures.nan_to_num(GREY / 255, GREY / 255, GREY / 255).clamp(0, 1)
    return (known * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def write_picture(picture: Picture, path: Path) -> Path:
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path} cannot be encoded")
    return path
