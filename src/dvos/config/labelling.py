"""Settings of labels, own or others': ``dvos label``, ``suggest``, ``import`` and ``export``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from dvos.config.base import Count, Intensity, Place, Settings, Weights, free, setting

FormatName = Literal[
    "dvos", "ctc", "voc", "davis", "yolo", "coco", "cvat", "labelme", "imagej", "label-studio",
    "youtube-vis", "mots", "mot", "geojson", "csv", "labels",
]  # fmt: skip


Classes = Annotated[
    str | None,
    BeforeValidator(lambda x: ",".join(map(str, x)) if isinstance(x, (list, tuple)) else x),
    Field(description="of labels of other programs, classes that are taken, a,b; none: the only"),
]
Images = Annotated[
    Path | None,
    Field(
        description="folder that holds the pictures, at any depth; none: they lie with the source"
    ),
]


class ImportSettings(Settings):
    """What annotators wrote, and the data folder that it becomes."""

    source: Path = Field(description="file or folder of another program's labels")
    out: Path = setting(Path("imported"), "data folder to write")
    format: FormatName | None = setting(None, "its format; none: recognised")
    classes: Classes = None
    images: Images = None
    dry_run: bool = setting(False, "only say what would be read")


class ExportSettings(Settings):
    """What to write in another program's format."""

    predictions: Path = Field(description="folder of predict, data folder, table, or any labels")
    format: FormatName = Field(description="format to write")
    out: Path = Field(description="new folder for its files")
    classes: Classes = None
    images: Images = None


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
