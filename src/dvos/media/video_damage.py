"""What is wrong with a video: times that do not grow, damage, a file that ends early."""

import math
import os
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

#: Bytes at the head of the file, in which its streams are described.
_HEAD = 2**18
#: Of an index of indices, what stands before its entries, and how long each is.
_INDEX, _ENTRY = 24, 16
_OF_INDICES = 0


class Clock:
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
            text = f"the time stamps stand still or jump back {len(self._jumps)} times, first at"
            damage.append(f"{text} {self._jumps[0]}: the times given go on growing")


class DamageLog:
    """Words what was lost and where; runs of like trouble become one line."""

    def __init__(self, lines: list[str]) -> None:
        self.frames = 0
        self._lines = lines
        self._packets = 0
        self._shown_s = self._end_s = 0.0
        self._first_s: float | None = None
        self._last_s = self._step_s = 0.0
        self._repaired: tuple[int, float] | None = None
        self._run = ("", 0, "")

    def packet(self, packet: Any) -> None:
        """Take a packet before it is decoded."""
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
        """Take a frame as decoded."""
        self._flush()
        if frame.time is not None:
            self._first_s = frame.time if self._first_s is None else self._first_s
            time_s = frame.time - self._first_s
            self._last_s, self._step_s = time_s, time_s - self._last_s
        if frame.is_corrupt and self._repaired is None:
            self._repaired = self.frames, self._last_s
        elif not frame.is_corrupt:
            self._end_repaired()
        self.frames += 1

    def note(self, text: str) -> None:
        """Note trouble where decoding stands."""
        message, count, where = self._run
        if message != text:
            self._flush()
            count, where = 0, f"near frame {self.frames}, {self._last_s:.2f} s"
        self._run = text, count + 1, where

    def close(self, container: Any, stream: Any) -> None:
        """Tell what is missing of what the file states."""
        self._flush()
        self._end_repaired()
        stated = ""
        frame_s = float(1 / (stream.average_rate or 1))
        if stream.frames:
            # Fewer packets than stated may be all: an edit list leaves some out or begins
            # late, and an AVI counts frames that the recorder dropped.
            start, duration = stream.start_time or 0, stream.duration or math.inf
            late = start if start < duration else 0
            short = (duration - late) * float(stream.time_base) - self._shown_s
            if container.format.name == "avi":
                whole = _is_whole_avi(Path(container.name.removeprefix("file:")))
                short = 0.0 if whole else short + self._shown_s - self._end_s
            if self._packets < stream.frames and short > frame_s / 2:
                stated = f"{stream.frames} frames, {self.frames} were decoded, the last at"
        elif len(container.streams) == 1 and container.duration:
            # Some count it from the first stamp, some from 0, far from stamps of the time of day.
            duration, first = container.duration / 1_000_000, self._first_s or 0.0
            reached = self._last_s + (first if duration >= first else 0.0)
            # A second's grace: containers round, and last a frame longer, which may be days.
            if reached < duration - 1.0 - max(frame_s, self._step_s):
                stated = f"{duration:.2f} s, the last frame decoded is at"
        if stated:
            text = f"the file ends early: its header states {stated} {self._last_s:.2f} s"
            self._lines.append(text)

    def _flush(self) -> None:
        """End a run of like trouble."""
        message, count, where = self._run
        if count:
            times = f" ({count} times)" if count > 1 else ""
            self._lines.append(f"{where}: {message}{times}")
        self._run = ("", 0, "")

    def _end_repaired(self) -> None:
        if self._repaired is not None:
            first, time_s = self._repaired
            which = f"frames {first} to {self.frames - 1} (from {time_s:.2f} s)"
            self._lines.append(f"{which}: damaged, given as the decoder repaired them")
            self._repaired = None


def _is_whole_avi(path: Path) -> bool:
    """Whether the segments of an AVI (several over 1 GB) end with the file, and none misses."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD)
        place = 0
        while place < end:
            file.seek(place)
            name, length = file.read(4), file.read(4)
            if name != b"RIFF" or len(length) < 4:
                return False
            place += 8 + int.from_bytes(length, "little")
            place += place % 2 and place < end  # to an even place
    return place == end and all(stop <= end for stop in _listed(head))


def _listed(head: bytes) -> Iterator[int]:
    """Where the indices end of the segments that the header lists, OpenDML 1.02, page 16."""
    for found in re.finditer(b"indx", head):
        body = head[found.start() + 8 :]
        if len(body) >= _INDEX and body[3] == _OF_INDICES:
            entries = body[_INDEX : _INDEX + _ENTRY * int.from_bytes(body[4:8], "little")]
            for offset, size, _ in struct.iter_unpack("<QII", entries[: len(entries) // 16 * 16]):
                yield offset + size
