"""Sound files of photos that other programs read wrongly: each with the right value.

The numbers are those of the table of such files that the formats were built after.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import cv2
import numpy as np
import pytest
import tifffile
from made_labels import labels_of, read_labels, same_partition, write_photo
from PIL import Image
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from dvos.config.labelling import ImportSettings
from dvos.errors import DvosError, MediaError
from dvos.formats import label_images
from dvos.formats.importing import import_labels
from dvos.formats.known import open_source
from dvos.formats.reading import Reading
from dvos.media.mask import read_label_image

H, W = 20, 30
SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]
FAR = [20, 12, 26, 12, 26, 18, 20, 18]


def _filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes (left, top, right, bottom), numbered."""
    labels = np.zeros((H, W), np.int32)
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = number
    return labels


FIRST, SECOND = (2, 3, 8, 9), (20, 12, 26, 18)
BOTH = _filled(FIRST, SECOND)


def _coco(folder: Path, *annotations: dict[str, Any], **image: Any) -> Path:
    write_photo(folder / "a.png", (H, W))
    told = {"id": 1, "file_name": "a.png", "height": H, "width": W} | image
    defaults = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    content = {
        "images": [told],
        "categories": [{"id": 1, "name": "wheat"}],
        "annotations": [defaults | {"id": n} | one for n, one in enumerate(annotations, 1)],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def _runs(labels: np.ndarray) -> list[int]:
    flat = labels.T.ravel() > 0
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    return np.diff(edges, prepend=0, append=flat.size).tolist()


def _shape(coded: object, **more: object) -> dict[str, Any]:
    return {"segmentation": coded, **more}


def _size(counts: object) -> dict[str, Any]:
    return {"size": [H, W], "counts": counts}


RING = _filled(FIRST)
RING[5:7, 4:6] = 0
COCO = {
    "A1 parts": ([_shape([SQUARE, FAR])], np.where(BOTH > 0, 1, 0)),
    "A3 every object a crowd": (
        [
            _shape(_size(_runs(_filled(FIRST))), iscrowd=1),
            _shape(_size(_runs(_filled(SECOND))), iscrowd=1),
        ],
        BOTH,
    ),
    "A4 a crowd": (
        [_shape([SQUARE]), _shape(_size(_runs(_filled(SECOND))), iscrowd=1)],
        np.where(BOTH == 2, -1, BOTH),
    ),
    "A5 plain runs": ([_shape(_size(_runs(RING)))], RING),
    "A6 flat polygon": ([_shape(SQUARE)], _filled(FIRST)),
    "A8 ring": ([_shape(_size(_runs(RING)))], RING),
    "A12 only a box": ([{"bbox": [2, 3, 6, 6]}], _filled(FIRST)),
    "A39 small inside large": (
        [_shape([[2, 2, 18, 2, 18, 18, 2, 18]]), _shape([SQUARE])],
        np.where(_filled(FIRST) > 0, 2, _filled((2, 2, 18, 18))),
    ),
}


@pytest.mark.parametrize("case", COCO)
def test_coco(case: str, tmp_path: Path) -> None:
    annotations, expected = COCO[case]
    (found,) = read_labels(_coco(tmp_path, *annotations)).values()
    assert (found == expected).all()


def test_coco_a7_runs_in_place_of_a_polygon_name_the_annotation(tmp_path: Path) -> None:
    path = _coco(tmp_path, _shape([SQUARE]), _shape([_runs(RING)[:5]]))
    with pytest.raises(MediaError, match=r"a.json annotation 2: .*no pairs"):
        read_labels(path)


def _two_folders(folder: Path) -> Path:
    for name in ("a/001.png", "b/001.png", "b/001.jpg", "c/002.png"):
        write_photo(folder / name, (H, W))
    names = ["a/001.png", "b/001.png", "b/001.jpg", "c/002.png"]
    content = {
        "images": [
            {"id": n, "file_name": name, "height": H, "width": W} for n, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "wheat"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [SQUARE]},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [FAR]},
        ],
    }
    (folder / "all.json").write_text(json.dumps(content))
    return folder


def test_a10_a11_equal_names_are_kept_apart_and_pictures_without_objects_stay(
    tmp_path: Path,
) -> None:
    source = _two_folders(tmp_path / "in")
    result = import_labels(ImportSettings(source=source, out=tmp_path / "out"))
    assert (result.pictures, result.empty, result.objects) == (4, 2, {"wheat": 2})
    masks = {one.stem: one for one in (tmp_path / "out/annotated/masks").glob("*.png")}
    assert sorted(masks) == ["002", "a_001", "b_001_jpg", "b_001_png"]
    assert (read_label_image(masks["a_001"]) == _filled(FIRST)).all()
    assert (read_label_image(masks["b_001_png"]) == _filled(SECOND)).all()
    assert not read_label_image(masks["b_001_jpg"]).any()
    for photo, written in (("a/001.png", "a_001.png"), ("b/001.jpg", "b_001_jpg.jpg")):
        copy = tmp_path / "out/annotated/images" / written
        assert copy.read_bytes() == (source / photo).read_bytes()


def _yolo(folder: Path, rows: str, *, images: str = "images/train", names: str = "[wheat]") -> Path:
    labels = images.replace("images", "labels")
    write_photo(folder / images / "a.png", (H, W))
    (folder / labels).mkdir(parents=True)
    (folder / labels / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text(f"path: ../datasets/x\ntrain: {images}\nnames: {names}\n")
    return folder


def _row(points: list[int], kind: int = 0) -> str:
    shares = [x / (W, H)[place % 2] for place, x in enumerate(points)]
    return " ".join([str(kind), *map(str, shares)]) + "\n"


def test_yolo_a12_a_box_among_polygons_is_taken_and_told(tmp_path: Path) -> None:
    rows = _row(SQUARE) + f"0 {23 / W} {15 / H} {6 / W} {6 / H}\n"
    source = open_source(_yolo(tmp_path, rows))
    assert (labels_of(source)["images/train/a.png"] == BOTH).all()
    assert source.notes.lines() == ["rows that are boxes, taken for filled rectangles (1)"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_yolo_texts_are_found_however_their_names_are_written(tmp_path: Path, form: str) -> None:
    path = _yolo(tmp_path, _row(SQUARE))
    (text,) = (path / "labels").rglob("*.txt")
    (photo,) = (path / "images").rglob("*.png")
    text.rename(text.with_name(normalize(form, "Größe") + ".txt"))
    photo.rename(photo.with_name(normalize("NFD" if form == "NFC" else "NFC", "Größe") + ".png"))
    (ids,) = labels_of(open_source(path)).values()
    assert ids.max() == 1


def test_a_yolo_text_that_is_not_mounted_is_a_fault(tmp_path: Path) -> None:
    path = _yolo(tmp_path, _row(SQUARE))
    (text,) = (path / "labels").rglob("*.txt")
    text.unlink()
    text.symlink_to("/nowhere/a.txt")
    with pytest.raises(DvosError, match=r"is a link to /nowhere/a\.txt, which"):
        labels_of(open_source(path))


@pytest.mark.parametrize("images", ["images/train", "train/images", "images"])
@pytest.mark.parametrize("names", ["[zebra, ant]", "{0: zebra, 1: ant}", "{1: ant, 0: zebra}"])
def test_yolo_a15_names_by_index_and_folders_of_either_order(
    images: str, names: str, tmp_path: Path
) -> None:
    source = open_source(_yolo(tmp_path, _row(SQUARE, 1) + _row(FAR), images=images, names=names))
    assert [one.label for one in source.pictures[0].objects()] == ["ant", "zebra"]
    assert (next(iter(labels_of(source).values())) == BOTH).all()


def _labelme(folder: Path, *shapes: dict[str, Any], name: str = "a.png", **more: Any) -> Path:
    if not (folder / name).exists():
        write_photo(folder / name, (H, W))
    defaults = {"label": "wheat", "group_id": None, "shape_type": "polygon", "flags": {}}
    told = {"version": "5.5.0", "flags": {}, "imagePath": name, "imageData": None}
    told |= {"shapes": [defaults | one for one in shapes], "imageHeight": H, "imageWidth": W}
    (folder / "a.json").write_text(json.dumps(told | more))
    return folder / "a.json"


def _points(flat: list[int]) -> dict[str, Any]:
    return {"points": np.reshape(flat, (-1, 2)).tolist()}


@pytest.mark.parametrize(("group", "expected"), [(4, np.where(BOTH > 0, 4, 0)), (None, BOTH)])
def test_labelme_a16_a_group_is_one_object_and_null_is_none(
    group: int | None, expected: np.ndarray, tmp_path: Path
) -> None:
    shapes = [_points(one) | {"group_id": group} for one in (SQUARE, FAR)]
    (found,) = read_labels(_labelme(tmp_path, *shapes)).values()
    assert (found == expected).all()


def test_labelme_a17_boxes_of_any_corner_circles_and_lines(tmp_path: Path) -> None:
    box = {"shape_type": "rectangle", "points": [[8, 9], [2, 3]]}
    disc = {"shape_type": "circle", "points": [[20, 10], [24, 10]]}
    line = {"shape_type": "linestrip", "points": [[0, 0], [5, 5], [9, 0]]}
    source = open_source(_labelme(tmp_path, box, disc, line))
    (labels,) = labels_of(source).values()
    assert ((labels == 1) == (_filled(FIRST) > 0)).all()
    assert (labels == 2).sum() == pytest.approx(np.pi * 16, abs=4)
    assert source.notes.lines() == ["shapes that are no areas (linestrip), left out (1)"]


def test_labelme_boxes_of_four_corners_and_turned_ones(tmp_path: Path) -> None:
    """As X-AnyLabeling writes them."""
    corners = [[8, 9], [2, 9], [2, 3], [8, 3]]
    turned = [[20, 4], [26, 10], [20, 16], [14, 10]]
    shapes = [
        {"shape_type": "rectangle", "points": corners},
        {"shape_type": "rotation", "points": turned, "direction": 0.8},
    ]
    source = open_source(_labelme(tmp_path, *shapes))
    (labels,) = labels_of(source).values()
    assert ((labels == 1) == (_filled(FIRST) > 0)).all()
    assert (labels == 2).sum() == 72
    assert labels[10, 14] == labels[4, 19] == labels[15, 19] == 2
    assert not source.notes


@pytest.mark.parametrize(
    ("kind", "points", "told"),
    [
        ("rectangle", [[2, 3], [8, 3], [8, 9]], "a rectangle of 3 points, 2 or 4 are needed"),
        ("rectangle", [], "a rectangle of 0 points, 2 or 4 are needed"),
        ("circle", [[2, 3]], "a circle of 1 points, 2 are needed"),
        ("mask", [[2, 3]] * 3, "a mask of 3 points, 2 are needed"),
        ("polygon", [[2, 3], [8, 3], [8]], "each is to be a pair of numbers, x and y"),
        ("circle", [[2, 3, 4], [8, 3, 4]], "each is to be a pair of numbers, x and y"),
    ],
)
def test_labelme_shapes_of_other_points_are_told(
    kind: str, points: list[list[int]], told: str, tmp_path: Path
) -> None:
    path = _labelme(tmp_path, {"shape_type": kind, "points": points})
    with pytest.raises(MediaError, match=rf"a\.json shape 0: points: {told}$"):
        read_labels(path)


def _turned_photo(path: Path) -> None:
    """Stored 30 wide and 20 high, shown 20 wide and 30 high."""
    image = Image.fromarray(np.zeros((H, W, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)


@pytest.mark.parametrize("stated", [(W, H), (H, W)])
def test_a19_a_turned_photo_has_an_upright_mask(stated: tuple[int, int], tmp_path: Path) -> None:
    _turned_photo(tmp_path / "a.jpg")
    size = {"imageHeight": stated[0], "imageWidth": stated[1]}
    path = _labelme(tmp_path, _points([2, 22, 8, 22, 8, 28, 2, 28]), name="a.jpg", **size)
    source = open_source(path)
    (labels,) = labels_of(source).values()
    assert labels.shape == (W, H)
    assert labels[22:28, 2:8].all()
    assert labels.sum() == 36
    assert bool(source.notes) == (stated == (H, W))
    (tmp_path / "a.json").unlink()
    coco = _coco(tmp_path, _shape(_size(_runs(RING))), file_name="a.jpg")
    with pytest.raises(MediaError, match="lies on its side"):
        read_labels(coco)


def _voc(folder: Path) -> Path:
    values = _filled(FIRST, SECOND)
    values[2, 2:8] = 255
    classes = np.where(values == 255, 255, np.where(values > 0, 15, 0))
    for name, array in (("SegmentationObject", values), ("SegmentationClass", classes)):
        (folder / name).mkdir(parents=True)
        image = Image.frombytes("P", (W, H), array.astype(np.uint8).tobytes())
        image.putpalette([(7 * n) % 256 for n in range(768)])
        image.save(folder / name / "a.png")
    write_photo(folder / "JPEGImages/a.jpg", (H, W))
    return folder


def test_a20_a21_palette_values_are_ids_and_255_is_unknown(tmp_path: Path) -> None:
    source = open_source(_voc(tmp_path))
    (labels,) = labels_of(source).values()
    assert np.unique(labels).tolist() == [-1, 0, 1, 2]
    assert ((labels == -1).sum(), source.classes()) == (6, {"person": 2})
    import_labels(ImportSettings(source=tmp_path, out=tmp_path / "out"))
    stored = cv2.imread(str(tmp_path / "out/annotated/masks/a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert np.unique(stored).tolist() == [0, 1, 2, 65535]


def test_voc_images_of_two_sizes_are_told(tmp_path: Path) -> None:
    _voc(tmp_path)
    classes = tmp_path / "SegmentationClass/a.png"
    Image.open(classes).resize((W // 2, H // 2), Image.Resampling.NEAREST).save(classes)
    told = rf"SegmentationClass.a\.png: is {W // 2} x {H // 2} pixels; expected {W} x {H}, as .*Obj"
    with pytest.raises(MediaError, match=told):
        read_labels(tmp_path)


@pytest.mark.parametrize("case", ["A24 many", "A25 -1", "A26 dark", "A57 four"])
def test_label_images(case: str, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (H, W))
    labels = {
        "A24 many": np.arange(H * W, dtype=np.uint32).reshape(H, W) * 500,
        "A25 -1": np.where(BOTH > 0, BOTH, -1).astype(np.int32),
        "A26 dark": BOTH.astype(np.uint8),
        "A57 four": _filled((0, 0, 3, 3), (4, 0, 7, 3), (8, 0, 11, 3), (12, 0, 15, 3)),
    }[case]
    tifffile.imwrite(tmp_path / "a_cp_masks.tif", labels)
    (found,) = read_labels(tmp_path).values()
    assert (found == np.maximum(labels.astype(np.int64), 0)).all()


def test_a26_many_objects_under_one_id_are_told(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (H, W))
    cv2.imwrite(str(tmp_path / "a_masks.png"), np.where(BOTH > 0, 255, 0).astype(np.uint8))
    source = open_source(tmp_path)
    assert sum(source.classes().values()) == 1
    assert source.notes.lines() == ["label images whose separate objects share one id (1)"]


def test_a_pickled_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a_seg.npy", {"masks": BOTH}, allow_pickle=True)
    with pytest.raises(MediaError, match=r"a_seg\.npy: cannot be read without running what is in"):
        read_labels(tmp_path)
    np.save(tmp_path / "a_seg.npy", BOTH)
    assert (read_labels(tmp_path)["a.png"] == BOTH).all()


def test_arrays_that_are_read_are_not_said_to_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_photo(tmp_path / "a.png", (H, W))
    np.save(tmp_path / "a_masks.npy", BOTH)
    assert (read_labels(tmp_path)["a.png"] == BOTH).all()
    assert not caplog.messages


def test_a_folder_is_listed_once_for_many_label_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"{number}_masks.png"), BOTH.astype(np.uint8))
    source = open_source(tmp_path)
    listed: list[Path] = []

    def listing(folder: Path) -> list[Path]:
        listed.append(folder)
        return []

    monkeypatch.setattr(label_images, "list_folders", listing)
    assert label_images.LABELS.read is not None
    found = list(label_images.LABELS.read(tmp_path, None, Reading(tmp_path)))
    assert len(found) == len(source.pictures) == 9
    assert len(listed) <= 2


def _roi(**values: Any) -> ImagejRoi:
    roi = ImagejRoi()
    roi.roitype, roi.name = ROI_TYPE.POLYGON, "1"
    for name, value in values.items():
        setattr(roi, name, value)
    if roi.integer_coordinates is not None:
        roi.n_coordinates = len(roi.integer_coordinates)
    return roi


def _polygon(flat: list[int], **values: Any) -> ImagejRoi:
    points = np.reshape(flat, (-1, 2)).astype(np.int32)
    left, top = points.min(0).tolist()
    right, bottom = points.max(0).tolist()
    places = {"left": left, "top": top, "right": right, "bottom": bottom}
    return _roi(integer_coordinates=points - [left, top], **places, **values)


def _path(*rings: list[int]) -> ImagejRoi:
    path: list[float] = []
    for one in rings:
        for place, point in enumerate(np.reshape(one, (-1, 2)).tolist()):
            path += [min(place, 1), *point]
        path.append(4)
    size = {"shape_roi_size": len(path), "right": W, "bottom": H}
    return _roi(roitype=ROI_TYPE.RECT, multi_coordinates=np.array(path, np.float32), **size)


def _subpixel() -> ImagejRoi:
    points = np.array([[1.6, 2.6], [8.4, 2.6], [8.4, 9.4], [1.6, 9.4]], np.float32)
    roi = _polygon([1, 2, 8, 2, 8, 9, 1, 9], subpixel_coordinates=points)
    roi.roitype, roi.options = ROI_TYPE.TRACED, ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    return roi


OVAL = {"left": 2, "top": 3, "right": 8, "bottom": 9}
ROIS: dict[str, tuple[ImagejRoi, np.ndarray]] = {
    "polygon": (_polygon(SQUARE), _filled(FIRST)),
    "A28 two regions": (_path(SQUARE, FAR), np.where(BOTH > 0, 1, 0)),
    "A28 ring": (_path(SQUARE, [4, 5, 6, 5, 6, 7, 4, 7]), RING),
    "A30 sub-pixel": (_subpixel(), _filled((2, 3, 8, 9))),
    "rectangle": (_roi(roitype=ROI_TYPE.RECT, **OVAL), _filled(FIRST)),
}


@pytest.mark.parametrize("case", ROIS)
def test_rois(case: str, tmp_path: Path) -> None:
    roi, expected = ROIS[case]
    write_photo(tmp_path / "a.png", (H, W))
    roi.tofile(tmp_path / "RoiSet.zip", name="1")
    (found,) = read_labels(tmp_path / "RoiSet.zip").values()
    assert (found == expected).all()


def test_a_roi_that_is_no_area_is_told(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (H, W))
    _roi(roitype=ROI_TYPE.LINE).tofile(tmp_path / "a.zip", name="l")
    _polygon(SQUARE).tofile(tmp_path / "a.zip", name="1")
    source = open_source(tmp_path / "a.zip")
    assert sum(source.classes().values()) == 1
    assert source.notes.lines() == ["ROIs that are no areas (line), left out (1)"]
    assert ROI_SUBTYPE.UNDEFINED == 0


def _cvat(folder: Path, *shapes: str, name: str = "a.png") -> Path:
    write_photo(folder / name, (H, W))
    image = f'<image id="0" name="{name}" width="{W}" height="{H}">{"".join(shapes)}</image>'
    (folder / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    return folder / "annotations.xml"


def _xml(kind: str, label: str = "wheat", **values: object) -> str:
    told = " ".join(f'{key}="{value}"' for key, value in values.items())
    return f'<{kind} label="{label}" {told}/>'


def _corners(flat: list[int]) -> str:
    return ";".join(f"{x},{y}" for x, y in np.reshape(flat, (-1, 2)).tolist())


def test_cvat_a34_runs_count_row_by_row_inside_their_box(tmp_path: Path) -> None:
    mask = _xml("mask", rle="0, 3, 2, 1", left=4, top=7, width=3, height=2)
    (found,) = read_labels(_cvat(tmp_path, mask)).values()
    expected = np.zeros((H, W), int)
    expected[7, 4:7], expected[8, 6] = 1, 1
    assert (found == expected).all()
    mask = _xml("mask", rle="0, 30", left=4, top=7, width=3, height=2)
    with pytest.raises(MediaError, match=r"mask wheat: its runs do not fill its box of 3 x 2"):
        read_labels(_cvat(tmp_path, mask))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_cvat_a39_the_order_decides_what_lies_on_top(
    order: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = _xml("polygon", points=_corners([0, 0, 20, 0, 20, 20, 0, 20]), z_order=order[0])
    small = _xml("polygon", points=_corners(SQUARE), z_order=order[1])
    source = open_source(_cvat(tmp_path, small, large))
    assert sum(source.classes().values()) == 2
    (labels,) = labels_of(source).values()
    assert (labels == 1).sum() == (36 if order == (0, 1) else 0)
    hidden = "objects wholly under others, which a label image cannot hold"
    assert (hidden in source.notes) == (order == (1, 0))
    with caplog.at_level(logging.WARNING):
        import_labels(ImportSettings(source=tmp_path / "annotations.xml", out=tmp_path / "out"))
    assert "pictures with objects over others" in caplog.text


def test_cvat_a40_a_group_joins_shapes_of_one_label(tmp_path: Path) -> None:
    shapes = [
        _xml("polygon", points=_corners(SQUARE), group_id=1),
        _xml("polygon", points=_corners(FAR), group_id=1),
        _xml("box", label="hat", xtl=10, ytl=0, xbr=14, ybr=3, group_id=1),
    ]
    source = open_source(_cvat(tmp_path, *shapes))
    assert source.classes() == {"wheat": 1, "hat": 1}
    labels = next(iter(labels_of(source).values()))
    assert (labels == _filled((0, 0, 0, 0), (10, 0, 14, 3)) + np.where(BOTH > 0, 1, 0)).all()


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme", "yolo", "imagej", "labels", "voc"])
def test_a56_a_pixel_two_pixels_and_a_line_are_kept(kind: str, tmp_path: Path) -> None:
    labels = np.zeros((H, W), np.int32)
    labels[0, 0], labels[5, 5:7], labels[19, 3:29] = 1, 2, 3
    write_photo(tmp_path / "in/a.png", (H, W))
    tifffile.imwrite(tmp_path / "in/a_masks.tif", labels)
    from dvos.config.labelling import ExportSettings
    from dvos.formats.importing import export

    export(ExportSettings(predictions=tmp_path / "in", format=kind, out=tmp_path / kind))
    images = tmp_path / "in"
    back = open_source(tmp_path / kind, images=images, name=kind)
    assert same_partition(next(iter(labels_of(back).values())), labels)


Make = Callable[[Path], Path]
ESCAPES: dict[str, Make] = {
    "coco": lambda folder: _coco(folder, _shape([SQUARE]), file_name="../../up/a.png"),
    "labelme": lambda folder: _labelme(folder, _points(SQUARE), imagePath="..\\..\\up\\a.png"),
    "cvat": lambda folder: _cvat(folder, name="a.png"),
}


@pytest.mark.parametrize("kind", ESCAPES)
def test_names_never_lead_outside(kind: str, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    source = ESCAPES[kind](outer / "in")
    import_labels(ImportSettings(source=source, out=outer / "x/out"))
    files = {one.relative_to(outer).parts[0] for one in tmp_path.rglob("*") if one.is_file()}
    assert files == {"in", "x"}
    with pytest.raises(DvosError, match="no such file"):
        open_source(tmp_path / "none")
