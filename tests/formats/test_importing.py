"""``dvos import``: the data folder that labels become, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_labels import SIZE, hard_labels, made_source, write_photo

import dvos
from dvos.cli.main import main
from dvos.config.data import DataSettings
from dvos.errors import MediaError, OutputError, UsageError
from dvos.formats.importing import take_sources, write_data_folder
from dvos.formats.known import open_source
from dvos.media.mask import IGNORE, read_mask
from dvos.tables import read_clips
from dvos.training.labels import find_labels


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """A COCO file of two photos, wheat on the first and weed on both."""
    square = [[5, 5, 15, 5, 15, 15, 5, 15]]
    images = []
    for number, name in enumerate(("a.png", "b.png"), 1):
        write_photo(tmp_path / "in" / name)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
    annotations = [
        {"id": n, "image_id": image, "category_id": kind, "segmentation": square}
        for n, (image, kind) in enumerate([(1, 1), (1, 2), (2, 2)], 1)
    ]
    kinds = [{"id": 1, "name": "wheat"}, {"id": 2, "name": "weed"}]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    path = tmp_path / "in/all.json"
    path.write_text(json.dumps(content))
    return path


def test_several_classes_are_asked_for(
    two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["import", str(two_classes), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {two_classes}: holds objects of several classes: weed (2), ")
    assert len(told.splitlines()) == 1
    assert not out.exists()
    assert main(["import", str(two_classes), "--out", str(out), "--classes", "wheat"]) == 0
    told = capsys.readouterr().out
    assert told == (
        f"{two_classes}: COCO, 2 pictures, 1 without objects; objects: 1 of wheat;"
        f" written to {out}\n"
    )
    with pytest.raises(UsageError, match="has no objects of class rye"):
        dvos.import_labels(two_classes, out=out, classes="rye")


def test_a_dry_run_writes_nothing_and_tells_all_faults(two_classes: Path, tmp_path: Path) -> None:
    result = dvos.import_labels(
        two_classes, out=tmp_path / "out", classes=["weed", "wheat"], dry_run=True
    )
    assert (result.out, result.pictures, result.objects) == (None, 2, {"weed": 2, "wheat": 1})
    for name in ("a.png", "b.png"):
        (two_classes.parent / name).unlink()
    with pytest.raises(MediaError) as caught:
        dvos.import_labels(two_classes, out=tmp_path / "out", classes="weed", dry_run=True)
    assert [fault.found for fault in caught.value.faults] == [
        "the picture a.png was not found",
        "the picture b.png was not found",
    ]
    assert not (tmp_path / "out").exists()


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    labels = hard_labels()
    unknown = np.where(labels == 3, -1, labels)
    source = made_source(tmp_path / "in", {"a.png": unknown, "b.png": np.zeros_like(labels)})
    out = tmp_path / "out"
    result = write_data_folder(source, out)
    assert (result.stills, result.clips, result.empty) == (out / "annotated", None, 1)
    mask = read_mask(out / "annotated/masks/a.png")
    assert (mask == np.where(unknown < 0, IGNORE, unknown)).all()
    settings = DataSettings(stills={"folders": [out / "annotated"]})
    found = find_labels(settings)
    assert len(found.stills) + len(found.held_stills) == 2
    # The photo is the very same file.
    assert (out / "annotated/images/a.png").samefile(tmp_path / "in/a.png")


def test_frames_become_a_clip(tmp_path: Path) -> None:
    labels = hard_labels()
    frames = {f"{n:05d}.png": np.where(labels == n, 0, labels) for n in range(1, 4)}
    source = made_source(tmp_path / "plot 1", frames, video="plot 1")
    object.__setattr__(source.pictures[1], "labelled", False)
    out = tmp_path / "out"
    result = write_data_folder(source, out)
    assert (result.stills, result.clips, result.videos) == (None, out / "clips.csv", 1)
    rows = read_clips(out / "clips.csv")
    assert [(row.vid, row.fid, row.label) for row in rows] == [
        ("plot 1", 0, 1),
        ("plot 1", 1, 0),
        ("plot 1", 2, 1),
    ]
    assert (read_mask(rows[2].mask) == frames["00003.png"]).all()
    assert rows[1].mask is None
    settings = DataSettings(clips={"tables": [out / "clips.csv"]})
    assert [len(clip.masks) for clip in find_labels(settings).clips] == [2]


def test_an_import_goes_on_and_replaces_nothing(two_classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"out": out, "classes": "weed"}
    dvos.import_labels(two_classes, **options)
    (out / "annotated/masks/a.png").unlink()
    before = (out / "annotated/masks/b.png").stat().st_mtime_ns
    dvos.import_labels(two_classes, **options)
    assert (out / "annotated/masks/b.png").stat().st_mtime_ns == before
    assert (out / "annotated/masks/a.png").is_file()
    with pytest.raises(OutputError, match=r"b\.png: is there with other content"):
        dvos.import_labels(two_classes, out=out, classes="wheat")


def test_commands_take_sources_as_they_are(two_classes: Path, tmp_path: Path) -> None:
    stills, clips = take_sources([two_classes], "weed", tmp_path / "taken")
    assert (stills, clips) == ([tmp_path / "taken/all/annotated"], [])
    assert len(list((stills[0] / "images").iterdir())) == 2
    with pytest.raises(UsageError, match="is of no format"):
        write_photo(tmp_path / "x.png")
        open_source(tmp_path / "x.png", name="coco")
