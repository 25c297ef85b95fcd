"""Frames of a video in any order are those of a whole pass."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from media_samples import noisy, write_plain

from dvos.errors import MediaError
from dvos.media.video import SeekableVideo, VideoFile
from dvos.media.video_write import VideoWriter


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 frames, each of its own grey, with several key frames."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, frame_rate=25, size=(32, 48)) as writer:
        for number in range(300):
            image = np.full((32, 48, 3), number % 200, np.uint8)
            image[:, : number % 48] = 255 - number % 200
            writer.write(image)
    return path


def test_every_frame_is_that_of_a_whole_pass(film: Path) -> None:
    video = SeekableVideo(film)
    whole = {frame.frame_index: frame.image for frame in video}
    assert video.count() == len(whole) == 300
    order = random.Random(1).sample(range(300), 25)
    for index in [*order, 299, 0, 1, 2, 3]:
        assert np.array_equal(video.frame(index), whole[index]), index


def test_frames_are_counted_where_stamps_do_not_tell_them_apart(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = SeekableVideo(film)
    expected = video.frame(7)
    other = SeekableVideo(film)
    monkeypatch.setattr(other, "_stamps", [])
    assert np.array_equal(other.frame(7), expected)


def test_a_frame_that_is_not_there_is_told(film: Path) -> None:
    with pytest.raises(MediaError, match="frame 300 cannot be decoded"):
        SeekableVideo(film).frame(300)


@pytest.mark.parametrize("stated", [3, 500])
def test_frames_are_counted_whatever_the_header_states(tmp_path: Path, stated: int) -> None:
    images = [noisy(number) for number in range(12)]
    path = write_plain(tmp_path / "v.avi", images, codec="mpeg4")
    data = bytearray(path.read_bytes())
    for box, place in ((b"avih", 16), (b"strh", 32)):
        at = data.index(box) + 8 + place
        assert data[at] == 12
        data[at : at + 4] = stated.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    video = SeekableVideo(path)
    assert video.frame_count == stated
    assert video.count() == VideoFile(path).count() == 12
