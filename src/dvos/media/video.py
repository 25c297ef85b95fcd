"""The frames of a video file by PyAV: robust against damage, exact in colour, time and turn."""

import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import read_bytes, stem_of
from dvos.media.image import to_uint8
from dvos.media.intensity import ASKED, MEASURED, STATED, Measure, tell_of_video
from dvos.media.video_damage import Clock, DamageLog

#: Demuxers that take stills and text for a video of one frame.
_NO_VIDEO = ("image2", "tty", "gif")
_A_VIDEO = "a video file that FFmpeg reads (MP4, MOV, AVI, MKV, WebM, MPEG)"
#: Depths of YUV that FFmpeg has without subsampling.
_YUV_BITS = (9, 10, 12, 14, 16)
_UNSPECIFIED = (0, 2)  # AVColorSpace RGB and UNSPECIFIED: no matrix is named
#: Frames of more than 8 bit that are measured, about.
_MEASURED = 16
#: Frames ahead that are decoded on the way rather than sought.
_NEAR = 24


@dataclass(frozen=True)
class VideoFrame:
    """One frame, ``image`` uint8 RGB (H, W, 3), upright.

    Its index counts from 0 the frames decoded of a video, the files of a folder, where one that
    cannot be read leaves a gap; its name is an image's stem or ``{video stem}_{frame_index:06d}``.
    Seconds are since the first frame, NaN where there are neither time stamps nor a frame rate.
    """

    frame_index: int
    time_s: float
    name: str
    image: NDArray[np.uint8]


class VideoFile:
    """The frames of a video file, a :class:`dvos.media.frames.FrameSource`; opening decodes one.

    They are upright, with times from the time stamps. Colour is converted by the matrix the file
    names (where it names none: BT.709 from 720 lines up, else BT.601). What is damaged is left out
    and told in :attr:`damage`; a frame that the decoder repaired is given, and told as well.
    ``frames(start)`` decodes from the beginning: the index is exact. Decoder ``threads`` are one
    per core for 0, 16 at most. The ``intensity`` is of grey and RGB of more than 8 bit; ``auto`` is
    measured in a pass of its own, and told in the log unless not ``is_told``. A MediaError if it is
    no video, no frame can be decoded, or, while iterating, the frame size changes.
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
        clock = Clock(self._rate)
        index = -1
        with closing(_decoded(self.path, self._threads, damage)) as decoded:
            for index, frame in enumerate(decoded):
                if (size := (frame.height, frame.width)) != self._coded:
                    found = f"frame {index} is {told(size)}, the frames before it are"
                    remedy = f"split the video at frame {index}, or scale it to one size"
                    expected = "one frame size throughout"
                    raise MediaError.at(self.path, f"{found} {told(self._coded)}", expected, remedy)
                time_s = clock.time_of(index, frame)
                if index >= start:
                    image = to_rgb(frame, self._matrix, self.intensity)
                    yield VideoFrame(index, time_s, f"{self.name}_{index:06d}", image)
        clock.close(damage)
        self.frame_count = index + 1

    def count(self) -> int:
        """Number of frames, by decoding them all: a header may state too few or too many."""
        for _ in self.frames(sys.maxsize):
            pass
        return self.frame_count or 0

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


def _decoded(path: Path, threads: int, damage: list[str]) -> Generator[Any, None, None]:
    """The decoded frames (``av.VideoFrame``) in order of display; lines of damage are added."""
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        log = DamageLog(damage)
        for frame in _frames(container, stream, log):
            log.frame(frame)
            yield frame
        log.close(container, stream)
        if log.frames == 0:
            found = f"no frame could be decoded ({damage[0] if damage else 'the stream is empty'})"
            remedy = "copy the file again from its source"
            raise MediaError.at(path, found, "at least one frame", remedy)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    if not path.is_file() or path.stat().st_size == 0:
        read_bytes(path, "a video file")
    # As a file, since a name with a colon would be taken for an address.
    name = f"file:{path}"
    try:
        try:
            # Tags that are no UTF-8 are no reason to refuse it.
            container = av.open(name, metadata_errors="replace")
        except TypeError:  # from release 19 on they never are, and it has no such argument
            container = av.open(name)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        found = f"cannot be opened as a video ({getattr(error, 'strerror', None) or error})"
        remedy = "if it is one, it is damaged or was cut off before it was finished: copy it again"
        raise MediaError.at(path, found, _A_VIDEO, remedy) from error
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


def _frames(container: Any, stream: Any, log: DamageLog) -> Iterator[Any]:
    import av

    def decoded(packet: Any) -> Any:
        try:
            return stream.decode(packet)
        except av.error.FFmpegError as error:
            log.note(f"a packet could not be decoded ({error.strerror})")
            return ()

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            log.note(f"reading stopped ({error.strerror})")
            # What the decoder still holds is sound.
            yield from decoded(None)
            return
        log.packet(packet)
        yield from decoded(packet)


def told(size: tuple[int, int]) -> str:
    """How a message tells (height, width)."""
    return f"{size[1]} x {size[0]} pixels (width x height)"


class SeekableVideo(VideoFile):
    """A video whose frames are also read one by one, the same as in a pass; threads may share it.

    The time stamps of all packets say which frame is which; where some are missing or equal, frames
    are counted from the beginning.
    """

    def __init__(self, path: Path, *, intensity: str = "auto") -> None:
        super().__init__(path, intensity=intensity)
        self._guard = threading.Lock()
        self._stamps: list[int] | None = None
        self._next = 0
        self._reader: Generator[Any, None, None] | None = None

    def count(self) -> int:
        """Number of frames: of packets, where these tell them apart."""
        with self._guard:
            return len(self._index()) or super().count()

    def frame(self, index: int) -> NDArray[np.uint8]:
        """The frame of that index, uint8 RGB (H, W, 3); a MediaError if it cannot be decoded."""
        with self._guard:
            stamps = self._index()
            if index < len(stamps):
                if self._reader is None or not self._next <= index <= self._next + _NEAR:
                    self._reader = None
                    self._reader = self._decoded_from(stamps[index])
                for frame in self._reader or ():
                    if frame.pts == stamps[index]:
                        self._next = index + 1
                        if self.intensity == "auto":
                            self.intensity = self._measure() if deep_format(frame) else "full"
                        return to_rgb(frame, self._matrix, self.intensity)
                    if frame.pts is None or frame.pts > stamps[index]:
                        break
                self._reader = None
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

    def _decoded_from(self, stamp: int) -> Generator[Any, None, None]:
        import av

        with _opened(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            try:
                container.seek(stamp, stream=stream, backward=True)
                yield from container.decode(stream)
            except av.error.FFmpegError:
                return  # read in order instead, which tells what is damaged


def _bits(frame: Any) -> int:
    return int(max(part.bits for part in frame.format.components))


def deep_format(frame: Any) -> str:
    """The format of 16 bit for a frame of grey or RGB with more than 8; "" for any other."""
    if _bits(frame) <= 8:
        return ""
    if len(frame.format.components) <= 2:
        return "gray16le"
    return "rgb48le" if frame.format.is_rgb else ""


def deep_yuv_format(frame: Any) -> str:
    """The format without subsampling for a frame of YUV with more than 8 bit; "" for any other."""
    bits, name = _bits(frame), frame.format.name
    if deep_format(frame) or bits not in _YUV_BITS or name.startswith(("xyz", "bayer")):
        return ""
    return f"yuv444p{bits}le"


def to_rgb(frame: Any, matrix: list[int], intensity: str) -> NDArray[np.uint8]:
    """An ``av.VideoFrame`` as contiguous uint8 RGB (H, W, 3), turned upright by its matrix."""
    from av.video.reformatter import Colorspace

    space = None
    if frame.colorspace in _UNSPECIFIED:
        # What players assume: high definition is BT.709, the rest BT.601.
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    if full := deep_yuv_format(frame):
        # FFmpeg's short way to RGB cuts samples to 8 bit first: up to 2.6 of 255 too dark.
        frame = frame.reformat(format=full, src_colorspace=space, dst_colorspace=space)
    deep = deep_format(frame)
    image = frame.to_ndarray(format=deep or "rgb24", src_colorspace=space, dst_colorspace=space)
    if deep:
        image = to_uint8(image, intensity)
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
