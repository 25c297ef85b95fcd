from __future__ import annotations

import numpy as np
import pytest
from made_stills import BlobMaker, agree, blob_mask, write_clip

from dvos.config.data import ClipsSettings
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.limits import ImageCache
from dvos.media.mask import IGNORE, write_mask
from dvos.tables import ClipRow, read_clips, write_clips
from dvos.training.clips.clip import ClipRequest, SyntheticClips
from dvos.training.clips.files import FileClips, clips_of_rows
from dvos.training.labels import find_clips


def draw(source, seed=0, **options):
    request = ClipRequest(**{"frames": 5, "size": (32, 40), **options})
    return source.sample(np.random.default_rng(seed), request)


def clips_of_folder(folder, void=None):
    return find_clips(ClipsSettings(folders=[folder], void=void))


def source_of(clips, memory=0, **settings):
    return FileClips(clips, ImageCache(memory), ClipsSettings(**settings))


def greys(sample):
    """Number of each frame of a clip written by ``write_clip``."""
    return [int(frame[0, 0, 0] - 5) // 10 for frame in sample.frames]


@pytest.mark.parametrize(("interval", "expected"), [(1, [3, 4, 5, 6, 7]), (3, [0, 0, 1, 4, 7])])
def test_references_lie_an_interval_apart_and_the_first_fills_in(tmp_path, interval, expected):
    write_clip(tmp_path, "one", 9, labelled=range(7, 8))
    source = source_of(clips_of_folder(tmp_path), intervals=[interval])
    assert greys(draw(source)) == expected


def test_intervals_are_drawn(tmp_path):
    write_clip(tmp_path, "one", 12, labelled=range(11, 12))
    source = source_of(clips_of_folder(tmp_path), intervals=[1, 2])
    assert {tuple(greys(draw(source, k))) for k in range(20)} == {
        (7, 8, 9, 10, 11),
        (3, 5, 7, 9, 11),
    }


def test_references_are_drawn_from_earlier_frames_within_reach(tmp_path):
    write_clip(tmp_path, "one", 14, labelled=range(13, 14))
    (clip,) = clips_of_folder(tmp_path)
    source = source_of([clip], intervals=[1, 2], references="random")
    drawn = [greys(draw(source, k)) for k in range(60)]
    assert all(numbers == sorted(set(numbers)) and numbers[-1] == 13 for numbers in drawn)
    assert {number for numbers in drawn for number in numbers[:-1]} == set(range(5, 13))
    assert len({tuple(numbers) for numbers in drawn}) > 20
    assert drawn == [greys(draw(source, k)) for k in range(60)]
    rng = np.random.default_rng(0)
    assert clip.random_references(rng, 2, count=4, reach=8) == [0, 0, 0, 1]
    assert clip.random_references(rng, 0, count=2, reach=8) == [0, 0]
    assert clip.random_references(rng, 9, count=0, reach=0) == []


def test_frames_beyond_memory_are_read_in_part_and_alike(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        write_image(tmp_path / "frames" / f"{number}.png", image)
    write_mask(tmp_path / "masks" / "3.png", blob_mask(64, 80))
    clips = clips_of_folder(tmp_path)
    kept = source_of(clips, 2**20)
    cache = ImageCache(0)
    read = FileClips(clips, cache, ClipsSettings())
    for seed in range(12):
        options = {"size": (24, 30), "scale": (0.6, 1.0, 0.3)[seed % 3]}
        assert np.array_equal(
            draw(kept, seed, **options).frames, draw(read, seed, **options).frames
        )
    assert not any(cache.keeps(path, 1) for path in clips[0].frames.values())


def test_a_table_gives_clips_by_vid_and_fid(tmp_path):
    write_clip(tmp_path, "one", 4)
    write_clip(tmp_path, "two", 3)
    rows = []
    for vid, count in (("two", 3), ("one", 4)):
        for fid in reversed(range(count)):
            name = f"{fid:05d}.png"
            frame, mask = tmp_path / vid / "frames" / name, tmp_path / vid / "masks" / name
            label = int(fid == 2)
            rows.append(ClipRow("", vid, 5 * fid, frame, mask if label else None, label))
    write_clips(tmp_path / "clips.csv", rows)
    clips = clips_of_rows(read_clips(tmp_path / "clips.csv"))
    assert [clip.name for clip in clips] == ["two", "one"]
    assert [list(clip.masks) for clip in clips] == [[10], [10]]
    assert clips[1].references(10, count=3, interval=5) == [0, 0, 5]
    assert clips[1].references(10, count=2, interval=1) == [0, 0]


@pytest.mark.parametrize("layout", ["{clip}/{kind}", "{kind}/{clip}", "{kind}"])
def test_folder_layouts(tmp_path, layout):
    for kind, folder in (("frames", "_frame-"), ("masks", "_mask-")):
        for number in range(3):
            place = tmp_path / layout.format(clip="c", kind=kind)
            path = place / f"vid{folder}{number:05d}.png"
            if kind == "frames":
                write_image(path, np.full((20, 20, 3), number, np.uint8))
            elif number:
                write_mask(path, blob_mask(20, 20))
    (clip,) = clips_of_folder(tmp_path)
    assert list(clip.frames) == [0, 1, 2]
    assert list(clip.masks) == [1, 2]


def test_folders_at_fault(tmp_path):
    with pytest.raises(MediaError, match="no such folder"):
        clips_of_folder(tmp_path / "none")
    with pytest.raises(MediaError, match="holds no clips"):
        clips_of_folder(tmp_path)
    write_clip(tmp_path, "one", 2)
    write_clip(tmp_path, "two", 2, labelled=range(0))
    write_mask(tmp_path / "one" / "masks" / "extra.png", blob_mask(64, 80))
    with pytest.raises(MediaError) as caught:
        clips_of_folder(tmp_path)
    assert len(caught.value.faults) == 2
    assert "extra.png: no frame" in str(caught.value)
    assert "no masks for the frames" in str(caught.value)


def test_unknown_pixels_of_clips_are_kept(tmp_path):
    write_image(tmp_path / "frames" / "0.png", np.zeros((30, 30, 3), np.uint8))
    mask = np.zeros((30, 30), np.uint8)
    mask[:10], mask[10:20] = 255, 128
    write_mask(tmp_path / "masks" / "0.png", mask)
    source = source_of(clips_of_folder(tmp_path, 128))
    sample = draw(source, size=(30, 30))
    assert [int((sample.ids[-1] == value).sum()) for value in (0, 1, IGNORE)] == [300, 300, 300]


def test_frames_of_another_size_are_a_fault(tmp_path):
    write_clip(tmp_path, "one", 3, labelled=range(2, 3))
    write_image(tmp_path / "one" / "frames" / "00001.png", np.zeros((9, 9, 3), np.uint8))
    source = source_of(clips_of_folder(tmp_path))
    with pytest.raises(MediaError, match="9 x 9"):
        draw(source)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_synthetic_clips_are_made_at_scale(scale):
    maker = BlobMaker()
    source = SyntheticClips(maker)
    sample = draw(source, scale=scale)
    assert maker.scale == scale
    assert sample.frames.shape == (5, 32, 40, 3)
    assert agree(sample.frames[-1], sample.ids[-1])
    assert not np.array_equal(sample.ids, draw(source, 1, scale=scale).ids)


@pytest.mark.parametrize("every_frame", [False, True])
def test_unknown_is_known_without_a_setting(tmp_path, every_frame):
    write_image(tmp_path / "a" / "frames" / "0.png", np.zeros((30, 30, 3), np.uint8))
    write_image(tmp_path / "b" / "frames" / "0.png", np.zeros((30, 30, 3), np.uint8))
    semantic, instances = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint16)
    semantic[:10], semantic[10:20] = 255, 128
    instances[:10], instances[10:20] = 128, 65535
    write_mask(tmp_path / "a" / "masks" / "0.png", semantic)
    write_mask(tmp_path / "b" / "masks" / "0.png", instances)
    for clip in clips_of_folder(tmp_path):
        sample = draw(source_of([clip]), frames=1, size=(30, 30), every_frame=every_frame)
        assert [int((sample.ids[-1] == value).sum()) for value in (0, 1, IGNORE)] == [300] * 3
