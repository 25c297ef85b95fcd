"""A picture that nobody labelled never becomes one that was labelled and holds nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_labels import SIZE, made_source, write_photo

from dvos.config.labelling import ImportSettings
from dvos.formats.importing import import_labels, write_data_folder
from dvos.formats.known import FORMATS, open_source
from dvos.formats.labels import LabelledSource
from dvos.media.video_write import VideoWriter
from dvos.tables import read_clips

LEFT_OUT = "pictures that are not labelled, left out (2)"
SHOWN = "frames that are not labelled, which the format shows without objects (2)"


def _partly(folder: Path, video: str) -> LabelledSource:
    """Four pictures, of which the first and third are labelled."""
    labels = np.zeros(SIZE, np.int32)
    labels[5:9, 5:9] = 1
    source = made_source(folder, {f"frame_{n:06d}.png": labels for n in range(4)}, video=video)
    pictures = [
        one if place % 2 == 0 else replace(one, labelled=False, objects=tuple)
        for place, one in enumerate(source.pictures)
    ]
    return replace(source, pictures=pictures)


def _written(source: LabelledSource, name: str, out: Path) -> Path:
    write = FORMATS[name].write
    assert write is not None
    out.mkdir()
    write(source, out)
    return out


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("coco", [LEFT_OUT]),
        ("youtube-vis", [LEFT_OUT]),
        ("labels", [LEFT_OUT]),
        ("yolo", [LEFT_OUT]),
        ("voc", []),
        ("labelme", []),
        ("label-studio", []),
        ("davis", []),
    ],
)
@pytest.mark.parametrize("video", ["plot", ""])
def test_it_comes_back_as_it_was_or_not_at_all(
    name: str, notes: list[str], video: str, tmp_path: Path
) -> None:
    source = _partly(tmp_path / "photos", video)
    out = _written(source, name, tmp_path / name)
    assert source.notes.lines() == notes
    back = open_source(out, images=tmp_path / "photos" if name in ("coco", "labels") else None)
    found = [(len(list(one.objects())), one.labelled) for one in back.pictures]
    assert [count for count, labelled in found if labelled] == [1, 1]
    assert all(count == 0 for count, labelled in found if not labelled)


@pytest.mark.parametrize("are_there", [True, False])
@pytest.mark.parametrize("name", ["ctc", "cvat", "mots", "mot", "imagej"])
def test_a_format_that_shows_every_frame_tells_so(
    name: str, are_there: bool, tmp_path: Path
) -> None:
    """So it does of those that a prediction of every second frame left out."""
    source = _partly(tmp_path / "photos", "plot")
    if not are_there:
        every, last = [one for one in source.pictures if one.labelled], source.pictures[-1]
        source = replace(source, pictures=[*every, replace(last, frame=4, labelled=True)])
    _written(source, name, tmp_path / name)
    assert source.notes.lines() == [SHOWN]


@pytest.mark.parametrize("name", ["ctc", "cvat", "mots", "imagej"])
def test_photos_are_left_out_of_it(name: str, tmp_path: Path) -> None:
    source = _partly(tmp_path / "photos", "")
    out = _written(source, name, tmp_path / name)
    assert LEFT_OUT in source.notes.lines()
    back = open_source(out, images=tmp_path / "photos")
    assert [len(list(one.objects())) for one in back.pictures] == [1, 1]


def _tasks(folder: Path, *annotations: object, name: str = "{}.png") -> Path:
    tasks = [
        {"id": number, "data": {"image": name.format(number)}, "annotations": made}
        for number, made in enumerate(annotations, 1)
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder / "tasks.json"


def test_tasks_of_label_studio_that_are_not_done_are_not_labelled(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_photo(tmp_path / f"in/{number}.png")
    skipped = [{"was_cancelled": True, "result": []}]
    path = _tasks(tmp_path / "in", [], skipped, [{"result": []}], [*skipped, {"result": []}])
    assert [one.labelled for one in open_source(path).pictures] == [False, False, True, True]
    result = import_labels(ImportSettings(source=path, out=tmp_path / "out"))
    assert (result.pictures, result.empty) == (4, 2)
    for folder in ("images", "masks"):
        files = (tmp_path / "out/annotated" / folder).glob("*.png")
        assert sorted(one.name for one in files) == ["3.png", "4.png"]
    assert open_source(tmp_path / "out").pictures[0].labelled


def test_a_video_of_label_studio_that_is_not_done_is_not_labelled(tmp_path: Path) -> None:
    for number in (1, 2):
        with VideoWriter(tmp_path / f"{number}.mp4", frame_rate=10, size=SIZE) as video:
            video.write(np.zeros((*SIZE, 3), np.uint8))
    path = _tasks(tmp_path, [], [{"result": []}], name="{}.mp4")
    import_labels(ImportSettings(source=path, out=tmp_path / "out"))
    rows = read_clips(tmp_path / "out/clips.csv")
    assert [(row.vid, row.label) for row in rows] == [("1", 0), ("2", 1)]


def test_an_import_without_a_labelled_photo_has_no_stills(tmp_path: Path) -> None:
    source = _partly(tmp_path / "in", "")
    none = replace(source, pictures=[one for one in source.pictures if not one.labelled])
    result = write_data_folder(none, tmp_path / "out")
    assert (result.stills, result.pictures, result.empty) == (None, 2, 0)
    assert none.notes.lines() == ["photos that are not labelled, left out (2)"]
    assert not list((tmp_path / "out").iterdir())
