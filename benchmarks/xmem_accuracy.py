"""Accuracy of XMem against the quality of its first mask; a part of ``benchmarks/xmem.py``.

First masks are the true one, the true one eroded or dilated by three quarters of half the
objects' width, the true one without 30 % of its objects, and what a network finds that needs
no first mask. Beside them is that network on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

__all__ = ["accuracy", "plot_accuracy"]

ALONE = "none: the other network"


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float((2 * (one & other).sum() + 1) / (one.sum() + other.sum() + 1))


def first_masks(truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A true mask (H, W), made worse."""
    objects, labels = cv2.connectedComponents(truth.astype(np.uint8))
    missed = truth.copy()
    if objects > 3:
        gone = rng.permutation(np.arange(1, objects))[: max(1, round(0.3 * (objects - 1)))]
        missed[np.isin(labels, gone)] = False
    else:
        columns = np.flatnonzero(truth.any(0))
        missed[:, columns[: round(0.3 * len(columns))]] = False
    thickness = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    half_width = float(np.median(thickness[truth]))
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, 5)
    return {
        "true": truth,
        "eroded": thickness > 0.75 * half_width,
        "dilated": outside <= 0.75 * half_width,
        "with misses": missed,
    }


class TrueClip:
    """Frames from the first with a true mask on, and those masks by frame name."""

    def __init__(self, frames: str, masks: str) -> None:
        from dvos.media.frames import open_frames
        from dvos.media.layout import MASK_SUFFIXES
        from dvos.media.mask import read_mask

        self._source = open_frames(Path(frames))
        files = [path for path in sorted(Path(masks).iterdir()) if path.suffix in MASK_SUFFIXES]
        self._truths = {path.stem: read_mask(path) > 0 for path in files}
        first = next(frame for frame in self._source if frame.name in self._truths)
        self._begin = first.frame_index
        self.first_mask = self._truths[first.name]

    def follow(self, predictor: Any, frames: int) -> tuple[float, np.ndarray]:
        """Mean Dice over the frames behind the first, and the mask found in the first."""
        names: list[str] = []

        def images() -> Iterator[np.ndarray]:
            for frame, _ in zip(self._source.frames(self._begin), range(frames), strict=False):
                names.append(frame.name)
                yield frame.image

        found, first = [], self.first_mask
        for place, one in enumerate(predictor.segment(images())):
            if place == 0:
                first = one.mask
            elif names[place] in self._truths:
                found.append(dice(one.mask, self._truths[names[place]]))
        return float(np.mean(found)), first


def accuracy(
    clips: Sequence[str], *, checkpoint: str, finder_checkpoint: str | None, frames: int
) -> Iterator[dict[str, Any]]:
    """A row for each clip (``FRAMES:MASKS``) and first mask."""
    from dvos.api import load_predictor

    finder = load_predictor(finder_checkpoint, "cpu") if finder_checkpoint else None
    for paths in clips:
        clip = TrueClip(*paths.rsplit(":", 1))
        starts = first_masks(clip.first_mask, np.random.default_rng(0))
        if finder is not None:
            alone, starts["by the other network"] = clip.follow(finder, frames)
            yield {"clip": paths, "first_mask": ALONE, "dice": alone}
        for quality, mask in starts.items():
            row = {"clip": paths, "first_mask": quality, "first_dice": dice(mask, clip.first_mask)}
            found = 0.0
            if mask.any():
                predictor = load_predictor(checkpoint, "cpu", first_mask=mask)
                found, _ = clip.follow(predictor, frames)
            yield {**row, "dice": found}


def plot_accuracy(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Dice over the clip by first mask: a point for each clip, a bar for their mean."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["first_mask"] for row in rows))
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        found = [row["dice"] for row in rows if row["first_mask"] == name]
        colour = "#9a9a9a" if name == ALONE else "#4477aa"
        axes.barh(place, np.mean(found), color=colour, height=0.6)
        axes.plot(found, [place] * len(found), "o", color="black", markersize=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice over the frames behind the first")
    axes.set_ylabel("first mask")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
