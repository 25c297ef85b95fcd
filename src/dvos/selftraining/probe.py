"""The feature probe: a linear classifier on what the network's own encoder sees.

Fitted on what the network is sure of, both classes counting the same. Relatives: ProDA (Zhang et
al., CVPR 2021, arXiv 2101.10979); class-balanced self-training (Zou et al., ECCV 2018, 1810.07911).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from dvos.files import write_bytes
from dvos.prediction.features import FEATURE_STRIDE, FeatureReader

_FEWEST = 50  # samples of each class that a fit takes at least

# Of the first fit: the network's probability above and below which it is trusted.
_SURE_OBJECT, _SURE_BACKGROUND = 0.6, 0.05
# Of the second: where the first probe is followed, unless the network is sure of the contrary.
_SECOND_OBJECT, _SECOND_BACKGROUND = 0.7, 0.1
_LEAST_OBJECT, _MOST_BACKGROUND = 0.02, 0.1
_PENALTY = 3e-3
_ITERATIONS = 60
_METADATA_KEY = "dvos"
_FORMAT = 1

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FeatureProbe:
    """A fitted classifier."""

    weights: Floats  # Of the standardised channels, float32 (C,).
    bias: float  # Added to them.
    mean: Floats  # Of each channel over the data, float32 (C,).
    std: Floats  # Likewise, above 0.

    def probability(self, features: Floats) -> Floats:
        """Probability of object, float32 (h, w), of features (C, h, w) as they are read."""
        # The standardisation is folded into the weights: one pass over the features.
        weights = self.weights.astype(np.float64) / self.std
        bias = self.bias - float(weights @ self.mean)
        logits = np.tensordot(weights.astype(np.float32), features, 1) + np.float32(bias)
        return np.asarray(_sigmoid(logits), np.float32)

    def of_frame(self, image: NDArray[np.uint8], reader: FeatureReader) -> Floats:
        """Probability of object in a frame, float32 (H, W), by features of the kind fitted on."""
        height, width = image.shape[:2]
        grid = np.zeros(_grid_size(height, width), np.float32)
        for piece in reader.pieces(image):
            grid[piece.rows, piece.columns] = self.probability(piece.values)
        full = (grid.shape[1] * FEATURE_STRIDE, grid.shape[0] * FEATURE_STRIDE)
        resized = cv2.resize(grid, full, interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized[:height, :width], np.float32)

    def save(self, path: Path) -> None:
        """Write it atomically, as safetensors; the same probe gives the same bytes."""
        arrays = {"weights": self.weights, "mean": self.mean, "std": self.std}
        arrays["bias"] = np.array([self.bias], np.float32)
        # One key: the order of several is not fixed.
        write_bytes(path, save(arrays, {_METADATA_KEY: json.dumps({"format": _FORMAT})}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays = load_file(path)
        return cls(arrays["weights"], float(arrays["bias"][0]), arrays["mean"], arrays["std"])


@dataclass(frozen=True, eq=False)
class ProbeFit:
    """Weights of a fit, or why there are none."""

    weights: Floats | None  # float32 (C,); None where nothing was fitted.
    bias: float  # Added to them.
    objects: int  # Samples of objects in the last fit that was tried.
    backgrounds: int  # Likewise of background.
    reason: str = ""  # Why nothing was fitted; empty where it was.


def fit_probe(features: Floats, probability: Floats, counts: Floats) -> ProbeFit:
    """Fit what the network is sure of, then what it and that first fit agree on.

    The second fit takes in objects that the network is unsure of. Of N samples there are the
    features (N, C), standardised over the data, the network's ``probability`` of object, and the
    ``counts`` of pixels that each stands for; all are float32.
    """
    sure = probability > _SURE_OBJECT, probability < _SURE_BACKGROUND
    fit = _fit(features, counts, *sure)
    if fit.weights is None:
        return fit
    first = _sigmoid(features @ fit.weights + np.float32(fit.bias))
    objects = (first > _SECOND_OBJECT) & (probability > _LEAST_OBJECT)
    backgrounds = (first < _SECOND_BACKGROUND) & (probability < _MOST_BACKGROUND)
    return _fit(features, counts, objects, backgrounds)


def _fit(features: Floats, counts: Floats, objects: Bools, backgrounds: Bools) -> ProbeFit:
    """Logistic regression with both classes counting the same, and a penalty on the weights."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    found = int(objects.sum()), int(backgrounds.sum())
    for name, number in zip(("object", "background"), found, strict=True):
        if number < _FEWEST:
            reason = f"{number} samples are surely {name}, at least {_FEWEST} are needed"
            return ProbeFit(None, 0.0, *found, reason)
    # Pixels of neither class weigh nothing, which spares a copy of the features.
    shares = np.zeros(len(objects), np.float32)
    for members in (objects, backgrounds):
        shares[members] = 0.5 * counts[members] / counts[members].sum(dtype=float)
    x = torch.from_numpy(features)
    y, share = torch.from_numpy(objects.astype(np.float32)), torch.from_numpy(shares)
    weights = torch.zeros(x.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    # L-BFGS (Liu and Nocedal 1989), whose line search makes each step a gain at any scale.
    learnt = [weights, bias]
    descent = torch.optim.LBFGS(learnt, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        value = binary_cross_entropy_with_logits(x @ weights + bias, y, share, reduction="sum")
        value = value + _PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        descent.step(loss)  # type: ignore[no-untyped-call]
    return ProbeFit(weights.detach().numpy(), float(bias.detach()), *found)


def probability_grid(mean: Floats) -> Floats:
    """Average a probability (H, W) over the cells of the features' grid; float32 (h, w)."""
    height, width = mean.shape
    rows, columns = _grid_size(height, width)
    down, right = rows * FEATURE_STRIDE - height, columns * FEATURE_STRIDE - width
    padded = np.pad(mean, ((0, down), (0, right)), mode="edge")
    cells = padded.reshape(rows, FEATURE_STRIDE, columns, FEATURE_STRIDE)
    return np.asarray(cells.mean((1, 3)), np.float32)


def _grid_size(height: int, width: int) -> tuple[int, int]:
    return -(-height // FEATURE_STRIDE), -(-width // FEATURE_STRIDE)


def _sigmoid(logits: Floats) -> Floats:
    # By tanh, as exp of a large logit would overflow.
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), np.float32)
