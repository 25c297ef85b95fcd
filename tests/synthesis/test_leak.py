"""Nothing in the image may tell an object from a distractor of the same content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_material import ALL_OFF, ALL_ON, write_table

from dvos.media.image import write_image
from dvos.synthesis.compositor import render

SIZE = (112, 128)
MIXED = {"per": "frame", "foreground": [0, 0], "sources": [0, 0]}


@pytest.mark.parametrize("index", range(3))
def test_roles_swapped_in_a_scene_leave_every_byte(generator_of, index):
    generator = generator_of(**ALL_ON)
    scene = generator.scene(index, frames=4, size=SIZE)
    roles = ~scene.sprites.is_object
    swapped = replace(
        scene,
        sprites=replace(scene.sprites, is_object=roles),
        instance=np.where(roles, np.cumsum(roles), 0).astype(np.uint16),
    )
    here, there = (
        render(drawn, generator.atlas, generator.store, np.arange(4), (0, 0, *SIZE))
        for drawn in (scene, swapped)
    )
    assert np.array_equal(here.frames, there.frames)
    assert not ((here.instances > 0) & (there.instances > 0)).any()
    assert (here.instances > 0).any()
    assert (there.instances > 0).any()


@pytest.mark.parametrize("index", range(3))
def test_a_cutout_given_as_distractor_makes_the_same_clip(generator_of, material, index):
    amounts = {"objects": ([25, 25], [0, 0]), "distractors": ([0, 0], [25, 25])}
    clips = []
    for k in (0, 1):
        population = {**MIXED, **{role: amounts[role][k] for role in amounts}}
        generator = generator_of(
            cutouts=[material.cutouts],
            distractors=[material.cutouts],
            **{**ALL_ON, "population": population},
        )
        clips.append(generator.make(index, frames=4, size=SIZE))
    assert np.array_equal(clips[0].frames, clips[1].frames)
    assert (clips[0].instances > 0).any()
    assert not (clips[1].instances > 0).any()


def _ring_features(image: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Colour and gradient just inside and outside of a sprite's border."""
    import cv2

    mask = owner.astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    outer1 = cv2.dilate(mask, kernel) - mask
    outer2 = cv2.dilate(mask, kernel, iterations=2) - mask - outer1
    eroded = cv2.erode(mask, kernel)
    inner1, inner2 = mask - eroded, eroded - cv2.erode(eroded, kernel)
    grey = image.astype(np.float32).mean(2)
    gradient = np.hypot(*np.gradient(grey))
    rings = [ring.astype(bool) for ring in (outer2, outer1, inner1, inner2)]
    features = [
        statistic
        for ring in rings
        for values in (*np.moveaxis(image.astype(np.float32), 2, 0), gradient)
        for statistic in (values[ring].mean(), values[ring].std())
    ]
    return np.array(features)


def _samples(generator, clips: int) -> tuple[np.ndarray, np.ndarray]:
    features, roles = [], []
    for k in range(clips):
        scene = generator.scene(k, frames=2, size=(160, 160))
        # Every sprite gets an id of its own, to find its pixels.
        marked = replace(scene, instance=np.arange(1, len(scene.sprites) + 1, dtype=np.uint16))
        window = (0, 0, 160, 160)
        clip = render(marked, generator.atlas, generator.store, np.array([1]), window)
        for n in range(len(scene.sprites)):
            y0, y1, x0, x1 = clip.box[0, n]
            inside = min(y0, x0) >= 4 and max(y1, x1) <= 156
            if inside and clip.visible[0, n] > 0.7 * clip.full[0, n] and clip.full[0, n] > 90:
                cut = (slice(y0 - 4, y1 + 4), slice(x0 - 4, x1 + 4))
                owner = clip.instances[0][cut] == n + 1
                features.append(_ring_features(clip.frames[0][cut], owner))
                roles.append(scene.sprites.is_object[n])
    return np.array(features), np.array(roles)


def _balanced(roles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    yes, no = np.flatnonzero(roles), np.flatnonzero(~roles)
    count = min(len(yes), len(no))
    chosen = np.concatenate([rng.permutation(yes)[:count], rng.permutation(no)[:count]])
    return rng.permutation(chosen)


def _logistic_accuracy(features: np.ndarray, roles: np.ndarray) -> float:
    """Accuracy on one half of a ridge-penalised logistic regression fitted to the other."""
    half = len(roles) // 2
    mean, spread = features[:half].mean(0), features[:half].std(0) + 1e-6
    x = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    weights = np.zeros(x.shape[1])
    for _ in range(8):  # Newton's method
        p = 1 / (1 + np.exp(-x[:half] @ weights))
        hessian = (x[:half].T * (p * (1 - p))) @ x[:half] + 5 * np.eye(x.shape[1])
        weights += np.linalg.solve(hessian, x[:half].T @ (roles[:half] - p) - 5 * weights)
    return float(((x[half:] @ weights > 0) == roles[half:]).mean())


def test_border_rings_do_not_tell_objects_from_distractors(generator_of, material):
    """Objects and distractors of one pool: accuracy within 0.03 of chance."""
    population = {**MIXED, "objects": [22, 22], "distractors": [22, 22], "overlap": 0.1}
    generator = generator_of(
        cutouts=[material.cutouts],
        distractors=[material.cutouts],
        **{**ALL_ON, "population": population},
    )
    features, roles = _samples(generator, 110)
    chosen = _balanced(roles, np.random.default_rng(0))
    assert len(chosen) > 1500
    accuracy = _logistic_accuracy(features[chosen], roles[chosen])
    assert abs(accuracy - 0.5) <= 0.03


def test_the_classifier_would_see_a_fringe(generator_of, material):
    """The same test finds a border drawn a little differently for one role."""
    population = {**MIXED, "objects": [22, 22], "distractors": [22, 22], "overlap": 0.1}
    generator = generator_of(
        cutouts=[material.cutouts],
        distractors=[material.cutouts],
        **{**ALL_ON, "population": population},
    )

    class Leaky:
        atlas, store = generator.atlas, generator.store

        def scene(self, *args, **options):
            scene = generator.scene(*args, **options)
            feather = np.where(scene.sprites.is_object, 4.0, scene.sprites.feather)
            return replace(scene, sprites=replace(scene.sprites, feather=feather))

    features, roles = _samples(Leaky(), 30)
    chosen = _balanced(roles, np.random.default_rng(0))
    assert _logistic_accuracy(features[chosen], roles[chosen]) > 0.6


def test_edges_show_neither_black_nor_the_old_background(generator_of, tmp_path):
    """A grey object on a background of its own grey: the edge must not be seen."""
    alpha = np.zeros((30, 20), np.uint8)
    alpha[3:27, 3:17] = 255
    colour = np.where(alpha[..., None] > 0, 120, 255 * (np.indices((30, 20)).sum(0) % 2)[..., None])
    rgba = np.dstack([np.broadcast_to(colour, (30, 20, 3)), alpha]).astype(np.uint8)
    write_image(tmp_path / "grey_rlobj0001.png", rgba)
    write_image(tmp_path / "plate.png", np.full((90, 90, 3), 120, np.uint8))
    looks = {**ALL_OFF["appearance"], "scale": [0.4, 1.5], "rotation": [-180, 180]}
    scene = {**ALL_OFF, "appearance": {**looks, "feather": [0.8, 4]}, "elastic": {"probability": 1}}
    generator = generator_of(
        cutouts=[write_table(tmp_path / "c.csv", [tmp_path / "grey_rlobj0001.png"])],
        backgrounds=[write_table(tmp_path / "b.csv", [tmp_path / "plate.png"])],
        distractors=[],
        **scene,
    )
    clip = generator.make(0, frames=3, size=(80, 80))
    assert (clip.instances > 0).any()
    assert np.abs(clip.frames.astype(int) - 120).max() <= 1
