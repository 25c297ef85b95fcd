"""Settings of ``dvos demo``, and of the embedded sample field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Count, Fraction, Intensity, Natural, Settings, Workers, free, setting
from dvos.config.scene import SceneSettings

Side = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]


class SampleSettings(Settings):
    """A field of wheat rendered from a seed, in files such as a user brings."""

    seed: Natural = setting(123, "other seeds give other fields")
    size: tuple[Side, Side] = setting((480, 640), "[height, width] of all pictures, even numbers")
    frame_rate: float = setting(20.0, "frames a second of all videos", ge=1, le=120)
    stills: Count = setting(5, "labelled stills")
    background_videos: Count = setting(3, "videos of bare field")
    background_frames: Count = setting(60, "frames in each background video")
    target_frames: Count = setting(90, "frames of the unlabelled target video")
    heldout_frames: Count = setting(48, "frames of the labelled held-out video")
    workers: Workers = 0


class DemoSettings(Settings):
    """The whole method in one command."""

    out: Path = free(Path("demo-run"), "folder for everything the demo makes")
    data: Path | None = setting(
        None, "folder with annotated/, backgrounds/ and validation/; null renders the sample field"
    )
    sample: SampleSettings = setting(SampleSettings(), "the sample field, where data is null")
    intensity: Intensity = "auto"
    scene: SceneSettings = setting(SceneSettings(), "what the synthetic clips show")
    clips: Count | None = setting(None, "training clips in all; null: what suits the data")
    epochs: Count = setting(12, "epochs they are parted into")
    synthetic_share: Fraction | None = setting(
        None,
        "share of synthetic clips in training, made on the fly: cutouts pasted among the stills'"
        " own objects, some over bare background; null: 1/n with n stills, at most 1/2, and 0 from"
        " 10 stills on",
    )
    background_share: Fraction | None = setting(
        None,
        "share of clips of bare background with empty masks, null: the share that measured best;"
        " what is left of 1 are simulated pans over the labelled stills",
    )
    preview_clips: Natural = setting(3, "synthetic clips also written to disk")
    min_object_size: Count = setting(64, "smallest object in pixels that is cut out")
    train: dict[str, Any] = setting(
        {}, "further settings of dvos train, e.g. {batch: 4, data: {crop: 192}}"
    )
    augment: Literal["none", "flips"] = setting(
        "flips", "flips averages each prediction over four mirror images, at four times the cost"
    )
    seed: Natural = setting(123, "of everything that is drawn")
    workers: Workers = 0
    device: str = setting("auto", "auto, cpu, cuda or mps")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if (self.synthetic_share or 0) + (self.background_share or 0) > 1:
            raise ValueError(
                "synthetic_share and background_share add up to more than 1; lower one of them"
            )
        return self
