"""Settings of ``dvos label`` and ``dvos suggest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dvos.config.base import Count, Intensity, Place, Settings, Weights, free, setting


class LabelSettings(Settings):
    """What is labelled, where the labels go, and who may reach the page."""

    input: Place = Field(
        description="a folder of photos or videos, a video, or a run whose predictions to correct"
    )
    out: Path | None = free(
        None,
        "data folder for the labels; null: the folder itself, for a video or a run NAME-labels"
        " beside it",
    )
    checkpoint: Weights | None = free(
        None, "trained network that helps, or wheat; null: all is fitted to your clicks"
    )
    device: str = free("auto", "auto, cpu, cuda or mps")
    intensity: Intensity = "auto"
    host: str = free("127.0.0.1", "address to listen on; any but this lets other machines in")
    port: Annotated[int, Field(ge=0, le=65535)] = free(8470, "port; 0 = any that is free")
    browser: bool = free(True, "open the page in the browser")


class SuggestSettings(Settings):
    """Which frames to label next, of what was found in a folder, a video or a run."""

    input: Place = Field(
        description="a folder of photos or videos, a video, or a run whose frames to choose from"
    )
    out: Path = free(Path("suggest.csv"), "table of the frames, the first to label first")
    checkpoint: Weights | None = setting(
        None, "trained network whose uncertainty counts, too; null: only what frames look like"
    )
    count: Count = setting(10, "frames to suggest")
    every: Count = setting(1, "look at every n-th frame only")
    intensity: Intensity = "auto"
    device: str = free("auto", "auto, cpu, cuda or mps")
