"""TIFF through tifffile: the pixels that the file holds, or one line that says why not."""

import io
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvos.errors import MediaError
from dvos.media.limits import check_room

Array = NDArray[Any]
_ROWS = 64

#: Photometric interpretations (TIFF 6.0, tag 262), and how many samples of a pixel are its colour.
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
#: Kinds of extra samples (tag 338) that are alpha.
_ASSOCIATED, _UNASSOCIATED = 1, 2
_JPEG = (6, 7)
_LZW = 5
#: Compressions by JPEG, JPEG 2000, PNG, WebP and JPEG XL, whose parts say how large they are.
_WITH_HEADERS = {6, 7, 33003, 33004, 33005, 34712, 34892, 34933, 50001, 50002}
_ORIENTATION = 274


def read_tiff(data: bytes, path: Path, *, stored: bool = False) -> Array:
    """Decode the one image of a TIFF; smaller pages beside it are previews.

    (H, W), RGB (H, W, 3) or RGBA (H, W, 4), alpha not premultiplied, upright; of the type stored,
    but that less than 8 bit are stretched to uint8, 9 to 15 to uint16. ``stored`` samples of a mask
    are indices of a palette, "white is zero" not turned round, few bits not stretched. A MediaError
    if it is damaged, a stack of pages, or of a layout that tells no colours.
    """
    with _page(data, path) as page:
        _check_whole(page, len(data), path)
        if stored and page.compression in _JPEG:
            remedy = "export it lossless: its ids may be altered already"
            raise MediaError.at(path, "a TIFF with JPEG compression", "a lossless mask", remedy)
        array = _samples(page, data)
        array = array[..., None] if array.ndim == 2 else array
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
        alpha = _alpha(page, array.shape[2], path)
        if stored:
            array = array[..., : _COLOURS[int(page.photometric)]]
        else:
            array = _image(page, array, alpha, path)
        return turned(array[..., 0] if array.shape[2] == 1 else array, _orientation(page))


def tiff_size(path: Path) -> tuple[int, int]:
    """(height, width) of a TIFF turned upright, from its header only."""
    with _page(path, path) as page:
        size = int(page.imagelength), int(page.imagewidth)
        return size[::-1] if _orientation(page) >= 5 else size


def tiff_depth(path: Path) -> int:
    """Bits of a sample of a TIFF, from its header only."""
    with _page(path, path) as page:
        return int(np.max(page.bitspersample))


def turned(array: Array, orientation: int) -> Array:
    """Pixels turned upright by an orientation tag of EXIF or TIFF, 1 to 8; contiguous."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    # After the transposition: which axes still run backwards.
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


@contextmanager
def _page(source: bytes | Path, path: Path) -> Iterator[Any]:
    """The page that is the image; a MediaError if that cannot be told."""
    import tifffile

    # Our own error says what is wrong; the library's log would stand beside it.
    logging.getLogger("tifffile").disabled = True
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with tifffile.TiffFile(stream) as file:
            yield _main_page(file, path)
    except MediaError:
        raise
    except Exception as error:  # tifffile and each of its codecs have classes of their own
        if isinstance(error, NotImplementedError) or "cannot decode" in str(error):
            found, remedy = f"a TIFF that cannot be read ({error})", "save it without compression"
            raise MediaError.at(path, found, remedy=remedy) from error
        raise MediaError.damaged(path, "TIFF", str(error) or type(error).__name__) from error


def _main_page(file: Any, path: Path) -> Any:
    """The first page, or the largest where the file says that the first is a preview.

    A MediaError if a later one is larger all the same, or the pages lead beyond the file.
    """
    main = file.pages[0]
    size = main.imagelength, main.imagewidth
    # Cameras have the image itself in a page inside the preview's.
    pages = [main, *(main.pages or ())] if main.is_reduced else [main]
    seen = {main.offset}
    for page in _later_pages(file, path):
        if page.offset in seen:
            raise MediaError.damaged(path, "TIFF", "its pages lead back to one before")
        seen.add(page.offset)
        pages += [] if page.is_mask else [page]
        if (page.imagelength, page.imagewidth) == size and not main.is_reduced:
            break  # a stack, however long it is
    if main.is_reduced:
        main = max(pages, key=lambda page: page.imagelength * page.imagewidth)
    for page in pages:
        if page.imagelength > main.imagelength or page.imagewidth > main.imagewidth:
            found = "a TIFF of several pages, of which the first is smaller than another"
            raise MediaError.at(path, found, "one image", "save each page as a file of its own")
    return main


def _later_pages(file: Any, path: Path) -> Iterator[Any]:
    """The pages after the first; a MediaError if one is said to lie where the file has none."""
    layout, stream = file.tiff, file.filehandle
    place = 0
    for place, page in enumerate(file.pages):
        if place:
            yield page
    stream.seek(file.pages[place].offset)
    (entries,) = struct.unpack(layout.tagnoformat, stream.read(layout.tagnosize))
    stream.seek(entries * layout.tagsize, os.SEEK_CUR)
    if any(stream.read(layout.offsetsize)):
        found = f"the file ends before page {place + 2}, at byte {stream.size}"
        raise MediaError.damaged(path, "TIFF", found)


def _samples(page: Any, data: bytes) -> Array:
    if int(page.compression) == _LZW and page.bitspersample in (8, 16) and page.planarconfig == 1:
        import imagecodecs

        # By libtiff, in half the time; what it refuses, tifffile tells of.
        with suppress(RuntimeError, ValueError, IndexError):
            array = np.asarray(imagecodecs.tiff_decode(data))
            if (array.shape, array.dtype) == (page.shape, page.dtype):
                return array
    return np.asarray(page.asarray(maxworkers=1))


def _check_whole(page: Any, size: int, path: Path) -> None:
    """Refuse a file that ends early, a stack of pages and more pixels than there may be."""
    height, width = page.imagelength, page.imagewidth
    if page.imagedepth == 1:
        # The samples, a copy of them, one more where there are more than colours, and the result.
        stored = page.nbytes / max(1, height * width)
        check_room(path, height, width, (2 if page.samplesperpixel <= 3 else 3) * stored + 5)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0 or offset + count > size:
            raise MediaError.damaged(path, "TIFF", f"the file ends early, at byte {size}")
    _check_segments(page, path)
    file = page.parent
    images = int((file.imagej_metadata or {}).get("images", 1)) if file.is_imagej else 1
    # Smaller pages are previews, as GIS software adds them, or transparency masks.
    alike = 0
    for one in file.pages:
        alike += (one.imagelength, one.imagewidth) == (height, width) and not one.is_mask
        if alike > 1:
            break
    if max(images, alike, page.imagedepth) > 1:
        remedy = "save each page as a file of its own"
        raise MediaError.at(path, "a TIFF of several pages", "one image", remedy)


def _check_segments(page: Any, path: Path) -> None:
    """Refuse parts that are images with a header of their own, of more pixels than their place."""
    if int(page.compression) not in _WITH_HEADERS:
        return
    # Encoders may fill up blocks of 16 pixels.
    rows, columns = (-(-side // 16) * 16 for side in page.chunks[:2])
    stream = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream.seek(offset)
        try:
            with Image.open(io.BytesIO(stream.read(count))) as part:
                width, height = part.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # without a header, or told by whoever decodes it
        if width > columns or height > rows:
            found = f"a part of {width} x {height} pixels in place of {columns} x {rows}"
            raise MediaError.damaged(path, "TIFF", found)


def _alpha(page: Any, samples: int, path: Path) -> tuple[int, int] | None:
    """Which sample of a pixel is alpha, and of which kind; None if there is none."""
    colours = _COLOURS.get(int(page.photometric))
    kinds = [int(kind) for kind in page.extrasamples]
    if colours is None or not isinstance(page.bitspersample, int) or samples < colours:
        name = getattr(page.photometric, "name", page.photometric)
        found = f"a TIFF of colours {name}, {samples} samples of {page.bitspersample} bit"
        raise MediaError.at(path, found, "grey, palette, RGB or CMYK", "save it as RGB")
    for place, kind in enumerate(kinds):
        if kind in (_ASSOCIATED, _UNASSOCIATED) and colours + place < samples:
            return colours + place, kind
    if not kinds and colours == 3 and samples == 4:
        return 3, _UNASSOCIATED
    if colours == 1 and samples > 1:
        found = f"a TIFF of {samples} bands that does not say which are its colours"
        raise MediaError.at(path, found, "grey, RGB or RGBA", "export red, green and blue as RGB")
    return None


def _image(page: Any, array: Array, alpha: tuple[int, int] | None, path: Path) -> Array:
    """Samples (H, W, S) as grey, RGB or RGBA, (H, W, 1, 3 or 4)."""
    kind, bits = int(page.photometric), page.bitspersample
    colours = array[..., : _COLOURS[kind]]
    if kind == _PALETTE:
        table = page.colormap if page.colormap.max() < 256 else page.colormap >> 8
        palette = table.T.astype(np.uint8)
        colours = by_rows(lambda rows: palette[rows[..., 0]], colours)
    else:
        colours = _full_scale(colours, bits)
    if kind == _WHITE_IS_ZERO and colours.dtype.kind == "u":
        colours = np.iinfo(colours.dtype).max - colours
    # What was JPEG in YCbCr comes from tifffile as RGB.
    if kind == _CMYK or (kind == _YCBCR and page.compression not in _JPEG):
        if colours.dtype != np.uint8:
            found = f"CMYK or YCbCr of type {colours.dtype}"
            raise MediaError.at(path, found, "8 bit", "save it as RGB")
        mode = "CMYK" if kind == _CMYK else "YCbCr"
        colours = np.asarray(Image.fromarray(np.ascontiguousarray(colours), mode).convert("RGB"))
    if alpha is None:
        return colours
    transparency = _full_scale(array[..., alpha[0], None], bits).astype(colours.dtype)
    if alpha[1] == _ASSOCIATED:
        colours = by_rows(_undone, colours, transparency)
    colours = np.broadcast_to(colours, (*colours.shape[:2], 3))
    return np.concatenate([colours, transparency], axis=2)


def _undone(colours: Array, alpha: Array) -> Array:
    """Colours that had been multiplied by alpha, as they were."""
    top = np.iinfo(colours.dtype).max
    whole = np.minimum(colours.astype(np.uint64) * top // np.maximum(alpha, 1), top)
    return np.where(alpha > 0, whole, colours).astype(colours.dtype)


def by_rows(change: Callable[..., Array], *arrays: Array) -> Array:
    """What becomes of arrays (H, W, ...), some rows at a time: what stands between is large."""
    first = change(*(array[:1] for array in arrays))
    result = np.empty((len(arrays[0]), *first.shape[1:]), first.dtype)
    for place in range(0, len(result), _ROWS):
        rows = slice(place, place + _ROWS)
        result[rows] = change(*(array[rows] for array in arrays))
    return result


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1


def _full_scale(array: Array, bits: int) -> Array:
    """Unsigned samples of any number of bits as 8 or 16 bit from 0 to full scale."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "u" or bits in (8, 16) or bits > 16:
        return array
    top = 2**bits - 1
    kind = np.uint8 if bits < 8 else np.uint16
    full = 2 * np.iinfo(kind).max
    return by_rows(
        lambda rows: ((rows.astype(np.uint64) * full + top) // (2 * top)).astype(kind), array
    )
