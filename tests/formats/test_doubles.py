"""Two things of one name stay two, and what cannot be two is a fault that names both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_labels import SIZE, labels_of, made_source, read_labels, write_photo

from dvos.config.labelling import ImportSettings
from dvos.errors import MediaError
from dvos.formats.importing import import_labels
from dvos.formats.known import FORMATS, open_source
from dvos.formats.labels import cropped
from dvos.formats.raster import encode_region
from dvos.tables import read_clips

SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]


def _coco(folder: Path, images: list[dict[str, Any]], *annotations: dict[str, Any]) -> Path:
    size = {"height": SIZE[0], "width": SIZE[1]}
    defaults = {"image_id": 1, "category_id": 1, "segmentation": [SQUARE]}
    content = {
        "images": [size | one for one in images],
        "categories": [{"id": 1, "name": "wheat"}],
        "annotations": [defaults | {"id": n} | one for n, one in enumerate(annotations, 1)],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def _boxes(folder: Path, parts: tuple[str, str]) -> None:
    """Two folders of a video each; of one name, with an object at another place."""
    for part, left in zip(parts, (2, 20), strict=True):
        labels = np.zeros(SIZE, np.int32)
        labels[3:9, left : left + 6] = 1
        frames = {f"frame_{number:06d}.png": labels for number in range(2)}
        source = made_source(folder / part / "plot", frames, video="plot")
        for name in ("mots", "cvat", "coco"):
            write = FORMATS[name].write
            assert write is not None
            (folder / name / part).mkdir(parents=True)
            write(source, folder / name / part)
            shutil.copytree(folder / part, folder / name / part, dirs_exist_ok=True)
            mots = folder / "mots" / part / "plot"
            for place, file in enumerate(sorted(mots.glob("frame*")), 1):
                file.rename(mots / f"{place:06d}.png")


@pytest.mark.parametrize("name", ["mots", "cvat", "coco"])
def test_videos_of_one_name_in_several_documents_stay_apart(name: str, tmp_path: Path) -> None:
    _boxes(tmp_path, ("train", "val"))
    result = import_labels(ImportSettings(source=tmp_path / name, out=tmp_path / "out"))
    assert (result.videos, result.pictures) == (2, 4)
    rows = read_clips(tmp_path / "out/clips.csv")
    assert [row.vid for row in rows] == ["train_plot"] * 2 + ["val_plot"] * 2
    lefts = [np.flatnonzero(cv2.imread(str(row.mask), -1).any(0))[0] for row in rows]
    assert lefts == [2, 2, 20, 20]


def test_videos_of_one_name_in_one_folder_are_told_apart_by_their_documents(
    tmp_path: Path,
) -> None:
    _boxes(tmp_path, ("train", "val"))
    for part in ("train", "val"):
        document = tmp_path / "cvat" / part / "plot.xml"
        document.rename(tmp_path / "train/plot" / f"{part}.xml")
    source = open_source(tmp_path / "train/plot")
    assert len(source.pictures) == 4
    assert {one.video for one in source.pictures} == {"train/plot", "val/plot"}


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("vid1/images", "vid2/images"), ["vid1_images", "vid2_images"]),
        (("a\\v", "b\\v"), ["a_v", "b_v"]),
        (("v", "v"), ["video 7", "video 8"]),
        (("", ""), ["video 7", "video 8"]),
        (("train/v", "w"), ["v", "w"]),
    ],
)
def test_videos_of_youtube_vis_in_folders_of_one_name(
    folders: tuple[str, str], names: list[str], tmp_path: Path
) -> None:
    videos, annotations = [], []
    for number, folder in enumerate(folders, 7):
        name = f"{folder}/{number}.png".lstrip("/")
        write_photo(tmp_path / "in" / name.replace("\\", "/"))
        size = {"height": SIZE[0], "width": SIZE[1]}
        videos.append({"id": number, "length": 1, "file_names": [name], **size})
        shape = {"category_id": 1, "segmentations": [[SQUARE]]}
        annotations.append({"id": number, "video_id": number, **shape})
    content = {"videos": videos, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "wheat"}]
    (tmp_path / "in/a.json").write_text(json.dumps(content))
    result = import_labels(ImportSettings(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.videos == 2
    assert [row.vid for row in read_clips(tmp_path / "out/clips.csv")] == names


def test_both_kinds_of_annotations_of_davis_are_a_video_each(tmp_path: Path) -> None:
    for folder in ("Annotations", "Annotations_unsupervised"):
        (tmp_path / folder / "v").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "v/0.png"), np.ones(SIZE, np.uint8))
    write_photo(tmp_path / "JPEGImages/v/0.jpg")
    assert [one.video for one in open_source(tmp_path).pictures] == ["v", "unsupervised/v"]


def _two_ids(folder: Path) -> None:
    _coco(folder, [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}])


def _two_images(folder: Path) -> None:
    _coco(folder, [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}])


def _two_frames(folder: Path) -> None:
    frame = {"video": "v", "frame": 3}
    images = [{"id": n, "file_name": f"{n}.png"} | frame for n in (1, 2)]
    _coco(folder, images)


def _two_tracks(folder: Path) -> None:
    write_photo(folder / "a.png")
    _coco(folder, [{"id": 1, "file_name": "a.png"}], {"track_id": 4}, {"track_id": 4})


def _two_classes(folder: Path) -> None:
    path = _coco(folder, [{"id": 1, "file_name": "a.png"}])
    content = json.loads(path.read_text())
    content["categories"].append({"id": 1, "name": "weed"})
    path.write_text(json.dumps(content))


def _two_documents(folder: Path) -> None:
    write_photo(folder / "a.png")
    path = _coco(folder, [{"id": 1, "file_name": "a.png"}])
    shutil.copy(path, folder / "b.json")


def _mots(*rows: tuple[int, int, int]) -> Callable[[Path], None]:
    mask = np.zeros(SIZE, bool)
    mask[2:5, 2:5] = True
    runs = encode_region(cropped(mask), SIZE)
    told = [f"{f} {id_} {kind} {SIZE[0]} {SIZE[1]} {runs}\n" for f, id_, kind in rows]
    return lambda folder: (folder / "v.txt").write_text("".join(told)) and None


def _cvat_images(folder: Path) -> None:
    image = f'name="a.png" width="{SIZE[1]}" height="{SIZE[0]}"'
    images = "".join(f'<image id="{number}" {image}/>' for number in (1, 2))
    (folder / "a.xml").write_text(f"<annotations>{images}</annotations>")


def _cvat_tracks(folder: Path) -> None:
    sides = f"<width>{SIZE[1]}</width><height>{SIZE[0]}</height>"
    task = f"<task><size>2</size><original_size>{sides}</original_size></task>"
    tracks = "".join(f'<track id="3" label="{name}"/>' for name in ("wheat", "weed"))
    (folder / "a.xml").write_text(f"<annotations><meta>{task}</meta>{tracks}</annotations>")


def _tasks(folder: Path) -> None:
    write_photo(folder / "a.png")
    tasks = [{"id": n, "data": {"image": "a.png"}, "annotations": []} for n in (1, 2)]
    (folder / "a.json").write_text(json.dumps(tasks))


def _regions(folder: Path) -> None:
    write_photo(folder / "a.png")
    values = {"points": [[0, 0], [9, 0], [9, 9]], "polygonlabels": ["w"]}
    region = {"id": "x", "type": "polygonlabels", "value": values}
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [region, region]}]}
    (folder / "a.json").write_text(json.dumps([task]))


def _labelme(folder: Path) -> None:
    write_photo(folder / "a.png")
    for name in ("a", "a (copy)"):
        content = json.dumps({"shapes": [], "imagePath": "a.png"})
        (folder / f"{name}.json").write_text(content)


def _label_images(folder: Path) -> None:
    write_photo(folder / "a.png")
    for value, name in enumerate(("a_labels.png", "a_masks.png"), 1):
        cv2.imwrite(str(folder / name), np.full(SIZE, value, np.uint8))


def _yolo(folder: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        write_photo(folder / "images" / name)
    (folder / "labels").mkdir()
    (folder / "labels/a.txt").write_text("0 .1 .1 .3 .1 .3 .3\n")
    (folder / "data.yaml").write_text("names: [w]\n")


def _stills(folder: Path) -> None:
    for name in ("a.jpg", "a.png"):
        write_photo(folder / "images" / name)
    (folder / "masks").mkdir()
    cv2.imwrite(str(folder / "masks/a.png"), np.ones(SIZE, np.uint8))


def _voc(folder: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        write_photo(folder / "JPEGImages" / name)
    (folder / "SegmentationObject").mkdir()
    cv2.imwrite(str(folder / "SegmentationObject/a.png"), np.ones(SIZE, np.uint8))


def _davis(folder: Path) -> None:
    for name in ("a.jpg", "a.png"):
        write_photo(folder / "JPEGImages/v" / name)
    (folder / "Annotations/v").mkdir(parents=True)
    cv2.imwrite(str(folder / "Annotations/v/a.png"), np.ones(SIZE, np.uint8))


BESIDE = r"a\.png: a\.jpg beside it has the same label"
DOUBLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "ids": (_two_ids, r"a\.json: images: 'a\.png' and 'b\.png' have the one id 1"),
    "images": (_two_images, r"a\.json image 2: is of .*a\.png, as .*a\.json image 1 is"),
    "frames": (_two_frames, r"image 2: is of .*a\.json video v frame 3, as .*image 1 is"),
    "tracks": (_two_tracks, r"annotation 2: has the track id 4, as annotation 1 of the same"),
    "classes": (_two_classes, r"a\.json categories: 'wheat' and 'weed' have the one id 1"),
    "documents": (_two_documents, r"b\.json image 1: is of .*a\.png, as .*a\.json image 1 is"),
    "mots": (_mots((1, 5, 2), (2, 5, 2), (1, 5, 2)), r"v\.txt row 3: is of frame 1 and id 5, as r"),
    "cvat images": (_cvat_images, r"a\.xml image 2: is of .*a\.png, as .*a\.xml image 1 is"),
    "cvat tracks": (_cvat_tracks, r"track 3 weed: the track wheat has the id 3 already"),
    "tasks": (_tasks, r"a\.json task 2: is of .*a\.png, as .*a\.json task 1 is"),
    "regions": (_regions, r"task 1: two regions, a polygon and a polygon, have the one id x"),
    "labelme": (
        _labelme,
        r"json: is of .*a\.png, as .*a.*\.json is; expected each",
    ),
    "label images": (_label_images, r"a_masks\.png: is of .*a\.png, as .*a_labels\.png is"),
    "yolo": (_yolo, BESIDE),
    "stills": (_stills, BESIDE),
    "voc": (_voc, BESIDE),
    "davis": (_davis, BESIDE),
}


@pytest.mark.parametrize("case", DOUBLES)
def test_a_double_is_a_fault_that_names_both(case: str, tmp_path: Path) -> None:
    make, told = DOUBLES[case]
    with pytest.raises(MediaError, match=told) as caught:
        make(tmp_path)
        labels_of(open_source(tmp_path))
    assert len(caught.value.faults) == 1


def test_what_is_not_judged_may_be_told_twice(tmp_path: Path) -> None:
    _mots((1, 10_000, 10), (1, 10_000, 10), (1, 5, 2))(tmp_path)
    assert len(read_labels(tmp_path)) == 1
    crowd = {"track_id": 4, "iscrowd": 1}
    write_photo(tmp_path / "coco/a.png")
    image = {"id": 1, "file_name": "a.png"}
    path = _coco(tmp_path / "coco", [image], {"track_id": 4}, crowd)
    assert len(read_labels(path)) == 1


def test_what_is_told_twice_alike_is_taken_once(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    labels = np.arange(np.prod(SIZE)).reshape(SIZE).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a_cp_masks.png"), labels)
    np.save(tmp_path / "a_seg.npy", labels)
    source = open_source(tmp_path)
    assert len(source.pictures) == 1
    note = "label images of a picture that has an equal one, left out (1)"
    assert source.notes.lines() == [note]
