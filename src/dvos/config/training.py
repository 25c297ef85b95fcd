"""Settings of ``dvos train``."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import AFFECTS_NOTHING, PresetSettings, Settings
from dvos.config.data import DataSettings
from dvos.config.network import NetworkSettings, foreign_settings


def _free(default: Any, description: str, **limits: Any) -> Any:
    """A setting that changes how a run is done and not what comes out."""
    return Field(default, description=description, json_schema_extra=AFFECTS_NOTHING, **limits)


def _weight(default: float, of: str) -> Any:
    """The weight of a loss."""
    return Field(default, ge=0, description=f"weight of {of}")


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


class LossSettings(PresetSettings):
    """What is minimised: mask * (sum of its losses) + reconstruction * (sum of its losses)."""

    preset: Literal["standard", "published"] = Field(
        "standard",
        description="standard: cross-entropy, Dice and a little mean squared error; published: "
        "those of the published training, the reconstruction's in full",
        json_schema_extra=AFFECTS_NOTHING,
    )
    mask: float = _weight(1.0, "the losses of the mask together")
    bce: float = _weight(1.0, "binary cross-entropy within the mask's")
    dice: float = _weight(1.0, "soft Dice within the mask's")
    iou: float = _weight(0.0, "soft IoU within the mask's")
    tversky: float = _weight(0.0, "the Tversky loss within the mask's")
    focal: float = _weight(0.0, "the focal loss within the mask's")
    focal_tversky: float = _weight(0.0, "the focal Tversky loss within the mask's")
    reconstruction: float = _weight(
        0.1, "the losses of the query's reconstruction together; 0 leaves that output out"
    )
    mse: float = _weight(1.0, "the mean squared error within the reconstruction's")
    mae: float = _weight(0.0, "the mean absolute error within the reconstruction's")
    ms_ssim: float = _weight(0.0, "1 - MS-SSIM within the reconstruction's")
    gradient_difference: float = _weight(0.0, "the gradient difference within the reconstruction's")
    perceptual: float = _weight(
        0.0, "the perceptual loss within the reconstruction's; needs perceptual_weights"
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

    presets: ClassVar = {
        "standard": {},
        "published": {"reconstruction": 1.0, "ms_ssim": 1.0, "focal_alpha": None},
    }

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


class XMemSettings(PresetSettings):
    """How XMem is trained; the defaults are the published ones."""

    #: Settings of the run that it has no use for.
    unused: ClassVar[tuple[str, ...]] = (
        "losses",
        "data.diffusion",
        "data.pseudo.weight",
        "data.clips.intervals",
    )
    #: Sides of training clips are multiples of this.
    stride: ClassVar[int] = 16

    preset: Literal["published"] = Field(
        "published", description="the published numbers", json_schema_extra=AFFECTS_NOTHING
    )

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
    deep_update_prob: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of the frames whose values the sensory state learns from in training",
        json_schema_extra={"was": "xmem.deep_updates"},
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

    presets: ClassVar = {"published": {}}

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


class TrainingSettings(Settings):
    """Train a network from stills, clips and synthetic clips."""

    out: Path = Field(description="run folder to write", json_schema_extra=AFFECTS_NOTHING)
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
    xmem: XMemSettings = Field(
        XMemSettings(),
        description="xmem: how it is trained, as published or its parts",
        json_schema_extra={"network": "xmem"},
    )
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
    pictures: int = _free(4, "validation clips drawn into predictions/", ge=0)
    keep_epochs: int = _free(
        0, "keep the weights of every so many epochs in weights/; 0: only best", ge=0
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = _free(
        (), "experiment trackers told of each epoch, beside records.csv"
    )
    seed: int = Field(123, ge=0, description="of weights, clips and all draws")
    device: Literal["auto", "cpu", "cuda", "mps"] = _free("auto", "where to train")
    devices: int = _free(
        0,
        "devices per node, on a CPU processes; 0: one, on a CPU a process per core up to four",
        ge=0,
    )
    nodes: int = _free(1, "nodes", ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on a CUDA device that has it, else 32-true"
    )
    threads: int = _free(0, "CPU threads of the network; 0: OMP_NUM_THREADS, or the cores", ge=0)
    workers: int = _free(
        0, "processes that make clips, per device; 0: one, on a GPU one per core", ge=0
    )
    save_steps: int = _free(
        0, "write last.ckpt every so many steps too; 0: after epochs only", ge=0
    )
    resume: bool = _free(
        True, "go on with an unfinished run of the same settings in out; false: start over"
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
        name = self.network.name
        others = foreign_settings(self, name)
        if others:
            raise ValueError(
                f"{', '.join(others)} cannot be set for the network {name}; leave it out or choose "
                "the network of that name"
            )
        own = getattr(self, name, None)
        if not isinstance(own, XMemSettings):
            return self
        unused = [key for key in own.unused if attrgetter(key)(self) != self._default_of(key)]
        if unused:
            raise ValueError(
                f"{', '.join(unused)} cannot be set for the network {name}; leave it out"
            )
        if self.data.crop % own.stride:
            raise ValueError(
                f"data.crop is {self.data.crop}; the network {name} needs a multiple of "
                f"{own.stride}"
            )
        return self

    @classmethod
    def _default_of(cls, key: str) -> Any:
        section, _, rest = key.partition(".")
        default = cls.model_fields[section].default
        return attrgetter(rest)(default) if rest else default
