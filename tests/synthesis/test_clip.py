from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_material import ALL_OFF, ALL_ON, EFFECTS, LENS, Material

from dvos.config.scene import PRESETS
from dvos.files import digest
from dvos.synthesis.build import ClipGenerator
from dvos.synthesis.compositor import SyntheticClip

SIZE = (96, 112)


def same(one: SyntheticClip, other: SyntheticClip) -> bool:
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.instances, other.instances)
        and one.table == other.table
    )


def clip_digest(generator: ClipGenerator, index: int) -> str:
    clip = generator.make(index, frames=3, size=SIZE)
    return digest([clip.frames.tobytes().hex(), clip.instances.tobytes().hex()])


@pytest.fixture(scope="module")
def generator(generator_of) -> ClipGenerator:
    return generator_of(**ALL_ON)


def test_shapes_and_types(generator):
    clip = generator.make(0, frames=4, size=SIZE)
    assert clip.frames.shape == (4, *SIZE, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.instances.shape == (4, *SIZE)
    assert clip.instances.dtype == np.uint16
    assert clip.instances.any()
    assert clip.flow is None


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_clips(generator_of, preset):
    clip = generator_of(preset=preset).make(1, frames=3, size=SIZE)
    assert clip.frames.std() > 0


def test_the_same_index_is_the_same_clip_in_any_order_and_copy(generator, generator_of):
    first = generator.make(3, frames=3, size=SIZE)
    generator.make(9, frames=2, size=SIZE)
    copy = pickle.loads(pickle.dumps(generator))
    assert same(first, generator.make(3, frames=3, size=SIZE))
    assert same(first, copy.make(3, frames=3, size=SIZE))
    assert not np.array_equal(first.frames, generator.make(4, frames=3, size=SIZE).frames)
    other_seed = generator_of(seed=8, **ALL_ON).make(3, frames=3, size=SIZE)
    assert not np.array_equal(first.frames, other_seed.frames)


def test_the_same_bytes_from_one_two_and_five_workers(generator):
    here = [clip_digest(generator, k) for k in range(5)]
    for workers in (2, 5):
        with ProcessPoolExecutor(workers) as pool:
            assert list(pool.map(clip_digest, [generator] * 5, range(5))) == here


@given(data=st.data())
@settings(max_examples=25)
def test_a_window_holds_the_pixels_of_the_whole(generator, data):
    index = data.draw(st.integers(0, 5))
    whole = generator.make(index, frames=3, size=SIZE)
    height, width = data.draw(st.integers(1, SIZE[0])), data.draw(st.integers(1, SIZE[1]))
    y = data.draw(st.integers(0, SIZE[0] - height))
    x = data.draw(st.integers(0, SIZE[1] - width))
    part = generator.make(index, frames=3, size=SIZE, window=(y, x, height, width), times=[2, 0])
    cut = (slice(y, y + height), slice(x, x + width))
    for k, t in enumerate((2, 0)):
        assert np.array_equal(part.frames[k], whole.frames[t][cut])
        assert np.array_equal(part.instances[k], whole.instances[t][cut])


@pytest.mark.parametrize("window", [(0, 0, 97, 10), (-1, 0, 5, 5), (0, 110, 5, 5), (0, 0, 0, 5)])
def test_a_window_outside_the_frame_is_refused(generator, window):
    with pytest.raises(ValueError, match="not inside a frame"):
        generator.make(0, frames=1, size=SIZE, window=window)


def test_times_outside_the_clip_are_refused(generator):
    with pytest.raises(ValueError, match="not inside a clip of 3 frames"):
        generator.make(0, frames=3, size=SIZE, times=[3])


def test_the_table_tells_what_the_instance_masks_show(generator):
    clip = generator.make(2, frames=4, size=SIZE)
    for t in range(4):
        rows = {row.instance: row for row in clip.table if row.frame_index == t}
        ids, counts = np.unique(clip.instances[t], return_counts=True)
        seen = {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i}
        assert {i: row.visible_area for i, row in rows.items() if row.visible_area} == seen
        for number, row in rows.items():
            assert row.full_area >= row.visible_area
            y, x = np.nonzero(clip.instances[t] == number)
            if len(y):
                box = (y.min(), y.max() + 1, x.min(), x.max() + 1)
                assert (row.y0, row.y1, row.x0, row.x1) == box
            else:
                assert (row.y0, row.y1, row.x0, row.x1) == (0, 0, 0, 0)


def test_entering_and_leaving_follow_from_presence(generator_of):
    still_air = {**ALL_OFF, "camera": {"drift": [9, 9], "parallax": [0, 0]}}
    clip = generator_of(**still_air).make(0, frames=8, size=(64, 64))
    present = {(row.frame_index, row.instance) for row in clip.table}
    assert any(row.entering for row in clip.table)
    assert any(row.leaving for row in clip.table)
    for row in clip.table:
        t, number = row.frame_index, row.instance
        assert row.entering == (t > 0 and (t - 1, number) not in present)
        assert row.leaving == (t < 7 and (t + 1, number) not in present)


def test_full_area_counts_what_others_hide(generator_of, material):
    crowd = {**ALL_OFF, "population": {"per": "frame", "objects": [40, 40], "foreground": [0, 0]}}
    clip = generator_of(distractors=[], **crowd).make(0, frames=1, size=(64, 64))
    rows = clip.table
    assert sum(row.visible_area for row in rows) == (clip.instances > 0).sum()
    assert sum(row.full_area for row in rows) > 1.3 * (clip.instances > 0).sum()


def test_amounts_follow_their_unit(generator_of):
    def share(per: str, amount: float, size: tuple[int, int]) -> tuple[float, int]:
        scene = {
            **ALL_OFF,
            "population": {
                "per": per,
                "objects": [amount] * 2,
                "distractors": [0, 0],
                "foreground": [0, 0],
                "overlap": 0.0,
                "sources": [0, 0],
                "clump": [0, 0],
            },
        }
        clips = [generator_of(**scene).make(k, frames=1, size=size) for k in range(6)]
        shares = float(np.mean([(clip.instances > 0).mean() for clip in clips]))
        return shares, max(int((clip.identity > 0).sum()) for clip in clips)

    small, large = share("coverage", 0.12, (64, 64))[0], share("coverage", 0.12, (192, 192))[0]
    assert small == pytest.approx(0.12, abs=0.05)
    assert large == pytest.approx(0.12, abs=0.03)
    dense = share("megapixel", 300, (100, 100))[0]
    assert dense == pytest.approx(300 * 340 / 1e6, abs=0.05)


def test_a_fixed_number_in_the_frame(generator_of):
    scene = {
        "preset": "published",
        "population": {"objects": [11, 11], "distractors": [4, 4]},
    }
    made = generator_of(**scene).scene(0, frames=1, size=(128, 128))
    assert int(made.sprites.is_object.sum()) == 11
    assert len(made.sprites) == 15


@pytest.mark.parametrize("effect", [*EFFECTS, *LENS])
def test_each_effect_changes_the_frames_and_can_be_switched_off(generator_of, effect):
    # Motion blur needs a motion.
    rest = {**ALL_OFF, "camera": {"drift": [4, 4]}} if effect == "motion_blur" else ALL_OFF
    alone = {**rest, effect: {**ALL_ON.get(effect, {}), "enabled": True}}
    off = generator_of(**rest).make(1, frames=4, size=SIZE)
    on = generator_of(**alone).make(1, frames=4, size=SIZE)
    assert not np.array_equal(on.frames, off.frames)


def test_with_everything_off_nothing_changes(generator_of):
    clip = generator_of(**ALL_OFF).make(1, frames=4, size=SIZE)
    assert (clip.frames == clip.frames[0]).all()
    assert (clip.instances == clip.instances[0]).all()


def test_without_tables_of_distractors_there_are_none(generator_of):
    made = generator_of(distractors=[]).scene(0, frames=1, size=SIZE)
    assert made.sprites.is_object.all()


def test_leaves_hide_the_label_under_them(generator_of):
    scene = {
        **ALL_OFF,
        "population": {
            "per": "frame",
            "objects": [30, 30],
            "distractors": [0, 0],
            "foreground": [30, 30],
            "foreground_stretch": [2, 2],
        },
    }
    generator = generator_of(**scene)
    made = generator.scene(0, frames=1, size=(80, 80))
    leaves = ~made.sprites.is_object
    assert (np.flatnonzero(leaves[made.order]) >= 30).all()  # drawn last
    clip = generator.make(0, frames=1, size=(80, 80))
    full, visible = clip.full[0][~leaves].sum(), clip.visible[0][~leaves].sum()
    assert (clip.instances > 0).sum() == visible < 0.8 * full
    assert (clip.visible[0][leaves].sum() + visible) <= 80 * 80


def test_only_the_asked_background_table_is_used(generator_of, material: Material):
    generator = generator_of(backgrounds=[material.stills, material.video])
    for k in range(6):
        assert generator.make(k, frames=2, size=(40, 40), background=1).plate == "film"
    with pytest.raises(ValueError, match="no background table 2"):
        generator.make(0, frames=1, size=(40, 40), background=2)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_scale_resizes_sprites_and_background_alike(generator_of, scale):
    generator = generator_of(population={"objects": [0.3, 0.3], "per": "coverage"})
    one = generator.scene(3, frames=2, size=(120, 140))
    other = generator.scene(3, frames=2, size=(120, 140), scale=scale)
    ratio = np.median(other.sprites.length) / np.median(one.sprites.length)
    assert ratio == pytest.approx(scale, rel=0.3)
    # Background pixels per frame pixel; one too small for the frame is enlarged either way.
    steps = [
        np.linalg.norm(scene.background.maps[0, :, 1]) * 2**scene.background.level
        for scene in (one, other)
    ]
    assert (steps[1] < steps[0]) == (scale > 1)
    same = generator.scene(3, frames=2, size=(120, 140), scale=1.0)
    assert np.array_equal(same.place, one.place)
