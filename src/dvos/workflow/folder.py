"""The places in a demo's output folder, and the tables that connect its stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvos.tables import (
    AnnotatedRow,
    ImageRow,
    VideoRow,
    write_annotated,
    write_images,
    write_videos,
)
from dvos.workflow.layout import DataFolder

__all__ = ["DemoFolder"]


@dataclass(frozen=True)
class DemoFolder:
    """Where the stages of a demo put what they make."""

    root: Path

    @property
    def sample(self) -> Path:
        """The sample field, laid out as a user's data folder."""
        return self.root / "sample"

    @property
    def videos(self) -> Path:
        """Table of the background videos."""
        return self.root / "videos.csv"

    @property
    def frames(self) -> Path:
        """Table of the frames of the background videos."""
        return self.root / "frames.csv"

    @property
    def stills(self) -> Path:
        """Table of the background stills."""
        return self.root / "backgrounds.csv"

    @property
    def annotated(self) -> Path:
        """Table of the labelled stills."""
        return self.root / "annotated.csv"

    @property
    def cutouts(self) -> Path:
        """Table of the cutouts."""
        return self.root / "cutouts.csv"

    @property
    def distractors(self) -> Path:
        """Table of the distractors."""
        return self.root / "distractors.csv"

    @property
    def clips(self) -> Path:
        """Synthetic clips written to disk, to look at."""
        return self.root / "clips"

    @property
    def train(self) -> Path:
        """The run folder of the training."""
        return self.root / "train"

    @property
    def checkpoint(self) -> Path:
        """The trained network."""
        return self.train / "best.safetensors"

    @property
    def predictions(self) -> Path:
        """Masks, counts and overlay videos of the target."""
        return self.root / "predict"

    @property
    def heldout(self) -> Path:
        """Predictions of what is scored."""
        return self.root / "heldout"

    @property
    def stages(self) -> Path:
        """Times of the stages."""
        return self.root / "stages.json"

    @property
    def settings(self) -> Path:
        """The settings that the folder was begun with."""
        return self.root / "demo.yaml"

    def write_input_tables(self, data: DataFolder) -> list[Path]:
        """Write the tables the first stages read.

        Returns:
            The tables of backgrounds, of which that of the video frames does
            not exist before they are extracted.
        """
        write_annotated(
            self.annotated,
            [AnnotatedRow(s.image, s.mask, self.root / "objects") for s in data.annotated],
        )
        backgrounds = []
        if data.background_videos:
            rows = [
                VideoRow(video, self.root / "frames" / video.stem, 1)
                for video in data.background_videos
            ]
            write_videos(self.videos, rows)
            backgrounds.append(self.frames)
        if data.background_stills:
            write_images(self.stills, [ImageRow(path) for path in data.background_stills])
            backgrounds.append(self.stills)
        return backgrounds
