"""The frames of a video file by PyAV: robust against damage, exact in colour, time and turn."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dvos.errors import MediaError
from dvos.files import read_bytes, stem_of
from dvos.media.avi import is_whole_avi
from dvos.media.intensity import ASKED, MEASURED, STATED, Measure, tell_of_video
from dvos.media.video_pixels import deep_format, deep_yuv_format, to_rgb

#: Demuxers that take stills and text for a video of one frame.
_NO_VIDEO = ("image2", "tty", "gif")
_A_VIDEO = "a video file that FFmpeg reads (MP4, MOV, AVI, MKV, WebM, MPEG)"
#: Frames of more than 8 bit that are measured, about.
_MEASURED = 16


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

    Keeps to :class:`dvos.media.frames.FrameSource`, and more:

    - A rotation or mirror tag is applied; :attr:`size` is the size after it.
    - Times come from the time stamps, so variable frame rates are exact.
    - Colour is converted by the matrix the file names (where it names none:
      BT.709 from 720 lines up, else BT.601), 10 bit and more are reduced to 8:
      grey and RGB by the intensity, see :mod:`dvos.media.intensity`; YUV, which
      states what is black and white, as 8-bit YUV is.
    - What is damaged is left out and told in :attr:`damage`; a frame that the
      decoder repaired is given, and told as well.
    - ``frames(start)`` decodes from the beginning and drops what comes before
      ``start``: slower than a seek, but the index is exact.

    Args:
        path: The file. Opening it decodes the first frame.
        threads: Decoder threads; 0 for one per core (16 at most). Give 1
            where processes already share the cores.
        intensity: Of grey and RGB of more than 8 bit; ``auto`` is measured in a pass of its own.
        is_told: Whether the log tells what became of such samples.

    Raises:
        MediaError: If it is missing, no video, has no video stream, or no
            frame of it can be decoded. While iterating: if the frame size
            changes.
    """

    def __init__(
        self, path: Path, *, threads: int = 0, intensity: str = "auto", is_told: bool = True
    ) -> None:
        from av.sidedata.sidedata import Type

        self.path = Path(path)
        self.name = stem_of(self.path)
        self.damage: list[str] = []
        self._threads = threads
        self._is_told = is_told
        with _opened(self.path) as (_, stream):
            self._rate: Fraction | None = stream.average_rate or stream.guessed_rate
            self.frame_rate = None if self._rate is None else float(self._rate)
            self.frame_count: int | None = stream.frames or None
            if self.frame_count and stream.duration and stream.average_rate:
                # An edit list shows a part of the frames that the header counts.
                shown = stream.duration * stream.time_base * stream.average_rate
                self.frame_count = min(self.frame_count, round(shown))
        with closing(_decoded(self.path, threads, [])) as frames:
            frame = next(frames)
        self._coded = (frame.height, frame.width)
        # a, b, c, d of x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, tkhd).
        data = frame.side_data.get(Type.DISPLAYMATRIX)
        data = np.eye(3, dtype=np.int32) if data is None else bytes(data)
        self._matrix: list[int] = np.frombuffer(data, np.int32)[[0, 1, 3, 4]].tolist()
        self.size: tuple[int, int] = to_rgb(frame, self._matrix, "full").shape[:2]
        #: What becomes of the samples; ``auto`` until the first frame is given.
        self.intensity = intensity if deep_format(frame) else "full"
        #: Whether limits were asked for, and it states its own.
        self.states_limits = "," in intensity and bool(deep_yuv_format(frame))
        if is_told and (self.states_limits or "," in self.intensity):
            tell_of_video(self.name, intensity, STATED if self.states_limits else ASKED)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on."""
        # A list of its own for each pass: an abandoned pass cannot add to it.
        damage = self.damage = []
        if self.intensity == "auto":
            self.intensity = self._measure()
        clock = _Clock(self._rate)
        index = -1
        with closing(_decoded(self.path, self._threads, damage)) as decoded:
            for index, frame in enumerate(decoded):
                if (frame.height, frame.width) != self._coded:
                    raise MediaError.at(
                        self.path,
                        f"frame {index} is {_text((frame.height, frame.width))},"
                        f" the frames before it are {_text(self._coded)}",
                        "one frame size throughout",
                        f"split the video at frame {index}, or scale it to one size",
                    )
                time_s = clock.time_of(index, frame)
                if index >= start:
                    name = f"{self.name}_{index:06d}"
                    image = to_rgb(frame, self._matrix, self.intensity)
                    yield VideoFrame(index, time_s, name, image)
        clock.close(damage)
        self.frame_count = index + 1

    def _measure(self) -> str:
        measure = Measure()
        step = max(1, (self.frame_count or 0) // _MEASURED)
        with closing(_decoded(self.path, self._threads, [])) as decoded:
            for frame in islice(decoded, 0, None, step):
                measure.add(frame.to_ndarray(format=deep_format(frame) or "rgb24"))
        found = measure.result() or "full"
        if self._is_told and found != "full":
            tell_of_video(self.name, found, MEASURED)
        return found


class _Clock:
    """Times that only grow, of stamps that may not: in joined recordings they begin anew."""

    def __init__(self, rate: Fraction | None) -> None:
        self._rate = rate
        self._first: Fraction | None = None
        self._step = 1 / rate if rate else Fraction(1, 25)
        self._stamp = self._time = Fraction(0)
        self._jumps: list[str] = []

    def time_of(self, index: int, frame: Any) -> float:
        """Seconds from the first frame to this one; NaN where nothing tells."""
        if frame.pts is None or not frame.time_base:
            if self._first is None:
                return float(index / self._rate) if self._rate else math.nan
            stamp = self._stamp + self._step
        else:
            stamp = frame.pts * frame.time_base
        if self._first is None:
            self._first = stamp
        elif (time := stamp - self._first) > self._time:
            self._step = stamp - self._stamp if stamp > self._stamp else self._step
            self._time = time
        else:
            back = max(0.0, float(self._stamp - stamp))
            self._jumps.append(f"frame {index}, {float(self._time):.2f} s, by {back:.2f} s")
            if self._time - time > 1.5 * self._step:
                self._time += self._step
                self._first = stamp - self._time
            else:  # a slip, after which the stamps may be right again
                self._time += self._step / 2
        self._stamp = stamp
        return float(self._time)

    def close(self, damage: list[str]) -> None:
        """Tell where the stamps did not grow."""
        if self._jumps:
            damage.append(
                f"the time stamps stand still or jump back {len(self._jumps)} times, first at"
                f" {self._jumps[0]}: the times given go on growing"
            )


def _decoded(path: Path, threads: int, damage: list[str]) -> Generator[Any, None, None]:
    """The decoded frames (``av.VideoFrame``) in order of display; lines of damage are added."""
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


def _open_file(name: str) -> Any:
    """PyAV's container; tags that are no UTF-8 are no reason to refuse it."""
    import av

    try:
        return av.open(name, metadata_errors="replace")
    except TypeError:  # from release 19 on they never are, and it has no such argument
        return av.open(name)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    if not path.is_file() or path.stat().st_size == 0:
        read_bytes(path, "a video file")
    try:
        # As a file, since a name with a colon would be taken for an address.
        container = _open_file(f"file:{path}")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError.at(
            path,
            f"cannot be opened as a video ({getattr(error, 'strerror', None) or error})",
            _A_VIDEO,
            "if it is one, it is damaged or was cut off before it was finished: copy it again",
        ) from error
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        found, remedy = "", "check the path"
        if container.format.name in _NO_VIDEO or container.format.name.endswith("_pipe"):
            found = "not a video"
        elif not container.streams:
            # A stream that got no frame leaves no trace in an MP4, and a cut index neither.
            found = "no frames in this file: its video stream is empty, or the file was cut off"
            remedy = "copy the file again from its source"
        elif not streams:
            found = "no video stream in this file"
        elif streams[0].codec_context is None:
            found, remedy = "a video codec without a decoder here", "convert it to H.264"
        if found:
            raise MediaError.at(path, found, _A_VIDEO, remedy)
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
        self._shown_s = self._end_s = 0.0
        self._first_s: float | None = None
        self._last_s = 0.0
        self._repaired: tuple[int, float] | None = None
        self._run = ("", 0, "")

    def packet(self, packet: Any) -> None:
        if not packet.size:
            return
        self._packets += 1
        if packet.is_corrupt:
            self.note("a packet is incomplete")
        if packet.pts is not None and not packet.is_discard:
            tick, length = float(packet.time_base), packet.duration or 0
            self._shown_s += length * tick
            end = packet.pts - (packet.stream.start_time or 0) + length
            self._end_s = max(self._end_s, end * tick)

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
        if message != text:
            self._flush()
            count, where = 0, f"near frame {self.frames}, {self._last_s:.2f} s"
        self._run = text, count + 1, where

    def close(self, container: Any, stream: Any) -> None:
        self._flush()
        self._end_repaired()
        stated = ""
        frame_s = float(1 / (stream.average_rate or 1))
        if stream.frames:
            # Fewer packets than stated may be all: an edit list leaves some out, and an
            # AVI counts frames that the recorder dropped.
            short = (stream.duration or math.inf) * float(stream.time_base) - self._shown_s
            if container.format.name == "avi":
                whole = is_whole_avi(Path(container.name.removeprefix("file:")))
                short = 0.0 if whole else short + self._shown_s - self._end_s
            if self._packets < stream.frames and short > frame_s / 2:
                stated = f"{stream.frames} frames, {self.frames} were decoded, the last at"
        elif len(container.streams) == 1 and container.duration:
            # Some count the duration from the first stamp, some from 0, which stamps of
            # the time of day are far from.
            duration, first = container.duration / 1_000_000, self._first_s or 0.0
            reached = self._last_s + (first if duration >= first else 0.0)
            # A second's grace: containers round, and last a frame longer.
            if reached < duration - 1.0 - frame_s:
                stated = f"{duration:.2f} s, the last frame decoded is at"
        if stated:
            self._lines.append(
                f"the file ends early: its header states {stated} {self._last_s:.2f} s"
            )

    def _flush(self) -> None:
        message, count, where = self._run
        if count:
            times = f" ({count} times)" if count > 1 else ""
            self._lines.append(f"{where}: {message}{times}")
        self._run = ("", 0, "")

    def _end_repaired(self) -> None:
        if self._repaired is not None:
            first, time_s = self._repaired
            self._lines.append(
                f"frames {first} to {self.frames - 1} (from {time_s:.2f} s): damaged, given as"
                " the decoder repaired them"
            )
            self._repaired = None


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"
