"""Settings of ``dvos train``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings
from dvos.config.data import DataSettings
from dvos.config.network import NetworkSettings
from dvos.config.xmem import XMemSettings

__all__ = ["LossSettings", "OptimiserSettings", "ScheduleSettings", "TrainingSettings"]


class OptimiserSettings(Settings):
    """AdamW."""

    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    encoder_lr_factor: float | None = Field(
        None,
        ge=0,
        le=10,
        description="the encoder's learning rate is this times lr; 0 freezes it; null: 0.3 for an "
        "encoder that starts from pretrained weights, else 1",
    )
    freeze: tuple[Literal["encoder", "decoder", "heads", "mask", "reconstruction"], ...] = Field(
        (),
        description="parts that keep their weights and statistics; heads are mask and "
        "reconstruction together",
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
    """Learning rate over the run: a linear rise, then half a cosine, or steps."""

    shape: Literal["cosine", "steps"] = Field(
        "cosine", description="after the rise: half a cosine down to final, or steps"
    )
    warm_up: float = Field(0.05, ge=0, le=0.9, description="share of the steps the rise takes")
    final: float = Field(
        0.01, ge=0, le=1, description="cosine: last learning rate as a share of lr"
    )
    drops: tuple[float, ...] = Field(
        (), description="steps: shares of the run at which the rate falls; none keeps it"
    )
    drop: float = Field(0.1, gt=0, le=1, description="steps: what the rate is multiplied by there")

    @model_validator(mode="after")
    def _drops_fit(self) -> Self:
        if not all(0 <= share < 1 for share in self.drops):
            raise ValueError(f"drops are {list(self.drops)}; give shares from 0 to below 1")
        return self


class LossSettings(Settings):
    """What is minimised: mask * (sum of its losses) + reconstruction * (sum of its losses)."""

    mask: float = Field(1.0, ge=0, description="weight of the losses of the mask together")
    bce: float = Field(1.0, ge=0, description="weight of binary cross-entropy within the mask's")
    dice: float = Field(1.0, ge=0, description="weight of soft Dice within the mask's")
    iou: float = Field(0.0, ge=0, description="weight of soft IoU within the mask's")
    tversky: float = Field(0.0, ge=0, description="weight of the Tversky loss within the mask's")
    focal: float = Field(0.0, ge=0, description="weight of the focal loss within the mask's")
    focal_tversky: float = Field(
        0.0, ge=0, description="weight of the focal Tversky loss within the mask's"
    )
    reconstruction: float = Field(
        0.1,
        ge=0,
        description="weight of the losses of the query's reconstruction together; 0 leaves that "
        "output out",
    )
    mse: float = Field(
        1.0, ge=0, description="weight of the mean squared error within the reconstruction's"
    )
    mae: float = Field(
        0.0, ge=0, description="weight of the mean absolute error within the reconstruction's"
    )
    ms_ssim: float = Field(
        0.0, ge=0, description="weight of 1 - MS-SSIM within the reconstruction's"
    )
    gradient_difference: float = Field(
        0.0, ge=0, description="weight of the gradient difference within the reconstruction's"
    )
    perceptual: float = Field(
        0.0,
        ge=0,
        description="weight of the perceptual loss within the reconstruction's; needs "
        "perceptual_weights",
    )
    tversky_alpha: float = Field(
        0.3, ge=0, le=1, description="what a false object pixel costs in Tversky losses"
    )
    tversky_beta: float = Field(
        0.7, ge=0, le=1, description="what a missed object pixel costs in Tversky losses"
    )
    focal_alpha: float | None = Field(
        0.25,
        gt=0,
        lt=1,
        description="weight of object pixels in the focal loss, that of others being 1 minus it; "
        "null: no such weights",
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=10, description="focus of the focal loss on hard pixels; 0 for none"
    )
    focal_tversky_gamma: float = Field(
        4 / 3,
        ge=0.1,
        le=10,
        description="the focal Tversky loss is (1 - Tversky index) to the power of 1 / this",
    )
    perceptual_weights: Path | None = Field(
        None,
        description="PyTorch state dict of VGG16 as torchvision publishes it, for the perceptual "
        "loss",
    )

    @model_validator(mode="after")
    def _mask_learns(self) -> Self:
        parts = (self.bce, self.dice, self.iou, self.tversky, self.focal, self.focal_tversky)
        if self.mask * sum(parts) <= 0:
            raise ValueError(
                "the mask has no loss; give a weight to mask and to one of bce, dice, iou, "
                "tversky, focal and focal_tversky"
            )
        return self

    @model_validator(mode="after")
    def _reconstruction_learns(self) -> Self:
        parts = (self.mse, self.mae, self.ms_ssim, self.gradient_difference, self.perceptual)
        if self.reconstruction > 0 and sum(parts) <= 0:
            raise ValueError(
                "the reconstruction has no loss; set reconstruction to 0, or give a weight to one "
                "of mse, mae, ms_ssim, gradient_difference and perceptual"
            )
        return self

    @model_validator(mode="after")
    def _tversky_fits(self) -> Self:
        if self.tversky_alpha + self.tversky_beta <= 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0; give one a positive value")
        return self

    @model_validator(mode="after")
    def _perceptual_has_weights(self) -> Self:
        if self.reconstruction * self.perceptual > 0 and self.perceptual_weights is None:
            raise ValueError(
                "the perceptual loss needs trained weights; set perceptual_weights to a VGG16 "
                "state dict (vgg16-*.pth of torchvision), or perceptual to 0"
            )
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
    losses: LossSettings = Field(
        LossSettings(), description="what dvos and paper minimise; xmem has its own loss"
    )
    xmem: XMemSettings = Field(XMemSettings(), description="how xmem is trained")
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
    keep_epochs: int = Field(
        0, ge=0, description="keep the weights of every so many epochs in weights/; 0: only best"
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        (), description="experiment trackers told of each epoch, beside records.csv"
    )
    seed: int = Field(123, ge=0, description="of weights, clips and all draws")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    devices: int = Field(
        0,
        ge=0,
        description="devices per node, on a CPU processes; 0: one, on a CPU a process per core up "
        "to four",
    )
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
        parts = self.accumulate * (self.devices or 1) * self.nodes
        if self.batch % parts:
            raise ValueError(
                f"batch is {self.batch}, which {parts} (accumulate x devices x nodes) does not "
                f"divide; give a multiple of {parts}"
            )
        return self

    @model_validator(mode="after")
    def _belongs_to_the_network(self) -> Self:
        if self.network.name != "xmem":
            if self.xmem != XMemSettings():
                raise ValueError(
                    f"xmem cannot be set for the network {self.network.name}; leave it out or set "
                    "network.name to xmem"
                )
            return self
        unused = {
            "losses": self.losses != LossSettings(),
            "data.diffusion": self.data.diffusion.preset_name != "none",
            "data.pseudo.weight": self.data.pseudo.weight != 1,
            "data.clips.intervals": self.data.clips.intervals != [1],
        }
        told = ", ".join(name for name, changed in unused.items() if changed)
        if told:
            raise ValueError(f"{told} cannot be set for the network xmem; leave it out")
        if self.data.crop % 16:
            raise ValueError(
                f"data.crop is {self.data.crop}; the network xmem needs a multiple of 16"
            )
        return self
