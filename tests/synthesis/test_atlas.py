from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_material import ellipse_cutout

from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.synthesis import atlas as atlas_module
from dvos.synthesis.atlas import BORDER, LEVELS, Atlas, build_atlas, prepare_cutout


def disc(side: int, colour: tuple[int, int, int] = (200, 100, 50)) -> np.ndarray:
    rgba = ellipse_cutout(np.random.default_rng(0), side, side, 100)
    rgba[..., :3] = np.where(rgba[..., 3:] > 0, colour, 0)
    return rgba


def cutout_files(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = []
    for n in range(count):
        path = folder / f"photo{n % 2}_rlobj{n:04d}.png"
        write_image(path, ellipse_cutout(rng, 20 + 10 * (n % 2), 12, 100))
        paths.append(path)
    return paths


def test_the_stored_distance_is_that_to_the_contour():
    levels = prepare_cutout(disc(40))
    assert levels is not None
    depth = (levels[0][..., 3].astype(float) - 128) / 16
    y, x = np.indices(depth.shape) - (depth.shape[0] - 1) / 2
    true = 20 - np.hypot(y, x)
    near = np.abs(true) < 4
    assert np.abs(depth - true)[near].max() < 0.6


def test_a_level_is_half_the_one_before_and_keeps_the_area():
    levels = prepare_cutout(disc(64))
    assert levels is not None
    assert len(levels) == LEVELS
    for k, level in enumerate(levels):
        assert level.shape[0] == 64 // 2**k + 2 * BORDER
        alpha = np.clip(0.5 + (level[..., 3].astype(float) - 128) / 16, 0, 1)
        assert alpha.sum() * 4**k == pytest.approx(np.pi * 32**2, rel=0.05)


def test_the_objects_own_colour_reaches_under_the_soft_edge():
    levels = prepare_cutout(disc(40))
    assert levels is not None
    for level in levels:
        drawable = level[..., 3] > 128 - 16 * 4
        assert np.abs(level[drawable][:, :3].astype(int) - (200, 100, 50)).max() <= 1


def test_the_outermost_texels_are_never_drawn():
    levels = prepare_cutout(np.full((9, 7, 4), 255, np.uint8))
    assert levels is not None
    for level in levels:
        edge = np.concatenate([level[0], level[-1], level[:, 0], level[:, -1]])
        assert not edge[:, 3].any()


def test_a_cutout_of_one_pixel_and_an_empty_one():
    one = np.zeros((1, 1, 4), np.uint8)
    assert prepare_cutout(one) is None
    one[..., 3] = 255
    assert prepare_cutout(one) is not None


def test_sources_and_their_median_lengths(tmp_path):
    atlas = build_atlas(cutout_files(tmp_path, 6))
    assert list(atlas.source) == [0, 1, 0, 1, 0, 1]
    assert list(atlas.source_length) == [20, 30] * 3
    assert list(atlas.length) == [20, 30] * 3


def test_a_distractor_belongs_to_the_still_of_its_cutout(tmp_path):
    paths = cutout_files(tmp_path, 2)
    fake = tmp_path / "photo1_rlobj0001_fkobj0003.png"
    write_image(fake, disc(20))
    assert list(build_atlas([*paths, fake]).source) == [0, 1, 1]


def test_all_bad_cutouts_are_told_at_once(tmp_path):
    paths = cutout_files(tmp_path, 3)
    write_image(paths[0], np.zeros((5, 5, 4), np.uint8))
    paths[2].write_bytes(b"not an image")
    with pytest.raises(MediaError) as caught:
        build_atlas(paths)
    text = str(caught.value)
    assert "photo0_rlobj0000.png: no pixel is opaque" in text
    assert paths[2].name in text
    assert len(caught.value.faults) == 2


@pytest.fixture
def cached(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(atlas_module, "CACHED_FROM", 4)
    monkeypatch.setenv("DVOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def equal(one: Atlas, other: Atlas) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_a_large_atlas_is_kept_and_mapped(cached, tmp_path, monkeypatch):
    paths = cutout_files(tmp_path, 5)
    first = build_atlas(paths)
    assert isinstance(first.texels, np.memmap)
    assert len(list(cached.iterdir())) == 1
    monkeypatch.setattr(atlas_module, "_decode", None)  # not decoded again
    assert equal(build_atlas(paths), first)
    sent = pickle.dumps(first)
    assert len(sent) < 1000
    assert equal(pickle.loads(sent), first)


def test_a_changed_cutout_makes_another_atlas(cached, tmp_path):
    paths = cutout_files(tmp_path, 5)
    first = build_atlas(paths)
    write_image(paths[0], disc(33))
    assert not equal(build_atlas(paths), first)
    assert len(list(cached.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_told_and_done_without(
    cached, tmp_path, monkeypatch, caplog
):
    cached.write_text("in the way")
    atlas = build_atlas(cutout_files(tmp_path, 5))
    assert not isinstance(atlas.texels, np.memmap)
    assert "set DVOS_CACHE" in caplog.text


def test_a_small_atlas_is_sent_by_content(tmp_path):
    atlas = build_atlas(cutout_files(tmp_path, 2))
    assert equal(pickle.loads(pickle.dumps(atlas)), atlas)


def test_clips_from_a_mapped_atlas_are_the_same(cached, generator_of, monkeypatch):
    mapped = generator_of()
    assert isinstance(mapped.atlas.texels, np.memmap)
    monkeypatch.setattr(atlas_module, "CACHED_FROM", 10**6)
    held = generator_of()
    one, other = (generator.make(2, frames=2, size=(64, 64)) for generator in (mapped, held))
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.instances, other.instances)


def test_bad_cutouts_leave_nothing_in_the_cache(cached, tmp_path):
    paths = cutout_files(tmp_path, 5)
    paths[2].write_bytes(b"not an image")
    with pytest.raises(MediaError):
        build_atlas(paths)
    assert list(cached.iterdir()) == []
