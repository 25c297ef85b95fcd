"""Settings of XMem: its shape, the weights of its encoders, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings

__all__ = ["BackboneSettings", "XMemSettings", "XMemShapeSettings"]


class XMemShapeSettings(Settings):
    """Widths of XMem; the defaults are the published ones."""

    key_dim: int = Field(64, ge=1, description="channels of keys, by which frames are matched")
    value_dim: int = Field(512, ge=1, description="channels of values, which hold the masks")
    hidden_dim: int = Field(64, ge=1, description="channels of each object's sensory state")
    single_object: bool = Field(
        False, description="the value encoder does not see the other objects' masks"
    )


class BackboneSettings(Settings):
    """Files of classifiers that the encoders start from, under torchvision's names."""

    resnet50: Path | None = Field(
        None, description="state dict of ResNet-50 for the key encoder; null for none"
    )
    resnet18: Path | None = Field(
        None, description="state dict of ResNet-18 for the value encoder; null for none"
    )


class XMemSettings(Settings):
    """How XMem is trained; the defaults are the published ones."""

    frames: int = Field(
        8, ge=3, le=64, description="frames of a training clip; the mask of the first is given"
    )
    objects: Literal["union", "instances"] = Field(
        "union",
        description="union: all objects are one; instances: some of the first frame's objects are "
        "followed, by the ids of instance masks",
    )
    max_objects: int = Field(
        3, ge=1, le=64, description="objects followed in a clip, with objects: instances"
    )
    jumps: tuple[tuple[float, int], ...] = Field(
        ((0.0, 5), (0.1, 10), (0.3, 15), (0.9, 5)),
        min_length=1,
        description="[share, jump]: from that share of the run (less tuning) on, neighbouring "
        "frames of a clip lie at most so many frames apart",
    )
    tuning: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of the run at its end in which single frames are not bent",
    )
    frame_turn: float = Field(
        15.0, ge=0, le=90, description="largest rotation of each frame on its own, degrees"
    )
    frame_shear: float = Field(
        10.0, ge=0, le=45, description="largest shear of each frame on its own, degrees"
    )
    deep_updates: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of the frames whose values the sensory state learns from in training",
    )
    warm_up: tuple[int, int] = Field(
        (20_000, 70_000),
        description="steps until which all pixels count for the cross-entropy, and from which "
        "only the hardest do",
    )
    hardest: float = Field(
        0.15, gt=0, le=1, description="share of the pixels that count after the warm-up"
    )
    validation_frames: int = Field(
        24, ge=2, description="most frames of a validation clip, the given one included"
    )

    @model_validator(mode="after")
    def _jumps_fit(self) -> Self:
        shares = [share for share, _ in self.jumps]
        if shares[0] != 0 or sorted(set(shares)) != shares or shares[-1] >= 1:
            raise ValueError(
                f"jumps begin at the shares {shares}; give 0 first, then rising ones below 1"
            )
        if min(jump for _, jump in self.jumps) < 1:
            raise ValueError("jumps holds a jump under 1; neighbouring frames lie 1 apart")
        return self

    @model_validator(mode="after")
    def _warm_up_in_order(self) -> Self:
        if not 0 <= self.warm_up[0] <= self.warm_up[1]:
            raise ValueError(f"warm_up is {list(self.warm_up)}; give the earlier step first")
        return self
