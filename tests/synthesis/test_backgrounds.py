from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_material import ALL_OFF, write_table

from dvos.config.scene import BackgroundSettings
from dvos.errors import MediaError
from dvos.media.image import read_image, write_image
from dvos.synthesis.backgrounds import BackgroundStore, group_backgrounds
from dvos.tables import BackgroundRow

NOTHING = {
    **ALL_OFF,
    "population": {"per": "frame", "objects": [0, 0], "distractors": [0, 0], "foreground": [0, 0]},
}


def images(folder: Path, names: list[str], size: tuple[int, int] = (20, 30)) -> list[Path]:
    paths = []
    for n, name in enumerate(names):
        write_image(folder / name, np.full((*size, 3), (10 * n + 5) % 256, np.uint8))
        paths.append(folder / name)
    return paths


def rows(paths: list[Path]) -> list[BackgroundRow]:
    return [BackgroundRow(path, None) for path in paths]


def grouped(paths: list[Path], frames: str = "numbered") -> list[list[str]]:
    return [
        [p.name for p in background.frames]
        for background in group_backgrounds([rows(paths)], frames)
    ]


def test_frames_of_a_video_are_one_background_and_stills_are_their_own(tmp_path):
    names = [
        "a_000000.png",
        "a_000001.png",
        "a_000002.png",
        "b_000000.png",
        "b_000001.png",
        "domain2_00003.png",
        "domain2_00004.png",
        "still.png",
    ]
    assert grouped(images(tmp_path, names)) == [
        names[:3],
        names[3:5],
        [names[5]],
        [names[6]],
        [names[7]],
    ]


def test_a_gap_starts_another_plate(tmp_path):
    names = ["a_000000.png", "a_000001.png", "a_000005.png", "a_000006.png"]
    assert grouped(images(tmp_path, names)) == [names[:2], names[2:]]


def test_frames_that_an_extraction_wrote_with_an_interval_are_one_video(tmp_path: Path) -> None:
    names = ["a_000000.png", "a_000030.png", "a_000060.png", "a_000061.png", "b_000007.png"]
    names += ["b_000014.png"]
    found = grouped(images(tmp_path, names))
    assert found == [names[:3], [names[3]], [names[4]], [names[5]]]


def test_how_frames_are_told_can_be_set(tmp_path):
    names = ["a_1.png", "a_4.png", "b_000000.png", "b_000001.png"]
    paths = images(tmp_path, names)
    assert grouped(paths, "video") == [names[:2], names[2:]]
    assert grouped(paths, "stills") == [[name] for name in names]


def test_the_same_name_in_another_folder_or_table_is_another_plate(tmp_path):
    (tmp_path / "x").mkdir()
    one = images(tmp_path, ["a_000000.png", "a_000001.png"])
    two = images(tmp_path / "x", ["a_000002.png"])
    assert len(group_backgrounds([rows(one + two)])) == 2
    assert [p.table for p in group_backgrounds([rows(one), rows(one)])] == [0, 1]


def test_a_video_plays_in_order_at_one_window(generator_of, material):
    generator = generator_of(backgrounds=[material.video], **NOTHING)
    clip = generator.make(0, frames=5, size=(60, 70))
    films = [read_image(material.folder / f"film_{n:06d}.png") for n in range(7)]
    scene = generator.scene(0, frames=5, size=(60, 70))
    first = int(scene.background.frames[0])
    assert list(scene.background.frames) == list(range(first, first + 5))
    y, x = scene.background.maps[0, :, 2].astype(int)
    for t in range(5):
        assert np.array_equal(clip.frames[t], films[first + t][y : y + 60, x : x + 70])


def test_a_short_video_plays_forth_and_back(generator_of, material):
    generator = generator_of(backgrounds=[material.video], **NOTHING)
    scene = generator.scene(0, frames=20, size=(40, 40))
    numbers = scene.background.frames
    assert np.abs(np.diff(numbers)).max() == 1
    assert set(numbers) == set(range(7))


def test_a_small_background_is_enlarged_to_fill_the_frame(generator_of, material):
    clip = generator_of(**NOTHING).make(0, frames=1, size=(300, 310))
    grain = np.abs(np.diff(clip.frames[0].astype(float), axis=1)).mean()
    small = generator_of(**NOTHING).make(0, frames=1, size=(100, 100))
    assert grain < 0.7 * np.abs(np.diff(small.frames[0].astype(float), axis=1)).mean()


def test_a_still_moves_under_the_window_and_is_mirrored_at_its_border(generator_of, tmp_path):
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 90, 0).repeat(3, 2)
    write_image(tmp_path / "ramp.png", ramp)
    scene = {**NOTHING, "plates": {**NOTHING["plates"], "pan": [3, 3]}}
    generator = generator_of(
        backgrounds=[write_table(tmp_path / "b.csv", [tmp_path / "ramp.png"])], **scene
    )
    clip = generator.make(1, frames=60, size=(60, 60))
    step = np.diff(clip.frames[:, 30, 30, 0].astype(int))
    assert np.abs(step).max() <= 4
    values = clip.frames[..., 0]
    assert values.max() <= 99
    slope = np.diff(values[:, 30].astype(int), axis=1)
    assert set(np.unique(slope)) <= {-2, -1, 0, 1, 2}


def test_the_cache_is_bounded_and_not_pickled(tmp_path):
    backgrounds = group_backgrounds([rows(images(tmp_path, [f"p{n}.png" for n in range(9)]))])
    store = BackgroundStore(backgrounds, BackgroundSettings(), 0)
    store.cache.memory = 3 * 20 * 30 * 4
    for n in (*range(9), 8, 7, 0):
        words = store.frame(n, 0, 0)
        assert (words.view(np.uint8).reshape(20, 30, 4)[..., :3] == 10 * n + 5).all()
        assert store.cache.taken <= store.cache.memory
    assert len(pickle.dumps(store)) < 4000
    assert pickle.loads(pickle.dumps(store)).frame(2, 0, 0)[0, 0] & 255 == 25


def test_backgrounds_that_do_not_fit_are_used_run_by_run(generator_of, tmp_path):
    """Few frames are decoded for many clips, and clips stay the same."""
    names = [f"long_{n:06d}.png" for n in range(60)]
    table = write_table(tmp_path / "b.csv", images(tmp_path, names, (500, 500)))
    # 60 MB of frames, 16 MB of memory.
    scene = {**NOTHING, "plates": {**NOTHING["plates"], "cache_mb": 16, "reuse": 10}}
    generator = generator_of(backgrounds=[table], **scene)
    scenes = [generator.scene(k, frames=5, size=(30, 30)) for k in range(80)]
    used = {int(f) for scene in scenes[:20] for f in scene.background.frames}
    assert len(used) * 10**6 <= 16 * 2**20
    starts = {int(scene.background.frames[0]) for scene in scenes}
    assert len(starts) > 5
    again = generator_of(backgrounds=[table], **scene).scene(55, frames=5, size=(30, 30))
    assert np.array_equal(again.background.frames, scenes[55].background.frames)


def test_a_frame_of_another_size_is_told(generator_of, tmp_path):
    paths = images(tmp_path, ["v_000000.png"]) + images(tmp_path, ["v_000001.png"], (21, 30))
    generator = generator_of(backgrounds=[write_table(tmp_path / "b.csv", paths)], **NOTHING)
    with pytest.raises(MediaError, match=r"v_000001.png: is 21 x 30 px; expected 20 x 30 px"):
        generator.make(0, frames=2, size=(10, 10))
