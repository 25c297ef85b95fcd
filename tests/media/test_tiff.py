"""TIFF in the layouts that cameras, microscopes and GIS write: exact pixels, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from dvos.errors import MediaError
from dvos.media.image import image_size, read_image, read_rgba
from dvos.media.mask import mask_size, read_mask

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RGB[..., 0]
IDS = (np.arange(600).reshape(20, 30) * 100).astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.tif"


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma", "webp"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}])
def test_every_lossless_compression(path: Path, compression: str | None, layout: Any) -> None:
    options = {"compressionargs": {"level": 100, "lossless": True}} if compression == "webp" else {}
    tifffile.imwrite(path, RGB, photometric="rgb", compression=compression, **layout, **options)
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (20, 30)


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"predictor": True}])
def test_byte_order_size_and_predictor(
    path: Path, compression: str, options: dict[str, Any]
) -> None:
    tifffile.imwrite(path, IDS, compression=compression, **options)
    np.testing.assert_array_equal(read_mask(path), IDS)
    np.testing.assert_array_equal(read_image(path), grey(np.rint(IDS / 257)))


def test_planes_apart(path: Path) -> None:
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), RGB)
    same = np.repeat(GREY[None], 3, axis=0)
    tifffile.imwrite(path, same, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_mask(path), GREY)
    assert mask_size(path) == image_size(path) == (20, 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(path: Path, dtype: type) -> None:
    values = (GREY.astype(dtype) * (np.iinfo(dtype).max // 255)).astype(dtype)
    tifffile.imwrite(path, values, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path), grey(255 - GREY))
    # The stored value is the id.
    np.testing.assert_array_equal(read_mask(path), values)


def test_white_is_zero_of_one_bit(path: Path) -> None:
    tifffile.imwrite(path, GREY > 127, photometric="miniswhite", bitspersample=1)
    np.testing.assert_array_equal(read_image(path), grey(np.where(GREY > 127, 0, 255)))
    np.testing.assert_array_equal(read_mask(path), GREY > 127)
    assert read_mask(path).dtype == np.uint8


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_few_and_odd_bits(path: Path, bits: int) -> None:
    top = 2**bits - 1
    values = (np.arange(600).reshape(20, 30) * 37 % (top + 1)).astype(np.uint16)
    values[0, :2] = 0, top
    stored = values.astype(np.uint8) if bits <= 8 else values
    tifffile.imwrite(path, stored, bitspersample=bits)
    np.testing.assert_array_equal(read_image(path), grey(np.floor(values * 255.0 / top + 0.5)))
    np.testing.assert_array_equal(read_mask(path), values)


def test_several_pages_are_refused(path: Path) -> None:
    for options in ({}, {"imagej": True}, {"photometric": "minisblack", "metadata": None}):
        tifffile.imwrite(path, np.zeros((5, 20, 30), np.uint16), **options)
        for read in (read_image, read_mask):
            with pytest.raises(MediaError, match="a TIFF of several pages; expected one image"):
                read(path)


def test_previews_are_passed_over(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(path), RGB)


@pytest.mark.parametrize("first", [GREY[::4, ::4], GREY[:, :29], GREY[:19], GREY.T])
def test_a_first_page_that_is_smaller_is_not_taken_for_the_image(
    path: Path, first: np.ndarray
) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(first, photometric="minisblack")
        file.write(GREY, photometric="minisblack")
    for read in (read_image, read_mask, image_size, mask_size):
        with pytest.raises(MediaError, match="of which the first is smaller than another"):
            read(path)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_first_page_that_is_said_to_be_a_preview_is_passed_over(
    path: Path, inside: bool, compression: str | None
) -> None:
    """Beside the image, or around it, as cameras have it."""
    options: dict[str, Any] = {"photometric": "minisblack", "compression": compression}
    with tifffile.TiffWriter(path) as file:
        file.write(GREY[::4, ::4], subfiletype=1, subifds=int(inside), **options)
        file.write(GREY, **options)
        if not inside:
            file.write(GREY[::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(read_image(path), grey(GREY))
    np.testing.assert_array_equal(read_mask(path), GREY)
    assert image_size(path) == mask_size(path) == (20, 30)


def test_a_transparency_mask_may_be_finer_than_its_image(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, photometric="minisblack")
        file.write(np.ones((40, 60), bool), photometric="mask", subfiletype=4)
    np.testing.assert_array_equal(read_image(path), grey(GREY))


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_stack_that_is_cut_off_anywhere_is_never_an_image(
    path: Path, options: dict[str, Any]
) -> None:
    small = GREY[:6, :8]
    with tifffile.TiffWriter(path, **options) as file:
        for page in (small, small[::-1]):
            file.write(page, photometric="minisblack", metadata=None)
    whole = path.read_bytes()
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(MediaError, match=r"corrupt|several pages|not an image"):
            read_image(path)


def test_pages_that_lead_back_to_one_before_are_refused(path: Path) -> None:
    """Of the classic format: number of entries, twelve bytes each, the place of the next page."""
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        writer.write(np.zeros((32, 32), np.uint8), photometric="minisblack")
        writer.write(np.zeros((8, 8), np.uint8), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[1].offset
    data = bytearray(path.read_bytes())
    following = last + 2 + 12 * int.from_bytes(data[last : last + 2], "little")
    assert data[following : following + 4] == bytes(4)
    for back in (first, last):
        data[following : following + 4] = back.to_bytes(4, "little")
        path.write_bytes(data)
        with pytest.raises(MediaError, match=r"pages lead back|several pages"):
            read_image(path)


def test_of_many_bands_those_of_colour_are_taken(path: Path) -> None:
    bands = RNG.integers(0, 256, (20, 30, 5), dtype=np.uint8)
    bands[..., :3] = RGB
    for planes in ("contig", "separate"):
        stored = bands if planes == "contig" else np.ascontiguousarray(bands.transpose(2, 0, 1))
        tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planes, extrasamples=(0, 0))
        np.testing.assert_array_equal(read_image(path), RGB)
        assert (read_rgba(path)[..., 3] == 255).all()


@pytest.mark.parametrize("bands", [2, 3, 5])
def test_bands_without_colours_are_refused(path: Path, bands: int) -> None:
    array = np.zeros((20, 30, bands), np.uint16)
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
    for read in (read_image, read_mask):
        with pytest.raises(MediaError, match=f"a TIFF of {bands} bands") as caught:
            read(path)
        assert len(caught.value.faults) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint64, np.int32, np.int8])
def test_masks_of_wide_samples(path: Path, dtype: type) -> None:
    ids = (IDS % 120).astype(dtype)
    tifffile.imwrite(path, ids)
    np.testing.assert_array_equal(read_mask(path), ids)
    assert read_mask(path).dtype == (np.uint8 if dtype is np.int8 else np.uint16)
    with pytest.raises(MediaError, match=r"samples of type .*; expected 8 or 16 bit, unsigned"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_given_without_being_multiplied(path: Path, dtype: type) -> None:
    top = np.iinfo(dtype).max
    straight = np.array([[[1.0, 0.2, 0.4, 1.0], [0.6, 0.8, 0.0, 0.2]]])
    for kind in ("unassalpha", "assocalpha"):
        stored = straight.copy()
        if kind == "assocalpha":
            stored[..., :3] *= stored[..., 3:]
        stored = np.rint(stored * top).astype(dtype)
        tifffile.imwrite(path, stored, photometric="rgb", extrasamples=kind)
        np.testing.assert_allclose(read_rgba(path), straight * 255, atol=2)
        expected = read_rgba(path)[..., :3]
        np.testing.assert_array_equal(read_image(path), expected)


def test_grey_with_alpha(path: Path) -> None:
    both = np.stack([GREY, 255 - GREY], axis=2)
    tifffile.imwrite(
        path, both, photometric="minisblack", planarconfig="contig", extrasamples="unassalpha"
    )
    np.testing.assert_array_equal(read_rgba(path), np.dstack([grey(GREY), 255 - GREY]))
    np.testing.assert_array_equal(read_mask(path), GREY)


def test_a_palette_gives_colours_of_a_photo_and_indices_of_a_mask(path: Path) -> None:
    table = RNG.integers(0, 256, (3, 256), dtype=np.uint16)
    for stored in (table, table * 256, table * 257):
        tifffile.imwrite(path, GREY, photometric="palette", colormap=stored)
        np.testing.assert_array_equal(read_image(path), table.T[GREY])
        np.testing.assert_array_equal(read_mask(path), GREY)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_colours_of_printing_and_video(path: Path, mode: str) -> None:
    stored = Image.fromarray(RGB).convert(mode)
    stored.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(stored.convert("RGB")))


def test_jpeg_inside_a_tiff(path: Path) -> None:
    smooth = np.full((48, 64, 3), (200, 90, 30), np.uint8)
    Image.fromarray(smooth).save(path, compression="jpeg", quality=95)
    assert np.abs(read_image(path).astype(int) - smooth).max() < 4
    with pytest.raises(MediaError, match="a TIFF with JPEG compression; expected a lossless mask"):
        read_mask(path)


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_fax_compression(path: Path, compression: str) -> None:
    Image.fromarray(GREY > 127).save(path, compression=compression)
    np.testing.assert_array_equal(read_image(path), grey(np.where(GREY > 127, 255, 0)))


def test_colours_that_cannot_be_shown_are_refused(path: Path) -> None:
    tifffile.imwrite(path, RGB, photometric="cielab")
    with pytest.raises(MediaError, match="a TIFF of colours CIELAB, 3 samples of 8 bit"):
        read_image(path)


def test_a_header_that_states_too_many_pixels(path: Path) -> None:
    tifffile.imwrite(path, GREY)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for tag in ("ImageWidth", "ImageLength"):
            at = file.pages[0].tags[tag].valueoffset
            data[at : at + 4] = (100_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"too many pixels.*; cut it into tiles"):
        read_image(path)


def test_strips_that_were_never_written_are_an_error(path: Path) -> None:
    tifffile.imwrite(path, IDS, rowsperstrip=20, metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["StripByteCounts"]
        assert tag.count == 1
        data[tag.valueoffset : tag.valueoffset + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="truncated or corrupt TIFF"):
        read_mask(path)
