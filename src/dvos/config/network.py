"""Settings of the network to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import AFFECTS_NOTHING, PresetSettings, Settings

_SCALES = 5


class NetworkSection(PresetSettings):
    """Settings of one network alone; the field that holds them says of which."""

    #: Whether the network looks at the query frame unless settings say otherwise.
    sees_query: ClassVar[bool] = True

    def misfit(self, network: NetworkSettings) -> str:
        """Why other settings of a network do not fit these; empty if they do."""
        del network
        return ""


class DvosShapeSettings(NetworkSection):
    """Shape of the compact network."""

    preset: Literal["wide", "narrow"] = Field(
        "wide",
        description="wide, or narrow: the maps of version 0.1.0 that go with lite0",
        json_schema_extra=AFFECTS_NOTHING,
    )
    fusion: Literal["attention", "none"] = Field(
        "attention",
        description="how the references are summarised, see the network's page",
        json_schema_extra={"was": "network.fusion"},
    )
    channels: tuple[int, ...] = Field(
        (24, 48, 72, 128, 192),
        description="channels fused over time at strides 2, 4, 8, 16 and 32",
        json_schema_extra={"was": "network.channels"},
    )
    widths: tuple[int, ...] = Field(
        (48, 72, 96, 160),
        description="channels of the decoder at strides 2, 4, 8 and 16",
        json_schema_extra={"was": "network.widths"},
    )
    fused: tuple[bool, ...] = Field(
        (False, True, True, True, True),
        description="whether the references take part at strides 2, 4, 8, 16 and 32",
        json_schema_extra={"was": "network.fused"},
    )
    reference_gradient: bool = Field(
        False,
        description="send gradients through the encoding of the references too; twice the time",
        json_schema_extra={"was": "network.reference_gradient"},
    )
    presets: ClassVar = {
        "wide": {},
        "narrow": {"channels": (16, 32, 48, 96, 160), "widths": (32, 48, 64, 128)},
    }

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for name, length in (("channels", _SCALES), ("widths", _SCALES - 1), ("fused", _SCALES)):
            values: tuple[Any, ...] = getattr(self, name)
            if len(values) != length:
                raise ValueError(f"{name} has {len(values)} values; give {length}, one per scale")
        if min(*self.channels, *self.widths) < 1:
            raise ValueError("channels and widths hold a value under 1; give positive numbers")
        return self


class PaperSettings(NetworkSection):
    """Shape of the published network."""

    sees_query: ClassVar[bool] = False

    preset: Literal["published"] = Field(
        "published", description="the published shape", json_schema_extra=AFFECTS_NOTHING
    )
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

    presets: ClassVar = {"published": {}}

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


class XMemShapeSettings(NetworkSection):
    """Widths of XMem."""

    preset: Literal["published"] = Field(
        "published", description="the published widths", json_schema_extra=AFFECTS_NOTHING
    )
    key_dim: int = Field(64, ge=1, description="channels of keys, by which frames are matched")
    value_dim: int = Field(512, ge=1, description="channels of values, which hold the masks")
    hidden_dim: int = Field(64, ge=1, description="channels of each object's sensory state")
    single_object: bool = Field(
        False, description="the value encoder does not see the other objects' masks"
    )
    presets: ClassVar = {"published": {}}

    def misfit(self, network: NetworkSettings) -> str:
        """It sees the query, remembers frames, and starts from weights of one kind."""
        if network.sees_query is False or network.references == 0:
            return "xmem sees the query and remembers at least one frame; leave it so"
        files = network.backbone_weights
        if network.weights is not None and (files.resnet50 or files.resnet18):
            return "weights fill the encoders too; give weights or backbone_weights"
        return ""


class BackboneSettings(Settings):
    """Files of classifiers that the encoders start from, under torchvision's names."""

    resnet50: Path | None = Field(
        None, description="state dict of ResNet-50 for the key encoder; null for none"
    )
    resnet18: Path | None = Field(
        None, description="state dict of ResNet-18 for the value encoder; null for none"
    )


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
        "lite2",
        description="dvos: size of its EfficientNet-Lite encoder",
        json_schema_extra={"network": "dvos"},
    )
    encoder_weights: Literal["imagenet", "none"] | Path = Field(
        "imagenet",
        description="dvos: what the encoder starts from: imagenet, none, or a file of such "
        "weights; batch norm is frozen unless none",
        json_schema_extra={"network": "dvos"},
    )
    dvos: DvosShapeSettings = Field(
        DvosShapeSettings(),
        description="dvos: its shape, wide, narrow or its parts",
        json_schema_extra={"network": "dvos"},
    )
    paper: PaperSettings = Field(
        PaperSettings(),
        description="paper: its shape, as published or its parts",
        json_schema_extra={"network": "paper"},
    )
    xmem: XMemShapeSettings = Field(
        XMemShapeSettings(),
        description="xmem: its widths, as published or one by one",
        json_schema_extra={"network": "xmem"},
    )
    backbone_weights: BackboneSettings = Field(
        BackboneSettings(),
        description="xmem: classifiers its encoders start from",
        json_schema_extra={"network": "xmem"},
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
    def _fits_together(self) -> Self:
        others = foreign_settings(self, self.name)
        if others:
            raise ValueError(
                f"{', '.join(others)} cannot be set for the network {self.name}; leave "
                f"{'it' if len(others) == 1 else 'them'} out or choose the other network"
            )
        misfit = self._own.misfit(self)
        if misfit:
            raise ValueError(misfit)
        if self.references == 0 and not self.looks_at_query:
            raise ValueError("references is 0 and the query is not seen; give it a reference")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std holds a value that is not positive; give positive numbers")
        return self

    @property
    def looks_at_query(self) -> bool:
        """``sees_query``, or what the network does if that is not set."""
        return type(self._own).sees_query if self.sees_query is None else self.sees_query

    @property
    def _own(self) -> NetworkSection:
        """The section of this network; an empty one of a network that has none."""
        own = [getattr(self, name) for name, network in _owners(type(self)) if network == self.name]
        sections = (value for value in own if isinstance(value, NetworkSection))
        return next(sections, NetworkSection.model_construct())


def foreign_settings(settings: Settings, network: str) -> list[str]:
    """Names of the fields that belong to other networks and are not at their defaults.

    Args:
        settings: Whose fields may say in ``json_schema_extra`` which ``network`` alone has them.
        network: The one that is chosen.
    """
    fields = type(settings).model_fields
    return [
        name
        for name, owner in _owners(type(settings))
        if owner != network and getattr(settings, name) != fields[name].default
    ]


def _owners(model: type[Settings]) -> Iterator[tuple[str, str]]:
    """The fields of a model that one network alone has, and that network."""
    for name, field in model.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and "network" in field.json_schema_extra:
            yield name, str(field.json_schema_extra["network"])
