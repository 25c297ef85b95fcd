"""Settings of ``dvos synthesize``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from dvos.config.base import AFFECTS_NOTHING, Settings
from dvos.config.scene import SceneSettings

_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


class SynthesisSettings(Settings):
    """Cutouts and backgrounds to exactly labelled clips on the disk."""

    scene: SceneSettings = Field(SceneSettings(), description="what the clips show")
    backgrounds: list[Path] = Field(
        description="CSVs with Image: frames of bare background; or with Image,Mask: labelled"
        " stills, whose own objects count too; each table is one background"
    )
    cutouts: list[Path] = Field(description="CSVs with Image: cut-out objects")
    distractors: list[Path] = Field([], description="CSVs with Image: look-alikes; may be none")
    out: Path = Field(description="folder for the clips and their table")
    clips: int | None = Field(
        None,
        ge=1,
        le=99_999,
        description="clips in all; null = clips_per_background for each background table",
    )
    clips_per_background: int = Field(20, ge=1, description="clips for each background table")
    frames: int = Field(60, ge=1, le=99_999, description="frames of a clip")
    height: int = Field(1024, ge=8, le=16384, description="height of a frame, px")
    width: int = Field(1024, ge=8, le=16384, description="width of a frame, px")
    prefix: str = Field("", description="begins the clips' names (VID) in the table")
    layout: Literal["tree", "store"] = Field(
        "tree", description="folders of PNGs, or one .dvclip file a clip (fast, for training)"
    )
    instances: bool = Field(
        False, description="write instance masks and a table of all instances as well"
    )
    flow: bool = Field(False, description="write the flow to the frame before as well")
    overlay_video: bool = Field(False, description="write an MP4 with the masks drawn over")
    frame_rate: float = Field(10, gt=0, le=240, description="frames a second of that MP4")
    preview: bool = Field(
        False,
        description="write only a contact sheet of some clips",
        json_schema_extra=AFFECTS_NOTHING,
    )
    seed: int = Field(123, ge=0, description="seed of all clips")
    workers: int = Field(
        0, ge=0, description="processes; 0 = one per core", json_schema_extra=AFFECTS_NOTHING
    )
    shard: str | None = Field(
        None,
        description="I/N: make only the I-th of N parts, I from 1",
        json_schema_extra=AFFECTS_NOTHING,
    )
    scheduler: str | None = Field(
        None,
        description="address of a dask.distributed scheduler to run the work on",
        json_schema_extra=AFFECTS_NOTHING,
    )

    @property
    def clip_count(self) -> int:
        """Clips in all, over all shards."""
        return self.clips or self.clips_per_background * len(self.backgrounds)

    @property
    def shard_numbers(self) -> tuple[int, int] | None:
        """I and N of the shard."""
        match = _SHARD.fullmatch(self.shard or "")
        return (int(match[1]), int(match[2])) if match else None

    @field_validator("shard")
    @classmethod
    def _shard_is_part(cls, shard: str | None) -> str | None:
        if shard is None:
            return None
        match = _SHARD.fullmatch(shard)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError("must be I/N with 1 <= I <= N, for example 3/8")
        return shard

    @field_validator("prefix")
    @classmethod
    def _prefix_is_a_name(cls, prefix: str) -> str:
        if not prefix.isprintable() or prefix != prefix.strip():
            raise ValueError("must be printable and neither begin nor end with a space")
        return prefix

    @model_validator(mode="after")
    def _flow_has_a_place(self) -> Self:
        if self.flow and self.layout == "store":
            raise ValueError("flow is written to the tree only: set layout: tree, or flow: false")
        return self
