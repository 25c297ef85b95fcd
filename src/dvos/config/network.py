"""Settings of the network to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings

__all__ = ["NetworkSettings"]

_SCALES = 5


class NetworkSettings(Settings):
    """Which network, how wide, and the weights it starts from."""

    name: Literal["dvos"] = Field("dvos", description="network: dvos (the compact network)")
    references: int = Field(
        4, ge=0, le=32, description="reference frames before the query in a training clip"
    )
    channels: tuple[int, ...] = Field(
        (16, 32, 48, 96, 160),
        description="channels fused over time at strides 2, 4, 8, 16 and 32",
    )
    widths: tuple[int, ...] = Field(
        (32, 48, 64, 128), description="channels of the decoder at strides 2, 4, 8 and 16"
    )
    fused: tuple[bool, ...] = Field(
        (False, True, True, True, True),
        description="whether the references take part at strides 2, 4, 8, 16 and 32",
    )
    encoder_weights: Literal["imagenet", "none"] = Field(
        "imagenet",
        description="what the encoder starts from: ImageNet weights, batch norm frozen, or none",
    )
    weights: Path | None = Field(
        None, description="best.safetensors of an earlier run to start from; null for none"
    )
    reference_gradient: bool = Field(
        False,
        description="send gradients through the encoding of the references too; twice the time",
    )
    mean: tuple[float, float, float] | None = Field(
        None, description="channel means of the input, values 0..1; null: those of the encoder"
    )
    std: tuple[float, float, float] | None = Field(
        None, description="channel deviations of the input, 0..1; null: those of the encoder"
    )

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for name, length in (("channels", _SCALES), ("widths", _SCALES - 1), ("fused", _SCALES)):
            values: tuple[Any, ...] = getattr(self, name)
            if len(values) != length:
                raise ValueError(f"{name} has {len(values)} values; give {length}, one per scale")
        if min(*self.channels, *self.widths) < 1:
            raise ValueError("channels and widths hold a value under 1; give positive numbers")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std holds a value that is not positive; give positive numbers")
        return self
