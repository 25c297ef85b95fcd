from __future__ import annotations

import numpy as np
import pytest

PUBLISHED = {
    "preset": "published",
    "appearance": {"size": None},
    "population": {"objects": [20, 20], "distractors": [10, 10]},
}
SIZE = (160, 150)


def published(generator_of, **changes):
    values = {**PUBLISHED, **changes}
    values["population"] = {**PUBLISHED["population"], **changes.get("population", {})}
    return generator_of(**values)


def seen(scene) -> np.ndarray:
    depth = np.ones(len(scene.sprites))
    return scene.camera.view(scene.place, depth, np.arange(scene.frames))


def test_held_inside_sprites_turn_back_at_the_border(generator_of):
    generator = published(generator_of, camera={"enabled": False}, walk={"step": [0, 5]})
    scene = generator.scene(0, frames=80, size=SIZE)
    assert scene.alive.all()
    half = scene.sprites.length / 2 + 1
    where = seen(scene)
    for axis in (0, 1):
        assert (where[..., axis] >= half - 1e-9).all()
        assert (where[..., axis] <= SIZE[axis] - half + 1e-9).all()
    steps = np.diff(where, axis=0)
    assert np.abs(steps).max() <= 5 + 1e-9
    assert (np.abs(np.diff(np.sign(steps[..., 0]), axis=0)) == 2).any()  # some turned


def test_sprites_that_may_leave_do(generator_of):
    generator = published(
        generator_of, camera={"enabled": False}, walk={"may_leave": True, "change_direction": 0}
    )
    where = seen(generator.scene(0, frames=80, size=SIZE))
    assert (where < 0).any() or (where > 170).any()


def test_lost_sprites_are_replaced_at_the_uncovered_side_with_new_ids(generator_of):
    generator = published(
        generator_of,
        walk={"enabled": False},
        camera={"step": [10, 10], "change_direction": 0},
        population={"recovery_variance": 3},
    )
    scene = generator.scene(2, frames=40, size=SIZE)
    births = scene.alive.argmax(0)
    entered = births > 0
    assert entered.any()
    objects = scene.instance > 0
    ids = scene.instance[objects]
    assert (np.sort(ids) == np.arange(1, objects.sum() + 1)).all()  # none used twice
    alive_objects = (scene.alive & objects).sum(1)
    assert alive_objects.max() <= 20
    where, motion = seen(scene), np.diff(scene.camera.travel, axis=0)[0]
    for n in np.flatnonzero(entered):
        start = where[births[n], n]
        outside = (start < 0) | (start > np.array(SIZE))
        assert outside.any()
        axis = int(np.flatnonzero(outside)[0])
        assert (start[axis] < 0) == (motion[axis] > 0)
    gone = ~scene.alive & (np.arange(40)[:, None] > births)
    assert gone.any()
    assert (np.diff(gone.astype(int), axis=0) >= 0).all()  # who is gone stays gone


@pytest.mark.parametrize("variance", [0, 4])
def test_up_to_the_variance_fewer_enter_than_were_lost(generator_of, variance):
    generator = published(
        generator_of,
        walk={"enabled": False},
        camera={"step": [8, 10], "change_direction": 0},
        population={"recovery_variance": variance, "distractors": [0, 0]},
    )
    scene = generator.scene(0, frames=40, size=SIZE)
    born, died = scene.alive.argmax(0), scene.alive.shape[0] - scene.alive[::-1].argmax(0)
    assert (died < 40).any()
    for t in range(1, 40):
        lost, entered = int((died == t).sum()), int((born == t).sum())
        assert max(lost - variance, 0) <= entered <= lost


def test_sprites_keep_apart_where_there_is_room(generator_of):
    roomy = {"objects": [14, 14], "distractors": [0, 0], "overlap": 0.01, "avoid": "all"}
    clip = published(generator_of, population=roomy).make(0, frames=1, size=SIZE)
    assert clip.visible[0].sum() > 0.95 * clip.full[0].sum()


def test_places_are_random_when_nothing_is_to_be_avoided(generator_of):
    heedless = {"objects": [60, 60], "distractors": [0, 0], "overlap": 1.0}
    careful = {"objects": [60, 60], "distractors": [0, 0], "overlap": 0.0}
    hidden = [
        1 - clip.visible.sum() / clip.full.sum()
        for clip in (
            published(generator_of, population=p).make(0, frames=1, size=SIZE)
            for p in (heedless, careful)
        )
    ]
    assert hidden[0] > 1.5 * hidden[1]


def test_clumps_bring_sprites_together(generator_of):
    def nearest(clump: float) -> float:
        population = {
            "per": "frame",
            "objects": [40, 40],
            "distractors": [0, 0],
            "foreground": [0, 0],
            "clump": [clump, clump],
            "clump_radius": [0.8, 1.0],
            "overlap": 1.0,
        }
        generator = generator_of(
            population=population, camera={"enabled": False}, appearance={"size": [12, 12]}
        )
        distances = []
        for k in range(5):
            place = generator.scene(k, frames=1, size=(300, 300)).place[0]
            gaps = np.linalg.norm(place[:, None] - place[None], axis=2)
            distances.append(np.median((gaps + 1e9 * np.eye(len(place))).min(1)))
        return float(np.mean(distances))

    assert nearest(0.9) < 0.6 * nearest(0.0)


def test_the_field_stays_full_while_the_camera_travels(generator_of):
    population = {"objects": [0.3, 0.3], "distractors": [0, 0], "foreground": [0, 0]}
    generator = generator_of(
        population=population, camera={"drift": [8, 8]}, appearance={"size": [18, 18]}
    )
    clip = generator.make(0, frames=40, size=(120, 120))
    shares = (clip.instances > 0).mean((1, 2))
    assert shares.min() > 0.5 * shares.max()
    centres = (clip.instances[-1, :40] > 0).mean(), (clip.instances[-1, -40:] > 0).mean()
    assert min(centres) > 0.08
    assert {row.instance for row in clip.table if row.frame_index == 0} != {
        row.instance for row in clip.table if row.frame_index == 39
    }


def test_too_many_objects_is_told(generator_of):
    from dvos.errors import RunError

    population = {"per": "frame", "objects": [70000, 70000], "tries": 1, "overlap": 1}
    generator = generator_of(population=population, appearance={"size": [2, 2]})
    with pytest.raises(RunError, match="at most 65535"):
        generator.scene(0, frames=1, size=(64, 64))
