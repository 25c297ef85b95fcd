"""One contract for every frame source: videos, folders and lists of images, clip stores."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from media_samples import noisy

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.frames import (
    FrameSource,
    ImageFolder,
    ImageList,
    checked_frames,
    open_frames,
    store_frames,
)
from dvos.media.image import write_image
from dvos.media.video import VideoFile, VideoFrame

COUNT, SIZE = 12, (48, 64)


@pytest.fixture(params=["video", "folder", "odd video", "list", "store"])
def source(request, tmp_path, video: Callable) -> FrameSource:
    if request.param == "video":
        return VideoFile(video(COUNT, "field.mp4"))
    if request.param == "odd video":
        return VideoFile(video(COUNT, "field.mkv", size=(48, 64), frame_rate=12.5), threads=1)
    if request.param == "store":
        path = tmp_path / "field.dvclip"
        with ClipStoreWriter(path, size=SIZE) as store:
            for index in range(COUNT):
                store.write(noisy(index, SIZE), np.zeros(SIZE, np.uint16))
        return ImageList("field", store_frames(path), frame_rate=25)
    folder = tmp_path / "field"
    for index in range(COUNT):
        write_image(folder / f"f{index}.png", noisy(index, SIZE))
    if request.param == "list":
        paths = [folder / f"f{index}.png" for index in range(COUNT)]
        return ImageList("field", paths, frame_rate=25)
    return ImageFolder(folder, frame_rate=25)


def test_it_keeps_to_the_protocol(source):
    assert isinstance(source, FrameSource)
    assert source.name == "field"
    assert source.size == SIZE
    assert source.frame_rate in (25.0, 12.5)
    assert source.frame_count in (COUNT, None)
    assert source.damage == []


def test_frames_come_in_order_whole_and_right(source):
    frames = list(source)
    assert [frame.frame_index for frame in frames] == list(range(COUNT))
    assert len({frame.name for frame in frames}) == COUNT
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (*SIZE, 3)
        assert frame.image.flags.c_contiguous
        error = np.abs(frame.image.astype(int) - noisy(frame.frame_index, SIZE))
        assert error.mean() < 8
        assert math.isclose(frame.time_s, frame.frame_index / source.frame_rate, abs_tol=1e-3)
    assert source.damage == []
    assert source.frame_count == COUNT


def test_iteration_starts_again(source):
    first = [frame.image for frame in source]
    second = [frame.image for frame in source]
    np.testing.assert_array_equal(first, second)


def test_an_abandoned_iteration_leaves_the_next_whole(source):
    for frame in source:
        if frame.frame_index == 3:
            break
    assert len(list(source)) == COUNT


def test_two_iterations_at_once_do_not_disturb_each_other(source):
    for a, b in zip(source, source.frames(2), strict=False):
        assert b.frame_index == a.frame_index + 2


@pytest.mark.parametrize("start", [0, 1, 5, COUNT - 1])
def test_start_gives_the_same_frames(source, start):
    whole = list(source)
    for frame, expected in zip(source.frames(start), whole[start:], strict=True):
        assert (frame.frame_index, frame.name) == (expected.frame_index, expected.name)
        assert frame.time_s == expected.time_s
        np.testing.assert_array_equal(frame.image, expected.image)


def test_start_behind_the_end_gives_nothing(source):
    assert list(source.frames(COUNT)) == []
    assert list(source.frames(COUNT + 100)) == []


def test_frames_are_made_one_at_a_time(source):
    assert inspect.isgenerator(source.frames())
    frame = next(iter(source))
    frame.image[:] = 0
    assert next(iter(source)).image.any()


def test_open_frames_finds_the_kind(tmp_path, video):
    assert isinstance(open_frames(video(2)), VideoFile)
    write_image(tmp_path / "folder" / "a.png", noisy(0))
    assert isinstance(open_frames(tmp_path / "folder"), ImageFolder)


def test_arrays_are_given_back_as_they_are():
    arrays = [noisy(0)]
    assert open_frames(arrays) is arrays


def test_a_camera_may_fill_one_array_again_and_again():
    def camera(kind):
        picture = np.empty_like(noisy(0))
        for index in range(3):
            picture[:] = noisy(index)
            yield VideoFrame(index, 0.0, str(index), picture) if kind == "frames" else picture

    for kind in ("arrays", "frames"):
        kept = [frame.image for frame in checked_frames(camera(kind))]
        assert all(np.array_equal(image, noisy(index)) for index, image in enumerate(kept))


def test_frames_are_held_to_one_size_and_type():
    images = [noisy(0), noisy(1), noisy(2, (10, 20))]
    frames = checked_frames(images, start=1)
    assert next(frames).frame_index == 1
    with pytest.raises(MediaError, match=r"frame 000002: is 20 x 10 pixels; expected"):
        next(frames)
    grey = noisy(0)[..., 0]
    assert np.array_equal(next(checked_frames([grey])).image, np.dstack([grey] * 3))
    for shape in ((48, 64, 4), (0, 64, 3)):
        with pytest.raises(MediaError, match=re.escape(f"frame 0: has shape {shape}")):
            next(checked_frames([np.zeros(shape, np.uint8)]))


def test_a_list_fails_at_a_damaged_image_and_a_folder_passes_it_over(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        write_image(path, noisy(index, SIZE))
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with pytest.raises(MediaError, match="truncated or corrupt PNG"):
        list(ImageList("clip", paths))
    folder = ImageFolder(tmp_path)
    assert [frame.frame_index for frame in folder] == [0, 2]
    assert len(folder.damage) == 1
