"""Writing H.264 video that browsers and players show with the right colours."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, OutputError
from dvos.files import BlockWriter, atomic_path

_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv")
_RATES = (1e-6, 1e6)
#: Ticks between two frames that MP4 can hold.
_LONGEST = 2**31 - 2


class VideoWriter(BlockWriter):
    """Write frames to an H.264 video; a context manager, whose file appears when its block ends.

    Pixel format yuv420p, limited range, BT.709; MP4 and MOV with the index in front, so that a
    browser plays while it loads. An odd height or width of ``size`` is made even by repeating the
    last row or column. The same frames give the same bytes wherever the number of cores is the
    same. A MediaError if an argument is out of range, or PyAV lacks x264.

    The path ends in ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``; frames a second are 1e-6 to 1e6;
    ``size`` is (height, width); ``crf``, x264's constant rate factor, is 0 lossless, 18 hardly
    visible loss, 51 worst. Of a ``timed`` writer, whose frames come with times of their own, the
    rate is the mean, which tells how fine and how far apart times can be stored: 1/90,000 s and 6
    hours at usual rates, 1 ms and 24 days below 0.01.
    """

    def __init__(
        self,
        path: Path,
        *,
        frame_rate: float,
        size: tuple[int, int],
        crf: int = 20,
        timed: bool = False,
    ) -> None:
        self.path = Path(path)
        self.size = size
        self.frame_count = 0
        self._crf = crf
        self._timed = timed
        self._last_pts = -1
        low, high = _RATES
        if timed:
            frame_rate = min(max(frame_rate, low), high)
        if self.path.suffix.lower() not in _CONTAINERS:
            found = f"cannot write video as {self.path.suffix or 'a file without ending'}"
            raise MediaError.at(path, found, f"one of {', '.join(_CONTAINERS)}")
        if not low <= frame_rate <= high:
            raise MediaError.at(path, f"frame rate {frame_rate}", f"{low} to {high} a second")
        if min(size) < 1:
            raise MediaError.at(path, f"frame size {size[0]} x {size[1]}", "at least 1 x 1")
        if not 0 <= crf <= 51:
            raise MediaError.at(path, f"crf {crf}", "0 (lossless) to 51")
        # 1001 is the denominator of the NTSC rates (30000/1001 and so on).
        rate = Fraction(frame_rate).limit_denominator(1001)
        self._rate = rate or Fraction(1, round(1 / frame_rate))
        # The clock of MPEG, of which all usual rates are whole parts.
        clock = 1000 if rate < 0.01 else 90_000 if rate <= 1000 else 10**6
        self._tick = Fraction(1, clock) if timed or rate < 0.01 else 1 / self._rate

    @contextmanager
    def _opened(self) -> Iterator[None]:
        import av

        if "libx264" not in av.codecs_available:
            found = "this build of PyAV has no H.264 encoder (libx264)"
            remedy = "install the PyAV wheel from PyPI: pip install --force-reinstall av"
            raise MediaError.at(self.path, found, remedy=remedy)
        # Else a Matroska file bears a number drawn at random.
        in_matroska = self.path.suffix.lower() == ".mkv"
        muxing = {"fflags": "+bitexact"} if in_matroska else {"movflags": "+faststart"}
        if not in_matroska and self._tick == Fraction(1, 1000):
            # FFmpeg's own clock is too fine for days between frames.
            muxing["video_track_timescale"] = "1000"
        # With its macroblock tree x264 reads unwritten memory: equal frames give unequal files.
        options = {"crf": str(self._crf), "preset": "fast", "x264-params": "mbtree=0"}
        if self._timed or self._rate < 0.01:
            # Reordered frames would make the container's duration end too early.
            options["bf"] = "0"
        try:
            with (
                atomic_path(self.path) as temporary,
                av.open(f"file:{temporary}", "w", options=muxing) as self._container,
            ):
                stream = self._container.add_stream("libx264", rate=self._rate, options=options)
                self._stream: Any = stream
                height, width = self.size
                stream.height, stream.width = height + height % 2, width + width % 2
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.time_base = self._tick
                # 1 is BT.709 in each of these tables of ITU-T H.273; range 1 is limited.
                context.colorspace = context.color_primaries = context.color_trc = 1
                context.color_range = 1
                yield
                if self.frame_count == 0:
                    raise MediaError.at(self.path, "no frame was written", "at least one")
                self._container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            found = f"the video cannot be written ({error})"
            remedy = "free space and check permissions there, or choose another place"
            raise OutputError.at(self.path, found, remedy=remedy) from error

    def write(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Append a frame, uint8 RGB (H, W, 3); for a ``timed`` writer seconds since the first one.

        A MediaError if size or type differ, an OutputError if the disk is full, here or at the end.
        """
        import av
        from av.video.reformatter import ColorRange, Colorspace

        if image.shape != (*self.size, 3) or image.dtype != np.uint8:
            found = f"frame {self.frame_count} has shape {image.shape}, type {image.dtype}"
            raise MediaError.at(self.path, found, f"{(*self.size, 3)}, uint8")
        if self._timed != (time_s is not None):
            raise ValueError("a timed writer, and no other, takes the time of each frame")
        down, right = image.shape[0] % 2, image.shape[1] % 2
        if down or right:
            image = np.pad(image, [(0, down), (0, right), (0, 0)], mode="edge")
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame: Any = rgb.reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        time = self.frame_count / self._rate if time_s is None else time_s
        pts = round(time / self._tick)
        # Times that fall on one tick, go back, or lie too far apart, the container cannot hold.
        pts = min(max(pts, self._last_pts + 1), max(self._last_pts, 0) + _LONGEST)
        frame.pts = self._last_pts = pts
        frame.time_base = self._tick
        self._container.mux(self._stream.encode(frame))
        self.frame_count += 1
