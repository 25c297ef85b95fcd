"""Settings of ``dvos synthesize``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dvos.config import base
from dvos.config.base import Count, Natural, Settings, free, setting
from dvos.config.scene import SceneSettings
from dvos.files import is_plain_name


class SynthesisSettings(Settings):
    """Cutouts and backgrounds to exactly labelled clips on the disk."""

    scene: SceneSettings = setting(SceneSettings(), "what the clips show")
    backgrounds: list[Path] = Field(description="CSVs with Image or Image,Mask; a background each")
    cutouts: list[Path] = Field(description="CSVs with Image: cut-out objects")
    distractors: list[Path] = setting([], "CSVs with Image: look-alikes; may be none")
    intensity: base.Intensity = "auto"
    void: Annotated[base.Void, base.FREE] = "auto"
    out: Path = Field(description="folder for the clips and their table")
    clips: Count | None = setting(None, "clips in all; null = by clips_per_background", le=99_999)
    clips_per_background: Count = setting(20, "clips for each background table")
    frames: Count = setting(60, "frames of a clip", le=99_999)
    height: int = setting(1024, "height of a frame, px", ge=8, le=16384)
    width: int = setting(1024, "width of a frame, px", ge=8, le=16384)
    prefix: str = setting("", "begins the clips' names (VID) in the table")
    layout: Literal["tree", "store"] = setting("tree", "folders of PNGs, or .dvclip files (fast)")
    instances: bool = setting(False, "write instance masks and a table of all instances too")
    flow: bool = setting(False, "write the flow to the frame before as well")
    overlay_video: bool = setting(False, "write an MP4 with the masks drawn over")
    frame_rate: float = setting(10, "frames a second of that MP4", gt=0, le=240)
    preview: bool = free(False, "write only a contact sheet of some clips")
    seed: Natural = setting(123, "seed of all clips")
    workers: base.Workers = 0
    shard: base.Shard = None
    scheduler: base.Scheduler = None

    @property
    def clip_count(self) -> int:
        """Clips in all, over all shards."""
        return self.clips or self.clips_per_background * len(self.backgrounds)

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix.isprintable() or prefix != prefix.strip():
            raise ValueError("printable text that neither begins nor ends with a space")
        # Later commands name folders after clips.
        if not is_plain_name(f"{prefix}VID"):
            raise ValueError("a name that neither begins with a dot nor holds a slash")
        return prefix

    def _faults(self) -> Iterator[str]:
        if self.flow and self.layout == "store":
            yield "flow is written to the tree only: set layout: tree, or flow: false"
