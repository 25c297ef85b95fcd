"""Checks of configurations, tables and data folders before any work is done."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvos import tables
from dvos.config.commands import guess_command, settings_model
from dvos.config.load import load_settings
from dvos.config.selftraining import RoundsSettings
from dvos.config.strict_yaml import read_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import DvosError, FaultCollector, TableError, UsageError
from dvos.files import absent
from dvos.formats import known
from dvos.formats.importing import examine
from dvos.media.clip_store import OpenStores
from dvos.registry import check_network, training_spec
from dvos.tables.cells import read_records
from dvos.workflow.data_folder import ExtractedFrames, read_data_folder

# Clips in the picture of a training batch.
_PICTURED = 8
#: What a picture of them is noted to be of.
_MAKER = "dvos check"

# Which tables each command reads, by dotted setting.
_INPUT_TABLES: dict[str, dict[str, str]] = {
    "extract frames": {"videos": "videos"},
    "extract objects": {"annotated": "annotated"},
    "synthesize": {"backgrounds": "images", "cutouts": "images", "distractors": "distractors"},
    "train": {
        "data.stills.tables": "stills",
        "data.synthetic.backgrounds": "images",
        "data.synthetic.cutouts": "images",
        "data.synthetic.distractors": "distractors",
        "data.clips.tables": "clips",
        "data.empty.tables": "images",
        "data.pseudo.stills": "stills",
        "data.pseudo.clips": "clips",
        "data.validation.stills.tables": "stills",
        "data.validation.clips.tables": "clips",
    },
}
# The files and folders that each command reads beside these tables.
_SEGMENTED = ("input", "checkpoint", "first_mask", "first_mask_checkpoint", "regions")
_INPUTS: dict[str, tuple[str, ...]] = {
    "extract frames": ("inputs",),
    "extract objects": ("folder",),
    "train": ("network.weights",),
    "predict": _SEGMENTED,
    "evaluate": (*_SEGMENTED, "truth"),
    "pseudo-label": ("input", "checkpoint"),
    "rounds": ("start",),
    "score": ("truth", "predictions", "images", "counts"),
    "report": ("run", "compare", "frames"),
    "import": ("source", "images"),
    "export": ("predictions", "images"),
    "convert": ("checkpoint",),
    "label": ("input", "checkpoint"),
    "suggest": ("input", "checkpoint"),
    "fit": ("folder", "start"),
    "demo": ("data", "start"),
}


def check(path: str | Path, *, command: str | None = None) -> str:
    """Check something that commands read; write nothing, and return a line on what was checked.

    That is a YAML configuration, of ``command`` or found by its keys, whose input tables are
    checked too; a CSV table, known by its columns, with the files it names; a folder as ``dvos
    fit`` takes it; or labels of another program. A DvosError has a fault for each thing wrong.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError.at(path, absent(path), "a file or folder", "check the path")
    suffix = path.suffix.lower()
    # A data.yaml of YOLO is known within its folder; ours may bear that name.
    if suffix not in {".yaml", ".yml", ".csv"} and known.is_foreign(path):
        return str(examine(known.open_source(path)))
    if path.is_dir():
        data = read_data_folder(path)
        return (
            f"{path}: {len(data.annotated)} labelled stills, {len(data.clip_frames)} of videos, "
            f"{len(data.background_videos) + len(data.background_stills)} backgrounds, "
            f"{len(data.validation_stills) + len(data.validation_videos)} for validation, "
            f"{len(data.unlabelled)} unlabelled videos and {len(data.photos)} photos, "
            f"{len(data.targets)} to segment"
        )
    if suffix in {".yaml", ".yml"}:
        return _check_config(path, command)
    if suffix == ".csv":
        header = {name.strip() for record in read_records(path, 1) for name in record}
        for kind, (columns, _) in _KINDS.items():
            if {*columns.split(",")} <= header:
                return f"{path}: {_count_rows(kind, path)} rows, a table of {kind}"
        expected = "; or ".join(dict.fromkeys(columns for columns, _ in _KINDS.values()))
        found = f"the columns {','.join(sorted(header))[:200] or '(none)'}"
        raise UsageError.at(path, found, expected)
    expected = "a YAML configuration, a CSV table, a folder, or labels of another program"
    raise UsageError.at(path, f"a {path.suffix or 'nameless'} file", expected)


def draw_batch(path: Path, picture: Path) -> str:
    """Draw the first clips that a configuration trains on, and return a line that says so.

    Each is a row of the image ``picture``: its frames, then the query with its target outlined. An
    OutputError if something else than such an image is there.
    """
    # They load torch, which no other check needs.
    from dvos.media.image import refuse_other_image, write_image

    refuse_other_image(picture, _MAKER)
    settings = load_settings(TrainingSettings, config=path, is_file_alone=True)
    from dvos.training.datasets import batch_picture
    from dvos.training.run import build_clips

    with TemporaryDirectory() as place:
        clips = build_clips(settings, training_spec(settings.network), Path(place))
        write_image(picture, batch_picture(clips, _PICTURED), maker=_MAKER)
    return f"{picture}: the first {_PICTURED} training clips of {path}"


def _check_config(path: Path, command: str | None) -> str:
    command = command or guess_command(read_yaml(path))
    settings = load_settings(settings_model(command), config=path, is_file_alone=True)
    if isinstance(settings, TrainingSettings):
        check_network(settings.network)
    count = 0
    with FaultCollector(DvosError) as faults:
        for source in settings.data.sources if isinstance(settings, TrainingSettings) else ():
            faults.collect(lambda given: examine(known.open_source(given)), source)
        for key, kind in _INPUT_TABLES.get(command, {}).items():
            for table in _paths(settings, key):
                count += 1
                faults.collect(_count_rows, kind, table)
        needed = [one for key in _INPUTS.get(command, ()) for one in _paths(settings, key)]
        if isinstance(settings, RoundsSettings):
            from dvos.selftraining.rounds import build_first_training

            needed += [one.input for one in settings.unlabelled]
            first = faults.collect(build_first_training, settings)
            needed += [] if first is None else _check_labels(first, faults)
        if isinstance(settings, TrainingSettings):
            needed += _check_labels(settings, faults)
        for one in needed:
            if not one.exists():
                faults.add(one, absent(one), "a file or folder", "check the path")
    return f"{path}: settings of dvos {command}, {count} input tables"


def _paths(settings: Any, key: str) -> list[Path]:
    """What a setting of a dotted key names, none or several."""
    value = attrgetter(key)(settings)
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Path)]


def _check_labels(settings: TrainingSettings, faults: FaultCollector) -> list[Path]:
    """Collect what a training would miss beside its tables; the videos that it asks for."""
    from dvos.training.labels import find_clips, find_labels, find_stills_with_objects

    data = settings.data
    faults.collect(find_labels, data)
    faults.collect(find_stills_with_objects, data.validation.stills, data.intensity)
    faults.collect(find_clips, data.validation.clips, data.intensity)
    return [x for video in data.validation.videos for x in (video.video, video.masks)]


def _count_rows(kind: str, path: Path) -> int:
    """Read a table of a kind; see that its pictures and masks show the same frames."""
    rows = _KINDS[kind][1](path)
    pairs = [(row.image, row.mask) for row in rows if getattr(row, "mask", None)]
    with FaultCollector(TableError) as faults:
        ExtractedFrames().check_pairs(pairs, faults)
    return len(rows)


def _read_clips(path: Path) -> list[tables.ClipRow]:
    with OpenStores() as stores:
        return tables.read_clips(path, stores.image_size, stores.mask_size)


# Of each kind of table its columns, which tell it from the later ones, and what reads it.
_KINDS: dict[str, tuple[str, Callable[[Path], Sequence[Any]]]] = {
    "videos": ("FramesDir,Interval,Video", tables.read_videos),
    "clips": ("FID,Image,Label,Mask,VID", _read_clips),
    "annotated": ("Image,Mask,OutDir", tables.read_annotated),
    "stills": ("Image,Mask", tables.read_stills),
    "images": ("Image", tables.read_images),
    # 'dvos extract objects' writes one without rows when it is to cut none.
    "distractors": ("Image", partial(tables.read_images, allow_empty=True)),
}
