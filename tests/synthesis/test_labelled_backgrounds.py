"""Backgrounds that show objects of their own: labelled stills under the sprites."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_material import ALL_OFF, ALL_ON, texture, write_table

from dvos.config.scene import BackgroundSettings, SynthesisSettings
from dvos.errors import MediaError, TableError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.synthesis.backgrounds import BackgroundStore, group_backgrounds
from dvos.synthesis.build import build_recipe
from dvos.tables import read_backgrounds

BARE = {"per": "frame", "objects": [0, 0], "distractors": [0, 0], "foreground": [0, 0]}
MIXED = {"per": "frame", "objects": [4, 4], "distractors": [4, 4], "foreground": [0, 0]}


def labelled_still(folder: Path, mask: np.ndarray, name: str = "own.csv") -> Path:
    """A photo in which every pixel's red and green tell its place, and its table."""
    height, width = mask.shape
    y, x = np.mgrid[:height, :width]
    write_image(folder / "photo.png", np.dstack([x, y, 0 * x + 40]).astype(np.uint8))
    write_mask(folder / "photo_mask.png", mask)
    table = folder / name
    table.write_text("Image,Mask,OutDir\nphoto.png,photo_mask.png,cut\n")
    return table


def two_squares() -> np.ndarray:
    mask = np.zeros((90, 120), np.uint8)
    mask[10:40, 20:60] = 255
    mask[50:85, 70:118] = 255
    return mask


def shown(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask where the frame's pixels say that they are from."""
    return mask[frame[..., 1], frame[..., 0]]


def test_a_still_s_own_objects_are_objects_of_the_clip(generator_of, tmp_path):
    mask = two_squares()
    generator = generator_of(
        backgrounds=[labelled_still(tmp_path, mask)], **{**ALL_OFF, "population": BARE}
    )
    clip = generator.make(0, frames=2, size=(60, 80))
    assert np.array_equal(clip.instances[0] > 0, shown(clip.frames[0], mask) > 0)
    assert clip.identity.tolist() == [1, 2]
    assert np.array_equal(np.unique(clip.instances), [0, 1, 2])
    for number in (1, 2):
        where = np.argwhere(clip.instances[0] == number)
        row = next(r for r in clip.table if r.frame_index == 0 and r.instance == number)
        assert row.visible_area == row.full_area == len(where)
        assert (row.y0, row.x0) == tuple(where.min(0))
        assert (row.y1, row.x1) == tuple(where.max(0) + 1)


def test_void_says_which_values_are_no_object(tmp_path):
    mask = two_squares()
    mask[50:85, 70:118] = 7
    table = labelled_still(tmp_path, mask)
    (still,) = group_backgrounds([read_backgrounds(table)], "stills")
    for void, ids in (("auto", [0, 7, 255]), ("7", [0, 1]), ("7,255", [0])):
        store = BackgroundStore([still], BackgroundSettings(), 0, "full", void)
        assert np.unique(store.labels(0, 0)).tolist() == ids
        assert np.unique(pickle.loads(pickle.dumps(store)).labels(0, 0)).tolist() == ids
    recipes = [
        build_recipe(
            SynthesisSettings(backgrounds=[table], cutouts=[], out=tmp_path / "out", void=void)
        )
        for void in ("auto", "7", "none")
    ]
    assert [one.void for one in recipes] == ["auto", "7", "none"]
    assert len({one.fingerprint for one in recipes}) == 3


def test_ids_of_an_instance_mask_are_kept_apart(generator_of, tmp_path):
    mask = np.zeros((90, 120), np.uint16)
    mask[10:40, 20:40], mask[10:40, 40:60] = 3, 7  # they touch
    generator = generator_of(
        backgrounds=[labelled_still(tmp_path, mask)], **{**ALL_OFF, "population": BARE}
    )
    clip = generator.make(0, frames=1, size=(90, 120))
    assert np.array_equal(np.unique(clip.instances), [0, 3, 7])


def test_a_sprite_hides_what_lies_under_it(generator_of, tmp_path):
    """Whole, photo and sprites: objects add to the truth, distractors take from it."""
    mask = np.full((90, 120), 255, np.uint8)
    generator = generator_of(
        backgrounds=[labelled_still(tmp_path, mask)], **{**ALL_OFF, "population": MIXED}
    )
    clip = generator.make(1, frames=1, size=(90, 120))
    sprites = len(clip.identity) - 1
    assert sprites > 4
    distractors = int(clip.visible[0, :sprites][clip.identity[:sprites] == 0].sum())
    assert 0 < distractors == np.count_nonzero(clip.instances[0] == 0)
    own = clip.identity[-1]
    assert clip.full[0, -1] == mask.size
    assert clip.visible[0, -1] == np.count_nonzero(clip.instances[0] == own)
    assert clip.visible[0].sum() == mask.size


def test_labels_follow_the_picture_through_scale_turn_and_mirror(generator_of, tmp_path):
    mask = two_squares()
    effects = {**ALL_OFF, "population": BARE}
    effects["plates"] = {"scale": [1.3, 1.3], "flip": True, "pan": [1, 2], "zoom": [0.01, 0.02]}
    effects["camera"] = {"enabled": True, "roll": [2, 3], "drift": [1, 2]}
    generator = generator_of(backgrounds=[labelled_still(tmp_path, mask)], **effects)
    for index in range(4):
        clip = generator.make(index, frames=4, size=(50, 60))
        for frame, found in zip(clip.frames, clip.instances > 0, strict=True):
            # Bilinear places against nearest labels: they may differ at edges.
            assert np.mean(found != (shown(frame, mask) > 0)) < 0.06


def test_a_window_of_a_labelled_background_is_the_whole_s(generator_of, tmp_path):
    table = labelled_still(tmp_path, two_squares())
    generator = generator_of(backgrounds=[table], **{**ALL_ON, "population": MIXED})
    whole = generator.make(3, frames=3, size=(70, 90))
    part = generator.make(3, frames=3, size=(70, 90), window=(11, 17, 30, 40))
    assert np.array_equal(part.instances, whole.instances[:, 11:41, 17:57])
    assert np.array_equal(part.frames, whole.frames[:, 11:41, 17:57])


def test_the_mask_does_not_change_the_picture(generator_of, tmp_path):
    labelled = labelled_still(tmp_path, two_squares())
    bare = write_table(tmp_path / "bare.csv", [tmp_path / "photo.png"])
    effects = {**ALL_ON, "population": MIXED}
    one, other = (
        generator_of(backgrounds=[table], **effects).make(2, frames=2, size=(60, 70))
        for table in (labelled, bare)
    )
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.full, np.pad(other.full, [(0, 0), (0, 2)])) is False
    assert np.count_nonzero(one.instances > 0) > np.count_nonzero(other.instances > 0)


def test_flow_on_a_labelled_background_is_that_of_the_background(generator_of, tmp_path):
    labelled = labelled_still(tmp_path, two_squares())
    bare = write_table(tmp_path / "bare.csv", [tmp_path / "photo.png"])
    effects = {**ALL_ON, "population": BARE}
    one, other = (
        generator_of(backgrounds=[table], **effects).make(0, frames=3, size=(60, 70), flow=True)
        for table in (labelled, bare)
    )
    assert np.array_equal(one.flow, other.flow, equal_nan=True)


def test_cutouts_keep_their_size_beside_a_still_s_own_objects(generator_of, tmp_path):
    labelled = labelled_still(tmp_path, two_squares())
    bare = write_table(tmp_path / "bare.csv", [tmp_path / "photo.png"])
    effects = {**ALL_OFF, "population": MIXED}
    effects["appearance"] = {**ALL_OFF["appearance"], "size": [8, 8]}
    own, drawn = (
        generator_of(backgrounds=[table], **effects).scene(0, frames=1, size=(90, 120))
        for table in (labelled, bare)
    )
    assert (own.sprites.scale == 1).all()
    assert (drawn.sprites.scale < 0.6).all()


def test_a_mask_of_another_size_is_named(generator_of, tmp_path):
    table = labelled_still(tmp_path, two_squares())
    write_mask(tmp_path / "photo_mask.png", np.zeros((90, 100), np.uint8))
    with pytest.raises(MediaError, match=r"photo_mask\.png: is 90 x 100 px"):
        generator_of(backgrounds=[table], **ALL_OFF).make(0, frames=1, size=(40, 40))


def test_a_table_of_backgrounds_may_leave_masks_out(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, texture(rng, (20, 20)))
    write_mask(tmp_path / "m.png", np.zeros((20, 20), np.uint8))
    table = tmp_path / "t.csv"
    table.write_text("Image,Mask\na.png,m.png\nb.png,\n")
    assert [row.mask and row.mask.name for row in read_backgrounds(table)] == ["m.png", None]
    table.write_text("Image,Mask\na.png,gone.png\na.png,\n")
    with pytest.raises(TableError) as caught:
        read_backgrounds(table)
    assert len(caught.value.faults) == 2


def test_bare_backgrounds_take_the_share_that_is_left(generator_of, material, tmp_path):
    own = labelled_still(tmp_path, two_squares())
    effects = {**ALL_OFF, "population": BARE}

    def share(labelled: float) -> float:
        effects["plates"] = {**ALL_OFF["plates"], "labelled": labelled}
        generator = generator_of(backgrounds=[own, material.stills], **effects)
        scenes = [generator.scene(index, frames=1, size=(40, 40)) for index in range(200)]
        names = [generator.store.backgrounds[scene.background.number].name for scene in scenes]
        assert len(set(names)) == (3 if 0 < labelled < 1 else 1 if labelled else 2)
        return float(np.mean([name == "photo" for name in names]))

    assert share(1.0) == 1
    assert share(0.0) == 0
    assert 0.6 < share(0.75) < 0.88
