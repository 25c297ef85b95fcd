"""Each format gives back what it was given: ids, classes, holes, parts, what touches or is tiny."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_labels import SIZE, hard_labels, labels_of, made_source, read_labels, same_partition
from pycocotools.coco import COCO

from dvos.config.labelling import ExportSettings, FormatName
from dvos.errors import MediaError
from dvos.formats.importing import export
from dvos.formats.known import FORMATS, open_source
from dvos.formats.labels import LabelledSource

WRITTEN = [name for name, one in FORMATS.items() if one.write and one.read]
#: Formats that keep the numbers of objects in photos, or their classes, or tell what is unknown.
KEEP_IDS = {"voc", "davis", "coco", "cvat", "labelme", "imagej", "label-studio", "labels"}
KEEP_IDS |= {"mots", "youtube-vis", "ctc"}
KEEP_CLASSES = {"voc", "coco", "cvat", "labelme", "yolo", "label-studio", "youtube-vis"}
KEEP_UNKNOWN = {"voc", "davis", "coco", "mots"}


def _written(source: LabelledSource, name: str, out: Path) -> Path:
    write = FORMATS[name].write
    assert write is not None
    out.mkdir(exist_ok=True)
    write(source, out)
    return out


@pytest.mark.parametrize("name", WRITTEN)
def test_photos_come_back(name: str, tmp_path: Path) -> None:
    wanted = {"a.png": hard_labels(), "b.png": np.zeros(SIZE, np.int32)}
    wanted["c.png"] = np.fliplr(wanted["a.png"]).copy()
    if name == "mots":
        del wanted["b.png"]  # has no row
    source = made_source(tmp_path / "photos", wanted)
    back = open_source(_written(source, name, tmp_path / name), images=_images(name, tmp_path))
    assert back.format == name
    found = list(labels_of(back).values())
    assert len(found) == len(wanted)
    for labels, expected in zip(found, wanted.values(), strict=True):
        assert same_partition(labels, expected)
        if name in KEEP_IDS:
            assert (labels == expected).all()
    kept = "wheat" if name in KEEP_CLASSES else ""
    assert set(back.classes()) == {"pedestrian" if name == "mots" else kept}
    assert sum(back.classes().values()) == 16
    assert not back.notes


def _images(name: str, folder: Path) -> Path | None:
    has_own = name in ("voc", "davis", "yolo", "labelme", "label-studio", "youtube-vis")
    return None if has_own else folder / "photos"


@pytest.mark.parametrize("name", ["ctc", "davis", "cvat", "coco", "imagej", "youtube-vis", "mots"])
def test_objects_of_videos_keep_their_ids(name: str, tmp_path: Path) -> None:
    first = np.zeros(SIZE, np.int32)
    first[3:9, 3:9], first[20:30, 5:9] = 1, 2
    second, third = np.roll(first, 4, 1), np.zeros(SIZE, np.int32)
    second[second == 2] = 0
    third[20:30, 25:29] = 2
    frames = {f"frame_{n:06d}.png": one for n, one in enumerate((first, second, third))}
    source = made_source(tmp_path / "plot", frames, video="plot")
    images = None if name == "davis" else tmp_path / "plot"
    back = open_source(_written(source, name, tmp_path / name), images=images)
    assert {one.video for one in back.pictures} == {"plot"}
    assert [one.frame for one in back.pictures] == [0, 1, 2]
    if name == "ctc":
        # A label may not be absent in between there: the object goes on as another, its parent.
        ((later, parent),) = back.parents["plot"].items()
        third[third == 2] = later
        assert parent == 2
    for labels, expected in zip(labels_of(back).values(), frames.values(), strict=True):
        assert (labels == expected).all()


@pytest.mark.parametrize("name", sorted(KEEP_UNKNOWN))
def test_what_is_unknown_stays_so(name: str, tmp_path: Path) -> None:
    labels = np.zeros(SIZE, np.int32)
    labels[5:9, 5:9], labels[20:30, 20:40], labels[8:10, 20:22] = 1, -1, 2
    source = made_source(tmp_path / "photos", {"a.png": labels})
    (found,) = read_labels(_written(source, name, tmp_path / name)).values()
    assert (found == labels).all()


@pytest.mark.parametrize("name", sorted({*WRITTEN} - KEEP_UNKNOWN))
def test_what_is_lost_is_said(name: str, tmp_path: Path) -> None:
    labels = np.full(SIZE, -1, np.int32)
    source = made_source(tmp_path / "photos", {"a.png": labels})
    _written(source, name, tmp_path / name)
    assert "unknown label" in " ".join(source.notes)


@pytest.mark.parametrize("name", ["yolo", "davis", "voc"])
def test_pictures_of_a_folder_may_lie_elsewhere(name: str, tmp_path: Path) -> None:
    labels = {"a.png": hard_labels(), "b.png": np.fliplr(hard_labels()).copy()}
    source = made_source(tmp_path / "photos", labels)
    out = _written(source, name, tmp_path / name)
    for folder in (out / "images", out / "JPEGImages"):
        if folder.is_dir():
            folder.rename(tmp_path / "taken_away")
    if name == "yolo":
        with pytest.raises(MediaError, match=r"no pictures beside its labels.*--images"):
            open_source(out)
    photos = tmp_path / ("taken_away" if name == "davis" else "photos")
    back = open_source(out, images=photos)
    assert [one.path and one.path.stem for one in back.pictures] == ["a", "b"]
    for found, expected in zip(labels_of(back).values(), labels.values(), strict=True):
        assert same_partition(found, expected)


def test_label_images_of_a_video_are_read_from_its_folder(tmp_path: Path) -> None:
    labels = {"a.png": hard_labels(), "b.png": np.fliplr(hard_labels()).copy()}
    source = made_source(tmp_path / "photos", labels, video="plot")
    found = read_labels(_written(source, "labels", tmp_path / "labels"))
    assert [*found] == ["plot/a.png", "plot/b.png"]
    for one, expected in zip(found.values(), labels.values(), strict=True):
        assert (one == expected).all()


def test_coco_is_read_alike_by_its_own_tools(tmp_path: Path) -> None:
    labels = hard_labels()
    source = made_source(tmp_path / "photos", {"a.png": labels})
    path = _written(source, "coco", tmp_path / "coco") / "annotations.json"
    tools = COCO(path)
    annotations = tools.loadAnns(tools.getAnnIds())
    assert len(annotations) == 8
    for one in annotations:
        mask = labels == one["object"]
        assert (tools.annToMask(one) == mask).all()
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (one["bbox"], one["area"], one["iscrowd"]) == (box, mask.sum(), 0)


def test_more_objects_than_a_format_holds_are_refused(tmp_path: Path) -> None:
    many = np.arange(300, dtype=np.int32).reshape(15, 20)
    source = made_source(tmp_path / "photos", {"a.png": many})
    with pytest.raises(MediaError, match="more than 254 objects"):
        _written(source, "davis", tmp_path / "davis")
    high = made_source(tmp_path / "photos", {"a.png": many}, label="")
    high.pictures[0].objects()
    big = np.where(many > 0, many + 70_000, 0)
    source = made_source(tmp_path / "photos", {"a.png": big})
    assert (
        next(iter(read_labels(_written(source, "labels", tmp_path / "l")).values())) == big
    ).all()


def test_an_export_into_a_zip_leaves_no_roi_of_before(tmp_path: Path) -> None:
    labels = hard_labels()
    for ids in (labels, np.where(labels == 3, 0, labels)):
        source = made_source(tmp_path / "photos", {"a.png": ids})
        path = _written(source, "imagej", tmp_path / "rois") / "a.zip"
    names = zipfile.ZipFile(path).namelist()
    assert names == [f"{number}.roi" for number in (1, 2, 4, 5, 6, 7, 9)]


def test_the_names_of_the_settings_are_those_of_the_formats() -> None:
    assert list(FormatName.__args__) == list(FORMATS)


def test_an_export_appears_whole_and_not_over_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = made_source(tmp_path / "photos", {"a.png": hard_labels()})
    _written(source, "coco", tmp_path / "coco")
    settings = ExportSettings(
        predictions=tmp_path / "coco", format="yolo", out=tmp_path / "y", images=tmp_path / "photos"
    )
    result = export(settings)
    assert str(result) == f"{tmp_path / 'y'}: YOLO segmentation, 1 pictures, 8 objects"
    assert (tmp_path / "y/images/train/a.png").is_file()
    with pytest.raises(Exception, match="is not empty"):
        export(settings)
    further = settings.model_copy(update={"format": "ctc", "out": tmp_path / "ctc"})
    export(further)
    assert "names of classes, which Cell Tracking Challenge does not tell" in caplog.text
    assert json.loads((tmp_path / "coco/annotations.json").read_text())["images"][0]["id"] == 1
