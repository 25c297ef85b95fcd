"""Settings of ``dvos train``."""

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dvos.config import base
from dvos.config.base import Count, Fraction, Natural, PresetSettings, Settings, free, setting
from dvos.config.data import DataSettings
from dvos.config.load import load_settings
from dvos.config.network import NetworkSection, NetworkSettings, foreign_settings, section_of
from dvos.config.prediction import Switch
from dvos.errors import ConfigError, Fault


def _weight(default: float, of: str) -> Any:
    """The weight of a loss."""
    return setting(default, f"weight of {of}", ge=0)


class OptimiserSettings(Settings):
    """AdamW."""

    lr: float = setting(1e-3, "highest learning rate", gt=0)
    encoder_lr_factor: float | None = setting(
        None, "of lr, for the encoder; 0 freezes it; null: 0.3 if pretrained, else 1", ge=0, le=10
    )
    freeze: tuple[
        Literal["encoder", "decoder", "heads", "mask", "reconstruction", "objects"], ...
    ] = setting((), "parts that keep weights and statistics; heads: the last three")
    weight_decay: float = setting(1e-2, "weight decay of kernels, not of norms and biases", ge=0)
    betas: tuple[float, float] = setting((0.9, 0.999), "decay of the two moments")
    clip_norm: float = setting(1.0, "gradients are scaled down to this norm; 0: no limit", ge=0)

    def _faults(self) -> Iterator[str]:
        if not all(0 <= beta < 1 for beta in self.betas):
            yield f"betas are {list(self.betas)}; give two numbers from 0 to below 1"


class ScheduleSettings(Settings):
    """Learning rate over the run: a linear rise, then half a cosine, or steps."""

    shape: Literal["cosine", "steps"] = setting("cosine", "after the rise: half a cosine, or steps")
    warm_up: float = setting(0.05, "share of the steps the rise takes", ge=0, le=0.9)
    final: Fraction = setting(0.01, "cosine: last learning rate as a share of lr")
    drops: tuple[float, ...] = setting((), "steps: shares of the run at which the rate falls")
    drop: float = setting(0.1, "steps: what the rate is multiplied by there", gt=0, le=1)

    def _faults(self) -> Iterator[str]:
        if not all(0 <= share < 1 for share in self.drops):
            yield f"drops are {list(self.drops)}; give shares from 0 to below 1"


class LossSettings(PresetSettings):
    """What is minimised: mask * (sum of its losses) + reconstruction * (sum of its losses)."""

    presets: ClassVar = {"published": {"reconstruction": 1.0, "ms_ssim": 1.0, "focal_alpha": None}}

    preset: Literal["standard", "published"] = free(
        "standard", "standard: cross-entropy, Dice and a little MSE; published: as published"
    )
    mask: float = _weight(1.0, "the losses of the mask together")
    bce: float = _weight(1.0, "binary cross-entropy within the mask's")
    dice: float = _weight(1.0, "soft Dice within the mask's")
    iou: float = _weight(0.0, "soft IoU within the mask's")
    tversky: float = _weight(0.0, "the Tversky loss within the mask's")
    focal: float = _weight(0.0, "the focal loss within the mask's")
    focal_tversky: float = _weight(0.0, "the focal Tversky loss within the mask's")
    reconstruction: float = _weight(0.1, "the reconstruction's losses together; 0: no such output")
    mse: float = _weight(1.0, "the mean squared error within the reconstruction's")
    mae: float = _weight(0.0, "the mean absolute error within the reconstruction's")
    ms_ssim: float = _weight(0.0, "1 - MS-SSIM within the reconstruction's")
    gradient_difference: float = _weight(0.0, "the gradient difference within the reconstruction's")
    perceptual: float = _weight(0.0, "the perceptual loss; needs perceptual_weights")
    objects: float = _weight(4.0, "the losses of the objects together, where told apart")
    offset: float = _weight(1.0, "the offsets to the objects' centres within the objects'")
    centre: float = _weight(0.5, "the focal loss of the centres within the objects'")
    motion: float = _weight(0.5, "the objects' motion since the frame before within the objects'")
    small_objects: Fraction = setting(
        0.0, "weight in the mask's losses: (median area over own) ** this, 1 to 5, where told apart"
    )
    tversky_alpha: Fraction = setting(0.3, "cost of a false object pixel in Tversky losses")
    tversky_beta: Fraction = setting(0.7, "cost of a missed object pixel in Tversky losses")
    focal_alpha: float | None = setting(
        0.25, "weight of object pixels in the focal loss, others 1 minus it; null: none", gt=0, lt=1
    )
    focal_gamma: float = setting(2.0, "focus of the focal loss on hard pixels", ge=0, le=10)
    focal_tversky_gamma: float = setting(4 / 3, "(1 - Tversky index) ** (1 / this)", ge=0.1, le=10)
    perceptual_weights: Path | None = setting(None, "VGG16 state dict, as of torchvision")

    def _faults(self) -> Iterator[str]:
        parts = (self.bce, self.dice, self.iou, self.tversky, self.focal, self.focal_tversky)
        if self.mask * sum(parts) <= 0:
            names = "bce, dice, iou, tversky, focal and focal_tversky"
            yield f"the mask has no loss; give a weight to mask and to one of {names}"
        of_image = (self.mse, self.mae, self.ms_ssim, self.gradient_difference, self.perceptual)
        if self.reconstruction > 0 and sum(of_image) <= 0:
            names = "mse, mae, ms_ssim, gradient_difference and perceptual"
            remedy = f"set reconstruction to 0, or give a weight to one of {names}"
            yield f"the reconstruction has no loss; {remedy}"
        if self.tversky_alpha + self.tversky_beta <= 0:
            yield "tversky_alpha and tversky_beta are both 0; give one a positive value"
        if self.reconstruction * self.perceptual > 0 and self.perceptual_weights is None:
            file = "a VGG16 state dict (vgg16-*.pth of torchvision)"
            remedy = f"set perceptual_weights to {file}, or perceptual to 0"
            yield f"the perceptual loss needs trained weights; {remedy}"


class XMemSettings(NetworkSection):
    """How XMem is trained; the defaults are the published ones."""

    unused: ClassVar = ("losses", "data.diffusion", "data.pseudo.weight", "data.clips.intervals")
    stride: ClassVar[int] = 16

    preset: Literal["published"] = free("published", "the published numbers")
    frames: int = setting(8, "frames of a training clip; the first's mask is given", ge=3, le=64)
    objects: Literal["union", "instances"] = setting(
        "union", "all objects are one, or some of the first frame's are followed by their ids"
    )
    max_objects: int = setting(3, "objects followed in a clip with instances", ge=1, le=64)
    jumps: Annotated[tuple[tuple[float, int], ...], Field(min_length=1)] = setting(
        ((0.0, 5), (0.1, 10), (0.3, 15), (0.9, 5)),
        "[share of the run, jump]: from there on, frames of a clip lie at most so far apart",
    )
    tuning: float = setting(0.25, "share of the run at its end without frames bent", ge=0, lt=1)
    frame_turn: float = setting(15.0, "largest own rotation of a frame, degrees", ge=0, le=90)
    frame_shear: float = setting(10.0, "largest own shear of a frame, degrees", ge=0, le=45)
    deep_update_prob: Fraction = setting(0.2, "share of frames that the sensory state learns from")
    warm_up: tuple[int, int] = setting(
        (20_000, 70_000), "steps until which all pixels count, and from which only the hardest"
    )
    hardest: float = setting(0.15, "share of pixels that count after the warm-up", gt=0, le=1)
    validation_frames: int = setting(24, "most frames of a validation clip, all counted", ge=2)

    def _faults(self) -> Iterator[str]:
        shares = [share for share, _ in self.jumps]
        if shares[0] != 0 or sorted(set(shares)) != shares or shares[-1] >= 1:
            yield f"jumps begin at the shares {shares}; give 0 first, then rising ones below 1"
        if min(jump for _, jump in self.jumps) < 1:
            yield "jumps holds a jump under 1; neighbouring frames lie 1 apart"
        if not 0 <= self.warm_up[0] <= self.warm_up[1]:
            yield f"warm_up is {list(self.warm_up)}; give the earlier step first"


class TrainingSettings(Settings):
    """Train a network from stills, clips and synthetic clips."""

    out: base.Place = Field(description="run folder to write")
    network: NetworkSettings = setting(NetworkSettings(), "the network")
    data: DataSettings = setting(DataSettings(), "training and validation clips")
    epochs: Count = setting(15, "epochs; validation follows each")
    clips_per_epoch: Count = setting(512, "clips of an epoch, rounded up to whole batches")
    minutes: float | None = free(
        None, "time for all; clips_per_epoch and epochs end in it", gt=0, le=1e6
    )
    batch: Count = setting(8, "clips of one step, over all devices together")
    accumulate: Count = setting(1, "parts that each batch is run in, one after another")
    optimiser: OptimiserSettings = setting(OptimiserSettings(), "AdamW")
    schedule: ScheduleSettings = setting(ScheduleSettings(), "learning rate over time")
    losses: LossSettings = setting(LossSettings(), "of dvos and paper; xmem has its own loss")
    xmem: XMemSettings = setting(XMemSettings(), "xmem: how it is trained, as published or others")
    ema_decay: float = setting(0.99, "decay of the average kept as best; 0: the last", ge=0, lt=1)
    start_share: float = setting(
        0.0, "share of network.weights in the best; 3 / (3 + stills) did well", ge=0, lt=1
    )
    patience: Natural = setting(0, "stop after these epochs without a better Dice; 0 for never")
    pictures: Natural = free(4, "validation clips drawn into predictions/")
    keep_epochs: Natural = free(0, "keep weights of every so many epochs in weights/; 0: only best")
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = free(
        (), "experiment trackers"
    )
    seed: Natural = setting(123, "of weights, clips and all draws")
    device: Literal["auto", "cpu", "cuda", "mps"] = free("auto", "where to train")
    devices: Natural = free(0, "devices, or processes of a CPU; 0: one, or up to four processes")
    nodes: Count = free(1, "nodes")
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting(
        "auto", "auto: bf16-mixed on a CUDA device that has it, else 32-true"
    )
    compile: Switch = free(
        "auto", "auto: on a GPU, in long runs; on: wherever it trains; off: never"
    )
    deterministic: bool = setting(False, "on a GPU, the same bits each time; slower")
    threads: Natural = free(0, "CPU threads of the network; 0: OMP_NUM_THREADS, or the cores")
    workers: Natural = free(0, "processes that make clips, per device; 0: one, on a GPU all cores")
    save_steps: Natural = free(0, "write last.ckpt every so many steps too; 0: after epochs only")
    resume: bool = free(True, "go on with an unfinished run of these settings; false: start over")

    def _faults(self) -> Iterator[str]:
        parts = self.accumulate * (self.devices or 1) * self.nodes
        if self.batch % parts:
            given = f"batch is {self.batch}, which {parts} (accumulate x devices x nodes)"
            yield f"{given} does not divide; give a multiple of {parts}"
        name, own = self.network.name, section_of(self, self.network.name)
        cannot = f"cannot be set for the network {name}; leave it out"
        if others := foreign_settings(self, name):
            yield f"{', '.join(others)} {cannot} or choose the network of that name"
        unset = type(self).model_construct(out=self.out)
        unused = [key for key in own.unused if attrgetter(key)(self) != attrgetter(key)(unset)]
        if unused:
            yield f"{', '.join(unused)} {cannot}"
        if self.start_share and self.network.weights is None:
            yield "start_share needs network.weights to start from; set them, or leave it"
        crop, stride = self.data.crop, own.stride
        if crop % stride:
            yield f"data.crop is {crop}; the network {name} needs a multiple of {stride}"


#: Settings of ``train`` as a mapping, as they were given.
TrainingValues = Annotated[dict[str, Any], base.Holds(TrainingSettings)]


def load_training(values: dict[str, Any], part: str) -> TrainingSettings:
    """A training within the settings of another command; faults are told under the key ``part``."""
    try:
        return load_settings(TrainingSettings, options=values)
    except ConfigError as error:
        raise ConfigError(_told_under(part, fault) for fault in error.faults) from error


def _told_under(part: str, fault: Fault) -> Fault:
    _, has_key, key = fault.where.rpartition(": ")
    remedy = fault.remedy.replace("did you mean ", f"did you mean {part}.")
    return replace(fault, where=f"{part}.{key}" if has_key else part, remedy=remedy)


def chosen_faults(part: str, values: dict[str, Any], by: str) -> list[Fault]:
    """A fault for each setting of a training that another command chooses itself."""
    keys = [key for key in ("out", "resume") if key in values]
    return [Fault(f"{part}.{key}", f"is chosen by {by}", "", "leave it out") for key in keys]
