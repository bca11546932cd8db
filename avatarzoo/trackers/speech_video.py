"""Videos of people who speak as training data of a speech network: tracked when first asked for, found again by content."""

from __future__ import annotations

from pathlib import Path

from avatarzoo.assets import cache_folder
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.data.speech_clips import SpokenClipsDataModule
from avatarzoo.errors import BadVideoError, UsageError
from avatarzoo.trackers.pipeline import cached_track

SIZE = 256
"""Side of the crops in pixels; nothing looks at them but a person who wonders."""


class SpeechVideoDataModule(SpokenClipsDataModule):
    """:class:`SpokenClipsDataModule` of video files; only landmarks and coefficients are made (about 15 ms a frame).

    Args:
        videos: video files. sounds: a sound file for each; none: the videos' own sound.
        cache: where tracked videos are kept (default: the user's cache folder).
        person: ``only`` refuses a video with two faces, ``largest`` follows the largest.
        consent: statement that the people agreed; stored with the sequences.
        head, head_file, folds, fold, sync, batch_size, frames, augment, seed: see :class:`SpokenClipsDataModule`.

    Raises:
        BadVideoError: no video was given. UsageError: another number of sounds.
    """

    def __init__(
        self,
        videos: list[str] | None = None,
        sounds: list[str] | None = None,
        head: str = "procedural",
        head_file: str | None = None,
        cache: str | None = None,
        person: str = "only",
        consent: str | None = None,
        folds: int = 5,
        fold: int = -1,
        sync: bool = True,
        batch_size: int = 8,
        frames: int = 32,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(None, sounds, head, head_file, folds, fold, sync, batch_size, frames, augment, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def prepare_data(self) -> None:
        self.open()

    def open(self) -> list[tuple[TrackedSequence, Path]]:
        hp = self.hparams
        videos = [Path(video) for video in hp["videos"] or []]
        sounds = [Path(sound) for sound in hp["sounds"] or []] or videos
        if not videos:
            raise BadVideoError("No video was given; add --data.videos '[me.mp4]'.")
        if len(sounds) != len(videos):
            raise UsageError(
                f"There are {len(videos)} videos and {len(sounds)} sounds; give a sound for each, or none."
            )
        cache = Path(hp["cache"]) if hp["cache"] else cache_folder() / "tracks"
        tracked = [
            cached_track(
                video, cache, hp["head"], hp["head_file"], SIZE, hp["person"], matting=False, align=False,
                consent=hp["consent"],
            )
            for video in videos
        ]  # fmt: skip
        return list(zip(tracked, sounds))
