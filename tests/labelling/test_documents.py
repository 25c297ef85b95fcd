"""What there is to label in folders and videos, and where its labels go."""

from __future__ import annotations

import os
import shutil
import sys

import numpy as np
import pytest
from page_support import SIZE, photo

from dvos.errors import UsageError
from dvos.labelling.documents import open_document
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter


def names(document):
    return [frame.name for frame in document.frames]


def test_what_is_labelled_comes_first_and_once(folder):
    write_image(folder / "annotated" / "images" / "photo2.png", photo(2))
    write_image(folder / "unlabelled" / "photo10.png", photo(3))
    write_image(folder / "unlabelled" / "photo9.png", photo(3))
    write_mask(folder / "annotated" / "head_mask" / "photo2.tif", np.zeros(SIZE, np.uint8))
    document = open_document(folder)
    assert names(document) == ["photo2", "photo1", "photo9", "photo10"]
    assert document.frames[0].mask.name == "photo2.tif"
    assert document.frames[1].mask == folder / "annotated" / "head_mask" / "photo1.png"


def test_labels_go_elsewhere_if_asked(folder, tmp_path):
    write_image(folder / "annotated" / "images" / "photo2.png", photo(2))
    write_mask(folder / "annotated" / "masks" / "photo2.png", np.zeros(SIZE, np.uint8))
    frame = open_document(folder, tmp_path / "out").frames[0]
    assert frame.mask == tmp_path / "out" / "annotated" / "masks" / "photo2.png"
    assert frame.given == folder / "annotated" / "masks" / "photo2.png"


@pytest.mark.parametrize("other", ["photo1.jpg", "unlabelled/photo1.png"])
def test_two_pictures_of_one_name_are_told(folder, other):
    write_image(folder / other, photo(9, (20, 20)))
    with pytest.raises(UsageError, match="has the name of another picture"):
        open_document(folder)


def film(path, count=5):
    with VideoWriter(path, frame_rate=10, size=SIZE) as writer:
        for number in range(count):
            writer.write(np.full((*SIZE, 3), 40 * number, np.uint8))
    return path


def test_two_videos_of_one_name_are_told_with_all_else(folder):
    """One clip made of both would have the frames of the one, then those that it lacks."""
    film(folder / "v.mp4", 2)
    film(folder / "v.mkv", 3)
    (folder / "unlabelled").mkdir()
    film(folder / "unlabelled" / "w.mp4", 2)
    film(folder / "w.mp4", 3)
    write_image(folder / "photo1.jpg", photo(9))
    with pytest.raises(UsageError) as told:
        open_document(folder)
    lines = str(told.value).splitlines()
    assert [line.partition(":")[0].rpartition(os.sep)[2] for line in lines] == [
        *("photo1.png", "v.mp4", "w.mp4")
    ]
    assert "has the name of another video" in lines[1]
    assert lines[2].split(": ")[1].split(";")[0].endswith(str(folder / "w.mp4"))


def test_a_video_and_its_copy_are_one_clip(folder):
    (folder / "unlabelled").mkdir()
    shutil.copy(film(folder / "v.mp4"), folder / "unlabelled")
    document = open_document(folder)
    assert names(document)[2:] == [f"v_{number:06d}" for number in range(5)]
    assert len(document.of_clip("v")) == 5


def test_two_predictions_of_one_clip_are_told(run):
    """Their frames would share names, and so labels and journals."""
    both = run.with_name("both")
    for name in ("first", "second"):
        shutil.copytree(run, both / name)
    with pytest.raises(UsageError, match=r"second.film: has the name of another predicted clip"):
        open_document(both)


def test_photos_are_of_no_clip(folder):
    film(folder / "v.mp4", 2)
    document = open_document(folder)
    assert document.of_clip("v") == [2, 3]
    assert document.of_clip("") == []


def odd(name):
    return pytest.param(
        name, marks=pytest.mark.skipif(sys.platform != "linux", reason="others refuse such names")
    )


@pytest.mark.parametrize(
    "name", ["x" * 250, odd("bad\udcff"), odd("\N{GREEK SMALL LETTER MU}" * 125)]
)
@pytest.mark.parametrize("kind", ["png", "mp4"])
def test_what_no_label_can_be_named_after_is_left_out_and_told(folder, caplog, name, kind):
    odd = folder / f"{name}.{kind}"
    film(odd, 2) if kind == "mp4" else shutil.copy(folder / "photo1.png", odd)
    assert names(open_document(folder)) == ["photo1", "photo2"]
    (line,) = caplog.messages
    assert f"{folder}: left out: {name}.{kind}; expected names in UTF-8 of at most 249 by" in line
    with pytest.raises(UsageError, match=r"left out: .*; rename them$"):
        open_document(odd if kind == "mp4" else only(odd))


def only(path):
    (path.parent / "alone").mkdir()
    return path.rename(path.parent / "alone" / path.name).parent


def test_a_video_is_labelled_beside_itself(tmp_path):
    document = open_document(film(tmp_path / "field.mp4"))
    assert names(document)[::4] == ["field_000000", "field_000004"]
    assert document.root == tmp_path / "field-labels"
    assert document.frames[3].picture.size() == SIZE
    assert abs(int(document.frames[3].picture.read().mean()) - 120) < 6


def test_nothing_to_label_is_told(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    for path, found in (
        (tmp_path / "empty", "holds nothing to label"),
        (tmp_path / "gone", "no such file or folder"),
        (folder / "photo1.png", "is one image file"),
    ):
        with pytest.raises(UsageError, match=found):
            open_document(path)


def test_photos_that_were_predicted_are_photos_and_no_clips(run):
    (run / "film" / "tracks").rename(run / "elsewhere")
    assert {frame.clip for frame in open_document(run).frames} == {"film"}
    record = run / ".progress" / "film.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text(
        "".join(line for line in lines if not {"001", "002", "003"} & {*line.split('"')})
    )
    (frame,) = open_document(run).frames
    assert (frame.name, frame.clip, frame.predicted) == ("000", "", True)
