"""Masks in and out, ids as stored: PNG, TIFF and NRRD.

A semantic mask is bool (0/255 in a file); an instance mask is uint8 or uint16 with 0 for
background. Pixels whose label is unknown are :data:`IGNORE` in memory; in a file 65535, or 128 in a
mask of 8 bit that holds only 0, 128 and 255.
"""

import bz2
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import nrrd
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import atomic_path, is_plain_name, read_bytes, write_bytes
from dvos.media.image import decode, image_size, open_header, sniff, write_image
from dvos.media.layout import MASK_SUFFIXES
from dvos.media.limits import MOST_PIXELS, check_room
from dvos.media.mask_values import IGNORE as IGNORE
from dvos.media.mask_values import SEMANTIC, recognised
from dvos.media.mask_values import Mask as Mask
from dvos.media.png import check_png, png_header
from dvos.media.tiff import read_tiff

#: The largest number of a label image of 16 bit, and of one of 32, which only TIFF holds.
LARGEST_16, LARGEST_32 = 2**16 - 1, 2**31 - 1
_LOSSLESS = "PNG, TIFF or NRRD"


def read_mask(path: Path, void: str = "auto") -> Mask:
    """Read a mask with its ids as stored, but for values that mean no object.

    Taken are the indices of a palette, not its colours; RGB whose channels are equal; NRRD with x
    fastest; samples of any type where all values are whole and in 0..65535. What other programs
    write for "unknown" and for soft edges is told by :mod:`dvos.media.mask_values`, or by ``void``:
    ``none``, or values with commas between; with ``auto`` a file ``void.txt`` in the folder may.
    The mask is uint8 (H, W) where samples have at most 8 bit and no values are declared, else
    uint16. A MediaError if it is missing, lossy, of an unknown kind, damaged, coloured, or a stack.
    """
    path = path if isinstance(path, Path) else Path(path)  # to make one again takes its time
    return recognised(_read_stored(path), path, _read_stored, void)


def _read_stored(path: Path) -> Mask:
    """The mask of a file, (H, W), with all values as stored."""
    array = stored_samples(read_bytes(path, "a mask file"), path)
    if array.ndim == 3:
        if (array[..., 1:3] != array[..., :1]).any():
            expected = "one id per pixel: grey, palette, or equal colour channels"
            raise MediaError.at(path, "a coloured image", expected, "export ids instead of colours")
        array = array[..., 0]
    if array.dtype not in (np.bool_, np.uint8, np.uint16):
        _check_values(array, path)
    if array.dtype.itemsize == 1:
        return np.ascontiguousarray(array, np.uint8)
    return np.ascontiguousarray(array, np.uint16)


def mask_size(path: Path) -> tuple[int, int]:
    """(height, width) as :func:`read_mask` would return it, from the header only."""
    path = path if isinstance(path, Path) else Path(path)
    head = read_bytes(path, "a mask file", 32)
    kind = _kind(head[:16], path)
    if kind != "NRRD":
        return png_header(head, path)[:2] if kind == "PNG" else image_size(path)
    with _opened_nrrd(path.open("rb"), path) as (_, shape):
        return _plane(shape, path)


def write_mask(path: Path, mask: NDArray[Any]) -> None:
    """Write a mask (H, W) as ``.png``, ``.tif``, ``.tiff`` or ``.nrrd``. Atomic, lossless.

    bool becomes uint8 0/255; any integer type but uint8 becomes uint16. A MediaError if an id is
    negative or over 65535, or type, shape or ending is another.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MASK_SUFFIXES:
        found = f"cannot write masks as {suffix or 'a file without ending'}"
        raise MediaError.at(path, found, "one of .png, .tif, .tiff, .nrrd", "change the ending")
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "biu":
        found = f"an array of shape {mask.shape}, type {mask.dtype}"
        raise MediaError.at(path, found, "a mask (H, W) of bool or whole numbers")
    if mask.dtype == np.bool_:
        mask = mask * np.uint8(255)
    elif mask.dtype != np.uint8:
        _check_values(mask, path)
        mask = mask.astype(np.uint16)
    if suffix != ".nrrd":
        write_image(path, mask)
        return
    # By hand: the same mask must give the same bytes, and pynrrd puts the date into the header.
    header = (
        f"NRRD0004\ntype: {mask.dtype}\ndimension: 2\nsizes: {mask.shape[1]} {mask.shape[0]}\n"
        "encoding: gzip\nendian: little\nkinds: domain domain\n\n"
    )
    samples = np.ascontiguousarray(mask, dtype=mask.dtype.newbyteorder("<"))
    data = gzip.compress(samples.tobytes(), compresslevel=4, mtime=0)
    write_bytes(path, header.encode("ascii") + data)


def is_binary(mask: NDArray[Any]) -> bool:
    """Whether the mask tells no instances apart: at most one value besides 0 and unknown."""
    known = without_unknown(mask)
    return bool(np.count_nonzero(known) == np.count_nonzero(known == known.max(initial=1)))


def unknown_value(mask: NDArray[Any]) -> int | None:
    """The value that means "unknown" in a mask, (H, W), whole: a part of it may not tell.

    It is 128 of a uint8 mask that holds besides only 0 and 255, 65535 of a wider one, else None.
    """
    if mask.dtype == np.uint8:
        unknown = SEMANTIC[1]
        return unknown if (mask == unknown).any() and np.isin(mask, SEMANTIC).all() else None
    return IGNORE if mask.dtype != np.bool_ and (mask == IGNORE).any() else None


def object_pixels(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a mask as stored holds an object, bool (H, W); pixels of unknown label hold none."""
    return np.asarray(without_unknown(mask) != 0)


def without_unknown(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask as stored, background where its label is unknown."""
    unknown = unknown_value(mask)
    return mask if unknown is None else np.where(mask == unknown, 0, mask).astype(mask.dtype)


def mask_ids(mask: NDArray[Any], *, where: Path | str = "mask") -> NDArray[np.uint16]:
    """A mask as stored as the uint16 ids of all training and scoring, ``IGNORE`` where unknown.

    A MediaError, of ``where``, if an id is negative or over 65535.
    """
    if mask.dtype.kind not in "bu" or mask.dtype.itemsize > 2:
        _check_values(mask, where)
    ids = mask.astype(np.uint16)
    unknown = unknown_value(mask)
    if unknown is not None and unknown != IGNORE:
        ids[mask == unknown] = IGNORE
    return ids


def cut_by_edge(labels: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of the numbers 0 to ``count`` of a mask (H, W) touch the frame's edge, (count + 1,)."""
    found = np.zeros(count + 1, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found[edge] = True
    return found


def label_components(
    mask: NDArray[Any], connectivity: Literal[4, 8] = 8
) -> NDArray[np.uint16] | NDArray[np.int32]:
    """Number the connected components of what is not 0 in a mask (H, W) from 1.

    Diagonal neighbours touch with a ``connectivity`` of 8, and do not with 4. In the order of
    OpenCV's labelling, uint16, or int32 of more than 65535 components.
    """
    binary = np.ascontiguousarray(mask != 0).view(np.uint8)
    count, labels = cv2.connectedComponents(binary, connectivity=connectivity, ltype=cv2.CV_32S)
    return labels.astype(np.uint16) if count - 1 <= LARGEST_16 else np.asarray(labels, np.int32)


def stored_samples(data: bytes, path: Path) -> NDArray[Any]:
    """The samples of a mask file, of no lossy kind, (H, W) or (H, W, 3 or 4), as stored."""
    kind = _kind(data[:16], path)
    if kind == "TIFF":
        return read_tiff(data, path, stored=True)
    if kind == "NRRD":
        array = read_nrrd(data, path)
        return array.reshape(_plane(array.shape, path))
    header = png_header(data, path)
    if header.colour_type == 3:
        check_png(data, path)
        with open_header(data, path) as image:
            return np.array(image, dtype=np.uint8)
    array = decode(data, path)
    if header.colour_type == 0 and header.depth < 8:
        # Decoders stretch 1, 2 and 4 bit to 0..255 by this exact factor.
        array = array // np.uint8(255 // (2**header.depth - 1))
    return array


def _plane(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    """Drop axes of length 1, the slowest first, until two are left."""
    axes = list(shape)
    while len(axes) > 2 and 1 in axes:
        # From either end: of one slice or one component; an image one pixel high keeps its height.
        axes.pop(0 if axes[0] == 1 else len(axes) - 1 - axes[::-1].index(1))
    if len(axes) != 2 or 0 in axes:
        found = f"{len(shape)} axes of lengths {' x '.join(map(str, shape[::-1]))}"
        remedy = "export one slice with one label layer"
        raise MediaError.at(path, found, "a flat mask: two axes longer than 1", remedy)
    return axes[0], axes[1]


def _check_values(array: NDArray[Any], path: Path | str) -> None:
    if array.dtype.kind not in "iuf":
        raise MediaError.at(path, f"samples of type {array.dtype}", "whole numbers 0..65535")
    # Comparisons with NaN are false, so NaN fails here too.
    low, high = array.min().item(), array.max().item()
    if not (low >= 0 and high <= LARGEST_16):
        found = f"values from {low} to {high}"
        raise MediaError.at(path, found, "ids in 0..65535", "renumber the ids")
    if array.dtype.kind == "f" and (odd := array[array != np.floor(array)]).size:
        found, remedy = f"such as {odd[0]:.6g}", "export the label map, without interpolation"
        raise MediaError.at(path, f"fractional values ({found})", "whole ids", remedy)


def _kind(head: bytes, path: Path) -> str:
    """The format of a mask by its first 16 bytes."""
    kind = "NRRD" if head.startswith(b"NRRD") else sniff(head)
    if not kind:
        raise MediaError.at(path, "not a mask", _LOSSLESS, "convert it or correct the path")
    if kind not in ("NRRD", "PNG", "TIFF"):
        remedy = "export it lossless: its ids may be altered already"
        raise MediaError.at(path, f"a {kind} file", f"a mask as {_LOSSLESS}", remedy)
    return kind


def read_label_image(path: Path) -> NDArray[np.int32]:
    """Read the numbers (H, W) of a label image as they are, 0 background: none means "unknown".

    A MediaError if it cannot be read, or holds anything but whole numbers of one channel.
    """
    path = Path(path)
    array = stored_samples(read_bytes(path, "a label image"), path)
    if array.ndim == 3 and (array[..., 1:3] == array[..., :1]).all():
        array = array[..., 0]
    expected = f"whole numbers from 0 to {LARGEST_32}, one for each pixel"
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise MediaError.at(path, f"samples {array.shape} of type {array.dtype}", expected)
    if array.dtype.itemsize >= 4 or array.dtype.kind == "i":
        # In files of some programs -1 is the background.
        array = np.where(array == -1, 0, array)
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < 0 or high > LARGEST_32:
            raise MediaError.at(path, f"values from {low} to {high}", expected, "renumber them")
    return array.astype(np.int32)


def write_label_image(path: Path, labels: NDArray[Any]) -> None:
    """Write numbers (H, W) to ``.png`` of 16 bit or ``.tif``, of 32 where needed, if they fit."""
    largest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or largest > (LARGEST_32 if path.suffix == ".tif" else LARGEST_16):
        raise MediaError.at(path, f"the number {largest}", "numbers that the format can hold")
    if path.suffix != ".tif":
        write_image(path, labels.astype(np.uint16))
        return
    import tifffile

    stored = labels.astype(np.uint16 if largest <= LARGEST_16 else np.uint32)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, stored, compression="zlib", software="", metadata=None)


#: Bytes of a sample by a word in the name of its type; others have 4.
_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "64": 8, "long": 8, "double": 8}


def read_nrrd(data: bytes, path: Path) -> NDArray[Any]:
    """The samples of an NRRD, slowest axis first; those in another file must lie beside it.

    Never more is decompressed than the header declares.
    """
    stream = io.BytesIO(data)
    with _opened_nrrd(stream, path) as (header, shape):
        beside = header.pop("datafile", header.pop("data file", None))
        if beside is not None:
            if not is_plain_name(str(beside)):
                found = f"its samples lie in {beside}"
                raise MediaError.at(path, found, "a file beside it", "save header and data as one")
            stream = io.BytesIO(read_bytes(path.parent / beside, "the samples of an NRRD"))
        each = next((n for word, n in _BYTES.items() if word in header["type"]), 4)
        # What is unpacked, its samples, and the mask that they become.
        if math.prod(shape):
            check_room(path, math.prod(shape[:-1]), math.prod(shape[-1:]), 2 * each + 4)
        gzip_, bzip2 = zlib.decompressobj(zlib.MAX_WBITS | 16), bz2.BZ2Decompressor()
        unpackers: dict[str, Any] = {"gzip": gzip_, "gz": gzip_, "bzip2": bzip2, "bz2": bzip2}
        if unpacker := unpackers.get(header["encoding"]):
            skipped = int(header.get("byteskip", header.get("byte skip", 0)))
            # Where they end the file (-1), a header of their own may precede them.
            most = each * math.prod(shape) + (skipped if skipped >= 0 else 2**16)
            unpacked = unpacker.decompress(stream.read(), most + 1)
            if len(unpacked) > most:
                raise ValueError("more samples than its header declares")
            stream = io.BytesIO(unpacked)
            header["encoding"] = "raw"
        # "C" order turns the file's x-fastest axes round: (..., y, x).
        array = np.asarray(nrrd.read_data(header, stream, str(path), index_order="C"))
        if stream.read(1):
            raise ValueError("more samples than its header declares")
        return array


@contextmanager
def _opened_nrrd(stream: BinaryIO, path: Path) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
    """Header and shape; the stream then stands behind the header."""
    try:
        with stream:
            with np.errstate(all="raise"):  # numbers that no integer holds
                header = nrrd.read_header(stream)
            shape = tuple(int(size) for size in header["sizes"][::-1])
            if min(shape, default=0) < 0 or math.prod(shape) > MOST_PIXELS:
                found = f"too many pixels ({' x '.join(map(str, shape[::-1]))})"
                raise MediaError.at(path, found, f"at most {MOST_PIXELS}", "cut it into tiles")
            yield header, shape
    except MediaError:
        raise
    except Exception as error:  # pynrrd lets whatever its parser hits escape
        raise MediaError.damaged(path, "NRRD", error) from error
