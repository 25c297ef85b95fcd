"""Masks drawn over images, and images side by side."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.colour import hsv_to_rgb
from dvos.media.image import resized
from dvos.media.mask import without_unknown

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: The published overlay: RGB colour and opacity.
OVERLAY_COLOUR: Colour = (204, 68, 150)
OVERLAY_ALPHA = 0.4

#: Hues step by the golden ratio, which spreads any run of neighbouring ids over the hue circle.
_GOLDEN = 0.6180339887498949
_LABEL_HEIGHT = 22
#: Pixels that OpenCV's first font is high at a scale of one.
_LETTER = 21


def overlay(
    image: Image,
    mask: NDArray[Any],
    *,
    colour: Colour = OVERLAY_COLOUR,
    alpha: float = OVERLAY_ALPHA,
) -> Image:
    """Tint an image, uint8 RGB (H, W, 3), where a mask (H, W) is set, with the opacity ``alpha``.

    A semantic mask (bool, or uint8 with no value but 0 and 255) is drawn in ``colour``, RGB, an
    instance mask in a colour per id that is the same everywhere; unknown pixels are not drawn. A
    ValueError if the sizes differ.
    """
    mask = _known(image, mask)
    blended = cv2.addWeighted(image, 1 - alpha, _tint(image, mask, colour), alpha, 0)
    result = image.copy()
    cv2.copyTo(blended, (mask != 0).view(np.uint8), result)
    return result


def outline(image: Image, mask: NDArray[Any], *, colour: Colour = OVERLAY_COLOUR) -> Image:
    """Draw the inner border of each object, a pixel wide, in the colours of :func:`overlay`."""
    mask = _known(image, mask)
    # OpenCV has no morphology for int32; float32 holds ids up to 2**24 exactly.
    ids = mask.view(np.uint8) if mask.dtype == np.bool_ else mask
    if ids.dtype not in (np.uint8, np.uint16):
        ids = ids.astype(np.float32)
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # Where a neighbourhood holds more than one id, a border runs through it.
    border = (cv2.dilate(ids, kernel) != cv2.erode(ids, kernel)) & (mask != 0)
    result = image.copy()
    cv2.copyTo(_tint(image, mask, colour), border.view(np.uint8), result)
    return result


@lru_cache(maxsize=1)
def id_colours() -> Image:
    """The colour of each id: uint8 (65536, 3) RGB, row 0 black."""
    ids = np.arange(65536)
    hue = np.floor((ids * _GOLDEN) % 1.0 * 180)
    strength = np.array([[120, 220], [235, 255], [180, 165]])[ids % 3]  # saturation and value
    hsv = np.column_stack([hue, strength]).astype(np.uint8)
    colours: Image = hsv_to_rgb(hsv[None])[0]
    colours[0] = 0
    colours.flags.writeable = False
    return colours


def caption(image: Image, text: str, height: int, at: tuple[int, int] | None = None) -> None:
    """Write a line into an image, in place: white with a black rim, letters ``height`` pixels high.

    It begins at (x, y), where its letters stand, or in the upper left corner.
    """
    x, y = (height // 2, 3 * height // 2) if at is None else at
    top, left = max(0, y - 2 * height), max(0, x - height)
    part = image[top : y + height, left : x + height * (len(text) + 1)]
    if not part.size:
        return
    letters = np.zeros(part.shape[:2], np.uint8)
    thick, start = max(1, round(height / 10)), (x - left, y - top)
    cv2.putText(letters, text, start, 0, height / _LETTER, (255,), thick, cv2.LINE_AA)
    # Drawn thicker it would be no rim: fonts of some versions of OpenCV have one thickness.
    rim = cv2.dilate(letters, np.ones((2 * thick + 1, 2 * thick + 1), np.uint8))
    part[:] = np.rint(part * (1 - rim[..., None] / 255) + letters[..., None])


def contact_sheet(
    images: Sequence[Image],
    *,
    columns: int = 4,
    labels: Sequence[str] | None = None,
    cell: tuple[int, int] | None = None,
    gap: int = 4,
    background: Colour = (255, 255, 255),
) -> Image:
    """Lay images, uint8 RGB of any sizes, out in rows, each scaled down to its cell and centred.

    A line of text under each is cut off if too long. A cell (height, width) is by default as large
    as the largest height and width; ``gap`` are the pixels between cells and round them. A
    ValueError without image or column, or if there is not one label an image.
    """
    if not images or columns < 1 or len(labels or images) != len(images):
        raise ValueError("a contact sheet needs an image, a column, and one label for each image")
    if cell is None:
        cell = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    height, width = cell
    step_y = height + gap + (_LABEL_HEIGHT if labels is not None else 0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.empty((rows * step_y + gap, columns * (width + gap) + gap, 3), dtype=np.uint8)
    sheet[:] = background
    ink = (0, 0, 0) if sum(background) > 382 else (255, 255, 255)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for k, image in enumerate(images):
        top, left = gap + k // columns * step_y, gap + k % columns * (width + gap)
        _place(sheet[top : top + height, left : left + width], image)
        if labels is not None:
            strip = sheet[top + height :, left : left + width][:_LABEL_HEIGHT]
            # putText wants contiguous memory; the strip is a window into the sheet.
            canvas = np.ascontiguousarray(strip)
            cv2.putText(canvas, labels[k], (2, 16), font, 0.45, ink, 1, cv2.LINE_AA)
            strip[:] = canvas
    return sheet


def _place(cell: Image, image: Image) -> None:
    height, width = cell.shape[:2]
    image = resized(image, min(1.0, height / image.shape[0], width / image.shape[1]))
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    cell[top : top + image.shape[0], left : left + image.shape[1]] = image


def _tint(image: Image, mask: NDArray[Any], colour: Colour) -> Image:
    eight_bit = mask.dtype == np.uint8 and bool(((mask == 0) | (mask == 255)).all())
    if mask.dtype == np.bool_ or eight_bit:
        return np.broadcast_to(np.array(colour, dtype=np.uint8), image.shape).copy()
    colours = id_colours()
    ids = mask if mask.dtype in (np.uint8, np.uint16) else mask % len(colours)
    return np.asarray(colours[ids])


def _known(image: Image, mask: NDArray[Any]) -> NDArray[Any]:
    """The mask, of the image's size, with background where its label is unknown."""
    if image.shape[:2] != mask.shape:
        raise ValueError(f"a mask of shape {mask.shape} over an image of {image.shape[:2]}")
    return without_unknown(mask)
