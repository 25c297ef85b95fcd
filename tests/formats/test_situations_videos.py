"""Sound files of videos, and of Label Studio, that other programs read wrongly: the right values.

The numbers are those of the table of such files that the formats were built after.
"""

from __future__ import annotations

import json
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from made_labels import labels_of, read_labels, write_photo
from roifile import ROI_TYPE, ImagejRoi

from dvos.config.labelling import ExportSettings, ImportSettings
from dvos.errors import MediaError
from dvos.formats.importing import export, import_labels
from dvos.formats.known import FORMATS, open_source
from dvos.formats.label_studio import _encode
from dvos.formats.labels import cropped
from dvos.formats.raster import encode_region
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import read_image
from dvos.media.mask import read_label_image, write_label_image, write_mask
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.tables import COUNT_COLUMNS, ClipRow, CountRow, frame_address, write_clips, write_rows

H, W = 20, 32


def _box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[top:bottom, left:right] = True
    return mask


def _film(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, frame_rate=10, size=(H, W)) as video:
        for number in range(frames):
            video.write(np.full((H, W, 3), 10 * number, np.uint8))
    return path


def _cvat(folder: Path, *shapes: str, count: int = 14, more: str = "") -> Path:
    meta = (
        f"<meta><task><name>plot</name><size>{count}</size><original_size><width>{W}</width>"
        f"<height>{H}</height></original_size><source>plot.mp4</source>{more}</task></meta>"
    )
    track = f'<track id="0" label="wheat" source="manual">{"".join(shapes)}</track>'
    (folder / "annotations.xml").write_text(f"<annotations>{meta}{track}</annotations>")
    return folder / "annotations.xml"


def _shape(frame: int, left: float, outside: int = 0) -> str:
    return (
        f'<box frame="{frame}" outside="{outside}" keyframe="1" occluded="0" xtl="{left}" ytl="4"'
        f' xbr="{left + 6}" ybr="9" z_order="0"/>'
    )


def test_cvat_a35_a37_tracks_are_filled_in_between_and_end(tmp_path: Path) -> None:
    source = open_source(_cvat(tmp_path, _shape(0, 0), _shape(10, 20), _shape(11, 20, 1)))
    labels = list(labels_of(source).values())
    assert len(labels) == 14
    for frame, ids in enumerate(labels):
        expected = _box(2 * frame, 4, 2 * frame + 6, 9) if frame <= 10 else np.zeros((H, W))
        assert (ids == expected).all()
    # The end of a track that lasts to the last frame is told on the frame after it.
    source = open_source(_cvat(tmp_path, _shape(0, 0), _shape(13, 26), _shape(14, 26, 1)))
    assert [ids.max() for ids in labels_of(source).values()] == [1] * 14
    # Without an end the last keyframe holds.
    source = open_source(_cvat(tmp_path, _shape(3, 0)))
    assert [ids.max() for ids in labels_of(source).values()] == [0] * 3 + [1] * 11


def test_cvat_frames_are_taken_from_the_video_file(tmp_path: Path) -> None:
    path = _cvat(tmp_path, _shape(0, 0), _shape(3, 6), count=4)
    with pytest.raises(MediaError, match=r"picture plot/plot_000000\.png was not found"):
        import_labels(ImportSettings(source=path, out=tmp_path / "none"))
    _film(tmp_path / "plot.mp4", 6)
    result = import_labels(ImportSettings(source=path, out=tmp_path / "out"))
    assert (result.videos, result.pictures) == (1, 4)
    frames = sorted((tmp_path / "out/clips/plot/frames").iterdir())
    assert [round(cv2.imread(str(one)).mean() / 10) for one in frames] == [0, 1, 2, 3]
    again = import_labels(ImportSettings(source=path, out=tmp_path / "out"))
    assert str(again) == str(result)


def test_labels_of_a_video_name_its_frames_as_predictions_do(tmp_path: Path) -> None:
    names = [frame.name for frame in VideoFile(_film(tmp_path / "plot.mp4", 4))]
    (tmp_path / "cvat").mkdir()
    cvat = open_source(_cvat(tmp_path / "cvat", _shape(0, 0), count=4))
    step = {"frame": 1, "enabled": True, "x": 0, "y": 0, "width": 9, "height": 9, "rotation": 0}
    value = {"framesCount": 4, "duration": 0.4, "sequence": [step], "labels": ["wheat"]}
    studio = _studio(tmp_path, {"type": "videorectangle", "value": value}, video="plot.mp4")
    for source in (cvat, open_source(studio)):
        assert [Path(one.name).stem for one in source.pictures] == names
    for name in names:
        write_photo(tmp_path / f"cvat/{name}.png", (H, W))
    found = open_source(tmp_path / "cvat").pictures
    assert [one.path and one.path.stem for one in found] == names


STEPS = "<start_frame>4</start_frame><frame_filter>step=3</frame_filter>"


def test_cvat_counts_the_frames_of_the_video_that_a_part_was_made_of(tmp_path: Path) -> None:
    _film(tmp_path / "plot.mp4", 12)
    shapes = (_shape(4, 0), _shape(10, 12), _shape(13, 12, 1))
    path = _cvat(tmp_path, *shapes, count=3, more=STEPS)
    source = open_source(path)
    assert [one.frame for one in source.pictures] == [4, 7, 10]
    for place, ids in enumerate(labels_of(source).values()):
        assert (ids == _box(6 * place, 4, 6 * place + 6, 9)).all()
    import_labels(ImportSettings(source=path, out=tmp_path / "out"))
    frames = sorted((tmp_path / "out/clips/plot/frames").iterdir())
    assert [round(cv2.imread(str(one)).mean() / 10) for one in frames] == [4, 7, 10]


def test_cvat_names_the_images_of_a_part_as_the_frames_of_the_video(tmp_path: Path) -> None:
    for number in (4, 7, 10):
        write_photo(tmp_path / f"frame_{number:06d}.PNG", (H, W))
    source = open_source(_cvat(tmp_path, _shape(7, 6), _shape(10, 6, 1), count=3, more=STEPS))
    found = [(one.path and one.path.name, one.frame) for one in source.pictures]
    assert found == [(f"frame_{n:06d}.PNG", place) for place, n in enumerate((4, 7, 10))]
    assert [ids.max() for ids in labels_of(source).values()] == [0, 1, 0]


@pytest.mark.parametrize("frame", [0, 1, 5, 13])
def test_cvat_frames_that_are_not_of_the_part_are_a_fault_of_their_track(
    frame: int, tmp_path: Path
) -> None:
    path = _cvat(tmp_path, _shape(4, 0), _shape(frame, 6), count=3, more=STEPS)
    told = rf"track 0 wheat: has a shape on frame {frame}; expected a frame from 4 to 10, each 3th"
    with pytest.raises(MediaError, match=told):
        open_source(path)


def test_cvat_tells_of_two_shapes_of_a_track_on_one_frame(tmp_path: Path) -> None:
    source = open_source(_cvat(tmp_path, _shape(0, 0), _shape(0, 6), count=1))
    (ids,) = labels_of(source).values()
    assert (ids == _box(6, 4, 12, 9)).all()
    assert source.notes.lines() == [
        "frames of a track with several shapes, the last of which counts (1)"
    ]


def _task(*results: dict[str, Any], **data: str) -> list[dict[str, Any]]:
    size = {"original_width": W, "original_height": H}
    told = [size | {"id": str(n), "value": {}} | one for n, one in enumerate(results)]
    return [{"id": 1, "data": data or {"image": "a.png"}, "annotations": [{"result": told}]}]


def _studio(folder: Path, *results: dict[str, Any], **data: str) -> Path:
    if not data:
        write_photo(folder / "a.png", (H, W))
    (folder / "tasks.json").write_text(json.dumps(_task(*results, **data)))
    return folder / "tasks.json"


CORNERS = [[100 * x / W, 100 * y / H] for x, y in ((2, 3), (8, 3), (8, 9), (2, 9))]
BRUSH = {"format": "rle", "rle": _encode(_box(10, 5, 14, 9)), "brushlabels": ["wheat"]}


def test_label_studio_a48_a49_brushes_beside_polygons_with_labels_apart(tmp_path: Path) -> None:
    results = [
        {"type": "brushlabels", "value": BRUSH},
        {"type": "polygon", "id": "p", "value": {"points": CORNERS}},
        {"type": "labels", "id": "p", "value": {"points": CORNERS, "labels": ["wheat"]}},
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    source = open_source(_studio(tmp_path, *results))
    (ids,) = labels_of(source).values()
    assert (ids == _box(10, 5, 14, 9) + 2 * _box(2, 3, 8, 9)).all()
    assert source.classes() == {"wheat": 2}
    assert source.notes.lines() == ["results that are no areas (choices), left out (1)"]


def test_label_studio_a48_a_brush_of_other_words(tmp_path: Path) -> None:
    # Worked out by hand: 4 x 2 x 2 bytes, words of 8 bits, runs of 4 bits at most 16, by turns a
    # run of the 8 bytes of two clear pixels and 8 single bytes of two opaque ones.
    bits = f"{16:032b}{7:05b}" + "0011" * 4 + f"100{7:04b}{0:08b}" + f"000{7:04b}" + "11111111" * 8
    bits += "0" * (-len(bits) % 8)
    codes = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    write_photo(tmp_path / "a.png", (2, 2))
    size = {"original_width": 2, "original_height": 2}
    value = {"format": "rle", "rle": codes, "brushlabels": ["wheat"]}
    path = _studio(tmp_path, {"type": "brushlabels", "value": value} | size, image="a.png")
    (ids,) = read_labels(path).values()
    assert ids.tolist() == [[0, 0], [1, 1]]


def test_label_studio_a50_a_box_is_turned_in_pixels(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (500, 1000))
    value = {"x": 20, "y": 20, "width": 30, "height": 20, "rotation": 90}
    size = {"original_width": 1000, "original_height": 500}
    shape = {"type": "rectanglelabels", "value": value | {"rectanglelabels": ["w"]}} | size
    (ids,) = read_labels(_studio(tmp_path, shape, image="/data/upload/1/0123abcd-a.png")).values()
    expected = np.zeros((500, 1000), int)
    expected[100:400, 100:200] = 1
    assert (ids == expected).all()


def test_label_studio_a52_a53_videos_by_time_between_keyframes(tmp_path: Path) -> None:
    _film(tmp_path / "plot.mp4", 10)
    step = {"y": 20, "width": 12.5, "height": 25, "rotation": 0, "enabled": True}
    # Labelled at twice the rate of the file: 20 frames, which count from 1.
    sequence = [
        step | {"frame": 1, "x": 0},
        step | {"frame": 9, "x": 50, "enabled": False},
        step | {"frame": 15, "x": 50},
    ]
    value = {"framesCount": 20, "duration": 1.0, "sequence": sequence, "labels": ["wheat"]}
    path = _studio(tmp_path, {"type": "videorectangle", "value": value}, video="plot.mp4")
    source = open_source(path)
    found = list(labels_of(source).values())
    lefts = [int(np.nonzero(ids.any(0))[0][0]) if ids.any() else None for ids in found]
    assert lefts == [0, 4, 8, 12, 16, None, None, 16, 16, 16]
    note = "videos labelled at another rate than their file's, matched by time (1)"
    assert source.notes.lines() == [note]


def test_youtube_vis_a54_objects_that_come_later_and_frames_without_masks(tmp_path: Path) -> None:
    names = [f"v/{5 * n:05d}.png" for n in range(3)]
    for name in names:
        write_photo(tmp_path / name, (H, W))
    runs = [
        {"size": [H, W], "counts": encode_region(cropped(mask), (H, W))}
        for mask in (_box(0, 0, 5, 5), _box(9, 9, 12, 12))
    ]
    annotations = [
        {"id": 7, "video_id": 1, "category_id": 1, "segmentations": [None, runs[0], runs[0]]},
        {"id": 3, "video_id": 1, "category_id": 1, "segmentations": [runs[1], None, None]},
    ]
    video = {"id": 1, "height": H, "width": W, "length": 3, "file_names": names}
    kinds = [{"id": 1, "name": "wheat"}]
    content = {"videos": [video], "annotations": annotations, "categories": kinds}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = list(read_labels(tmp_path / "a.json").values())
    assert [np.unique(ids).tolist() for ids in found] == [[0, 2], [0, 1], [0, 1]]


def test_davis_a54_unlabelled_frames_are_not_empty(tmp_path: Path) -> None:
    for number in range(4):
        write_photo(tmp_path / f"JPEGImages/v/{number:05d}.jpg", (H, W))
    (tmp_path / "Annotations/v").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "Annotations/v/00002.png"), _box(0, 0, 5, 5).astype(np.uint8) * 3)
    result = import_labels(ImportSettings(source=tmp_path, out=tmp_path / "out"))
    assert (result.pictures, result.empty) == (4, 0)
    rows = (tmp_path / "out/clips.csv").read_text().splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == ["0", "0", "1", "0"]


def test_ctc_a55_truth_of_some_frames_from_a_late_one_on(tmp_path: Path) -> None:
    for number in range(6, 10):
        tifffile.imwrite(_made(tmp_path / f"01/t{number:03d}.tif"), np.zeros((H, W), np.uint8))
        marker = (_box(1, 1, 3, 3) * 5 + _box(9, 9, 11, 11) * 6).astype(np.uint16)
        tifffile.imwrite(_made(tmp_path / f"01_GT/TRA/man_track{number:03d}.tif"), marker)
    mask = (_box(0, 0, 5, 5) * 1 + _box(8, 8, 14, 14) * 2).astype(np.uint16)
    tifffile.imwrite(_made(tmp_path / "01_GT/SEG/man_seg007.tif"), mask)
    (tmp_path / "01_GT/TRA/man_track.txt").write_text("5 6 9 0\n6 6 9 0\n")
    source = open_source(tmp_path)
    assert [(one.frame, one.labelled) for one in source.pictures] == [
        (6, False),
        (7, True),
        (8, False),
        (9, False),
    ]
    ids = labels_of(source)["01/t007.tif"]
    assert (ids == _box(0, 0, 5, 5) * 5 + _box(8, 8, 14, 14) * 6).all()


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _mots(folder: Path, *rows: tuple[int, int, int, np.ndarray]) -> Path:
    told = [
        f"{frame} {id_} {kind} {H} {W} {encode_region(cropped(mask), (H, W))}\n"
        for frame, id_, kind, mask in rows
    ]
    (folder / "plot.txt").write_text("".join(told))
    return folder / "plot.txt"


def test_mots_a22_masks_that_share_pixels_are_read_and_written_without(tmp_path: Path) -> None:
    large, small = _box(0, 0, 12, 12), _box(8, 8, 15, 15)
    path = _mots(tmp_path, (1, 2001, 2, large), (1, 2002, 2, small), (3, 10000, 10, large))
    source = open_source(path)
    first, second, third = labels_of(source).values()
    assert (np.where(small, 2002, np.where(large, 2001, 0)) == first).all()
    assert not second.any()
    assert (third == -1 * large).all()
    export(ExportSettings(predictions=path, format="mots", out=tmp_path / "out"))
    rows = [row.split() for row in (tmp_path / "out/plot.txt").read_text().splitlines()]
    assert [row[:3] for row in rows] == [
        ["1", "2001", "2"],
        ["1", "2002", "2"],
        ["3", "10000", "10"],
    ]
    (written,) = {
        tuple(np.unique(one)) for one in labels_of(open_source(tmp_path / "out")).values()
    } - {
        (0,),
        (-1, 0),
    }
    assert written == (0, 2001, 2002)


def test_mots_a23_runs_as_python_text_are_told(tmp_path: Path) -> None:
    path = _mots(tmp_path, (1, 1, 1, _box(0, 0, 5, 5)), (2, 1, 1, _box(0, 0, 5, 5)))
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.rpartition(' ')[0]} b'_d\\\\c0'\n")
    with pytest.raises(MediaError, match=r"plot\.txt row 2: its runs are the Python text"):
        read_labels(path)


def test_rois_a33_positions_count_from_one(tmp_path: Path) -> None:
    for number in range(3):
        write_photo(tmp_path / f"plot/{number}.png", (H, W))
    roi = ImagejRoi()
    roi.roitype, roi.position = ROI_TYPE.RECT, 2
    roi.left, roi.top, roi.right, roi.bottom = 2, 3, 8, 9
    roi.tofile(tmp_path / "plot.zip", name="a")
    found = list(read_labels(tmp_path / "plot.zip").values())
    assert [int(ids.sum()) for ids in found] == [0, 36, 0]
    roi.position = 4
    roi.tofile(tmp_path / "plot.zip", name="b")
    with pytest.raises(MediaError, match="has ROIs on slice 4, 3 images were found"):
        read_labels(tmp_path / "plot.zip")


@pytest.mark.parametrize("axis", ["t_position", "z_position"])
def test_rois_of_a_hyperstack_lie_on_its_frames(tmp_path: Path, axis: str) -> None:
    """Each of its axes counts from 1, those that it has no more than one of, too."""
    for number in range(3):
        write_photo(tmp_path / f"plot/f{number}.png", (H, W))
        roi = ImagejRoi.frompoints([[1, 1], [7, 1], [7, 7], [1, 7]])
        roi.roitype = ROI_TYPE.POLYGON
        roi.c_position = roi.t_position = roi.z_position = 1
        setattr(roi, axis, number + 1)
        roi.tofile(tmp_path / "plot.zip", name=f"r{number}")
    found = list(read_labels(tmp_path / "plot.zip").values())
    assert [int(np.count_nonzero(ids)) for ids in found] == [36, 36, 36]
    roi.t_position = roi.z_position = 2
    roi.tofile(tmp_path / "plot.zip", name="both")
    with pytest.raises(MediaError, match="has ROIs at several times and depths"):
        read_labels(tmp_path / "plot.zip")


def test_mots_of_ids_from_0_loses_none(tmp_path: Path) -> None:
    first, second = (encode_region(cropped(_box(x, 4, x + 6, 9)), (H, W)) for x in (0, 20))
    rows = [f"{t} {id_} 2 {H} {W} {x}" for t in (1, 2) for id_, x in ((0, first), (1, second))]
    (tmp_path / "plot.txt").write_text("\n".join(rows))
    for labels in read_labels(tmp_path / "plot.txt").values():
        assert {*np.unique(labels).tolist()} == {0, 1, 2}
        assert (labels[4:9, :6] == 1).all()
    notes = open_source(tmp_path / "plot.txt").notes.lines()
    assert notes == ["tracks whose ids begin at 0, numbered from 1 (1)"]


@pytest.mark.parametrize("name", ["coco", "youtube-vis", "mots", "labels", "davis"])
def test_pictures_are_found_in_the_data_folder_that_was_exported(name: str, tmp_path: Path) -> None:
    """Where frames and masks are of one name, and frames of several videos likewise."""
    rows = []
    for video in ("one", "two"):
        for frame in range(2):
            folder, file = tmp_path / "field/clips" / video, f"{frame:06d}.png"
            write_photo(folder / "frames" / file, (H, W))
            write_mask(folder / "masks" / file, _box(0, 0, 5, 5).astype(np.uint16))
            paths = (folder / "frames" / file, folder / "masks" / file)
            rows.append(ClipRow("", video, frame, *paths, 1))
    write_clips(tmp_path / "field/clips.csv", rows)
    out = tmp_path / "out"
    export(ExportSettings(predictions=tmp_path / "field/clips.csv", format=name, out=out))
    images = None if name in ("youtube-vis", "davis") else tmp_path / "field"
    found = [one.path for one in open_source(out, images=images).pictures]
    assert all(found)
    if images:
        wanted = [row.image for row in rows]
        assert sorted(map(str, found)) == sorted(map(str, wanted))


@pytest.mark.parametrize(("rows", "frames"), [((1, 3), [0, 2]), ((1, 2), [1, 2]), ((0, 2), [0, 2])])
def test_mots_beside_files_numbered_from_0(
    rows: tuple[int, ...], frames: list[int], tmp_path: Path
) -> None:
    """Its rows count from 1 in one challenge, from 0 in another; a line tells where both fit."""
    for number in range(3):
        write_photo(tmp_path / f"plot/{number:06d}.png", (H, W))
    runs = encode_region(cropped(_box(0, 4, 6, 9)), (H, W))
    (tmp_path / "plot.txt").write_text("\n".join(f"{t} 1 2 {H} {W} {runs}" for t in rows))
    source = open_source(tmp_path / "plot.txt")
    found = {one.path.name: len(list(one.objects())) for one in source.pictures if one.path}
    assert [count for _, count in sorted(found.items())] == [int(x in frames) for x in range(3)]
    assert bool(source.notes.lines()) == (0 not in rows)


@pytest.mark.parametrize("is_copied", [False, True])
def test_an_import_into_its_own_folder_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_copied: bool
) -> None:
    """What it made there is no second picture of a name, linked or copied from another disk."""
    if is_copied:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
    source = tmp_path / "in"
    write_photo(source / "images/a.png", (H, W))
    image = {"id": 1, "file_name": "a.png", "height": H, "width": W}
    content = {"images": [image], "categories": [], "annotations": []}
    (source / "annotations.json").write_text(json.dumps(content))
    settings = ImportSettings(source=source / "annotations.json", out=source / "field")
    first = import_labels(settings)
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.is_file()}
    assert str(import_labels(settings)) == str(first)
    assert before == {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.is_file()}
    write_mask(source / "other/a.png", _box(0, 0, 5, 5))
    with pytest.raises(MediaError, match=r"a\.png may be .*images/a\.png or .*other/a\.png"):
        import_labels(settings)


def test_a_folder_of_masks_named_in_the_document_gives_no_picture(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (H, W))
    write_mask(tmp_path / "masks/a.png", _box(0, 0, 5, 5))
    write_mask(tmp_path / "a_cp_masks.png", _box(2, 2, 9, 9).astype(np.uint16))
    found = [one.path for one in open_source(tmp_path, name="labels").pictures if one.path]
    assert found[:1] == [tmp_path / "a.png"]
    assert tmp_path / "masks/a.png" not in found


def test_a_mask_is_no_picture_where_there_is_one(tmp_path: Path) -> None:
    write_photo(tmp_path / "field/images/a.jpg", (H, W))
    write_mask(tmp_path / "field/masks/a.png", _box(0, 0, 5, 5))
    image = {"id": 1, "file_name": "a.png", "height": H, "width": W}
    content = {"images": [image], "categories": [], "annotations": []}
    (tmp_path / "c.json").write_text(json.dumps(content))
    (picture,) = open_source(tmp_path / "c.json", images=tmp_path / "field").pictures
    assert picture.path == tmp_path / "field/images/a.jpg"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Predictions of a clip of two frames with tracks, and of a photo of two objects."""
    out = tmp_path / "predictions"
    first, second = _box(0, 0, 5, 5), _box(20, 9, 25, 16)
    tracks = [first * 1 + second * 2, first * 1 + second * 3]
    for number, ids in enumerate(tracks):
        write_mask(out / f"plot/f{number}.png", ids > 0)
        write_label_image(_made(out / f"plot/tracks/f{number}.png"), ids)
    (out / "plot.tracks.csv").write_text("id,parent\n1,\n2,\n3,2\n".replace(",\n", ",0\n"))
    write_mask(out / "photo/photo.png", first | second)
    names = [("plot", 0, "f0"), ("plot", 1, "f1"), ("photo", 0, "photo")]
    rows = [CountRow(clip, index, frame=frame) for clip, index, frame in names]
    write_rows(out / "counts.csv", COUNT_COLUMNS, map(astuple, rows))
    return out


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.write])
def test_predictions_go_out_in_every_format(name: str, predictions: Path, tmp_path: Path) -> None:
    result = export(ExportSettings(predictions=predictions, format=name, out=tmp_path / name))
    assert (result.pictures, result.objects) == (3, 6)
    assert any((tmp_path / name).rglob("*.*"))


def test_what_goes_out_of_predictions(predictions: Path, tmp_path: Path) -> None:
    source = open_source(predictions)
    assert source.parents == {"plot": {3: 2}}
    told = {name: np.unique(ids).tolist() for name, ids in labels_of(source).items()}
    assert told == {"photo.png": [0, 1, 2], "plot/f0.png": [0, 1, 2], "plot/f1.png": [0, 1, 3]}
    for name in ("mot", "csv", "geojson", "ctc"):
        export(ExportSettings(predictions=predictions, format=name, out=tmp_path / name))
    rows = (tmp_path / "mot/plot.txt").read_text().splitlines()
    assert rows[0] == "1,1,1,1,5,5,1,-1,-1,-1"
    assert rows[-1] == "2,3,21,10,5,7,1,-1,-1,-1"
    corners = (tmp_path / "csv/outlines.csv").read_text().splitlines()
    assert corners[0] == "picture,video,frame,id,label,part,ring,x,y"
    assert corners[9] == "plot/f0.png,plot,0,1,,0,0,0,0"
    shapes = json.loads((tmp_path / "geojson/plot/f1.geojson").read_text())["features"]
    assert [one["id"] for one in shapes] == [1, 3]
    ring = [[20, 9], [25, 9], [25, 16], [20, 16], [20, 9]]
    assert shapes[1]["geometry"] == {"type": "Polygon", "coordinates": [ring]}
    assert (tmp_path / "ctc/plot_RES/res_track.txt").read_text() == "1 0 1 0\n2 0 0 0\n3 1 1 2\n"
    assert read_label_image(tmp_path / "ctc/plot_RES/mask001.tif").max() == 3


UNFOUND = "pictures that were not found: give --images (3)"
WITH_PICTURES = ("yolo", "voc", "davis", "labelme", "label-studio", "youtube-vis")


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.write])
def test_an_export_tells_of_pictures_that_it_lacks(
    name: str, predictions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(ExportSettings(predictions=predictions, format=name, out=tmp_path / name))
    assert (f"{predictions}: {UNFOUND}" in caplog.messages) == (name in WITH_PICTURES)
    caplog.clear()
    for place in ("plot/f0.png", "plot/f1.png", "photo.png"):
        write_photo(tmp_path / "photos" / place, (H, W))
    out, photos = tmp_path / "with", tmp_path / "photos"
    export(ExportSettings(predictions=predictions, format=name, out=out, images=photos))
    assert "not found" not in caplog.text


@pytest.mark.parametrize(
    ("names", "ids", "frames"),
    [
        # Of a whole synthetic set, of a video's frames from the third on, and of any pictures.
        (["{}_frame-00000", "{}_frame-00001"], [12, 13], [0, 1]),
        (["{}_000002", "{}_000004"], [2, 4], [2, 4]),
        (["{}_0817", "{}_0818"], [0, 1], [0, 1]),
        (["{}_a", "{}_b"], [3, 4], [3, 4]),
        (["{}_1", "{}_1 bis"], [3, 4], [3, 4]),
    ],
)
def test_frames_of_a_table_count_from_where_their_clip_begins(
    names: list[str], ids: list[int], frames: list[int], tmp_path: Path
) -> None:
    rows = []
    for name, fid in zip(names, ids, strict=True):
        image, mask = (tmp_path / kind / f"{name.format('v')}.png" for kind in ("i", "m"))
        write_photo(image, (H, W))
        write_mask(mask, _box(0, 0, 5, 5))
        rows.append(ClipRow("", "v", fid, image, mask, 1))
    write_clips(tmp_path / "clips.csv", rows)
    assert [one.frame for one in open_source(tmp_path / "clips.csv").pictures] == frames


def test_frames_of_a_clip_store_count_from_its_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with ClipStoreWriter(tmp_path / f"{name}.dvclip", size=(H, W)) as store:
            for _ in range(2):
                store.write(np.zeros((H, W, 3), np.uint8), np.zeros((H, W), np.uint16))
    rows = [
        ClipRow("", vid, fid, address, address, 1)
        for vid, fid, address in (
            (vid, 2 * place + frame, frame_address(tmp_path / f"{vid}.dvclip", frame))
            for place, vid in enumerate("ab")
            for frame in range(2)
        )
    ]
    write_clips(tmp_path / "clips.csv", rows)
    assert [one.frame for one in open_source(tmp_path / "clips.csv").pictures] == [0, 1, 0, 1]


def test_a_name_with_a_percent_sign_comes_back_from_label_studio(tmp_path: Path) -> None:
    write_photo(tmp_path / "in/images/50%20 ü.png", (H, W))
    write_mask(tmp_path / "in/masks/50%20 ü.png", _box(0, 0, 5, 5))
    out = tmp_path / "out"
    export(ExportSettings(predictions=tmp_path / "in", format="label-studio", out=out))
    (picture,) = open_source(out).pictures
    assert picture.path == out / "50%20 ü.png"


@pytest.fixture
def of_a_video(tmp_path: Path) -> Path:
    """Predictions of every second frame of a video, whose name has a dot as another's has none."""
    out = tmp_path / "predictions"
    for number in (1, 3):
        write_mask(out / f"plot.2/plot.2_{number:06d}.png", _box(4, 4, 9, 9))
    rows = [CountRow("plot.2", n, frame=f"plot.2_{n:06d}") for n in (1, 3)]
    write_rows(out / "counts.csv", COUNT_COLUMNS, map(astuple, rows))
    _film(tmp_path / "videos/plot.2.mp4", 5)
    _film(tmp_path / "videos/plot.mp4", 1)
    return out


@pytest.mark.parametrize("name", [*WITH_PICTURES, "coco"])
def test_an_export_takes_frames_that_lie_in_a_video_from_there(
    name: str, of_a_video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, videos = tmp_path / "out", tmp_path / "videos"
    export(ExportSettings(predictions=of_a_video, format=name, out=out, images=videos))
    assert "not found" not in caplog.text
    written = [read_image(one) for one in out.rglob("*.png")]
    for number in (1, 3):
        frame = next(VideoFile(videos / "plot.2.mp4").frames(number)).image
        assert sum(np.array_equal(one, frame) for one in written) == 1
    found = list(read_labels(out).values())
    assert [int(np.count_nonzero(ids)) for ids in found] == [25, 25]


def test_a_video_that_was_not_predicted_is_told(of_a_video: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    given = {"predictions": of_a_video, "format": "yolo", "images": videos}
    _film(videos / "plot.2.mp4", 2)
    with pytest.raises(MediaError, match=r"plot\.2\.mp4: has no frame 3"):
        export(ExportSettings(out=tmp_path / "out", **given))
    with VideoWriter(videos / "plot.2.mp4", frame_rate=10, size=(H, H)) as video:
        for _ in range(4):
            video.write(np.zeros((H, H, 3), np.uint8))
    with pytest.raises(MediaError, match=r"plot\.2\.mp4: is 20 x 20 pixels"):
        export(ExportSettings(out=tmp_path / "out", **given))
    assert not (tmp_path / "out").exists()
    _film(videos / "again/plot.2.mp4", 5)
    with pytest.raises(MediaError, match=r"plot\.2 may be"):
        export(ExportSettings(out=tmp_path / "out", **given))


def test_an_export_of_labels_of_a_video_takes_its_frames_along(tmp_path: Path) -> None:
    _film(tmp_path / "plot.mp4", 2)
    source = open_source(_cvat(tmp_path, _shape(0, 0), count=2))
    write = FORMATS["yolo"].write
    assert write is not None
    write(source, tmp_path / "out")
    assert source.notes.lines() == []
    frames = VideoFile(tmp_path / "plot.mp4").frames()
    for picture, frame in zip(sorted(tmp_path.glob("out/images/train/*")), frames, strict=True):
        assert np.array_equal(read_image(picture), frame.image)


def test_a_picture_whose_name_has_a_dot_is_not_one_of_a_shorter_name(
    predictions: Path, tmp_path: Path
) -> None:
    """A name without ending is no stem with one."""
    photos = tmp_path / "photos"
    for name in ("photo", "photo.2"):
        write_photo(photos / f"{name}.png", (H, W))
        write_mask(predictions / f"{name}/{name}.png", _box(0, 0, 5, 5))
    rows = [CountRow(name, 0, frame=name) for name in ("photo", "photo.2")]
    write_rows(predictions / "counts.csv", COUNT_COLUMNS, map(astuple, rows))
    found = [one.path for one in open_source(predictions, images=photos).pictures]
    assert found == [photos / "photo.png", photos / "photo.2.png"]
    (photos / "photo.2.png").unlink()
    found = [one.path for one in open_source(predictions, images=photos).pictures]
    assert found == [photos / "photo.png", None]
