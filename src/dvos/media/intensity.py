"""Which samples of images of more than 8 bit become black and white: one pair for a whole clip.

An intensity is text: ``full`` (16 bit divided by 257), ``LOW,HIGH`` (the samples that become 0 and
255) or ``auto`` (these, measured: a camera of 12 bit fills a small part of 16).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, shortened
from dvos.files import read_bytes
from dvos.media.image import decode, sniff
from dvos.media.layout import evenly, list_images
from dvos.media.tiff import tiff_depth
from dvos.tables import split_address

_log = logging.getLogger(__name__)

#: Images whose depth is looked at, and those of more than 8 bit that are measured, spread evenly.
_LOOKED_AT, _MEASURED = 64, 16
#: Pixels taken of each.
_PIXELS = 2**20
_PERCENTILES = (0.1, 99.9)
#: 16-bit samples that span this much or more use their range: they are divided by 257.
_WIDE = 2**15

#: Why samples become what they do.
MEASURED, ASKED = "as measured", "as asked for or as in training"
STATED = "a video in YUV states what is black and white: no other limits are applied"
#: What :func:`told_together` holds back: by the reason, the limits of each video.
_together: dict[str, dict[str, str]] | None = None


def choose_intensity(chosen: str, images: Sequence[Path], where: str | Path) -> str:
    """The intensity of some images, measured where that is asked for; told in one line if not full.

    They are of one camera; what cannot be read is passed over. ``where`` says what they are. It is
    ``full``, also of images of 8 bit, or ``LOW,HIGH``.
    """
    found = settled(chosen, images)
    if is_to_be_told(found, images):
        tell({str(where): found}, MEASURED if chosen == "auto" else ASKED)
    return found


def settled(chosen: str, images: Sequence[Path]) -> str:
    """As :func:`choose_intensity`, and nothing is told."""
    return (measure_intensity(images) or "full") if chosen == "auto" else chosen


def is_to_be_told(found: str, images: Sequence[Path]) -> bool:
    """Whether an intensity changes what is seen of images: of more than 8 bit."""
    return found != "full" and bool(_deep(images))


def tell(found: Mapping[str, str], why: str) -> None:
    """Tell in one line which samples become black and white: ``LOW,HIGH`` by clip, and why."""
    if not found:
        return
    names, pairs = list(found), set(found.values())
    what = names[0] if len(names) == 1 else f"{len(names)} clips ({shortened(names)})"
    if why == STATED:
        told = STATED
    elif len(pairs) == 1:
        low, high = pairs.pop().split(",")
        told = f"samples from {low} to {high} are spread over 0 to 255, {why}"
    else:
        each = shortened([f"{name} {pair}" for name, pair in found.items()])
        told = f"samples are spread over 0 to 255 by limits of each clip's own, {why}: {each}"
    _log.warning("%s: %s (see intensity)", what, told)


def tell_of_video(name: str, found: str, why: str) -> None:
    """As :func:`tell`, of one video, but together with others in :func:`told_together`."""
    if _together is None:
        tell({name: found}, why)
        return
    first = not any(_together.values())
    notes = _together.setdefault(why, {})
    if name not in notes:
        notes[name] = found
        if first:
            tell(notes, why)


@contextmanager
def told_together() -> Iterator[None]:
    """Of the videos opened in the block tell the first at once, others at the outermost's end."""
    global _together
    if _together is not None:
        yield
        return
    notes = _together = {}
    try:
        yield
    finally:
        _together = None
        for place, (why, found) in enumerate(notes.items()):
            tell(dict(islice(found.items(), place == 0, None)), why)


def measure_intensity(images: Sequence[Path]) -> str | None:
    """What images of more than 8 bit hold: ``full`` if they use their range, else ``LOW,HIGH``.

    These are percentiles of all samples of a few; None if no image has more than 8 bit.
    """
    measure = Measure()
    for path in evenly(_deep(images), _MEASURED):
        with suppress(MediaError):
            measure.add(decode(read_bytes(path), path))
    return measure.result()


class Measure:
    """Takes samples of the images of a clip, and says what they hold."""

    def __init__(self) -> None:
        self._samples = [np.empty(0)]
        self._all_16_bit = True

    def add(self, image: NDArray[Any]) -> None:
        """Take an image (H, W) or (H, W, C), of which a fourth channel is alpha."""
        pixels = image.reshape(image.shape[0] * image.shape[1], -1)[:, :3]
        taken = pixels[:: max(1, len(pixels) // _PIXELS)].astype(np.float64).ravel()
        self._samples.append(taken[np.isfinite(taken)])
        self._all_16_bit = self._all_16_bit and image.dtype == np.uint16

    def result(self) -> str | None:
        """As of :func:`measure_intensity`; None if nothing was taken."""
        together = np.concatenate(self._samples)
        if not together.size:
            return None
        low, high = np.percentile(together, _PERCENTILES)
        if self._all_16_bit:
            if high - low >= _WIDE:
                return "full"
            low, high = np.floor(low), np.ceil(high)
        return f"{low:.9g},{high if high > low else low + 1:.9g}"


def folder_intensity(image: Path) -> str:
    """The intensity of an image as measured over its folder, so that all in it look alike."""
    return _of_folder(image.parent) if _is_deep(image) else "full"


@lru_cache(maxsize=64)
def _of_folder(folder: Path) -> str:
    return settled("auto", list_images(folder))


def _deep(images: Sequence[Path]) -> list[Path]:
    """Those of more than 8 bit, of some that are looked at."""
    return [path for path in evenly(images, _LOOKED_AT) if _is_deep(path)]


def _is_deep(path: Path) -> bool:
    if split_address(path) is not None:
        return False  # a clip store's frame
    with suppress(OSError, ValueError, MediaError):
        head = read_bytes(path, size=32)
        if sniff(head) == "PNG":
            # Its depth stands in its first chunk.
            return len(head) > 24 and head[24] > 8
        return sniff(head) == "TIFF" and tiff_depth(path) > 8
    return False
