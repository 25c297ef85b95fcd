"""Decoding of a video file through PyAV: robust against damage, exact in colour and turn."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dvos.errors import MediaError
from dvos.media.decode import read_bytes

__all__ = ["Turn", "VideoFacts", "decoded", "probe", "to_rgb"]

#: Demuxers that take stills and text for a video of one frame.
_NO_VIDEO = ("image2", "tty", "gif")
_A_VIDEO = "a video file that FFmpeg reads (MP4, MOV, AVI, MKV, WebM, MPEG)"
_UNSPECIFIED = (0, 2)  # AVColorSpace RGB and UNSPECIFIED: no matrix is named


class Turn(NamedTuple):
    """How stored frames become upright: transpose, then flip rows, then columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


class VideoFacts(NamedTuple):
    """What the header and the first frame tell. Sizes are (height, width)."""

    size: tuple[int, int]
    coded_size: tuple[int, int]
    turn: Turn
    rate: Fraction | None
    stated_frames: int | None


def probe(path: Path, threads: int = 0) -> VideoFacts:
    """Open a video and decode its first frame.

    Raises:
        MediaError: If that is not possible; the message says why.
    """
    with _opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        stated = stream.frames or None
    with closing(decoded(path, threads, [])) as frames:
        frame = next(frames)
    turn = _turn(frame)
    coded = (frame.height, frame.width)
    size = coded[::-1] if turn.transpose else coded
    return VideoFacts(size, coded, turn, rate, stated)


def decoded(path: Path, threads: int, damage: list[str]) -> Generator[Any, None, None]:
    """The decoded frames (``av.VideoFrame``) in order of display.

    Args:
        path: The video.
        threads: Of the decoder; 0 for automatic.
        damage: Gets a line for each thing that could not be decoded.

    Raises:
        MediaError: If the file cannot be opened or no frame decoded.
    """
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        log = _DamageLog(damage)
        for frame in _frames(container, stream, log):
            log.frame(frame)
            yield frame
        log.close(container, stream)
        if log.frames == 0:
            raise MediaError.at(
                path,
                f"no frame could be decoded ({damage[0] if damage else 'the stream is empty'})",
                "at least one frame",
                "copy the file again from its source",
            )


def to_rgb(frame: Any, turn: Turn) -> npt.NDArray[np.uint8]:
    """An ``av.VideoFrame`` as upright uint8 RGB (H, W, 3), contiguous."""
    from av.video.reformatter import Colorspace

    space = None
    if frame.colorspace in _UNSPECIFIED:
        # What players assume: high definition is BT.709, the rest BT.601.
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    image = frame.to_ndarray(format="rgb24", src_colorspace=space, dst_colorspace=space)
    if turn.transpose:
        image = image.swapaxes(0, 1)
    if turn.flip_rows:
        image = image[::-1]
    if turn.flip_columns:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    if not path.is_file() or path.stat().st_size == 0:
        read_bytes(path, "a video file")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _no_video(path, error) from error
    with container:
        if container.format.name in _NO_VIDEO or container.format.name.endswith("_pipe"):
            raise MediaError.at(path, "not a video", _A_VIDEO, "check the path")
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not container.streams:
            # A stream that got no frame leaves no trace in an MP4, and a cut index neither.
            found = "no frames in this file: its video stream is empty, or the file was cut off"
            raise MediaError.at(path, found, _A_VIDEO, "copy the file again from its source")
        if not streams:
            raise MediaError.at(path, "no video stream in this file", _A_VIDEO, "check the path")
        if streams[0].codec_context is None:
            raise MediaError.at(
                path, "a video codec without a decoder here", _A_VIDEO, "convert it to H.264"
            )
        yield container, streams[0]


def _frames(container: Any, stream: Any, log: _DamageLog) -> Iterator[Any]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            log.note(f"reading stopped ({error.strerror})")
            break
        log.packet(packet)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            log.note(f"a packet could not be decoded ({error.strerror})")
            continue
        yield from frames
    try:
        # Reading broke off: what the decoder still holds is sound.
        yield from stream.decode(None)
    except av.error.FFmpegError as error:
        log.note(f"a packet could not be decoded ({error.strerror})")


class _DamageLog:
    """Words what was lost and where; runs of like trouble become one line."""

    def __init__(self, lines: list[str]) -> None:
        self.frames = 0
        self._lines = lines
        self._packets = 0
        self._first_s: float | None = None
        self._last_s = 0.0
        self._repaired: tuple[int, float] | None = None
        self._run = ("", 0, "")

    def packet(self, packet: Any) -> None:
        if packet.size:
            self._packets += 1
        if packet.size and packet.is_corrupt:
            self.note("a packet is incomplete")

    def frame(self, frame: Any) -> None:
        self._flush()
        if frame.time is not None:
            self._first_s = frame.time if self._first_s is None else self._first_s
            self._last_s = frame.time - self._first_s
        if frame.is_corrupt and self._repaired is None:
            self._repaired = self.frames, self._last_s
        elif not frame.is_corrupt:
            self._end_repaired()
        self.frames += 1

    def note(self, text: str) -> None:
        message, count, where = self._run
        if message == text:
            self._run = text, count + 1, where
            return
        self._flush()
        self._run = text, 1, f"near frame {self.frames}, {self._last_s:.2f} s"

    def close(self, container: Any, stream: Any) -> None:
        self._flush()
        self._end_repaired()
        stated = stream.frames
        if stated and self._packets < stated:
            self._lines.append(
                f"the file ends early: its header states {stated} frames, {self.frames} were"
                f" decoded, the last at {self._last_s:.2f} s"
            )
        elif not stated and len(container.streams) == 1 and container.duration:
            duration = container.duration / 1_000_000
            # A second's grace: containers round, and last a frame longer.
            if self._last_s < duration - 1.0 - float(1 / (stream.average_rate or 1)):
                self._lines.append(
                    f"the file ends early: its header states {duration:.2f} s, the last frame"
                    f" decoded is at {self._last_s:.2f} s"
                )

    def _flush(self) -> None:
        message, count, where = self._run
        if count:
            times = f" ({count} times)" if count > 1 else ""
            self._lines.append(f"{where}: {message}{times}")
        self._run = ("", 0, "")

    def _end_repaired(self) -> None:
        if self._repaired is None:
            return
        first, time_s = self._repaired
        self._lines.append(
            f"frames {first} to {self.frames - 1} (from {time_s:.2f} s): damaged, given as the"
            " decoder repaired them"
        )
        self._repaired = None


def _turn(frame: Any) -> Turn:
    """Read the display matrix (ISO/IEC 14496-12, tkhd): x' = a x + c y, y' = b x + d y."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, d < 0, a < 0)
    return Turn(True, b < 0, c < 0)


def _no_video(path: Path, error: Exception) -> MediaError:
    return MediaError.at(
        path,
        f"cannot be opened as a video ({getattr(error, 'strerror', None) or error})",
        _A_VIDEO,
        "if it is one, it is damaged or was cut off before it was finished: copy it again",
    )
