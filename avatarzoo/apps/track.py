"""``avatarzoo track``: a video to head parameters, crops and masks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from avatarzoo.data.sequence import TrackedSequence
    from avatarzoo.heads import HeadModel

TILES = 12
COLUMNS = 4
TILE_SIZE = 320


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo track",
        description="Track the head of one person through a video: writes square crops, head masks, label maps, "
        "landmarks and head parameters into a folder, with a picture preview.jpg to judge them by.",
        epilog="Any resolution, frame rate and rotation. A run that was stopped continues when called again; a video tracked with "
        "the same settings is not tracked again. Frames without the face are kept, marked and reported. Of a folder of videos, "
        "one that cannot be tracked does not stop the others.",
    )
    p.add_argument("video", type=Path, help="video file with one person in it, or a folder of such files")
    p.add_argument("output", type=Path, help="folder to make")
    p.add_argument("--head", default="ict", help="head model: ict (default), procedural, flame or faceverse")
    p.add_argument("--head-file", metavar="FILE", help="your own model file, where the head needs one")
    p.add_argument(
        "--size", type=int, default=512, help="side of the square pictures in pixels (default 512)"
    )
    p.add_argument(
        "--person", choices=("only", "largest"), default="only",
        help="only: refuse a video with a second face (default); largest: follow the largest face",
    )  # fmt: skip
    p.add_argument(
        "--no-matting", action="store_true", help="no masks and label maps (faster, cannot be trained on)"
    )
    p.add_argument(
        "--no-alignment", action="store_true", help="head pose from landmarks alone (faster, less exact)"
    )
    p.add_argument(
        "--fov", type=float, default=20.0, help="vertical field of view of the crop in degrees (default 20)"
    )
    p.add_argument(
        "--consent", metavar="TEXT", help="statement that the person agreed, stored with the result"
    )
    p.add_argument("--licence", metavar="TEXT", help="licence of the video, stored with the result")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    add_options(p)
    return p


def add_options(p: argparse.ArgumentParser) -> None:
    """Of many videos."""
    many = p.add_argument_group("many videos (a folder of them instead of one)")
    many.add_argument(
        "--engine", choices=("local", "ray"),
        help="local: processes of this machine (default); ray: Ray's workers, see --address",
    )  # fmt: skip
    many.add_argument(
        "--address", help="of a running Ray cluster (auto, HOST:6379); default: Ray on this machine alone"
    )
    many.add_argument("--workers", type=int, default=0, help="clips in work at a time (default: one a core)")
    many.add_argument(
        "--layout", help="how the folder is laid out; avatarzoo data layouts lists them (default clips)"
    )
    many.add_argument(
        "--shards", action="store_true", help="write tar files that WebDataset reads, too, instead of folders"
    )
    many.add_argument(
        "--shard-size", type=int, default=1000, metavar="MB", help="size of such a file (default 1000)"
    )


def many_wanted(args: argparse.Namespace) -> bool:
    """Whether many videos are meant: an option says so, or it is a folder that holds videos."""
    if args.engine or args.address or args.layout or args.shards or args.workers:
        return True
    from avatarzoo.data.layouts import layout

    return args.video.is_dir() and layout("clips").recognises(args.video)


def main(argv: list[str]) -> int:
    p = parser()
    args = p.parse_args(argv)
    if not 64 <= args.size <= 4096:
        p.error("--size must lie between 64 and 4096.")
    if not 1 <= args.fov <= 90:
        p.error("--fov must lie between 1 and 90 degrees.")
    if many_wanted(args):
        from avatarzoo.apps.track_many import main as track_many

        return track_many(args)
    from avatarzoo.data.video import probe

    probe(args.video)  # what is wrong with the file is said before the heavy imports
    from avatarzoo.heads import load_head
    from avatarzoo.trackers import track_video

    seconds: dict[str, float] = {}
    head = load_head(args.head, args.head_file)
    sequence = track_video(
        args.video, args.output, head, size=args.size, person=args.person, matting=not args.no_matting, fov=args.fov,
        align=not args.no_alignment,
        consent=args.consent, licence=args.licence, progress=not args.quiet, timings=seconds,
    )  # fmt: skip
    preview = args.output / "preview.jpg"
    if seconds or not preview.exists():
        write_preview(sequence, head, preview)
    print(report(sequence, seconds))
    return 0


def report(sequence: TrackedSequence, seconds: dict[str, float]) -> str:
    """What came out, in a few lines."""
    import numpy as np

    count, error = len(sequence), sequence.error[sequence.valid]
    lines = [
        f"{sequence.path}: {count} frames of {sequence.size} x {sequence.size} at {sequence.fps:g} frames/s, "
        f"head {sequence.info['head']['name']}",
        f"landmark error {np.mean(error):.2f} % of the face height (95th percentile {np.percentile(error, 95):.2f} %)",
    ]
    lost = sequence.info["lost_frames"]
    if lost:
        lines.append(
            f"face not found in {len(lost)} frames: {', '.join(ranges(lost))}; they are marked and not used"
        )
    if unreadable := sequence.info["source"].get("unreadable_frames"):
        lines.append(f"{unreadable} frames of the video could not be read (damaged file)")
    if seconds:
        rates = [
            f"{name} {count / value:.0f}" for name, value in seconds.items() if name != "head" and value > 0
        ]
        fast = count / max(1e-9, seconds.get("landmarks", 0) + seconds.get("solve", 0))
        lines.append(f"frames/s: {', '.join(rates)}; landmarks and solve together {fast:.0f}")
    else:
        lines.append("found finished; nothing was done again")
    lines.append(f"masks: {sequence.info['mask']['rule']}")
    lines.append(f"look at {sequence.path / 'preview.jpg'}")
    return "\n".join(lines)


def ranges(numbers: list[int]) -> list[str]:
    """Runs of successive numbers: [3, 4, 5, 9] -> ["3-5", "9"]."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def write_preview(sequence: TrackedSequence, head: HeadModel, path: Path) -> None:
    """A contact sheet: fitted landmarks (green) on detected ones (red), outside of the mask paled, with frame numbers."""
    import cv2
    import numpy as np

    from avatarzoo.files import atomic_path
    from avatarzoo.geometry.camera import project

    rows = np.flatnonzero(sequence.valid)
    rows = np.unique(rows[np.linspace(0, len(rows) - 1, TILES).astype(int)])
    params = sequence.params.rows(rows.tolist())
    camera = sequence.camera[[0] * len(rows)]
    fitted = project(head.landmark_points(head(params)), camera)[..., :2].numpy()
    pictures = sequence.images(rows).permute(0, 2, 3, 1).numpy()
    masks = sequence.masks(rows).numpy() if sequence.has_masks else np.full(pictures.shape[:3], 255, np.uint8)
    tiles = [
        tile(picture, mask, sequence.landmarks[row], points, int(sequence.frame_numbers[row]))
        for row, picture, mask, points in zip(rows, pictures, masks, fitted)
    ]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    sheet = np.concatenate([np.concatenate(tiles[k : k + COLUMNS], 1) for k in range(0, len(tiles), COLUMNS)])
    good, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert good
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def tile(
    picture: np.ndarray, mask: np.ndarray, seen: np.ndarray, fitted: np.ndarray, number: int
) -> np.ndarray:
    """One frame of the contact sheet, uint8 RGB."""
    import cv2
    import numpy as np

    weight = 0.25 + 0.75 * mask[..., None].astype(np.float32) / 255
    paled = (picture * weight + 255 * (1 - weight)).astype(np.uint8)
    scale = TILE_SIZE / picture.shape[0]
    out = cv2.resize(paled, (TILE_SIZE, TILE_SIZE), interpolation=cv2.INTER_AREA)
    for points, colour in ((seen, (230, 40, 40)), (fitted, (40, 220, 60))):
        fixed = np.round((points * scale - 0.5) * 16).astype(int)
        for x, y in fixed:
            cv2.circle(out, (int(x), int(y)), 12, colour, -1, cv2.LINE_AA, 4)
    cv2.putText(
        out, str(number), (6, TILE_SIZE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    )
    return out
