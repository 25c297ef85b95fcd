from __future__ import annotations

import pickle

import numpy as np
import pytest
from made_stills import agree, blob_mask, shown, write_stills

from dvos.config.data import MotionSettings
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.limits import ImageCache
from dvos.media.mask import IGNORE, write_mask
from dvos.training.augment.spatial import Box
from dvos.training.clips.clip import ClipRequest, seed_points
from dvos.training.clips.stills import (
    LabelledStill,
    StillClips,
    draw_path,
    draw_sway,
    load_still,
    margins,
    show_pan,
)


def motion_of(**values):
    """Of motion and sway, only what is given."""
    return MotionSettings(preset="none", **values)


DRIFT = {"speed": 6, "fast_speed": 16, "fast_share": 0.2, "acceleration": 0.4, "zoom": 0.004}
DRIFT |= {"turn": 0.3, "shake": 0.3}
STILL = motion_of(still_share=1.0)


def clips_of(folder, motion=None, sway=0.0, **options):
    stills = [
        LabelledStill(path, folder / "masks" / path.name)
        for path in sorted((folder / "images").iterdir())
    ]
    motion = motion or motion_of(**DRIFT, sway_share=float(sway > 0), sway=sway)
    return StillClips(stills, ImageCache(2**30), motion, **options)


def sample(source, seed=0, **request):
    return source.sample(np.random.default_rng(seed), ClipRequest(**request))


@pytest.mark.parametrize("sway", [0.0, 4.0])
@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.6])
def test_query_and_target_agree_to_the_pixel(tmp_path, scale, sway):
    source = clips_of(write_stills(tmp_path, 2), sway=sway)
    for seed in range(10):
        clip = sample(source, seed, frames=4, size=(48, 40), scale=scale)
        assert clip.frames.shape == (4, 48, 40, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.ids.dtype == np.uint16
        assert clip.labelled.tolist() == [False, False, False, True]
        assert (clip.ids[:-1] == IGNORE).all()
        assert agree(clip.frames[-1], clip.ids[-1])


def test_without_motion_all_frames_are_the_query(tmp_path):
    source = clips_of(write_stills(tmp_path, 1), motion=STILL)
    clip = sample(source, frames=3, size=(50, 60))
    assert (clip.frames == clip.frames[-1]).all()


def test_motion_is_of_the_speed_asked_for():
    rng = np.random.default_rng(1)
    path = draw_path(rng, motion_of(speed=5, fast_speed=5, fast_share=1), 5)
    steps = np.diff(path[:, :, 2], axis=0)
    assert np.allclose(np.hypot(*steps.T), 5)
    assert np.allclose(path[-1], [[1, 0, 0], [0, 1, 0]])


def test_a_pan_shows_the_photo_where_the_path_says():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (3, 1, 1))
    path[0, :, 2], path[1, :, 2] = (-6, 4), (-3, 2)
    frames = show_pan(image, Box(10, 12, 20, 25), path)
    assert np.array_equal(frames[2], image[10:30, 12:37])
    assert np.array_equal(frames[1], image[12:32, 9:34])
    assert np.array_equal(frames[0], image[14:34, 6:31])


def test_margins_hold_what_the_path_shows():
    path = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (2, 1, 1))
    assert margins(path, (20, 30)) == (0, 0, 0, 0)
    path[0, :, 2] = (-6, 4)
    top, left, bottom, right = margins(path, (20, 30))
    assert max(top, right) <= 1
    assert 6 <= left <= 7
    assert 4 <= bottom <= 5


def test_references_sway_smoothly_and_within_bounds():
    sway = draw_sway(np.random.default_rng(0), motion_of(sway_share=1.0, sway=3), 5, (96, 128))
    assert sway is not None
    assert sway.shape == (4, 96, 128, 2)
    assert np.abs(sway).max() <= 6
    assert np.abs(np.diff(sway, axis=1)).max() < 0.5
    assert draw_sway(np.random.default_rng(0), motion_of(), 5, (96, 128)) is None


def test_windows_prefer_objects(tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[:12, :12] = True
    write_image(tmp_path / "images" / "a.png", shown(mask))
    write_mask(tmp_path / "masks" / "a.png", mask)

    def hits(share):
        source = clips_of(tmp_path, object_share=share)
        return sum(sample(source, k, frames=2, size=(32, 32)).ids[-1].any() for k in range(60))

    # Motion may carry the window off the corner, so not quite all.
    assert hits(1.0) >= 45
    assert hits(0.0) <= 15


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (40, 3)])
def test_stills_smaller_than_the_window_are_mirrored(tmp_path, size):
    mask = np.zeros(size, bool)
    mask[: (size[0] + 1) // 2] = True
    write_image(tmp_path / "images" / "a.png", shown(mask))
    write_mask(tmp_path / "masks" / "a.png", mask)
    for seed in range(5):
        clip = sample(clips_of(tmp_path, sway=2), seed, frames=3, size=(48, 40), scale=0.5)
        assert clip.frames.shape == (3, 48, 40, 3)
        assert agree(clip.frames[-1], clip.ids[-1])


def test_a_still_without_objects_gives_an_empty_target(tmp_path):
    write_stills(tmp_path, 1, blobs=0)
    assert not sample(clips_of(tmp_path), frames=2, size=(40, 40)).ids[-1].any()
    photo = tmp_path / "images" / "still_0.png"
    bare = StillClips([LabelledStill(photo, None)], ImageCache(0), STILL)
    assert not sample(bare, frames=2, size=(9, 9)).ids[-1].any()


def test_stills_are_resized_when_asked(tmp_path):
    write_stills(tmp_path, 1, (100, 140))
    image, mask = tmp_path / "images" / "still_0.png", tmp_path / "masks" / "still_0.png"
    loaded = load_still(LabelledStill(image, mask, scale=0.5), as_one=True)
    assert loaded.image.shape == (50, 70, 3)
    assert agree(loaded.image, loaded.mask.ids)


def test_a_mask_of_another_size_is_a_fault(tmp_path):
    write_stills(tmp_path, 1, (100, 140))
    write_mask(tmp_path / "masks" / "still_0.png", blob_mask(100, 139))
    with pytest.raises(MediaError, match="139 x 100"):
        load_still(
            LabelledStill(tmp_path / "images" / "still_0.png", tmp_path / "masks" / "still_0.png"),
            as_one=True,
        )


def test_the_cache_keeps_to_its_bound_and_forgets_the_oldest():
    store = ImageCache(25)
    decoded = []

    def get(key):
        def decode():
            decoded.append(key)
            return np.zeros(10, np.uint8)

        return store.get(key, decode)

    for key in "abacab":
        get(key)
    # c pushed b out, as a had just been used; then b pushed c out.
    assert decoded == ["a", "b", "c", "b"]
    assert store.taken == 20
    assert store.get("large", lambda: np.zeros(99, np.uint8)).nbytes == 99
    assert store.taken == 99
    assert pickle.loads(pickle.dumps(store)).taken == 0


@pytest.mark.parametrize("size", [(50, 60), (2100, 2000)])
def test_seed_points_are_object_pixels_and_a_lone_one_is_found(size):
    target = np.zeros(size, np.uint16)
    assert len(seed_points(target)) == 0
    target[7, 9] = 1
    assert seed_points(target).tolist() == [[7, 9]]
    target = blob_mask(*size).astype(np.uint16)
    target[: size[0] // 3] = IGNORE
    points = seed_points(target)
    assert 0 < len(points) <= 8192
    assert (target[tuple(points.T)] == 1).all()
    assert np.allclose(points.mean(axis=0), np.argwhere(target == 1).mean(axis=0), rtol=0.02)
