"""Settings of the network to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from dvos.config.base import Count, PresetSettings, Settings, Weights, free, setting

_SCALES = 5
#: Reference frames of the published method.
_REFERENCES = 4


class NetworkSection(PresetSettings):
    """Settings of one network alone, whose name is that of the field that holds them."""

    #: Whether the network looks at the query frame unless settings say otherwise.
    sees_query: ClassVar[bool] = True
    #: Reference frames unless settings say otherwise, where the query is looked at.
    references: ClassVar[int] = _REFERENCES
    #: What else beside its section belongs to this network alone.
    beside: ClassVar[tuple[str, ...]] = ()
    #: Settings of a run that the network has no use for.
    unused: ClassVar[tuple[str, ...]] = ()
    #: Sides of training clips are multiples of this.
    stride: ClassVar[int] = 1

    def misfits(self, network: NetworkSettings) -> Iterator[str]:
        """Why other settings of a network do not fit these, and what to give instead."""
        del network
        yield from ()


class DvosShapeSettings(NetworkSection):
    """Shape of the compact network."""

    references: ClassVar[int] = 0
    beside: ClassVar = ("encoder", "encoder_weights")
    presets: ClassVar = {"narrow": {"channels": (16, 32, 48, 96, 160), "widths": (32, 48, 64, 128)}}

    preset: Literal["wide", "narrow"] = free("wide", "wide, or narrow: as 0.1.0 beside lite0")
    fusion: Literal["attention", "none"] = setting("attention", "how the references are summarised")
    channels: tuple[int, ...] = setting((24, 48, 72, 128, 192), "channels fused over time, by size")
    widths: tuple[int, ...] = setting((48, 72, 96, 160), "channels of the decoder, by scale")
    fused: tuple[bool, ...] = setting((False, *[True] * 4), "whether references take part, by size")
    objects: bool | Literal["auto"] = setting(
        "auto", "tell objects apart, where they are and were; auto: where masks or clips do"
    )
    reference_gradient: bool = setting(False, "learn by the references, too; half as fast")

    def _faults(self) -> Iterator[str]:
        for name, length in (("channels", _SCALES), ("widths", _SCALES - 1), ("fused", _SCALES)):
            values: tuple[Any, ...] = getattr(self, name)
            if len(values) != length:
                yield f"{name} has {len(values)} values; give {length}, one per scale"
        if min(*self.channels, *self.widths) < 1:
            yield "channels and widths hold a value under 1; give positive numbers"


class PaperSettings(NetworkSection):
    """Shape of the published network."""

    sees_query: ClassVar[bool] = False

    preset: Literal["published"] = free("published", "the published shape")
    base: Count = setting(4, "channels of its first blocks, a multiple of groups")
    multipliers: tuple[int, ...] = setting(
        (4, 8, 16, 32), "channels of its scales, in base, finest first", min_length=1, max_length=8
    )
    latent: Count = setting(256, "channels of its coarsest map")
    groups: Count = setting(4, "groups of its norms")
    dropout: float = setting(0.0, "probability of dropping a skip's channel", ge=0, lt=1)
    skip_diffusion: bool = setting(True, "add noise to the skips in training")
    hidden: int = setting(32, "widest channels of its heads", ge=2)

    def _faults(self) -> Iterator[str]:
        if min(self.multipliers) < 1:
            yield "multipliers holds a value under 1; give positive numbers"
        widths = {"base": self.base, "latent": self.latent, "half of hidden": self.hidden // 2}
        unfit = [f"{name} = {width}" for name, width in widths.items() if width % self.groups]
        if unfit or self.hidden % 2:
            found = ", ".join(unfit) or f"hidden = {self.hidden}"
            remedy = "give multiples of it (hidden: of twice it)"
            yield f"{found} cannot be split into groups = {self.groups}; {remedy}"


class XMemShapeSettings(NetworkSection):
    """Widths of XMem."""

    beside: ClassVar = ("backbone_weights",)

    preset: Literal["published"] = free("published", "the published widths")
    key_dim: Count = setting(64, "channels of keys, by which frames are matched")
    value_dim: Count = setting(512, "channels of values, which hold the masks")
    hidden_dim: Count = setting(64, "channels of each object's sensory state")
    single_object: bool = setting(False, "the value encoder sees no other objects' masks")

    def misfits(self, network: NetworkSettings) -> Iterator[str]:
        """It sees the query, remembers frames, and starts from weights of one kind."""
        if network.sees_query is False or network.references == 0:
            yield "xmem sees the query and remembers at least one frame; leave it so"
        files = network.backbone_weights
        if network.weights is not None and (files.resnet50 or files.resnet18):
            yield "weights fill the encoders too; give weights or backbone_weights"


class BackboneSettings(Settings):
    """Files of classifiers that the encoders start from, under torchvision's names."""

    resnet50: Path | None = setting(None, "state dict of ResNet-50 for the key encoder, if any")
    resnet18: Path | None = setting(None, "state dict of ResNet-18 for the value encoder, if any")


class NetworkSettings(Settings):
    """Which network, how wide, and the weights it starts from."""

    name: str = setting("dvos", "dvos (compact), paper (published), xmem, or a registered network")
    references: Annotated[int, Field(ge=0, le=32)] = setting(
        DvosShapeSettings.references,
        "reference frames; 0 if not given, 4 where the query is not seen, and of paper and xmem",
    )
    sees_query: bool | None = setting(None, "whether the query is looked at; null: not by paper")
    encoder: Literal["lite0", "lite1", "lite2"] = setting("lite2", "dvos: size of its encoder")
    encoder_weights: Literal["imagenet", "none"] | Path = setting(
        "imagenet", "dvos: what the encoder starts from, imagenet, none, or a file"
    )
    dvos: DvosShapeSettings = setting(DvosShapeSettings(), "dvos: wide, narrow or its parts")
    paper: PaperSettings = setting(PaperSettings(), "paper: as published or its parts")
    xmem: XMemShapeSettings = setting(XMemShapeSettings(), "xmem: widths, as published or others")
    backbone_weights: BackboneSettings = setting(BackboneSettings(), "xmem: starts of its encoders")
    weights: Weights | None = setting(None, "best.safetensors, wheat, or a published .tar or .pth")
    options: dict[str, Any] = setting({}, "settings of a registered network, as its page tells")
    mean: tuple[float, float, float] | None = setting(
        None, "channel means of the input, 0..1; null: those of the network or of its encoder"
    )
    std: tuple[float, float, float] | None = setting(None, "channel deviations; null: as mean")

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"name": values}
        if not isinstance(values, dict):
            return values
        # A name on which single values were set, as those of presets are.
        if "preset" in values and "name" not in values:
            values = {"name" if key == "preset" else key: value for key, value in values.items()}
        own = getattr(cls.model_fields.get(str(values.get("name", "dvos"))), "default", None)
        usual = _REFERENCES
        if values.get("sees_query") is not False and isinstance(own, NetworkSection):
            usual = own.references
        return {"references": usual, **values}

    def _faults(self) -> Iterator[str]:
        if others := foreign_settings(self, self.name):
            found = f"{', '.join(others)} cannot be set for the network {self.name}"
            which = "it" if len(others) == 1 else "them"
            yield f"{found}; leave {which} out or choose the other network"
        yield from section_of(self, self.name).misfits(self)
        if self.references == 0 and not self.looks_at_query:
            yield "references is 0 and the query is not seen; give it a reference"
        if self.std is not None and min(self.std) <= 0:
            yield "std holds a value that is not positive; give positive numbers"

    @property
    def looks_at_query(self) -> bool:
        """``sees_query``, or what the network does if that is not set."""
        own = section_of(self, self.name)
        return own.sees_query if self.sees_query is None else self.sees_query


def section_of(settings: Settings, network: str) -> NetworkSection:
    """The section of settings that one network alone has; an empty one if it has none."""
    own = getattr(settings, network, None)
    return own if isinstance(own, NetworkSection) else NetworkSection.model_construct()


def foreign_settings(settings: Settings, network: str) -> list[str]:
    """Names of the fields that belong to other networks and are not at their defaults."""
    fields = type(settings).model_fields
    owners = {
        each: name
        for name, field in fields.items()
        if isinstance(field.default, NetworkSection)
        for each in (name, *field.default.beside)
    }
    return [
        name
        for name, field in fields.items()
        if owners.get(name, network) != network and getattr(settings, name) != field.default
    ]
