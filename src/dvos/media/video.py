"""The frames of a video file by PyAV: robust against damage, exact in colour, time and turn."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dvos.errors import MediaError
from dvos.files import read_bytes

#: Demuxers that take stills and text for a video of one frame.
_NO_VIDEO = ("image2", "tty", "gif")
_A_VIDEO = "a video file that FFmpeg reads (MP4, MOV, AVI, MKV, WebM, MPEG)"
_UNSPECIFIED = (0, 2)  # AVColorSpace RGB and UNSPECIFIED: no matrix is named


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Attributes:
        frame_index: From 0. In a video the number of frames decoded before
            this one; in a folder the place of the file, so that an unreadable
            file leaves a gap.
        time_s: Seconds since the first frame, from the time stamps; NaN where
            there are neither time stamps nor a frame rate.
        name: Image stem, or ``{video stem}_{frame_index:06d}``.
        image: uint8 RGB (H, W, 3), upright.
    """

    frame_index: int
    time_s: float
    name: str
    image: npt.NDArray[np.uint8]


class VideoFile:
    """The frames of a video file, decoded in order with several threads.

    - A rotation or mirror tag is applied; :attr:`size` is the size after it.
    - Times come from the time stamps, so variable frame rates are exact.
    - Colour is converted by the matrix the file names (where it names none:
      BT.709 from 720 lines up, else BT.601), 10 bit and more are reduced to 8.
    - What is damaged is left out and told in :attr:`damage`; a frame that the
      decoder repaired is given, and told as well.
    - ``frames(start)`` decodes from the beginning and drops what comes before
      ``start``: slower than a seek, but the index is exact.

    Args:
        path: The file. Opening it decodes the first frame.
        threads: Decoder threads; 0 for one per core (16 at most). Give 1
            where processes already share the cores.

    Raises:
        MediaError: If it is missing, no video, has no video stream, or no
            frame of it can be decoded. While iterating: if the frame size
            changes.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.path = Path(path)
        self.damage: list[str] = []
        self._threads = threads
        self._counted: int | None = None
        self._facts = _probe(self.path, threads)

    @property
    def name(self) -> str:
        """Stem of the file name."""
        return self.path.stem

    @property
    def frame_rate(self) -> float | None:
        """Mean frames a second; None if the file tells none."""
        rate = self._facts.rate
        return None if rate is None else float(rate)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) after rotation."""
        return self._facts.size

    @property
    def frame_count(self) -> int | None:
        """As the header states, or as counted by a whole pass."""
        return self._facts.stated_frames if self._counted is None else self._counted

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on; see :class:`FrameSource`."""
        facts = self._facts
        # A list of its own for each pass: an abandoned pass cannot add to it.
        damage = self.damage = []
        first_pts: int | None = None
        index = -1
        with closing(_decoded(self.path, self._threads, damage)) as decoded:
            for index, frame in enumerate(decoded):
                if first_pts is None:
                    first_pts = frame.pts
                if (frame.height, frame.width) != facts.coded_size:
                    raise MediaError.at(
                        self.path,
                        f"frame {index} is {_text((frame.height, frame.width))},"
                        f" the frames before it are {_text(facts.coded_size)}",
                        "one frame size throughout",
                        f"split the video at frame {index}, or scale it to one size",
                    )
                if index < start:
                    continue
                if frame.pts is not None and first_pts is not None and frame.time_base:
                    time_s = float((frame.pts - first_pts) * frame.time_base)
                else:
                    time_s = float(index / facts.rate) if facts.rate else math.nan
                name = f"{self.name}_{index:06d}"
                yield VideoFrame(index, time_s, name, _to_rgb(frame, facts.turn))
        self._counted = index + 1


class _Turn(NamedTuple):
    """How stored frames become upright: transpose, then flip rows, then columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


class _Facts(NamedTuple):
    """What the header and the first frame tell. Sizes are (height, width)."""

    size: tuple[int, int]
    coded_size: tuple[int, int]
    turn: _Turn
    rate: Fraction | None
    stated_frames: int | None


def _probe(path: Path, threads: int = 0) -> _Facts:
    """Open a video and decode its first frame.

    Raises:
        MediaError: If that is not possible; the message says why.
    """
    with _opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        stated = stream.frames or None
    with closing(_decoded(path, threads, [])) as frames:
        frame = next(frames)
    turn = _turn(frame)
    coded = (frame.height, frame.width)
    size = coded[::-1] if turn.transpose else coded
    return _Facts(size, coded, turn, rate, stated)


def _decoded(path: Path, threads: int, damage: list[str]) -> Generator[Any, None, None]:
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


def _to_rgb(frame: Any, turn: _Turn) -> npt.NDArray[np.uint8]:
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
        raise MediaError.at(
            path,
            f"cannot be opened as a video ({getattr(error, 'strerror', None) or error})",
            _A_VIDEO,
            "if it is one, it is damaged or was cut off before it was finished: copy it again",
        ) from error
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


def _turn(frame: Any) -> _Turn:
    """Read the display matrix (ISO/IEC 14496-12, tkhd): x' = a x + c y, y' = b x + d y."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return _Turn()
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Turn(False, d < 0, a < 0)
    return _Turn(True, b < 0, c < 0)


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"
