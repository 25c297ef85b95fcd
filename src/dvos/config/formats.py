"""Settings of ``dvos import`` and ``dvos export``."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dvos.config.base import Settings, setting

FormatName = Literal[
    "dvos", "ctc", "voc", "davis", "yolo", "coco", "cvat", "labelme", "imagej", "label-studio",
    "youtube-vis", "mots", "mot", "geojson", "csv", "labels",
]  # fmt: skip


def _joined(given: Any) -> Any:
    return ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given


Classes = Annotated[
    str | None,
    BeforeValidator(_joined),
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
