"""How unlike all training data a picture is, by what the network's encoder sees in it.

Its features are averaged over a window of the size of a training clip. A window's distance from
those of training clips is the Mahalanobis distance (Lee et al. 2018, arXiv 1807.03888) with a
diagonal covariance, as a few hundred windows tell no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Name of what a checkpoint keeps.
NOVELTY = "novelty"
#: Training clips that are looked at, and how many of them at once.
CLIPS, _TOGETHER = 96, 8
#: Of their windows this share lies nearer than the limit; that of a few pictures is widened, as
#: others of their kind differ more from them than they from each other (docs/how-to/fit.md).
_SHARE, _WIDER = 0.9, 0.4
#: Windows of a picture, evenly spread, of which the median counts.
_ROWS = 3
_LEAST_DEVIATION = 1e-3

Features = Callable[[Tensor], Tensor]


def learn_novelty(
    features: Features, frames: Iterable[Tensor], *, pictures: int
) -> dict[str, Any] | None:
    """What is kept of training data, by its normalised frames (3, S, S); None of fewer than two."""
    rows, side, remaining = [], 0, iter(frames)
    with torch.inference_mode():
        while together := list(islice(remaining, _TOGETHER)):
            side = together[0].shape[-1]
            rows.append(_pooled(features(torch.stack(together))))
    if sum(map(len, rows)) < 2:
        return None
    values = np.concatenate(rows)
    mean, std = values.mean(0), values.std(0)
    std = np.maximum(std, _LEAST_DEVIATION * max(1e-6, float(std.mean())))
    known = Novelty(mean, std, 1.0, side)
    limit = float(np.quantile([known.distance(row) for row in values], _SHARE))
    return {
        "mean": np.round(mean, 5).tolist(),
        "std": [float(f"{value:.4g}") for value in std],
        "limit": round(limit * (1 + _WIDER / max(1, pictures)), 4),
        "side": side,
    }


def _pooled(maps: Tensor) -> NDArray[np.float64]:
    """Means over the places of maps (N, C, h, w), float64 (N, C)."""
    return np.asarray(maps.float().mean((2, 3)).cpu().numpy(), np.float64)


@dataclass(frozen=True, eq=False)
class Novelty:
    """What a checkpoint knows of its training data."""

    mean: NDArray[np.float64]  # Of each feature, float64 (C,).
    std: NDArray[np.float64]  # Likewise.
    limit: float  # Distance from which a picture is unlike them.
    side: int  # Of a window, pixels.

    @classmethod
    def read(cls, extra: Mapping[str, Any]) -> Self | None:
        """Of what a checkpoint keeps; None where it keeps nothing that makes sense."""
        kept = extra.get(NOVELTY)
        try:
            mean, std = (np.array(kept[name], np.float64) for name in ("mean", "std"))  # type: ignore[index]
            limit, side = float(kept["limit"]), int(kept["side"])  # type: ignore[index]
        except (TypeError, KeyError, ValueError, OverflowError):
            return None
        sound = mean.ndim == 1 and mean.shape == std.shape and np.isfinite([*mean, *std]).all()
        if not sound or not (std > 0).all() or not 0 < limit < np.inf or not 16 <= side <= 4096:
            return None
        return cls(mean, std, limit, side)

    def distance(self, pooled: NDArray[np.float64]) -> float:
        """Of the features of a window, float64 (C,)."""
        return float(np.sqrt((((pooled - self.mean) / self.std) ** 2).mean()))

    def ratio(
        self,
        features: Features,
        normalise: Callable[[NDArray[np.uint8]], Tensor],
        image: NDArray[np.uint8],
        scale: float,
    ) -> float:
        """Distance over the limit of uint8 RGB (H, W, 3), seen resized; above 1 it is unlike."""
        side = max(1, min(round(self.side / scale), *image.shape[:2]))
        spare = [image.shape[axis] - side for axis in (0, 1)]
        places = [sorted({round(x * k / (_ROWS - 1)) for k in range(_ROWS)}) for x in spare]
        seen = max(16, round(side * scale))
        flag = cv2.INTER_AREA if seen < side else cv2.INTER_LINEAR
        found = []
        for y, x in product(*places):
            window = cv2.resize(image[y : y + side, x : x + side], (seen, seen), interpolation=flag)
            with torch.inference_mode():
                row = _pooled(features(normalise(np.asarray(window)[None])))[0]
            found.append(self.distance(row))
        return float(np.median(found)) / self.limit
