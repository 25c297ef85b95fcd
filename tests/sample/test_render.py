"""The renderer: what is drawn, who owns it, and that it is always the same."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from dvos.sample.field import background_scene, headed_scene
from dvos.sample.raster import Buffers
from dvos.sample.render import Renderer, Scene, rasterise, shapes_at

SIZE = (96, 128)
RATE = 20.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    return headed_scene(5, 3, seconds=1.0)


def renderer(scene: Scene) -> Renderer:
    return Renderer(scene, frame_rate=RATE, size=SIZE)


def without_heads(scene: Scene, gone: np.ndarray) -> Scene:
    """The same scene with the heads of the given numbers taken off."""
    heads = scene.stand.heads
    kept = ~np.isin(heads.number, gone)
    fewer = replace(heads, **{f.name: getattr(heads, f.name)[kept] for f in fields(heads)})
    return replace(scene, stand=replace(scene.stand, heads=fewer))


def buffers_of(scene: Scene, time_s: float = 0.0) -> Buffers:
    fine = (2 * SIZE[0], 2 * SIZE[1])
    view = scene.path.at(time_s, fine)
    buffers = Buffers.of_size(fine)
    rasterise(scene, view, shapes_at(scene, view, time_s), buffers)
    return buffers


def test_frame_has_the_documented_form(scene):
    frame = renderer(scene).frame(0)
    assert frame.image.shape == (*SIZE, 3)
    assert frame.image.dtype == np.uint8
    assert frame.instances.shape == SIZE
    assert frame.instances.dtype == np.uint16


@pytest.mark.parametrize("number", range(5))
def test_heads_cover_a_fair_part(number):
    frame = renderer(headed_scene(5, number, seconds=1.0)).frame(0)
    assert 0.05 < (frame.instances > 0).mean() < 0.40
    assert 15 < len(np.unique(frame.instances)) < 200
    assert 40 < frame.image.mean() < 170
    assert frame.image.std() > 20


def test_frames_do_not_depend_on_order_or_on_the_renderer(scene):
    one = renderer(scene)
    forward = [one.frame(k) for k in range(3)]
    backward = [one.frame(k) for k in (2, 1, 0)][::-1]
    other = renderer(headed_scene(5, 3, seconds=1.0)).frame(1)
    for a, b in zip([*forward, forward[1]], [*backward, other], strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.instances, b.instances)


def test_other_seed_other_field(scene):
    ours = renderer(scene).frame(0)
    other = renderer(headed_scene(6, 3, seconds=1.0)).frame(0)
    assert (ours.image != other.image).mean() > 0.5


def test_heads_move_between_frames_but_not_far(scene):
    one = renderer(scene)
    a, b = one.frame(0).instances, one.frame(2).instances
    moved = []
    for number in np.intersect1d(np.unique(a), np.unique(b))[1:]:
        before, after = np.argwhere(a == number), np.argwhere(b == number)
        if min(len(before), len(after)) > 30:
            moved.append(np.hypot(*(before.mean(axis=0) - after.mean(axis=0))))
    assert len(moved) >= 5
    assert 0.05 < np.median(moved) < 6.0


def test_numbers_are_permanent(scene):
    """Most numbers seen in one frame are seen in the next: none is given anew."""
    one = renderer(scene)
    seen = [set(np.unique(one.frame(k).instances).tolist()) - {0} for k in range(4)]
    for earlier, later in itertools.pairwise(seen):
        assert len(earlier & later) >= 0.8 * len(earlier)


def test_bare_field_has_no_heads():
    bare = background_scene(5, 0, seconds=1.0)
    assert len(bare.stand.heads.number) == 0
    frame = renderer(bare).frame(0)
    assert not frame.instances.any()
    assert frame.image.std() > 20


def test_a_head_changes_only_the_samples_that_it_owns(scene):
    whole = buffers_of(scene)
    numbers, counts = np.unique(whole.owner[whole.owner > 0], return_counts=True)
    gone = numbers[np.argsort(counts)[-5:]]
    bald = buffers_of(without_heads(scene, gone))
    owned = np.isin(whole.owner, gone)
    assert owned.sum() > 200
    assert not np.isin(bald.owner, gone).any()
    np.testing.assert_array_equal(whole.depth[~owned], bald.depth[~owned])
    np.testing.assert_array_equal(whole.surface[~owned], bald.surface[~owned])
    np.testing.assert_array_equal(whole.owner[~owned], bald.owner[~owned])
    # What was hidden behind the head lies farther away.
    assert (bald.depth[owned] > whole.depth[owned]).all()


def test_mask_holds_the_picture_of_the_head(scene):
    """Taking the heads off changes the picture most where the mask says they are."""
    numbers = scene.stand.heads.number
    full = renderer(scene).frame(0)
    bald = renderer(without_heads(scene, numbers)).frame(0)
    change = np.abs(full.image.astype(int) - bald.image.astype(int)).sum(axis=2)
    inside = full.instances > 0
    assert np.median(change[inside]) > 4 * np.median(change[~inside])


def test_small_fragments_have_no_label(scene):
    instances = renderer(scene).frame(0).instances
    counts = np.bincount(instances.ravel())
    least = 25 * (SIZE[1] / 640) ** 2
    assert counts[counts > 0].min() >= least
