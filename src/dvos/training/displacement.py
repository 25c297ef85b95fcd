"""How far labels lie beside the objects of their pictures.

Masks may lie a pixel beside what they label: drawn on a resized picture, written where a pixel's
corner is taken for its middle, or simulated. Of pictures that are also learnt from mirrored and
turned, a network learns where objects are and not which way their labels lie. That is measured
when it is trained: the move of its probabilities by which they come nearest to the labels (least
squares by Gauss-Newton, as of Lucas and Kanade, IJCAI 1981). Predictions are then moved likewise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dvos.training.objective import SegmentedClip

_STEPS = 5
#: Of labelled quarters of pictures the share that must gain, and what all together must: Dice.
_SHARE, _GAIN = 0.9, 0.005
#: Dice before, from which what is found is what is labelled.
_FOUND = 0.5
#: Pixels that the network sees: what is nearer shows in no label, what is farther off is no matter
#: of how labels are drawn.
_NEAREST, _FARTHEST = 0.25, 8.0
_DECIMALS = 3


class Displacement(NamedTuple):
    """Where labels lie from their objects, pixels of the pictures: to the right, and down."""

    x: float
    y: float

    @classmethod
    def read(cls, extra: Mapping[str, Any]) -> Displacement | None:
        """What a checkpoint keeps as ``displacement``; None if it keeps none, or moves nothing."""
        kept = extra.get("displacement")
        try:
            x, y = (float(kept[name]) for name in ("x", "y"))  # type: ignore[index]
        except (TypeError, KeyError, ValueError, OverflowError):
            return None
        return cls(x, y) if 0 < math.hypot(x, y) < math.inf else None

    def __str__(self) -> str:
        across = f"{abs(self.x):.1f} pixels to the {'right' if self.x > 0 else 'left'}"
        return f"{across} and {abs(self.y):.1f} {'down' if self.y > 0 else 'up'}"


def moved(maps: Tensor, x: float, y: float) -> Tensor:
    """Maps (..., h, w) moved by x places to the right and y down; beyond the edge all is as at it.

    Between places they are taken to be linear.
    """
    for dimension, by in ((-1, x), (-2, y)):
        whole, places = math.floor(by), torch.arange(maps.shape[dimension], device=maps.device)
        near, far = (
            maps.index_select(dimension, (places - step).clamp(0, len(places) - 1))
            for step in (whole, whole + 1)
        )
        maps = near.lerp_(far, by - whole)
    return maps


def learn_displacement(clips: Iterable[SegmentedClip], scale: float) -> Displacement | None:
    """Where the labels of clips lie from what is found there; None unless it is worth a move.

    It is if it is a quarter of a pixel to eight pixels, as the network sees them, and all masks
    together come nearer to the labels by a Dice of 0.005, and so do nine tenths of the quarters of
    pictures that hold labelled objects. The clips are pictures resized by ``scale``.
    """
    parts = [part for clip in clips for part in _quarters(clip)]
    x = y = 0.0
    for _ in range(_STEPS):
        products, errors = torch.zeros(2, 2).double(), torch.zeros(2).double()
        for part in parts:
            found = moved(part.probability, x, y)
            down, across = torch.gradient(found)
            slopes = torch.stack([across, down]) * part.weight
            products += torch.einsum("ihw,jhw->ij", slopes, slopes).double()
            errors += (slopes * (found - part.target)).sum((1, 2)).double()
        if torch.linalg.det(products) <= torch.finfo(torch.float32).eps * products.square().max():
            return None
        step = torch.linalg.solve(products, errors)
        x, y = x + float(step[0]), y + float(step[1])
        if not math.hypot(x, y) <= _FARTHEST:
            return None
    before, after = (torch.stack([_counts(part, *by) for part in parts]) for by in ((0, 0), (x, y)))
    gained = (_dice(after) > _dice(before)).double().mean()
    first, last = (float(_dice(counts.sum(0))) for counts in (before, after))
    worth = first >= _FOUND and last - first >= _GAIN and float(gained) >= _SHARE
    if not worth or math.hypot(x, y) < _NEAREST:
        return None
    return Displacement(round(x / scale, _DECIMALS), round(y / scale, _DECIMALS))


class _Quarter(NamedTuple):
    """A quarter of a picture, (h, w) each: found, labelled (0 or 1), and known (0 or 1)."""

    probability: Tensor
    target: Tensor
    weight: Tensor


def _quarters(clip: SegmentedClip) -> Sequence[_Quarter]:
    """Those of its quarters that hold labelled objects."""
    known = (clip.weight[0] > 0).float()
    planes = _Quarter(clip.probability[0], (clip.target[0] > 0.5).float() * known, known)
    height, width = known.shape
    rows, columns = ((slice(0, side // 2), slice(side // 2, side)) for side in (height, width))
    parts = [_Quarter(*(plane[place] for plane in planes)) for place in product(rows, columns)]
    return [part for part in parts if min(part.target.shape) > 1 and part.target.any()]


def _counts(part: _Quarter, x: float, y: float) -> Tensor:
    """Pixels found and labelled, found, and labelled, of probabilities moved so far, (3,)."""
    found = (moved(part.probability, x, y) >= 0.5) * part.weight
    planes = (found * part.target, found, part.target)
    return torch.stack([plane.sum() for plane in planes]).double()


def _dice(counts: Tensor) -> Tensor:
    """Of counts (..., 3)."""
    both, found, true = counts.unbind(-1)
    return 2 * both / (found + true)
