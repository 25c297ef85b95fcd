"""NRRD through pynrrd: never more is decompressed than the header declares."""

from __future__ import annotations

import bz2
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import is_plain_name, read_bytes
from dvos.media.limits import MOST_PIXELS, check_room

#: Bytes of a sample by a word in the name of its type; others have 4.
_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "64": 8, "long": 8, "double": 8}


def nrrd_shape(path: Path) -> tuple[int, ...]:
    """Lengths of the axes, slowest first, from the header only."""
    with _opened(path.open("rb"), path) as (_, shape):
        return shape


def read_nrrd(data: bytes, path: Path) -> NDArray[Any]:
    """The samples of an NRRD, slowest axis first; those in another file must lie beside it.

    Raises:
        MediaError: If it is damaged, too large, or holds other samples than its header declares.
    """
    import nrrd

    stream = io.BytesIO(data)
    with _opened(stream, path) as (header, shape):
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
        unpack = None
        if header["encoding"] in ("gzip", "gz"):
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
        elif header["encoding"] in ("bzip2", "bz2"):
            unpack = bz2.BZ2Decompressor().decompress
        if unpack is not None:
            skipped = int(header.get("byteskip", header.get("byte skip", 0)))
            # Where they end the file (-1), a header of their own may precede them.
            most = each * math.prod(shape) + (skipped if skipped >= 0 else 2**16)
            unpacked = unpack(stream.read(), most + 1)
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
def _opened(stream: BinaryIO, path: Path) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
    """Header and shape; the stream then stands behind the header."""
    import nrrd

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
