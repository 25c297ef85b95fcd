"""Where the frames of a clip go: a folder of PNGs, a clip store, a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dvos.errors import OutputError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.overlay import overlay
from dvos.media.video_write import VideoWriter
from dvos.synthesis.clip import InstanceRow
from dvos.synthesis.flow_files import write_flow
from dvos.tables import write_rows

__all__ = [
    "FrameSink",
    "OverlaySink",
    "StoreSink",
    "TreeSink",
    "frame_name",
    "mask_name",
    "write_instance_table",
]

_FOLDERS = ("Frames", "Masks", "Instances", "Flow")

_COLUMNS = (
    *("Frame", "Instance", "X", "Y", "Width", "Height"),
    *("VisibleArea", "FullArea", "Entering", "Leaving"),
)


class FrameSink(Protocol):
    """Takes the frames of one clip in order; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(
        self,
        image: NDArray[np.uint8],
        instances: NDArray[np.uint16],
        flow: NDArray[np.float32] | None,
    ) -> None:
        """Take a frame (H, W, 3), its ids (H, W) and flow (H, W, 2)."""


def frame_name(number: int, frame_index: int) -> str:
    """Path of a frame in the tree, relative to its root."""
    return f"VID_{number:05d}/Frames/vid-{number:05d}_frame-{frame_index:05d}.png"


def mask_name(number: int, frame_index: int) -> str:
    """Path of a mask in the tree, relative to its root."""
    return f"VID_{number:05d}/Masks/vid-{number:05d}_mask-{frame_index:05d}.png"


class TreeSink:
    """PNGs in the published tree; what an earlier run left of the clip is removed.

    Args:
        root: Of the tree.
        number: Of the clip.
        instances: Whether to write instance masks.

    Attributes:
        files: What was written.
    """

    def __init__(self, root: Path, number: int, *, instances: bool) -> None:
        self._root = root
        self._number = number
        self._instances = instances
        self._count = 0
        self.files: list[Path] = []

    def __enter__(self) -> Self:
        for folder in _FOLDERS:
            place = self._root / f"VID_{self._number:05d}" / folder
            try:
                for old in place.glob(f"vid-{self._number:05d}_*.png"):
                    old.unlink()
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
            except OSError as error:
                raise OutputError.at(
                    place,
                    f"what stands there cannot be removed ({error.strerror or error})",
                    remedy="change its permissions, or choose another place with --out",
                ) from error
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(
        self,
        image: NDArray[np.uint8],
        instances: NDArray[np.uint16],
        flow: NDArray[np.float32] | None,
    ) -> None:
        """Write a frame, its mask and what else is asked for."""
        clip = self._root / f"VID_{self._number:05d}"
        name = f"vid-{self._number:05d}_{{}}-{self._count:05d}.png"
        frame = self._root / frame_name(self._number, self._count)
        mask = self._root / mask_name(self._number, self._count)
        write_image(frame, image)
        write_mask(mask, instances > 0)
        self.files += [frame, mask]
        if self._instances:
            self.files.append(clip / "Instances" / name.format("instance"))
            write_mask(self.files[-1], instances)
        if flow is not None:
            self.files.append(clip / "Flow" / name.format("flow"))
            write_flow(self.files[-1], flow)
        self._count += 1


class StoreSink:
    """One clip store."""

    def __init__(self, path: Path, *, size: tuple[int, int], metadata: dict[str, Any]) -> None:
        self._writer = ClipStoreWriter(path, size=size, metadata=metadata)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, value, traceback)

    def write(
        self,
        image: NDArray[np.uint8],
        instances: NDArray[np.uint16],
        flow: NDArray[np.float32] | None,  # noqa: ARG002 (a store holds none)
    ) -> None:
        """Append a frame."""
        self._writer.write(image, instances)


class OverlaySink:
    """A video of the frames with the masks drawn over."""

    def __init__(self, path: Path, *, size: tuple[int, int], frame_rate: float) -> None:
        self._video = VideoWriter(path, frame_rate=frame_rate, size=size)

    def __enter__(self) -> Self:
        self._video.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._video.__exit__(kind, value, traceback)

    def write(
        self,
        image: NDArray[np.uint8],
        instances: NDArray[np.uint16],
        flow: NDArray[np.float32] | None,  # noqa: ARG002 (is not shown)
    ) -> None:
        """Append a frame."""
        self._video.write(overlay(image, instances > 0))


def write_instance_table(path: Path, rows: Sequence[InstanceRow]) -> None:
    """Write the table of all instances of a clip, by frame and id."""
    lines = (
        (
            *(row.frame_index, row.instance, row.x0, row.y0, row.x1 - row.x0, row.y1 - row.y0),
            *(row.visible_area, row.full_area, int(row.entering), int(row.leaving)),
        )
        for row in rows
    )
    write_rows(path, _COLUMNS, lines)
