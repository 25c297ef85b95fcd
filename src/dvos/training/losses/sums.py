"""Sums over a batch, from which losses are formed.

Every loss is a function of sums over the pixels or images of a batch. A batch
parted over devices thus has exactly the loss of the same batch on one device:
the sums are added over the devices before anything is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["AddOver", "LossPart", "Sums", "over_devices"]

#: Sums by name, each a scalar tensor.
Sums = dict[str, Tensor]

#: Adds a tensor over all devices; the result carries no gradient.
AddOver = Callable[[Tensor], Tensor]


class LossPart(Protocol):
    """One loss, formed from sums."""

    @property
    def name(self) -> str:
        """In records.csv."""

    def value(self, sums: Sums) -> Tensor:
        """The loss of a batch of these sums, a scalar tensor."""


def over_devices(sums: Sums, add: AddOver) -> Sums:
    """The sums over all devices; gradients flow through this device's share only."""
    names = sorted(sums)
    own = torch.stack([sums[name] for name in names])
    total = own + (add(own.detach().clone()) - own.detach())
    return dict(zip(names, total.unbind(), strict=True))
