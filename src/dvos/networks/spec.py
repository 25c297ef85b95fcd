"""What describes a network to those who train it and predict with it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Normalisation"]


@dataclass(frozen=True)
class Normalisation:
    """How colours are turned into a network's input: (value / 255 - mean) / std.

    Attributes:
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
