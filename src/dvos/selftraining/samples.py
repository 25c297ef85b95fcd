"""Pixels of the unlabelled data that the second opinion is fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.features import FeatureReader
from dvos.selftraining.opinion import Fit, Opinion, Samples, fit_opinion, probability_grid

__all__ = ["SampleStore", "choose_pixels"]

# Probabilities that part a frame's pixels for sampling: objects are few, and so
# is what the network half sees, which the second fit needs.
_STRATA = (0.02, 0.6)
# Keeps a channel that never changes from being divided by 0.
_LEAST_STD = 1e-5


def choose_pixels(
    probability: NDArray[np.float32], limit: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose pixels of a frame at random, of sure, possible and missing objects alike.

    Args:
        probability: Of object, float32 (h, w).
        limit: How many to choose at most.
        rng: Of the choice.

    Returns:
        Places in the flat array, ascending, and of how many pixels each stands.
    """
    kinds = np.digitize(probability.ravel(), _STRATA, right=True)
    groups = sorted((np.flatnonzero(kinds == kind) for kind in range(len(_STRATA) + 1)), key=len)
    places: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.float32]] = []
    left = limit
    for number, group in enumerate(groups):
        # What a small group leaves is shared by the larger ones after it.
        taken = min(left // (len(groups) - number), len(group))
        left -= taken
        if taken:
            places.append(rng.choice(group, taken, replace=False))
            counts.append(np.full(taken, len(group) / taken, np.float32))
    joined, weights = np.concatenate(places), np.concatenate(counts)
    order = np.argsort(joined)
    return joined[order], weights[order]


class SampleStore:
    """Keeps samples of each frame, and the moments of the features of all its pixels.

    Args:
        limit: Samples of a frame, at most.
    """

    def __init__(self, limit: int) -> None:
        self.frames = 0
        self.samples = 0
        self._limit = limit
        self._features: list[NDArray[np.float32]] = []
        self._probability: list[NDArray[np.float32]] = []
        self._counts: list[NDArray[np.float32]] = []
        self._pixels = 0
        self._mean: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def add(
        self,
        image: NDArray[np.uint8],
        mean: NDArray[np.float32],
        reader: FeatureReader,
        rng: np.random.Generator,
    ) -> None:
        """Take samples of a frame, uint8 RGB (H, W, 3), with its probability (H, W)."""
        grid = probability_grid(mean)
        places, counts = choose_pixels(grid, self._limit, rng)
        rows, columns = np.divmod(places, grid.shape[1])
        features: NDArray[np.float32] | None = None
        for piece in reader.pieces(image):
            if features is None:
                features = np.empty((len(places), len(piece.values)), np.float32)
            inside = _within(rows, piece.rows) & _within(columns, piece.columns)
            features[inside] = piece.values[
                :, rows[inside] - piece.rows.start, columns[inside] - piece.columns.start
            ].T
            self._add_moments(piece.values)
        assert features is not None
        self._features.append(features)
        self._probability.append(grid.ravel()[places])
        self._counts.append(counts)
        self.frames += 1
        self.samples += len(places)

    def fit(self) -> tuple[Opinion | None, Fit]:
        """Fit the opinion; the samples are given up to it."""
        if not self.frames:
            return None, Fit(None, 0.0, 0, 0, "no frame could be read")
        mean = np.asarray(self._mean, np.float32)
        std = np.asarray(np.sqrt(self._squares / self._pixels) + _LEAST_STD, np.float32)
        fit = fit_opinion(
            Samples(
                self._standardised(mean, std),
                np.concatenate(self._probability),
                np.concatenate(self._counts),
            )
        )
        opinion = None if fit.weights is None else Opinion(fit.weights, fit.bias, mean, std)
        return opinion, fit

    def _standardised(
        self, mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        # Frame after frame, so that the samples never lie in memory twice.
        joined = np.empty((self.samples, len(mean)), np.float32)
        start = 0
        self._features.reverse()
        while self._features:
            part = self._features.pop()
            joined[start : start + len(part)] = (part - mean) / std
            start += len(part)
        return joined

    def _add_moments(self, values: NDArray[np.float32]) -> None:
        """Mean and squared deviations over all pixels so far (Chan et al. 1979)."""
        flat = values.reshape(len(values), -1)
        count = flat.shape[1]
        mean = flat.mean(1, dtype=np.float64)
        squares = flat.var(1, dtype=np.float64) * count
        total = self._pixels + count
        gap = mean - self._mean
        self._mean = self._mean + gap * (count / total)
        self._squares = self._squares + squares + gap**2 * (self._pixels * count / total)
        self._pixels = total


def _within(places: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
    return np.asarray((places >= part.start) & (places < part.stop), np.bool_)
