"""Pictures for the page, drawn from the run's files.

All is shrunk first: an outline is as wide on a 4K frame as on a small one. What reads a file raises
a :class:`MediaError` if it is missing or damaged, or a mask and its frame differ in size.
"""

import base64
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dvos.errors import MediaError, check_size
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.frames import open_frames
from dvos.media.image import read_rgba
from dvos.media.mask import IGNORE, mask_ids, object_pixels, read_mask, without_unknown
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.reporting.contents import VideoPlace

P = ParamSpec("P")
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

#: Colours of truth against prediction, RGB. They differ in lightness too, and
#: stay apart for readers who do not tell red from green.
HIT = (86, 190, 245)
MISS = (255, 112, 30)
FALSE_ALARM = (205, 35, 170)

_GREY = 138  # behind cutouts: neither a dark nor a light object is lost on it
#: Outline of labelled objects, RGB: bright and of a hue that plants, soil and skin lack.
_OUTLINE = (40, 225, 255)
_GROUND = 60  # stands for a frame that was not given
#: Greatest height and width of a cutout on its sheet, and pixels between cutouts.
_CELL, _GAP = 64, 4
#: Of the moving picture: frames, longer side, WebP quality; some 300 kB together.
_MOVING_FRAMES, _MOVING_SIDE, _MOVING_QUALITY = 20, 320, 40
LOOKED_AT = 480  # pixels across at which pictures are looked at before they are enlarged
#: Bytes a pixel that a picture may take, and WebP qualities, of which the first is taken that does:
#: two dozen large pictures stay under 6 MB, grain and all.
_RATE, _QUALITIES = 0.15, (75, 60, 45, 30)


class Photo(NamedTuple):
    """Images with a caption, whose beginning ``strong`` is set in bold."""

    images: Sequence[tuple[UInt8, str]]  # (H, W, 3) RGB, with words for those who cannot see it.
    caption: str
    strong: str = ""


@dataclass
class Gallery:
    """Photos side by side, with a line for each that could not be made, and why."""

    photos: list[Photo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, make: Callable[P, Photo], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add what ``make`` gives, or a note where a picture is missing or damaged."""
        try:
            self.photos.append(make(*args, **kwargs))
        except MediaError as error:
            self.notes += [text for f in error.faults if (text := str(f)) not in self.notes]


def data_uri(image: UInt8) -> str:
    """An RGB image (H, W, 3) uint8 as a WebP file for the page."""
    picture, data = Image.fromarray(image), io.BytesIO()
    for quality in _QUALITIES:
        data = io.BytesIO()
        picture.save(data, "WEBP", quality=quality, method=2)
        if data.tell() <= _RATE * image.shape[0] * image.shape[1]:
            break
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def strokes(image: UInt8) -> int:
    """Pixels across of a thin line, such that it is seen before a picture is enlarged."""
    return int(max(1, round(image.shape[1] / LOOKED_AT)))


class Moving(NamedTuple):
    """A short piece of a video for the page."""

    uri: str  # Animated WebP.
    still: UInt8  # Its first frame, for readers who want nothing to move.
    name: str  # Of the video.


def moving(video: Path) -> Moving:
    """The first seconds of a video, every other frame of it, as a picture that moves by itself."""
    frames = list(film(video, range(0, 2 * _MOVING_FRAMES, 2), _MOVING_SIDE).values())
    if not frames:
        raise MediaError.at(video, "has no frames")
    first, *others = map(Image.fromarray, frames)
    step = round(2000 / (open_frames(video).frame_rate or 20))
    look = {"duration": step, "loop": 0, "quality": _MOVING_QUALITY}
    data = io.BytesIO()
    first.save(data, "WEBP", save_all=True, append_images=others, **look)
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return Moving(f"data:image/webp;base64,{code}", frames[0], video.stem)


def spread(total: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``total`` things, evenly apart, first and last included."""
    if wanted == 1 and total > 1:
        return [total // 2]
    wanted = min(total, wanted)
    return [round(k * (total - 1) / max(1, wanted - 1)) for k in range(wanted)]


def shrink(array: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """An image (H, W, C), by areas, or a mask (H, W), by pixels, ``side`` long at most."""
    height_now, width_now = array.shape[:2]
    longer = max(height_now, width_now)
    if longer <= side:
        return array
    height, width = (max(1, round(now * side / longer)) for now in (height_now, width_now))
    if array.ndim == 3:
        return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA))
    # OpenCV resizes no 32-bit integers; picking rows and columns is as quick.
    rows = (np.arange(height) + 0.5) * height_now / height
    columns = (np.arange(width) + 0.5) * width_now / width
    return np.asarray(array[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None, :]])


def plain(image: Path, side: int) -> UInt8:
    """A frame, an image or a clip store's, as it is."""
    return shrink(read_image_at(image), side)


def outlined(image: Path, mask: Path, side: int, void: str = "auto") -> UInt8:
    """A labelled still with the outline of each object; ``void`` as of ``read_mask``."""
    pixels, ids = _pair(image, mask, side, void)
    # Drawn on black first, to know where: instances would have a colour each,
    # and some of those are the colours of plants and soil.
    border = outline(np.zeros_like(pixels), ids).any(axis=2)
    drawn = pixels.copy()
    wide = np.ones((strokes(drawn), strokes(drawn)), np.uint8)
    drawn[cv2.dilate(border.view(np.uint8), wide) > 0] = _OUTLINE
    return drawn


def tinted(image: Path, mask: Path, side: int) -> UInt8:
    """A frame, of files or of a clip store, with its objects coloured."""
    return overlay(*_pair(image, mask, side))


def _pair(image: Path, mask: Path, side: int, void: str = "auto") -> tuple[UInt8, npt.NDArray[Any]]:
    pixels, ids = read_image_at(image), read_mask_at(mask, void)
    check_size(mask, ids.shape, pixels.shape, f"its frame {image}")
    # Pixels of unknown label become background, the type stays: it says what kind of mask it is.
    return shrink(pixels, side), shrink(without_unknown(ids), side)


def verdict(image: UInt8, truth: Bool, prediction: Bool, *, alpha: float = 0.55) -> UInt8:
    """A frame uint8 (H, W, 3) in grey; hits, misses and false alarms of masks (H, W) coloured."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    base = 0.75 * np.repeat(grey[..., None], 3, axis=2) + 0.25 * image
    for where, colour in (
        (truth & prediction, HIT),
        (truth & ~prediction, MISS),
        (~truth & prediction, FALSE_ALARM),
    ):
        base[where] = (1 - alpha) * base[where] + alpha * np.array(colour, np.float32)
    return np.clip(np.rint(base), 0, 255).astype(np.uint8)


def compared(
    image: UInt8 | None, mask: Path, prediction: Path, side: int, void: str
) -> tuple[UInt8 | None, UInt8]:
    """A scored frame as it is, if there is one, and coloured by truth against prediction."""
    ids = mask_ids(read_mask_at(mask, void), where=mask)
    found = object_pixels(read_mask(prediction))
    check_size(prediction, found.shape, ids.shape, f"its truth {mask}")
    truth, said = shrink(ids, side), shrink(found, side)
    # What nobody labelled is neither right nor wrong, as in the scores.
    truth, said = (truth > 0) & (truth != IGNORE), said & (truth != IGNORE)
    if image is None:
        return None, verdict(np.full((*truth.shape, 3), _GROUND, np.uint8), truth, said)
    check_size(mask, ids.shape, image.shape, "its frame")
    frame = shrink(image, side)
    return frame, verdict(frame, truth, said)


def sheet(paths: Sequence[Path], width: int) -> UInt8:
    """Cutouts, RGBA, at least one, side by side on grey, shrunk to a cell if they are larger."""
    tiles = []
    for path in paths:
        rgba = read_rgba(path)
        alpha = rgba[..., 3:].astype(np.float32) / 255
        tiles.append(np.rint(rgba[..., :3] * alpha + _GREY * (1 - alpha)).astype(np.uint8))
    high, wide = (min(_CELL, max(tile.shape[axis] for tile in tiles)) for axis in (0, 1))
    columns, ground = max(1, (width - _GAP) // (wide + _GAP)), (_GREY, _GREY, _GREY)
    return contact_sheet(tiles, columns=columns, cell=(high, wide), gap=_GAP, background=ground)


def film(video: Path, wanted: Collection[int], side: int) -> dict[int, UInt8]:
    """Frames of a video by their index from 0, as far as it has them, read in one pass."""
    found: dict[int, UInt8] = {}
    for place, frame in enumerate(open_frames(video)):
        if place in wanted:
            found[place] = shrink(frame.image, side)
        if place >= max(wanted, default=-1):
            break
    return found


def scored_frame(image: Path | VideoPlace) -> UInt8:
    """A frame that was scored, (H, W, 3) uint8 RGB."""
    if isinstance(image, Path):
        return read_image_at(image)
    for frame in open_frames(image.video).frames(image.frame_index):
        return frame.image
    raise MediaError.at(image.video, f"has no frame {image.frame_index}")
