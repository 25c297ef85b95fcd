"""Files that hold far more than their header declares are refused before it is unpacked."""

from __future__ import annotations

import bz2
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from dvos.errors import MediaError
from dvos.media.image import read_image
from dvos.media.mask import mask_size, read_mask

HEADER = "NRRD0004\ntype: {}\ndimension: 2\nsizes: 64 64\nencoding: {}\nendian: little\n"
PACK = {"gzip": lambda: zlib.compressobj(9, zlib.DEFLATED, 31), "bzip2": bz2.BZ2Compressor}


def packed(encoding: str, megabytes: int) -> bytes:
    packer = PACK[encoding]()
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("skip", ["", "byte skip: 5\n", "byte skip: -1\n"])
def test_an_nrrd_is_unpacked_no_further_than_it_declares(tmp_path, encoding, skip):
    path = tmp_path / "m.nrrd"
    path.write_bytes(f"{HEADER.format('uint8', encoding)}{skip}\n".encode() + packed(encoding, 32))
    assert mask_size(path) == (64, 64)
    with at_most(5), pytest.raises(MediaError, match="corrupt NRRD") as caught:
        read_mask(path)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("uint8", "u1"),
        ("unsigned short", "<u2"),
        ("int", "<i4"),
        ("longlong", "<i8"),
        ("double", "<f8"),
    ],
)
def test_samples_of_every_size_and_what_is_skipped_are_read(tmp_path, encoding, kind, dtype):
    ids = (np.arange(64 * 64).reshape(64, 64) % 251).astype(dtype)
    path = tmp_path / "m.nrrd"
    for skip, before in (("", b""), ("byte skip: 7\n", b"seven .")):
        packer = PACK[encoding]()
        body = packer.compress(before + ids.tobytes()) + packer.flush()
        path.write_bytes(f"{HEADER.format(kind, encoding)}{skip}\n".encode() + body)
        np.testing.assert_array_equal(read_mask(path), ids)


def test_samples_beside_the_header_are_read_and_elsewhere_refused(tmp_path):
    ids = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "m.raw").write_bytes(ids.astype("<u2").tobytes())
    path = tmp_path / "m.nrrd"
    path.write_text(HEADER.format("uint16", "raw") + "data file: m.raw\n\n")
    np.testing.assert_array_equal(read_mask(path), ids)
    for elsewhere in ("/dev/zero", "../m.raw"):
        path.write_text(HEADER.format("uint16", "raw") + f"data file: {elsewhere}\n\n")
        with pytest.raises(MediaError, match="its samples lie in"):
            read_mask(path)


@pytest.mark.parametrize("sizes", ["100000 100000", "9" * 30 + " 1", "-4 -4"])
def test_a_header_of_more_pixels_than_a_photo_may_have_is_refused(tmp_path, sizes):
    path = tmp_path / "m.nrrd"
    header = HEADER.format("uint8", "gzip").replace("64 64", sizes)
    path.write_bytes(header.encode() + b"\n" + packed("gzip", 1))
    for read in (mask_size, read_mask):
        with at_most(5), pytest.raises(MediaError, match=r"too many pixels|corrupt NRRD"):
            read(path)


def one_part(path, part: bytes, compression: int) -> None:
    """A TIFF of 64 x 64 whose one strip is ``part``."""
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="deflate")
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    new = {273: (4, len(data)), 279: (4, len(part)), 259: (3, compression)}
    for place in range(first + 2, first + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, place)
        if tag in new:
            struct.pack_into("<HHII", data, place, tag, new[tag][0], 1, new[tag][1])
    path.write_bytes(bytes(data) + part)


@pytest.mark.parametrize(("kind", "compression"), [("JPEG", 7), ("PNG", 34933), ("WEBP", 50001)])
def test_a_tiff_whose_part_is_a_larger_image_is_refused(tmp_path, kind, compression):
    path = tmp_path / "a.tif"
    for side, words in ((64, None), (3000, "a part of 3000 x 3000 pixels in place of 64 x 64")):
        if kind == "JPEG":
            grey = np.zeros((side, side, 1), np.uint8)
            part = simplejpeg.encode_jpeg(grey, colorspace="GRAY")
        else:
            stream = io.BytesIO()
            Image.new("L", (side, side)).save(stream, kind)
            part = stream.getvalue()
        one_part(path, part, compression)
        if words:
            with at_most(5), pytest.raises(MediaError, match=words):
                read_image(path)
        elif kind != "WEBP":  # which has three channels
            assert not read_image(path).any()
