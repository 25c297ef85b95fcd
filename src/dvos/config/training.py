"""Settings of ``dvos train``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings
from dvos.config.data import DataSettings
from dvos.config.network import NetworkSettings

__all__ = ["LossSettings", "OptimiserSettings", "ScheduleSettings", "TrainingSettings"]


class OptimiserSettings(Settings):
    """AdamW."""

    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    encoder_lr_factor: float = Field(
        0.3, ge=0, le=10, description="the encoder's learning rate is this times lr; 0 freezes it"
    )
    weight_decay: float = Field(
        1e-2, ge=0, description="weight decay, of kernels only: not of norms and biases"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay of the two moments")
    clip_norm: float = Field(
        1.0, ge=0, description="gradients are scaled down to this norm; 0 for no limit"
    )

    @model_validator(mode="after")
    def _betas_fit(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {list(self.betas)}; give two numbers from 0 to below 1")
        return self


class ScheduleSettings(Settings):
    """Learning rate over the run: a linear rise, then half a cosine."""

    warm_up: float = Field(0.05, ge=0, le=0.9, description="share of the steps the rise takes")
    final: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of lr")


class LossSettings(Settings):
    """What is minimised: mask * (bce * BCE + dice * soft Dice) + reconstruction * MSE."""

    mask: float = Field(1.0, ge=0, description="weight of the losses of the mask together")
    bce: float = Field(1.0, ge=0, description="weight of binary cross-entropy within the mask's")
    dice: float = Field(1.0, ge=0, description="weight of soft Dice within the mask's")
    reconstruction: float = Field(
        0.1,
        ge=0,
        description="weight of the mean squared error of the query's reconstruction; 0 leaves "
        "that output out",
    )

    @model_validator(mode="after")
    def _mask_learns(self) -> Self:
        if self.mask * (self.bce + self.dice) <= 0:
            raise ValueError("the mask has no loss; give mask and one of bce and dice a weight")
        return self


class TrainingSettings(Settings):
    """Train a network from stills, clips and synthetic clips."""

    out: Path = Field(description="run folder to write")
    network: NetworkSettings = Field(NetworkSettings(), description="the network")
    data: DataSettings = Field(DataSettings(), description="training and validation clips")
    epochs: int = Field(15, ge=1, description="epochs; validation follows each")
    clips_per_epoch: int = Field(
        512, ge=1, description="clips of an epoch, rounded up to whole batches"
    )
    batch: int = Field(8, ge=1, description="clips of one step, over all devices together")
    accumulate: int = Field(
        1, ge=1, description="parts each batch is run in one after another, to save memory"
    )
    optimiser: OptimiserSettings = Field(OptimiserSettings(), description="AdamW")
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="learning rate over time")
    losses: LossSettings = Field(LossSettings(), description="what is minimised")
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay per step of the running average of weights that is validated and "
        "kept as best; 0 for the last weights themselves",
    )
    patience: int = Field(
        0, ge=0, description="stop after so many epochs without a better Dice; 0 for never"
    )
    pictures: int = Field(4, ge=0, description="validation clips drawn into predictions/")
    seed: int = Field(123, ge=0, description="of weights, clips and all draws")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    devices: int = Field(1, ge=1, description="devices per node")
    nodes: int = Field(1, ge=1, description="nodes")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on a CUDA device that has it, else 32-true"
    )
    threads: int = Field(
        0, ge=0, description="CPU threads of the network; 0: OMP_NUM_THREADS, or the cores"
    )
    workers: int = Field(
        0, ge=0, description="processes that make clips, per device; 0: one, on a GPU one per core"
    )
    save_steps: int = Field(
        0, ge=0, description="write last.ckpt every so many steps too; 0: after epochs only"
    )
    resume: bool = Field(
        True,
        description="go on with an unfinished run of the same settings in out; false: start over",
    )

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        parts = self.accumulate * self.devices * self.nodes
        if self.batch % parts:
            raise ValueError(
                f"batch is {self.batch}, which {parts} (accumulate x devices x nodes) does not "
                f"divide; give a multiple of {parts}"
            )
        return self
