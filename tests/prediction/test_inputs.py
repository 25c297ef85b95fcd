from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dvos.errors import DvosError, MediaError, UsageError
from dvos.media.frames import FrameSource, PanClip
from dvos.media.image import write_image
from dvos.media.video_write import VideoWriter
from dvos.prediction.inputs import find_clips
from dvos.tables import ClipRow, ImageRow, write_clips, write_images

SIZE = (20, 24)


def _image(path: Path, value: int = 90) -> Path:
    write_image(path, np.full((*SIZE, 3), value, np.uint8))
    return path


def _video(path: Path) -> Path:
    with VideoWriter(path, frame_rate=10, size=SIZE) as video:
        for value in (50, 100, 150):
            video.write(np.full((*SIZE, 3), value, np.uint8))
    return path


def _found(source: Path) -> dict[str, list[str]]:
    return {clip.name: [frame.name for frame in clip.open()] for clip in find_clips(source)}


def test_a_video_file_and_a_folder_of_videos(tmp_path: Path) -> None:
    names = [f"a_{k:06d}" for k in range(3)]
    assert _found(_video(tmp_path / "v/a.mp4")) == {"a": names}
    _video(tmp_path / "v/b.mp4")
    assert list(_found(tmp_path / "v")) == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "source", "clips"),
    [
        (["goat/2.png", "goat/10.png"], "goat", {"goat": ["2", "10"]}),
        (["goat/Frames/0.png"], "goat", {"goat": ["0"]}),
        (["goat/Frames/0.png"], "goat/Frames", {"goat": ["0"]}),
        (["a/0.png", "b/0.png"], ".", {"a": ["0"], "b": ["0"]}),
        (["V1/Frames/0.png", "V1/Masks/0.png"], ".", {"V1": ["0"]}),
        (["frames/a/0.png", "frames/b/1.png", "masks/a/0.png"], ".", {"a": ["0"], "b": ["1"]}),
    ],
)
def test_folders(
    tmp_path: Path, files: list[str], source: str, clips: dict[str, list[str]]
) -> None:
    for name in files:
        _image(tmp_path / "root" / name)
    assert _found(tmp_path / "root" / source) == clips


def test_a_table_of_clips_and_a_table_of_images(tmp_path: Path) -> None:
    rows = [
        ClipRow("", vid, fid, _image(tmp_path / f"{vid}/{fid}.png"), None, 0)
        for vid in ("b", "a")
        for fid in (1, 0)
    ]
    write_clips(tmp_path / "clips.csv", rows)
    assert _found(tmp_path / "clips.csv") == {"a": ["0", "1"], "b": ["0", "1"]}
    write_images(tmp_path / "frames.csv", [ImageRow(row.image) for row in rows])
    assert _found(tmp_path / "frames.csv") == {"b": ["1", "0"], "a": ["1", "0"]}


def test_times_of_frames_follow_the_given_rate(tmp_path: Path) -> None:
    for k in range(3):
        _image(tmp_path / f"a/{k}.png")
    clip = find_clips(tmp_path / "a", frame_rate=4.0)[0]
    assert [frame.time_s for frame in clip.open()] == [0.0, 0.25, 0.5]


def test_a_photo_becomes_a_pan_clip_that_ends_with_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    write_image(tmp_path / "photo.png", photo)
    clip = find_clips(tmp_path, stills=True, context=4, pan_step=3, seed=5)[0]
    assert (clip.name, clip.first, clip.still) == ("photo", 4, True)
    frames = [frame.image for frame in clip.open()]
    assert len(frames) == 5
    assert (frames[-1] == photo).all()
    for earlier, later in pairwise(frames):
        assert earlier.shape == photo.shape
        assert (earlier != later).any()
    again = find_clips(tmp_path, stills=True, context=4, pan_step=3, seed=5)[0]
    assert all((a == b.image).all() for a, b in zip(frames, again.open(), strict=True))


def test_the_shift_of_a_pan_clip_is_the_photo_moved(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    write_image(tmp_path / "p.png", photo)
    source = PanClip(tmp_path / "p.png", count=2, step=6, seed=0)
    assert isinstance(source, FrameSource)
    first = next(iter(source)).image
    shifts = [
        (y, x)
        for y in range(-6, 7)
        for x in range(-6, 7)
        if (first[8:32, 8:42] == photo[8 + y : 32 + y, 8 + x : 42 + x]).all()
    ]
    assert len(shifts) == 1
    assert 5 <= np.hypot(*shifts[0]) <= 7


@pytest.mark.parametrize("name", ["images.csv", "photos", "photos/1.png"])
def test_photos_from_a_table_a_folder_or_one(tmp_path: Path, name: str) -> None:
    _image(tmp_path / "photos/1.png")
    write_images(tmp_path / "images.csv", [ImageRow(tmp_path / "photos/1.png")])
    assert [clip.name for clip in find_clips(tmp_path / name, stills=True)] == ["1"]


def _both_kinds(folder: Path) -> Path:
    _image(folder / "0.png")
    _video(folder / "a.mp4")
    return folder


def _same_stem(folder: Path) -> Path:
    _image(folder / "0.png")
    _image(folder / "0.jpg")
    return folder


def _same_clip(folder: Path) -> Path:
    _video(folder / "a.mp4")
    _video(folder / "a.mkv")
    return folder


def _bad_vid(folder: Path) -> Path:
    write_clips(folder / "t.csv", [ClipRow("", "../up", 0, _image(folder / "0.png"), None, 0)])
    return folder / "t.csv"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda folder: folder / "nowhere", UsageError, "no such file or folder"),
        (lambda folder: folder, MediaError, "holds no frame, no video"),
        (lambda folder: _image(folder / "0.png"), UsageError, "single image.*stills"),
        (_both_kinds, MediaError, "holds 1 images and 1 videos"),
        (_same_stem, MediaError, "has the name of"),
        (_same_clip, MediaError, "2 clips are named 'a'"),
        (_bad_vid, MediaError, "'../up' cannot name a folder"),
    ],
)
def test_inputs_that_do_not_do(
    tmp_path: Path, make: object, error: type[DvosError], text: str
) -> None:
    source = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(error, match=text):
        find_clips(source)
