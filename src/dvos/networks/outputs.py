"""What every network gives: the mask of the query frame, and what else it can tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

__all__ = ["MASK", "RECONSTRUCTION", "Outputs"]

MASK = "mask"
RECONSTRUCTION = "reconstruction"


class Outputs(NamedTuple):
    """What the network says about the query frame.

    Attributes:
        mask_logits: (B, 1, H, W); the sigmoid is the probability of object.
        reconstruction: (B, 3, H, W) in the normalised colours of the input;
            None where it was not asked for or the network has no such head.
        others: Outputs of further heads by name, each (B, outputs, H, W).
    """

    mask_logits: Tensor
    reconstruction: Tensor | None = None
    others: Mapping[str, Tensor] = MappingProxyType({})
