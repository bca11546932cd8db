"""Portrait videos of one or several people as training data: tracked when first asked for, found again by content."""

from __future__ import annotations

from pathlib import Path

from avatarzoo.assets import cache_folder
from avatarzoo.data.portrait_video import Region, TrackedPortraitDataModule
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.errors import BadVideoError
from avatarzoo.trackers.pipeline import cached_track


class PortraitVideoDataModule(TrackedPortraitDataModule):
    """Frames of one video for each person, or of folders that were tracked before.

    Args:
        videos: video files; their order is the numbering of the people.
        sequences: folders written by ``avatarzoo track``, numbered after the videos.
        video, sequence: instead of a list of one.
        head: head model to track with; the command line sets it to the model's own.
        head_file: the user's file for head models that need one.
        cache: where tracked videos are kept (default: the user's cache folder).
        size: side of the square pictures in pixels.
        region: what is shown: the ``head`` or the whole ``person`` on the background, or the ``frame`` as it was filmed.
        batch_size: views per step.
        train_fraction: the first part of every video trains, the rest is held out (paper section 4.1: 80 %).
        max_frames: use only so many frames from the start of each (0: all).
        background: grey level behind head or person.
        person: ``only`` refuses a video with two faces, ``largest`` follows the largest.
        consent: statement that the people agreed; stored with the sequences.
        seed: order of the batches.

    Raises:
        BadVideoError: neither videos nor sequences were given.
    """

    def __init__(
        self,
        videos: list[str] | None = None,
        sequences: list[str] | None = None,
        video: str | None = None,
        sequence: str | None = None,
        head: str = "ict",
        head_file: str | None = None,
        cache: str | None = None,
        size: int = 512,
        region: Region = "head",
        batch_size: int = 2,
        train_fraction: float = 0.8,
        max_frames: int = 0,
        background: float = 1.0,
        person: str = "only",
        consent: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(sequences or [], region, batch_size, train_fraction, max_frames, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def prepare_data(self) -> None:
        self.open()

    def open(self) -> list[TrackedSequence]:
        hp = self.hparams
        videos = [*(hp["videos"] or ()), *([hp["video"]] if hp["video"] else ())]
        folders = [*(hp["sequences"] or ()), *([hp["sequence"]] if hp["sequence"] else ())]
        if not videos and not folders:
            raise BadVideoError("No video was given; add --data.video me.mp4 (or --data.sequence FOLDER).")
        cache = Path(hp["cache"]) if hp["cache"] else cache_folder() / "tracks"
        made = [
            cached_track(
                Path(video),
                cache=cache,
                head=hp["head"],
                head_file=hp["head_file"],
                size=hp["size"],
                person=hp["person"],
                consent=hp["consent"],
            )
            for video in videos
        ]
        return made + [TrackedSequence.open(folder) for folder in folders]
