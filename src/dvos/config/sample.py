"""Settings of the embedded sample field."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dvos.config.base import AFFECTS_NOTHING, Settings

Side = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]


class SampleSettings(Settings):
    """A field of wheat rendered from a seed, in files such as a user brings."""

    seed: int = Field(123, ge=0, description="other seeds give other fields")
    size: tuple[Side, Side] = Field(
        (480, 640), description="[height, width] of all pictures in pixels, even numbers"
    )
    frame_rate: float = Field(20.0, ge=1, le=120, description="frames a second of all videos")
    stills: int = Field(5, ge=1, description="labelled stills")
    background_videos: int = Field(3, ge=1, description="videos of bare field")
    background_frames: int = Field(60, ge=1, description="frames in each background video")
    target_frames: int = Field(90, ge=1, description="frames of the unlabelled target video")
    heldout_frames: int = Field(48, ge=1, description="frames of the labelled held-out video")
    workers: int = Field(
        0, ge=0, description="processes; 0 = one per core", json_schema_extra=AFFECTS_NOTHING
    )
