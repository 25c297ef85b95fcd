"""Pictures and videos made for the tests; nothing is read from outside."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

QUADRANTS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60))


def picture(index: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Four coloured quadrants, so that every turn shows; a bar tells the frame."""
    height, width = size
    image = np.empty((height, width, 3), dtype=np.uint8)
    for k, colour in enumerate(QUADRANTS):
        rows = slice(0, height // 2) if k < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if k % 2 == 0 else slice(width // 2, width)
        image[rows, columns] = colour
    image[height // 2 - 4 : height // 2 + 4] = (7 * index) % 256
    return image


def noisy(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture whose compressed size is large enough to cut pieces out."""
    noise = np.random.default_rng(index).integers(0, 24, (*size, 3), dtype=np.uint8)
    return picture(index, size) // 2 + noise


def write_plain(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: list[int] | None = None,
    rate: int = 25,
    ticks: int = 1000,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Write a video with PyAV alone: what other programs make; ``ticks`` of ``pts`` a second."""
    import av

    base = Fraction(1, ticks if pts else rate)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts = pts[index] if pts else index
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
