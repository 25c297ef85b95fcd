"""Settings of ``dvos label`` and ``dvos suggest``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dvos.config.base import Count, Intensity, Place, Settings, Weights, free, setting


class LabelSettings(Settings):
    """What is labelled, where the labels go, and who may reach the page."""

    input: Place = Field(description="folder of photos or videos, video, or run of predict")
    out: Path | None = free(None, "data folder for labels; null: the folder, or NAME-labels beside")
    checkpoint: Weights | None = free(None, "network that helps, or wheat; null: only your clicks")
    device: str = free("auto", "auto, cpu, cuda or mps")
    intensity: Intensity = "auto"
    host: str = free("127.0.0.1", "address to listen on; any but this lets other machines in")
    port: Annotated[int, Field(ge=0, le=65535)] = free(8470, "port; 0 = any that is free")
    browser: bool = free(True, "open the page in the browser")


class SuggestSettings(Settings):
    """Which frames to label next, of what was found in a folder, a video or a run."""

    input: Place = Field(description="folder of photos or videos, video, or run of predict")
    out: Path = free(Path("suggest.csv"), "table of the frames, the first to label first")
    checkpoint: Weights | None = setting(None, "network whose uncertainty counts; null: only looks")
    count: Count = setting(10, "frames to suggest")
    every: Count = setting(1, "look at every n-th frame only")
    intensity: Intensity = "auto"
    device: str = free("auto", "auto, cpu, cuda or mps")
