from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from media_samples import noisy

from dvos.errors import MediaError
from dvos.media.frames import ImageFolder, checked_frames, open_frames
from dvos.media.image import write_image


def test_natural_order_and_names(tmp_path):
    for name in ["f10.png", "f9.png", ".f1.png"]:
        write_image(tmp_path / name, noisy(0))
    (tmp_path / "notes.txt").write_text("x")
    frames = list(ImageFolder(tmp_path))
    assert [(frame.frame_index, frame.name) for frame in frames] == [(0, "f9"), (1, "f10")]
    assert all(math.isnan(frame.time_s) for frame in frames)


def test_each_odd_size_is_named(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"f{index}.png", noisy(index, (20, 30)))
    write_image(tmp_path / "odd.png", noisy(0, (30, 20)))
    write_image(tmp_path / "tall.jpg", noisy(0, (31, 20)))
    (tmp_path / "z.png").touch()
    with pytest.raises(MediaError) as caught:
        ImageFolder(tmp_path)
    lines = sorted(str(fault) for fault in caught.value.faults)
    assert len(lines) == 3
    assert "odd.png: is 20 x 30 pixels" in lines[0]
    assert "expected 30 x 20 pixels" in lines[0]
    assert "tall.jpg: is 20 x 31 pixels" in lines[1]
    assert "z.png: the file is empty" in lines[2]


def test_a_damaged_image_is_left_out_and_told(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"f{index}.png", noisy(index))
    path = tmp_path / "f2.png"
    path.write_bytes(path.read_bytes()[:200])
    folder = ImageFolder(tmp_path)
    assert [frame.frame_index for frame in folder] == [0, 1, 3]
    assert len(folder.damage) == 1
    assert "f2.png: truncated or corrupt PNG" in folder.damage[0]
    path.write_bytes((tmp_path / "f1.png").read_bytes())
    assert len(list(folder)) == 4
    assert folder.damage == []


def test_a_file_that_is_not_there_is_left_out_and_told(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"f{index}.png", noisy(index))
    (tmp_path / "f1.png").unlink()
    (tmp_path / "f1.png").symlink_to("/nowhere/f1.png")
    folder = ImageFolder(tmp_path)
    assert [(frame.frame_index, frame.name) for frame in folder] == [
        *[(0, "f0"), (2, "f2"), (3, "f3")],
    ]
    assert len(folder.damage) == 1
    assert "f1.png: is a link to /nowhere/f1.png, which is not there" in folder.damage[0]
    for index in (0, 2, 3):
        (tmp_path / f"f{index}.png").unlink()
    with pytest.raises(MediaError, match=r"f1\.png: is a link to /nowhere/f1\.png"):
        ImageFolder(tmp_path)


def test_a_name_that_is_no_utf_8_is_left_out_and_told(tmp_path):
    for name in ("f0.png", os.fsdecode(b"f1\xf6.png"), "f2.png"):
        write_image(tmp_path / name, noisy(0))
    source = ImageFolder(tmp_path)
    assert [(frame.frame_index, frame.name) for frame in source] == [(0, "f0"), (2, "f2")]
    assert len(source.damage) == 1
    assert "its name is not valid Unicode" in source.damage[0]


def test_nothing_decodable(tmp_path):
    write_image(tmp_path / "f.png", noisy(0))
    (tmp_path / "f.png").write_bytes((tmp_path / "f.png").read_bytes()[:100])
    with pytest.raises(MediaError, match="no frame could be decoded"):
        list(ImageFolder(tmp_path))


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MediaError, match="no images in this folder"):
        open_frames(tmp_path)


def test_a_photo_is_one_frame(tmp_path):
    write_image(tmp_path / "f.png", np.full((4, 6), 7, np.uint8))
    (frame,) = open_frames(tmp_path / "f.png")
    assert (frame.name, frame.image.shape) == ("f", (4, 6, 3))


PICTURE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (PICTURE, 1, PICTURE),
        (PICTURE[..., 0], 1, PICTURE[..., :1].repeat(3, 2)),
        (PICTURE[..., :1], 1, PICTURE[..., :1].repeat(3, 2)),
        (np.stack([PICTURE] * 2), 2, PICTURE),
        ([PICTURE[..., 0]] * 2, 2, PICTURE[..., :1].repeat(3, 2)),
        (torch.from_numpy(PICTURE).movedim(-1, 0), 1, PICTURE),
        (torch.from_numpy(PICTURE).movedim(-1, 0)[None], 1, PICTURE),
        ([torch.from_numpy(PICTURE)], 1, PICTURE),
    ],
)
def test_pictures_in_grey_in_tensors_and_alone(given, count, expected):
    frames = list(checked_frames(open_frames(given)))
    assert len(frames) == count
    for frame in frames:
        np.testing.assert_array_equal(frame.image, expected)


def test_a_picture_of_another_type_is_refused():
    with pytest.raises(MediaError, match=r"type float32; expected uint8"):
        list(checked_frames(open_frames(PICTURE.astype(np.float32))))
