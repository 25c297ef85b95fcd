from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dvos.errors import MediaError
from dvos.media.image import read_image, write_image
from dvos.media.png import read_png_window

SIZE = (60, 283)  # more rows and columns than are undone at once


def textured(channels=3):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 11, channels), dtype=np.uint8)
    image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).reshape(*SIZE, channels)
    return np.clip(image.astype(int) + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def refiltered(image, kinds, more=b"", less=0):
    """A PNG of an RGB image whose row i has the filter kinds[i % len(kinds)].

    Its stream holds ``more`` behind the last row, or ends ``less`` bytes before the end of it.
    """
    height, width = image.shape[:2]
    rows = np.zeros((height + 1, 3 * width + 3), np.int64)
    rows[1:, 3:] = image.reshape(height, -1)
    raw = b""
    for number in range(height):
        kind = kinds[number % len(kinds)]
        here, a = rows[number + 1, 3:], rows[number + 1, :-3]
        b, c = rows[number, 3:], rows[number, :-3]
        p = a + b - c
        pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
        paeth = np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))
        guess = [0, a, b, (a + b) // 2, paeth][min(kind, 4)]
        raw += bytes([kind]) + ((here - guess) % 256).astype(np.uint8).tobytes()

    def chunk(name, data):
        crc = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + crc

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    packed = zlib.compress(raw[: len(raw) - less] + more, 1)
    first, second = packed[:40], packed[40:]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part)
        for part in (
            (b"IHDR", header), (b"IDAT", first), (b"IDAT", second), (b"IEND", b"")
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("png")
    files = {}
    for name, channels in (("grey", 1), ("rgb", 3), ("rgba", 4)):
        files[name] = folder / f"{name}.png"
        write_image(files[name], textured(channels))
    files["adaptive"] = folder / "adaptive.png"
    Image.fromarray(textured()).save(files["adaptive"])
    for kinds in ([0], [1], [2], [3], [4], [4, 1, 3, 2, 0]):
        name = f"filters {kinds}"
        files[name] = folder / f"{name}.png"
        files[name].write_bytes(refiltered(textured(), kinds))
    return files


@settings(max_examples=25)
@given(data=st.data())
def test_a_window_is_that_part_of_the_image(files, data):
    top, left = data.draw(st.integers(0, SIZE[0] - 1)), data.draw(st.integers(0, SIZE[1] - 1))
    height = data.draw(st.integers(1, SIZE[0] - top))
    width = data.draw(st.integers(1, SIZE[1] - left))
    if (height, width) == SIZE:
        return
    for name, path in files.items():
        part = read_png_window(path, (top, left, height, width), size=SIZE)
        whole = read_image(path)[top : top + height, left : left + width]
        assert np.array_equal(part, whole), name


def test_other_files_are_left_to_the_whole_reader(tmp_path):
    write_image(tmp_path / "a.jpg", textured())
    write_image(tmp_path / "deep.png", textured().astype(np.uint16) * 257)
    Image.fromarray(textured()).convert("P").save(tmp_path / "palette.png")
    write_image(tmp_path / "a.png", textured())
    for name in ("a.jpg", "deep.png", "palette.png"):
        assert read_png_window(tmp_path / name, (0, 0, 5, 5), size=SIZE) is None
    assert read_png_window(tmp_path / "a.png", (0, 0, 5, 5), size=(9, 9)) is None
    assert read_png_window(tmp_path / "a.png", (0, 0, *SIZE), size=SIZE) is None


def test_damage_anywhere_is_an_error(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(textured()).save(stream, "PNG")
    whole = stream.getvalue()
    broken = bytearray(whole)
    broken[-60] ^= 1
    for number, data in enumerate((whole[:-40], bytes(broken), refiltered(textured(), [7]))):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        with pytest.raises(MediaError, match="truncated or corrupt PNG"):
            read_png_window(path, (0, 0, 5, 5), size=SIZE)
    with pytest.raises(MediaError, match="no such file"):
        read_png_window(tmp_path / "none.png", (0, 0, 5, 5), size=SIZE)


@pytest.mark.parametrize("kinds", [[0], [1], [2], [3], [4], [4, 1, 3, 2, 0]])
def test_a_large_picture_holds_what_a_small_one_does(tmp_path, monkeypatch, kinds):
    """Large ones are read in another way, for which these are taken here."""
    path = tmp_path / "a.png"
    path.write_bytes(refiltered(textured(), kinds))
    small = read_image(path)
    monkeypatch.setattr("dvos.media.png._LARGE", 1)
    monkeypatch.setattr("dvos.media.image._decode_cv", None)
    assert np.array_equal(read_image(path), small)
    assert np.array_equal(small, textured())
    # Whatever follows the last row in the stream is no part of the picture.
    path.write_bytes(refiltered(textured(), kinds, more=b"more" * 100))
    assert np.array_equal(read_image(path), small)


def test_damage_of_a_large_picture_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dvos.media.png._LARGE", 1)
    path = tmp_path / "a.png"
    for data in (refiltered(textured(), [7]), refiltered(textured(), [1], less=300)):
        path.write_bytes(data)
        with pytest.raises(MediaError, match="truncated or corrupt PNG"):
            read_image(path)
