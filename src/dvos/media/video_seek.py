"""Single frames of a video in any order, for whoever looks here and there in a long one."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.video import VideoFile, _opened
from dvos.media.video_pixels import deep_format, to_rgb

#: Frames ahead that are decoded on the way rather than sought.
_NEAR = 24


class SeekableVideo(VideoFile):
    """A video whose frames are also read one by one, each the same as in a whole pass.

    The time stamps of all packets, which are read without decoding, say which frame is which.
    Where they do not, because some are missing or equal, frames are counted from the beginning.
    Threads may share it.
    """

    def __init__(self, path: Path, *, intensity: str = "auto") -> None:
        super().__init__(path, intensity=intensity)
        self._guard = threading.Lock()
        self._stamps: list[int] | None = None
        self._next = 0
        self._reader: Generator[Any, None, None] | None = None

    def count(self) -> int:
        """Number of frames: as the header states it, or else of packets."""
        with self._guard:
            return self.frame_count or len(self._index())

    def frame(self, index: int) -> NDArray[np.uint8]:
        """The frame of that index, uint8 RGB (H, W, 3).

        Raises:
            MediaError: If it cannot be decoded.
        """
        with self._guard:
            stamps = self._index()
            if index < len(stamps):
                if self._reader is None or not self._next <= index <= self._next + _NEAR:
                    self._seek(stamps[index])
                for frame in self._reader or ():
                    if frame.pts == stamps[index]:
                        self._next = index + 1
                        return self._pixels(frame)
                    if frame.pts is None or frame.pts > stamps[index]:
                        break
                self._close()
            # Damaged, or without stamps that tell frames apart.
            for whole in self.frames(index):
                if whole.frame_index == index:
                    return whole.image
                break
            raise MediaError.at(self.path, f"frame {index} cannot be decoded", "a whole video")

    def _index(self) -> list[int]:
        """The stamps of the frames in their order; none where they do not tell frames apart."""
        if self._stamps is None:
            with _opened(self.path) as (container, stream):
                packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            stamps = {packet.pts for packet in packets}
            whole = None not in stamps and len(stamps) == len(packets)
            self._stamps = sorted(stamps) if whole else []
        return self._stamps

    def _seek(self, stamp: int) -> None:
        self._close()
        self._reader = self._decoded_from(stamp)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _decoded_from(self, stamp: int) -> Generator[Any, None, None]:
        import av

        with _opened(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            try:
                container.seek(stamp, stream=stream, backward=True)
                yield from container.decode(stream)
            except av.error.FFmpegError:
                return  # read in order instead, which tells what is damaged

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        if self.intensity == "auto":
            self.intensity = self._measure() if deep_format(frame) else "full"
        return to_rgb(frame, self._matrix, self.intensity)
