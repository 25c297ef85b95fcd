"""Clips with objects in every frame: drawn, made, read, bent, and turned into targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.data import ClipsSettings, DataSettings, MotionSettings, SpatialSettings
from dvos.config.training import TrainingSettings
from dvos.errors import DvosError, MediaError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import IGNORE, mask_ids, write_mask
from dvos.networks.spec import Normalisation
from dvos.tables import frame_address
from dvos.training.augment.spatial import draw_geometry
from dvos.training.clips.clip import Clip, ClipRequest, SyntheticClips, draw_moments
from dvos.training.clips.files import FileClips, FrameClip, ImageCache
from dvos.training.clips.stills import LabelledStill, StillClips
from dvos.training.data import build_training_clips, build_validation_clips
from dvos.training.labels import find_clips
from dvos.training.targets import (
    IGNORED_CLASS,
    Curriculum,
    TrackTarget,
    bend_frames,
    draw_memory,
    track_classes,
)

NORM = Normalisation((0.5,) * 3, (0.25,) * 3)
#: The grey level by which the made frames tell an object's id.
STEP = 40


def moving_ids(count: int, size: tuple[int, int] = (96, 112)) -> np.ndarray:
    """Instance masks of three squares that move, uint16 (T, H, W); the last comes later."""
    ids = np.zeros((count, *size), np.uint16)
    for t in range(count):
        ids[t, 10 + t : 34 + t, 12:36] = 1
        ids[t, 50:74, 40 + t : 64 + t] = 2
        if t >= 2:
            ids[t, 8:28, 80:100] = 3
    return ids


def shown(ids: np.ndarray) -> np.ndarray:
    """Frames whose grey level is that of the object."""
    return np.repeat((STEP * ids)[..., None].astype(np.uint8), 3, axis=-1)


def whole(frames: np.ndarray, ids: np.ndarray) -> Clip:
    """A clip that is known throughout."""
    return Clip(frames, ids, np.ones(len(ids), bool), True)


def draw(source, seed: int = 0, **request) -> Clip:
    """A clip with the ids of all its frames."""
    return source.sample(np.random.default_rng(seed), ClipRequest(**request, every_frame=True))


def clips_of_folder(folder: Path) -> list[FrameClip]:
    return find_clips(ClipsSettings(folders=[folder]))


def files_of(clips: list[FrameClip]) -> FileClips:
    return FileClips(clips, ImageCache(2**20), ClipsSettings())


def agree(clip: Clip) -> bool:
    """Whether frames show the objects where the masks say, but for a rim."""
    grey = clip.frames[..., 0].astype(int)
    near = np.abs(grey - STEP * clip.ids.astype(int)) <= STEP // 2
    return bool(near.mean() > 0.97)


def write_tree(root: Path, *, frames: int = 6, clips: int = 1) -> Path:
    """The published layout."""
    for number in range(clips):
        ids = moving_ids(frames)
        for t, (image, mask) in enumerate(zip(shown(ids), ids, strict=True)):
            name = f"vid-{number}"
            write_image(root / "frames" / name / f"{name}_frame-{t:05d}.png", image)
            write_mask(root / "masks" / name / f"{name}_mask-{t:05d}.png", mask)
    return root


@settings(max_examples=50)
@given(
    length=st.integers(3, 60),
    count=st.integers(2, 8),
    jump=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_moments_are_in_order_and_near(length, count, jump, seed):
    count = min(count, length)
    moments = draw_moments(np.random.default_rng(seed), length, count=count, jump=jump)
    steps = np.diff(moments)
    assert len(moments) == count
    assert (steps > 0).all() or (steps < 0).all()
    assert np.abs(steps).max(initial=0) <= jump
    assert 0 <= min(moments) <= max(moments) < length


def test_both_directions_of_time_are_drawn():
    rng = np.random.default_rng(0)
    first = [draw_moments(rng, 9, count=3, jump=2) for _ in range(20)]
    assert {moments[0] < moments[1] for moments in first} == {True, False}


def test_memory_is_all_frames_then_the_first_and_some():
    memory = draw_memory(np.random.default_rng(1), frames=8, references=3)
    assert memory[2, :2].tolist() == [0, 1]
    for moment in range(4, 8):
        row = memory[moment].tolist()
        assert row[0] == 0
        assert len(set(row)) == 3
        assert max(row) < moment


def test_targets_follow_ids_and_later_objects_are_background():
    ids = moving_ids(4)
    ids[3, 0, 0] = IGNORE
    target, count = track_classes(np.random.default_rng(0), ids, most=3)
    assert count == 2
    for number in (1, 2):
        assert np.array_equal(target == number, ids == number)
    assert (target[ids == 3] == 0).all()
    assert target[3, 0, 0] == IGNORED_CLASS
    target, count = track_classes(np.random.default_rng(0), ids, most=1)
    assert count == 1
    assert set(np.unique(target)) == {IGNORED_CLASS, 0, 1}
    union, count = track_classes(np.random.default_rng(0), ids, most=0)
    assert count == 1
    assert np.array_equal(union == 1, (ids != 0) & (ids != IGNORE))


def test_a_first_frame_without_objects_still_has_room_for_one():
    target, count = track_classes(np.random.default_rng(0), np.zeros((3, 8, 8), np.uint16), most=3)
    assert count == 1
    assert not target.any()


def test_the_curriculum_goes_by_shares_of_the_main_part():
    plan = Curriculum(1000, ((0.0, 5), (0.5, 9)), 0.2)
    assert [plan.jump(k) for k in (0, 399, 400, 999)] == [5, 5, 9, 9]
    assert [plan.tunes(k) for k in (799, 800)] == [False, True]


@pytest.mark.parametrize(("turn", "shear"), [(20, 10), (0, 0)])
def test_bent_frames_keep_their_masks(turn, shear):
    ids = moving_ids(3)
    bent = bend_frames(np.random.default_rng(2), whole(shown(ids), ids), turn=turn, shear=shear)
    assert agree(bent)
    assert np.array_equal(bent.ids, ids) == (turn == 0)


def test_geometry_is_one_for_frames_and_masks():
    values = {"scale": (0.7, 1.4), "rotation_share": 1.0, "stretch": 0.2, "elastic_share": 0.5}
    chosen = SpatialSettings(**values)
    for seed in range(6):
        geometry = draw_geometry(np.random.default_rng(seed), chosen, (64, 64))
        ids = moving_ids(3, geometry.canvas)
        made = geometry.apply(whole(shown(ids), ids), as_one=False)
        assert made.ids.shape == (3, 64, 64)
        assert agree(made)


def test_clips_of_the_published_tree(tmp_path):
    write_tree(tmp_path / "training")
    clips = clips_of_folder(tmp_path)
    assert [clip.name for clip in clips] == ["vid-0"]
    source = files_of(clips)
    for seed, scale in enumerate((0.5, 1.0, 1.5)):
        clip = draw(source, seed, frames=4, jump=2, size=(48, 64), scale=scale)
        assert clip.ids.shape == (4, 48, 64)
        assert agree(clip)


def test_clips_of_a_store_have_its_ids(tmp_path):
    ids, path = moving_ids(5), tmp_path / "clip.dvclip"
    with ClipStoreWriter(path, size=ids.shape[1:]) as store:
        for image, mask in zip(shown(ids), ids, strict=True):
            store.write(image, mask)
    addresses = {t: frame_address(path, t) for t in range(5)}
    source = files_of([FrameClip("c", addresses, addresses)])
    clip = draw(source, frames=3, jump=1, size=(96, 112))
    assert agree(clip)
    assert set(np.unique(clip.ids)) >= {0, 1, 2}


def test_pans_over_stills_move_masks_with_frames(tmp_path):
    ids = moving_ids(3)[-1]
    write_image(tmp_path / "a.png", shown(ids))
    write_mask(tmp_path / "m.png", ids)
    motion = MotionSettings(preset="none", speed=3, turn=1, shake=0.5, sway_share=0.5, sway=2)
    source = StillClips(
        [LabelledStill(tmp_path / "a.png", tmp_path / "m.png")],
        ImageCache(2**20),
        motion,
    )
    for seed in range(4):
        clip = draw(source, seed, frames=4, jump=9, size=(64, 64))
        assert agree(clip)
        assert clip.tells_apart
        assert not np.array_equal(clip.ids[0], clip.ids[-1])


@dataclass(frozen=True)
class _Made:
    frames: np.ndarray
    instances: np.ndarray


class _Maker:
    """Frames that tell their own time."""

    def make(self, clip_index, *, frames, size, times=None, scale=1.0):
        assert max(times) == frames - 1
        assert min(times) == 0
        ids = np.zeros((len(times), *size), np.uint16)
        ids[:, :8, :8] = np.array(times)[:, None, None] + 1
        return _Made(shown(ids), ids)


def test_synthetic_clips_are_as_long_as_the_frames_reach():
    source = SyntheticClips(_Maker())
    reaches = set()
    for seed in range(10):
        clip = draw(source, seed, frames=4, jump=5, size=(16, 16))
        times = clip.ids[:, 0, 0].astype(int) - 1
        steps = np.diff(times)
        assert (steps > 0).all() or (steps < 0).all()
        assert np.abs(steps).max() <= 5
        reaches.add(int(times.max()))
    assert max(reaches) > 4


def _built(build, settings: TrainingSettings):
    return build(settings, TrackTarget(settings), NORM)


def _settings(root: Path, **changes) -> TrainingSettings:
    values = {
        "out": "x",
        "network": "xmem",
        "data": {"clips": {"folders": [root]}, "crop": 64},
        "xmem": {"frames": 4, "objects": "instances", "validation_frames": 5},
    }
    return TrainingSettings.model_validate(values | changes)


def test_training_clips_are_the_same_whenever_they_are_read(tmp_path):
    chosen = _settings(write_tree(tmp_path))
    one, two = (_built(build_training_clips, chosen) for _ in range(2))
    for k in (0, 7, 90):
        first, second = one[k], two[k]
        assert all((first[key] == second[key]).all() for key in first)
        assert first["frames"].shape == (4, 3, 64, 64)
        assert first["target"].shape == (4, 64, 64)
        assert 1 <= int(first["count"]) <= 3
        assert int(first["target"].max()) <= int(first["count"])
    assert one.count(range(8)) == {"clips": 8}


def test_validation_is_whole_frames_from_the_first_mask_on(tmp_path):
    root = write_tree(tmp_path)
    (root / "masks" / "vid-0" / "vid-0_mask-00003.png").unlink()
    data = {"validation": {"clips": {"folders": [root]}}}
    clips = _built(build_validation_clips, _settings(root, data=DataSettings.model_validate(data)))
    assert clips.names == ["vid-0"]
    item = clips[0]
    assert item["frames"].shape == (5, 3, 96, 112)
    assert (item["target"][3] == IGNORED_CLASS).all()
    assert np.array_equal(item["target"][4].numpy(), moving_ids(6)[4] > 0)


def test_clips_that_are_too_short_are_told_one_by_one(tmp_path):
    root = write_tree(tmp_path, frames=3, clips=2)
    with pytest.raises(MediaError, match="masks of 3 of its 3 frames") as caught:
        _built(build_training_clips, _settings(root))
    assert len(caught.value.faults) == 2


def test_ids_that_are_too_large_are_told(tmp_path):
    with pytest.raises(MediaError, match="70000"):
        mask_ids(np.array([[0, 70000]]), where=tmp_path / "mask.png")


def test_masks_of_other_sizes_are_told(tmp_path):
    root = write_tree(tmp_path)
    write_mask(root / "masks" / "vid-0" / "vid-0_mask-00002.png", np.ones((9, 9), np.uint8))
    source = files_of(clips_of_folder(root))
    with pytest.raises(MediaError, match="pixels"):
        for seed in range(20):
            draw(source, seed, frames=5, jump=1, size=(32, 32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "dvos"}, "xmem cannot be set for the network dvos"),
        ({"losses": {"iou": 1.0}}, "losses cannot be set for the network xmem"),
        ({"data": {"crop": 100}}, "multiple of 16"),
        ({"xmem": {"jumps": [[0.1, 5]]}}, "give 0 first"),
        ({"xmem": {"warm_up": [9, 3]}}, "earlier step first"),
        ({"network": {"name": "xmem", "references": 0}}, "at least one frame"),
        ({"network": {"name": "xmem", "encoder": "lite0"}}, "encoder cannot be set"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        _settings(tmp_path, **changes)


def test_no_mask_at_all_is_a_fault(tmp_path):
    write_image(tmp_path / "frames" / "a" / "0.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "masks").mkdir()
    with pytest.raises(DvosError, match="no masks for the frames"):
        _built(build_training_clips, _settings(tmp_path))


def test_ids_of_every_frame_up_to_a_query(tmp_path):
    """As a target of motion needs them: in order of time, the same object by object."""
    ids = moving_ids(6)
    write_image(tmp_path / "a.png", shown(ids[-1]))
    write_mask(tmp_path / "m.png", ids[-1])
    motion = MotionSettings(preset="none", speed=3, fast_speed=3, fast_share=1)
    pans = StillClips(
        [LabelledStill(tmp_path / "a.png", tmp_path / "m.png")],
        ImageCache(2**20),
        motion,
        object_share=1.0,
    )
    clip = draw(pans, frames=4, size=(96, 112))
    assert agree(clip)
    assert clip.labelled.all()
    # The object moves as the frames do: against the window, from frame to frame alike.
    middles = np.array([np.argwhere(mask == 1).mean(axis=0) for mask in clip.ids])
    assert np.allclose(np.hypot(*np.diff(middles, axis=0).T), 3, atol=1)

    root = write_tree(tmp_path / "tree")
    (root / "masks" / "vid-0" / "vid-0_mask-00003.png").unlink()
    (clip_files,) = clips_of_folder(root)
    last = FrameClip("c", clip_files.frames, {i: m for i, m in clip_files.masks.items() if i != 4})
    for seed in range(6):
        clip = draw(files_of([last]), seed, frames=3, size=(64, 64))
        assert clip.labelled[-1]
        assert (clip.ids[~clip.labelled] == IGNORE).all()
        assert agree(Clip(clip.frames[clip.labelled], clip.ids[clip.labelled], clip.labelled, True))


@pytest.mark.parametrize("value", [1, 255])
def test_semantic_masks_tell_nothing_apart(tmp_path, value):
    ids = moving_ids(4)
    for t, (image, mask) in enumerate(zip(shown(ids), ids, strict=True)):
        write_image(tmp_path / "frames" / f"{t}.png", image)
        write_mask(tmp_path / "masks" / f"{t}.png", ((mask > 0) * value).astype(np.uint8))
    write_image(tmp_path / "a.png", shown(ids[-1]))
    still = LabelledStill(tmp_path / "a.png", tmp_path / "masks" / "3.png")
    pans = StillClips([still], ImageCache(0), MotionSettings())
    for source in (files_of(clips_of_folder(tmp_path)), pans):
        clip = draw(source, frames=3, jump=1, size=(96, 112))
        assert not clip.tells_apart
        assert set(np.unique(clip.ids)) == {0, 1}


def test_one_object_in_each_mask_may_still_be_another(tmp_path):
    for t in range(3):
        write_image(tmp_path / "frames" / f"{t}.png", np.zeros((32, 32, 3), np.uint8))
        mask = np.zeros((32, 32), np.uint8)
        mask[8:16, 8:16] = 3 + t
        write_mask(tmp_path / "masks" / f"{t}.png", mask)
    clip = draw(files_of(clips_of_folder(tmp_path)), frames=3, jump=1, size=(32, 32))
    assert clip.tells_apart
    assert set(np.unique(clip.ids)) == {0, 3, 4, 5}
