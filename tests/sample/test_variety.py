"""Fields of every kind: always the same, unlike one another, labelled like any other."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.sample.render import RenderedFrame, Renderer, Scene
from dvos.sample.variety import any_scene

SIZE = (192, 256)
NUMBERS = range(10)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [any_scene(5, number, size=SIZE) for number in NUMBERS]


@pytest.fixture(scope="module")
def frames(scenes) -> list[RenderedFrame]:
    return [shown(scene) for scene in scenes]


def shown(scene: Scene) -> RenderedFrame:
    return Renderer(scene, frame_rate=1.0, size=SIZE).frame(0)


def test_a_number_always_shows_the_same(frames):
    again = shown(any_scene(5, 3, size=SIZE))
    np.testing.assert_array_equal(again.image, frames[3].image)
    np.testing.assert_array_equal(again.instances, frames[3].instances)
    assert not np.array_equal(shown(any_scene(6, 3, size=SIZE)).image, frames[3].image)


def test_pictures_have_the_form_of_any_other(frames):
    for frame in frames:
        assert frame.image.shape == (*SIZE, 3)
        assert frame.image.dtype == np.uint8
        assert frame.instances.shape == SIZE
        assert frame.instances.dtype == np.uint16
        assert frame.image.std() > 5


def test_bare_fields_have_no_heads_and_most_others_have(scenes, frames):
    counts = [len(np.unique(frame.instances)) - 1 for frame in frames]
    bare = [not scene.stand.recipe.heads for scene in scenes]
    assert any(bare)
    assert all(count == 0 for count, none in zip(counts, bare, strict=True) if none)
    assert np.median([c for c, none in zip(counts, bare, strict=True) if not none]) > 3


def test_fields_differ_in_light_size_and_build(scenes, frames):
    brightness = [frame.image.mean() for frame in frames]
    assert max(brightness) > 2 * min(brightness)
    assert len({scene.stand.recipe.nodes for scene in scenes}) > 3
    awns = [scene.stand.recipe.awn_m for scene in scenes]
    assert min(awns) == 0
    assert max(awns) > 0.03
    counts = [np.bincount(frame.instances.ravel())[1:] for frame in frames]
    areas = [np.median(of_heads[of_heads > 0]) for of_heads in counts if of_heads.any()]
    assert max(areas) > 5 * min(areas)


def test_nothing_stands_before_the_lens(scenes):
    for scene in scenes:
        # The tallest stalk is a quarter taller than the mean.
        assert scene.path.height_m > 1.25 * scene.stand.recipe.height_m
