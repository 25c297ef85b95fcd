"""The clip store: a clip with its instance masks in one file, read by frames and window.

``docs/reference/clip-store.md`` describes the format: tiles, of which only those that a window
meets are read and decoded. Paths of a clip table may be files or addresses of a store's frames.
"""

import json
import math
import mmap
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import BlockWriter, atomic_path, parse_json
from dvos.media.image import image_size, read_image
from dvos.media.intensity import folder_intensity
from dvos.media.limits import MOST_PIXELS
from dvos.media.mask import Mask, mask_size, read_mask
from dvos.tables import split_address

#: y, x, height and width of a window in the frame.
Window = tuple[int, int, int, int]

_MAGIC = b"\x89DVCLIP\n"
_VERSION = 1
# Magic, version, tile side, frames, height, width, file size, place of the table, place and size of
# the metadata, CRC-32 of table and metadata; then the CRC-32 of all that.
_HEADER = struct.Struct("<8sHHIIIQQQIII")
_HEADER_BYTES = _HEADER.size + 4
_RECORD = np.dtype([("offset", "<u8"), ("bytes", "<u4"), ("crc", "<u4")])
_IMAGE, _IDS = 0, 1
_QUALITY = 95  # of the JPEG tiles, at full colour resolution

_REMEDY = "make the clip again with 'dvos synthesize', or take it out of the table"


def _boxes(size: tuple[int, int], tile: int) -> list[tuple[int, int, int, int]]:
    """y0, y1, x0, x1 of a frame's tiles, row by row; the last of a row or column may be smaller."""
    height, width = size
    return [
        (y, min(y + tile, height), x, min(x + tile, width))
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]


class ClipStoreWriter(BlockWriter):
    """Writes a clip store frame by frame; a context manager whose file appears when its block ends.

    The same frames give the same bytes. The ``size`` is (height, width); JSON-able ``metadata`` may
    be added to until the block ends; a ``tile`` has a side of a multiple of 8, so without seams.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        metadata: dict[str, Any] | None = None,
        tile: int = 128,
    ) -> None:
        if tile % 8 or not 8 <= tile <= 32768:
            raise ValueError(f"the tile side {tile} is not a multiple of 8 in 8..32768")
        self.path = path
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._size, self._tile, self._boxes = size, tile, _boxes(size, tile)
        self._records: list[tuple[int, int, int]] = []
        self._frames = 0
        self._offset = _HEADER_BYTES

    @contextmanager
    def _opened(self) -> Iterator[None]:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=1)
        with atomic_path(self.path) as temporary, open(temporary, "wb") as self._stream:
            self._stream.write(bytes(_HEADER_BYTES))
            yield
            table = np.array(self._records, _RECORD).tobytes()
            facts = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True).encode()
            end = self._offset + len(table)
            header = _HEADER.pack(
                *(_MAGIC, _VERSION, self._tile, self._frames, *self._size),
                *(end + len(facts), self._offset, end, len(facts)),
                *(zlib.crc32(table), zlib.crc32(facts)),
            )
            self._stream.write(table + facts)
            self._stream.seek(0)
            self._stream.write(header + struct.pack("<I", zlib.crc32(header)))

    def write(self, image: NDArray[np.uint8], instances: NDArray[np.uint16]) -> None:
        """Append a frame, uint8 RGB (H, W, 3), and its ids, uint16 (H, W), 0 = background."""
        if image.shape != (*self._size, 3) or image.dtype != np.uint8:
            raise ValueError(f"a frame of shape {image.shape}, type {image.dtype}")
        if instances.shape != self._size or instances.dtype != np.uint16:
            raise ValueError(f"a mask of shape {instances.shape}, type {instances.dtype}")
        blocks = []
        for y0, y1, x0, x1 in self._boxes:
            tile = np.ascontiguousarray(image[y0:y1, x0:x1])
            blocks.append(simplejpeg.encode_jpeg(tile, _QUALITY, "RGB", "444"))
        for y0, y1, x0, x1 in self._boxes:
            ids = np.ascontiguousarray(instances[y0:y1, x0:x1], dtype="<u2")
            # Most tiles of a sparse clip hold nothing, which takes no bytes.
            blocks.append(self._compressor.compress(ids.data) if ids.any() else b"")
        # One call for a frame: a call for each block takes longer than the disk.
        self._stream.write(b"".join(blocks))
        for block in blocks:
            self._records.append((self._offset, len(block), zlib.crc32(block)))
            self._offset += len(block)
        self._frames += 1


class ClipStore:
    """Reads a clip store, with ``size`` (height, width) and the ``metadata`` that its writer noted.

    The file is mapped into memory, not loaded; a copy sent to another process opens it anew. A
    MediaError if it is missing, of a newer version or damaged, inside a tile once it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            found = "is empty" if isinstance(error, ValueError) else f"cannot be read ({error})"
            raise self._damaged(found, "a clip store") from error
        tile, self._frames, height, width, size, *places = self._header()
        self.size: tuple[int, int] = (height, width)
        table, facts, facts_bytes, table_crc, facts_crc = places
        if size != len(self._data):
            cause = "it was cut off" if len(self._data) < size else "more was written after it"
            raise self._damaged(f"holds {len(self._data)} bytes", f"{size}: {cause}")
        if min(tile, height, width) < 1 or height * width > MOST_PIXELS:
            raise self._damaged(f"tiles of {tile} in frames of {width} x {height} pixels")
        shape = (self._frames, 2, -(-height // tile) * -(-width // tile))
        records = self._part("its table", table, math.prod(shape) * _RECORD.itemsize, table_crc)
        self._table = np.frombuffer(records, _RECORD).reshape(shape)
        self._boxes = _boxes(self.size, tile)
        try:
            stored = parse_json(self._part("its metadata", facts, facts_bytes, facts_crc))
            self.metadata: dict[str, Any] = dict(stored)
        except (TypeError, ValueError) as error:
            raise self._damaged(f"its metadata is no JSON ({error})") from error

    def __len__(self) -> int:
        return self._frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    def close(self) -> None:
        """Give the mapping back."""
        self._data.close()

    def read_frames(
        self, frames: Sequence[int] | None = None, window: Window | None = None
    ) -> NDArray[np.uint8]:
        """Read frames, in any order, uint8 RGB (T, h, w, 3), or a window of them; None is all.

        A MediaError if a tile is damaged, or a frame or the window lies outside.
        """

        def decode(block: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
            found = simplejpeg.decode_jpeg_header(block)[:2]
            if found != shape:
                raise ValueError(f"a tile of {found}")
            return np.asarray(simplejpeg.decode_jpeg(block, "RGB"))

        return self._read(frames, window, _IMAGE, decode)

    def read_instances(
        self, frames: Sequence[int] | None = None, window: Window | None = None
    ) -> NDArray[np.uint16]:
        """Read instance masks, uint16 (T, h, w), 0 = background; as ``read_frames``."""
        import zstandard

        decompressor = zstandard.ZstdDecompressor()

        def decode(block: bytes, shape: tuple[int, int]) -> NDArray[np.uint16]:
            size = 2 * shape[0] * shape[1]
            if zstandard.frame_content_size(block) > size:
                raise ValueError("a tile of more pixels")
            raw = decompressor.decompress(block, max_output_size=size)
            return np.frombuffer(raw, "<u2").reshape(shape)

        return self._read(frames, window, _IDS, decode)

    def verify(self) -> None:
        """Check every tile's checksum; a MediaError at the first that is damaged."""
        for frame, planes in enumerate(self._table):
            for record in planes.reshape(-1):
                self._part(f"frame {frame}", *record.item())

    def _read(
        self, frames: Sequence[int] | None, window: Window | None, plane: int, decode: Any
    ) -> NDArray[Any]:
        """What ``decode`` makes of the tiles of one of the planes that a window meets."""
        chosen = range(self._frames) if frames is None else frames
        if any(not 0 <= frame < self._frames for frame in chosen):
            found = f"has no frames {list(chosen)}"
            raise MediaError.at(self.path, found, f"some of 0 to {self._frames - 1}")
        top, left, height, width = window or (0, 0, *self.size)
        bottom, right = top + height, left + width
        fits = bottom <= self.size[0] and right <= self.size[1]
        if min(top, left) < 0 or min(height, width) < 1 or not fits:
            found = f"has no window {window} (top, left, height, width)"
            raise MediaError.at(self.path, found, f"one inside frames of {self.size}")
        shape = (len(chosen), height, width)
        result: NDArray[Any] = np.zeros(shape, np.uint16)
        if plane == _IMAGE:
            result = np.empty((*shape, 3), np.uint8)
        met = [
            (number, box)
            for number, box in enumerate(self._boxes)
            if box[0] < bottom and top < box[1] and box[2] < right and left < box[3]
        ]
        for place, frame in enumerate(chosen):
            for number, (y0, y1, x0, x1) in met:
                block = self._part(f"frame {frame}", *self._table[frame, plane, number].item())
                if not block:
                    continue
                try:
                    pixels = decode(block, (y1 - y0, x1 - x0))
                except Exception as error:  # each codec has its own class
                    raise self._damaged(f"frame {frame} cannot be decoded ({error})") from error
                y, end, x, last = max(top, y0), min(bottom, y1), max(left, x0), min(right, x1)
                part = pixels[y - y0 : end - y0, x - x0 : last - x0]
                result[place, y - top : end - top, x - left : last - left] = part
        return result

    def _header(self) -> tuple[int, ...]:
        start = self._data[:_HEADER_BYTES]
        if start[: len(_MAGIC)] != _MAGIC:
            raise self._damaged("is no clip store", "a .dvclip file")
        if len(start) < _HEADER_BYTES:
            raise self._damaged("ends inside its header")
        header = _HEADER.unpack(start[:-4])
        if header[1] != _VERSION:
            found, expected = f"is a clip store of version {header[1]}", f"version {_VERSION}"
            remedy = "read it with the release of dvos that wrote it, or a newer one"
            raise MediaError.at(self.path, found, expected, remedy)
        self._part("its header", 0, _HEADER.size, *struct.unpack("<I", start[-4:]))
        return header[2:]

    def _part(self, whose: str, offset: int, size: int, crc: int) -> bytes:
        part = self._data[offset : offset + size]
        if len(part) != size or zlib.crc32(part) != crc:
            raise self._damaged(f"{whose} is damaged (its checksum differs)")
        return part

    def _damaged(self, found: str, expected: str = "") -> MediaError:
        return MediaError.at(self.path, found, expected, _REMEDY)


class OpenStores:
    """Reads frames and masks by path, of files or of clip stores, of which the latest stay open.

    A copy in another process begins empty. A :class:`MediaError` if a store has no such frame.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, ClipStore] = OrderedDict()

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self._limit,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def find(self, path: Path) -> tuple[ClipStore, int] | None:
        """Store and frame index that a path names; None for a file of its own."""
        address = split_address(path)
        if address is None:
            return None
        file, index = address
        store = self._open.pop(file, None) or ClipStore(file)
        self._open[file] = store
        while len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        if index >= len(store):
            expected = f"a frame from 0 to {len(store) - 1}"
            raise MediaError.at(file, f"has no frame {index}", expected, "correct the number")
        return store, index

    def read_image(self, path: Path, intensity: str = "full") -> NDArray[np.uint8]:
        """A frame, uint8 RGB (H, W, 3); ``intensity`` as of :func:`read_image`."""
        found = self.find(path)
        return found[0].read_frames([found[1]])[0] if found else read_image(path, intensity)

    def read_mask(self, path: Path, void: str = "auto") -> Mask:
        """A mask as :func:`read_mask` gives it; of a store's frame its instance ids, uint16."""
        found = self.find(path)
        return found[0].read_instances([found[1]])[0] if found else read_mask(path, void)

    def image_size(self, path: Path) -> tuple[int, int]:
        """(height, width) of a frame, from the header only."""
        found = self.find(path)
        return found[0].size if found else image_size(path)

    def mask_size(self, path: Path) -> tuple[int, int]:
        """(height, width) of a mask, from the header only."""
        found = self.find(path)
        return found[0].size if found else mask_size(path)


def read_image_at(path: Path) -> NDArray[np.uint8]:
    """A frame to look at, uint8 RGB (H, W, 3), from a file or a store's address.

    Samples of more than 8 bit are measured over the images of its folder.
    """
    with OpenStores() as stores:
        return stores.read_image(path, folder_intensity(path))


def read_mask_at(path: Path, void: str = "auto") -> Mask:
    """A mask as :func:`read_mask` gives it, of a file; of a store's address its instance ids."""
    with OpenStores() as stores:
        return stores.read_mask(path, void)
