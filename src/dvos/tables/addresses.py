"""How a table of clips names one frame of a clip store: ``clip.dvclip#000012``."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["STORE_SUFFIX", "frame_address", "frame_stem", "split_address"]

STORE_SUFFIX = ".dvclip"

_ADDRESS = re.compile(r"(.+\.dvclip)#([0-9]{1,10})", re.DOTALL)


def frame_address(path: Path, frame_index: int) -> Path:
    """How a table of clips names one frame of a store: ``clip.dvclip#000012``."""
    return path.with_name(f"{path.name}#{frame_index:06d}")


def split_address(path: Path) -> tuple[Path, int] | None:
    """File and frame index that a path of a clip table names; None if it is no store's."""
    match = _ADDRESS.fullmatch(str(path))
    return (Path(match[1]), int(match[2])) if match else None


def frame_stem(path: Path) -> str:
    """Name of the frame at a path of a clip table.

    An image's stem; of a store's frame ``{store stem}_{frame_index:06d}``, as
    the frames of a video are named.
    """
    address = split_address(path)
    return f"{address[0].stem}_{address[1]:06d}" if address else path.stem
