"""Tiles of pictures: of which size they are read, and what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from dvos.errors import MediaError, UsageError
from dvos.labelling.documents import Frame, Shown
from dvos.labelling.pictures import Pictures
from dvos.media.image import write_image


def _pictures(path: Path, picture: np.ndarray) -> Pictures:
    write_image(path, picture)
    return Pictures([Frame("a", Shown(path, "full"), path.with_name("mask.png"))])


def _shapes(pictures: Pictures) -> dict[int, tuple[int, ...]]:
    return {level: picture.shape[:2] for level, picture in pictures._levels[0].items()}


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    rows, columns = np.mgrid[:1237, :2051]
    return np.stack([rows / 8, columns / 16, 0 * rows + 90], 2).astype(np.uint8)


def test_a_jpeg_is_read_as_small_as_is_asked_for(tmp_path: Path, ramp: np.ndarray) -> None:
    pictures = _pictures(tmp_path / "a.jpg", ramp)
    coarse = simplejpeg.decode_jpeg(pictures.tile(0, 3, 0, 0))
    assert _shapes(pictures) == {3: (155, 257)}
    assert coarse.shape == (155, 257, 3)
    assert np.abs(coarse[:154, :256].astype(int) - ramp[4::8, 4::8][:154, :256]).mean() < 3
    pictures.tile(0, 1, 1, 1)
    assert _shapes(pictures) == {1: (619, 1026), 2: (310, 513), 3: (155, 257)}
    assert pictures.whole(0).shape == ramp.shape
    assert min(_shapes(pictures)) == 0


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_tiles_of_a_level_cover_it(tmp_path: Path, ramp: np.ndarray, name: str) -> None:
    pictures = _pictures(tmp_path / name, ramp)
    rows = [
        np.hstack([simplejpeg.decode_jpeg(pictures.tile(0, 1, row, column)) for column in range(3)])
        for row in range(2)
    ]
    whole = np.vstack(rows).astype(int)
    assert whole.shape == (619, 1026, 3)
    assert np.abs(whole[:600, :1000] - ramp[1::2, 1::2][:600, :1000]).mean() < 3
    for place in ((4, 0, 0), (1, 2, 0), (1, 0, 3)):
        with pytest.raises(UsageError, match="a tile of 4 levels"):
            pictures.tile(0, *place)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_large_picture_is_read_once_for_thumbnail_and_tiles(
    tmp_path: Path, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whichever is asked for first; of a JPEG a small one is read before."""
    monkeypatch.setattr("dvos.labelling.pictures._LARGE", 1)
    pictures = _pictures(tmp_path / name, ramp)
    seen, whole = [], Shown.read
    monkeypatch.setattr(Shown, "read", lambda self: seen.append(1) or whole(self))
    thumbnail = simplejpeg.decode_jpeg(pictures.thumbnail(0))
    assert thumbnail.shape == (96, 160, 3)
    assert np.abs(thumbnail[:, :, 2].astype(int) - 90).max() < 4
    pictures.tile(0, 3, 0, 0)
    pictures.tile(0, 0, 0, 0)
    assert len(seen) == 1
    assert len(_shapes(pictures)) == 4


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_large_picture_is_read_ahead_of_the_page(
    tmp_path: Path, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its thumbnail is there, and what is damaged or gone is told only when it is asked for."""
    monkeypatch.setattr("dvos.labelling.pictures._LARGE", 1)
    pictures = _pictures(tmp_path / name, ramp)
    pictures.begin(0).join()
    assert pictures.thumbnail.cache_info().currsize == 1
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
    other = Pictures([Frame("a", Shown(tmp_path / name, "full"), tmp_path / "mask.png")])
    other.begin(0).join()
    with pytest.raises(MediaError):
        other.thumbnail(0)
