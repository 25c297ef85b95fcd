from __future__ import annotations

import pickle

import numpy as np
import pytest
from made_stills import agree, blob_mask, shown, write_stills

from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.training.geometry import Box
from dvos.training.motion import PanMotion, Wind, margins
from dvos.training.stills import LabelledStill, StillClips, aims_of, load_still, pan_clip
from dvos.training.store import DecodedFiles

MOTION = PanMotion(
    speed=6, fast_speed=16, fast_share=0.2, acceleration=0.4, zoom=0.004, turn=0.3, shake=0.3
)
STILL = PanMotion(still_share=1.0)
AIR = Wind()


def clips_of(folder, motion=MOTION, wind=AIR, **options):
    stills = [
        LabelledStill(path, folder / "masks" / path.name)
        for path in sorted((folder / "images").iterdir())
    ]
    return StillClips(stills, DecodedFiles(2**30), motion=motion, wind=wind, **options)


@pytest.mark.parametrize("wind", [AIR, Wind(share=1.0, amplitude=4)])
@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.6])
def test_query_and_target_agree_to_the_pixel(tmp_path, scale, wind):
    source = clips_of(write_stills(tmp_path, 2), wind=wind)
    for seed in range(10):
        sample = source.sample(np.random.default_rng(seed), frames=4, size=(48, 40), scale=scale)
        assert sample.frames.shape == (4, 48, 40, 3)
        assert sample.frames.dtype == sample.target.dtype == np.uint8
        assert agree(sample.frames[-1], sample.target)


def test_without_motion_all_frames_are_the_query(tmp_path):
    source = clips_of(write_stills(tmp_path, 1), motion=STILL)
    sample = source.sample(np.random.default_rng(0), frames=3, size=(50, 60), scale=1)
    assert (sample.frames == sample.frames[-1]).all()


def test_motion_is_of_the_speed_asked_for():
    rng = np.random.default_rng(1)
    motion = PanMotion(speed=5, fast_speed=5, fast_share=1)
    path = motion.draw(rng, 5)
    steps = np.diff(path[:, :, 2], axis=0)
    assert np.allclose(np.hypot(*steps.T), 5)
    assert np.allclose(path[-1], [[1, 0, 0], [0, 1, 0]])


def test_a_pan_shows_the_photo_where_the_path_says():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (3, 1, 1))
    path[0, :, 2], path[1, :, 2] = (-6, 4), (-3, 2)
    frames = pan_clip(image, Box(10, 12, 20, 25), path)
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


def test_wind_moves_references_smoothly_and_within_bounds():
    sway = Wind(share=1.0, amplitude=3).draw(np.random.default_rng(0), 5, (96, 128))
    assert sway is not None
    assert sway.shape == (4, 96, 128, 2)
    assert np.abs(sway).max() <= 6
    assert np.abs(np.diff(sway, axis=1)).max() < 0.5
    assert AIR.draw(np.random.default_rng(0), 5, (96, 128)) is None


def test_windows_prefer_objects(tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[:12, :12] = True
    write_image(tmp_path / "images" / "a.png", shown(mask))
    write_mask(tmp_path / "masks" / "a.png", mask)

    def hits(share):
        source = clips_of(tmp_path, object_share=share)
        return sum(
            source.sample(np.random.default_rng(k), frames=2, size=(32, 32), scale=1).target.any()
            for k in range(60)
        )

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
        sample = clips_of(tmp_path, wind=Wind(1.0, 2)).sample(
            np.random.default_rng(seed), frames=3, size=(48, 40), scale=0.5
        )
        assert sample.frames.shape == (3, 48, 40, 3)
        assert agree(sample.frames[-1], sample.target)


def test_a_still_without_objects_gives_an_empty_target(tmp_path):
    write_stills(tmp_path, 1, blobs=0)
    sample = clips_of(tmp_path).sample(np.random.default_rng(0), frames=2, size=(40, 40), scale=1)
    assert not sample.target.any()
    bare = StillClips(
        [LabelledStill(tmp_path / "images" / "still_0.png", None)],
        DecodedFiles(0),
        motion=STILL,
        wind=AIR,
    )
    assert not bare.sample(np.random.default_rng(0), frames=2, size=(9, 9), scale=1).target.any()


def test_stills_are_resized_when_asked(tmp_path):
    write_stills(tmp_path, 1, (100, 140))
    image, mask = tmp_path / "images" / "still_0.png", tmp_path / "masks" / "still_0.png"
    loaded = load_still(LabelledStill(image, mask, scale=0.5))
    assert loaded.image.shape == (50, 70, 3)
    assert agree(loaded.image, loaded.target)


def test_a_mask_of_another_size_is_a_fault(tmp_path):
    write_stills(tmp_path, 1, (100, 140))
    write_mask(tmp_path / "masks" / "still_0.png", blob_mask(100, 139))
    with pytest.raises(MediaError, match="139 x 100"):
        load_still(
            LabelledStill(tmp_path / "images" / "still_0.png", tmp_path / "masks" / "still_0.png")
        )


def test_decoded_files_keep_to_their_bound_and_forget_the_oldest():
    store = DecodedFiles(25)
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
def test_aims_are_object_pixels_and_a_lone_one_is_found(size):
    target = np.zeros(size, np.uint8)
    assert len(aims_of(target)) == 0
    target[7, 9] = 1
    assert aims_of(target).tolist() == [[7, 9]]
    target = blob_mask(*size).astype(np.uint8)
    target[: size[0] // 3] = 255
    aims = aims_of(target)
    assert 0 < len(aims) <= 8192
    assert (target[tuple(aims.T)] == 1).all()
    assert np.allclose(aims.mean(axis=0), np.argwhere(target == 1).mean(axis=0), rtol=0.02)
