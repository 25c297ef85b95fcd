"""Settings of the network to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings
from dvos.config.xmem import BackboneSettings, XMemShapeSettings

__all__ = ["NetworkSettings", "PaperSettings"]

_SCALES = 5
#: Fields that only these networks have.
_FIELDS = {
    "dvos": (
        "encoder",
        "encoder_weights",
        "fusion",
        "channels",
        "widths",
        "fused",
        "reference_gradient",
    ),
    "paper": ("paper",),
    "xmem": ("xmem", "backbone_weights"),
}


class PaperSettings(Settings):
    """Shape of the published network."""

    base: int = Field(4, ge=1, description="channels of its first blocks, a multiple of groups")
    multipliers: tuple[int, ...] = Field(
        (4, 8, 16, 32),
        min_length=1,
        max_length=8,
        description="channels of its scales as multiples of base, finest first",
    )
    latent: int = Field(256, ge=1, description="channels of its coarsest map")
    groups: int = Field(4, ge=1, description="groups of its norms")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability that a channel of a skip is dropped in training"
    )
    skip_diffusion: bool = Field(True, description="add noise to the skips in training")
    hidden: int = Field(32, ge=2, description="widest channels of its heads")

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if min(self.multipliers) < 1:
            raise ValueError("multipliers holds a value under 1; give positive numbers")
        widths = {"base": self.base, "latent": self.latent, "half of hidden": self.hidden // 2}
        unfit = [f"{name} = {width}" for name, width in widths.items() if width % self.groups]
        if unfit or self.hidden % 2:
            raise ValueError(
                f"{', '.join(unfit) or f'hidden = {self.hidden}'} cannot be split into groups = "
                f"{self.groups}; give multiples of it (hidden: of twice it)"
            )
        return self


class NetworkSettings(Settings):
    """Which network, how wide, and the weights it starts from."""

    name: str = Field(
        "dvos",
        description="network: dvos (the compact network), paper (the published one), xmem "
        "(started by a first mask), or one that was registered",
    )
    references: int = Field(
        4,
        ge=0,
        le=32,
        description="reference frames before the query in a training clip; xmem: frames "
        "remembered at a time in training",
    )
    sees_query: bool | None = Field(
        None,
        description="whether the query frame is looked at; null: dvos and xmem do, paper does not",
    )
    encoder: Literal["lite0", "lite1", "lite2"] = Field(
        "lite2", description="dvos: size of its EfficientNet-Lite encoder"
    )
    encoder_weights: Literal["imagenet", "none"] | Path = Field(
        "imagenet",
        description="dvos: what the encoder starts from: imagenet, none, or a file of such "
        "weights; batch norm is frozen unless none",
    )
    fusion: Literal["attention", "none"] = Field(
        "attention", description="dvos: how the references are summarised, see the network's page"
    )
    channels: tuple[int, ...] = Field(
        (24, 48, 72, 128, 192),
        description="dvos: channels fused over time at strides 2, 4, 8, 16 and 32",
    )
    widths: tuple[int, ...] = Field(
        (48, 72, 96, 160), description="dvos: channels of the decoder at strides 2, 4, 8 and 16"
    )
    fused: tuple[bool, ...] = Field(
        (False, True, True, True, True),
        description="dvos: whether the references take part at strides 2, 4, 8, 16 and 32",
    )
    reference_gradient: bool = Field(
        False,
        description="dvos: send gradients through the encoding of the references too; twice the "
        "time",
    )
    paper: PaperSettings = Field(PaperSettings(), description="paper: its shape")
    xmem: XMemShapeSettings = Field(XMemShapeSettings(), description="xmem: its widths")
    backbone_weights: BackboneSettings = Field(
        BackboneSettings(), description="xmem: classifiers its encoders start from"
    )
    weights: Path | None = Field(
        None,
        description="weights to start from: best.safetensors of an earlier run, or, for paper and "
        "xmem, a published .tar or .pth; null for none",
    )
    options: dict[str, Any] = Field(
        {}, description="settings of a network that was registered, as its page tells"
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="channel means of the input, values 0..1; null: those of the encoder (dvos) "
        "or the published ones (paper, xmem)",
    )
    std: tuple[float, float, float] | None = Field(
        None, description="channel deviations of the input, 0..1; null: as mean"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _fields_belong_to_the_network(self) -> Self:
        others = [field for name in _FIELDS if name != self.name for field in _FIELDS[name]]
        fields = type(self).model_fields
        changed = [name for name in others if getattr(self, name) != fields[name].default]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} cannot be set for the network {self.name}; leave "
                f"{'it' if len(changed) == 1 else 'them'} out or choose the other network"
            )
        return self

    @model_validator(mode="after")
    def _xmem_fits(self) -> Self:
        if self.name != "xmem":
            return self
        if self.sees_query is False or self.references == 0:
            raise ValueError("xmem sees the query and remembers at least one frame; leave it so")
        files = self.backbone_weights
        if self.weights is not None and (files.resnet50 or files.resnet18):
            raise ValueError("weights fill the encoders too; give weights or backbone_weights")
        return self

    @model_validator(mode="after")
    def _has_frames(self) -> Self:
        if self.references == 0 and not self.looks_at_query:
            raise ValueError("references is 0 and the query is not seen; give it a reference")
        return self

    @property
    def looks_at_query(self) -> bool:
        """``sees_query``, or what the network does if that is not set."""
        return self.name != "paper" if self.sees_query is None else self.sees_query

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
