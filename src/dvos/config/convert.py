"""Settings of ``dvos convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dvos.config.base import Settings


class ConvertSettings(Settings):
    """A checkpoint, the file it is to become, and what it does not say about its network."""

    checkpoint: Path = Field(
        description="weights of the published training (.tar, .pth), or a weights file of ours"
    )
    out: Path = Field(description="file to write: .safetensors, or .onnx for onnxruntime")
    sees_query: bool = Field(
        False, description="whether the last of the frames that the network takes is the query"
    )
    mean: tuple[float, float, float] | None = Field(
        None, description="channel means of the input, 0..1; null: the published, or those stored"
    )
    std: tuple[float, float, float] | None = Field(
        None, description="channel deviations of the input; null: the published, or those stored"
    )
    reference_interval: int | None = Field(
        None, ge=1, description="frames between references; null: 1, or what is stored"
    )

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if self.out.suffix not in (".safetensors", ".onnx"):
            raise ValueError(f"out is {self.out}; give a name that ends in .safetensors or .onnx")
        if self.out.resolve() == self.checkpoint.resolve():
            raise ValueError(f"out is the checkpoint itself, {self.out}; give another name")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std holds a value that is not positive; give positive numbers")
        return self
