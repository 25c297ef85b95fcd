"""What each key of the published training settings becomes."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from dvos.config.published_rules import Flat, Kind, To, Without, number, to, unless, without

__all__ = ["TRAINING"]


def _losses(flat: Flat, which: str) -> dict[str, float]:
    names = flat.get(f"TrainConfig.Losses.{which}_LOSSES") or []
    weights = flat.get(f"TrainConfig.Losses.{which}_LOSSES_WEIGHTS") or []
    if len(names) != len(weights):
        raise ValueError(f"one weight for each of the {len(names)} losses")
    pairs = zip(names, weights, strict=True)
    return {str(name).upper(): float(weight) for name, weight in pairs}


def _mask_losses(_: Any, flat: Flat) -> dict[str, float]:
    losses = _losses(flat, "SEGMENTATION")
    return {"losses.bce": losses.get("BCE", 0.0), "losses.dice": losses.get("DICE", 0.0)}


def _reconstruction(value: Any, flat: Flat) -> float:
    return float(value) * _losses(flat, "RECONSTRUCTION").get("MSE", 0.0)


def _other_losses(*ours: str) -> Without:
    def text(value: Any, _: Flat) -> str:
        others = [str(name) for name in value or [] if str(name).upper() not in ours]
        return f"no counterpart of {', '.join(others)}; left out" if others else ""

    return Without(text)


def _devices(flat: Flat) -> int:
    ids = flat.get("BasicConfig.DEFAULT_DEVICE_IDs")
    together = flat.get("TrainConfig.DISTRIBUTED", True) and isinstance(ids, list)
    return max(1, len(ids)) if together and ids is not None else 1


def _last_rate(value: Any, flat: Flat) -> float:
    if flat.get("TrainConfig.Optimizer.SCHEDULER.APPLY") is False:
        return 1.0
    return float(value) / float(flat["TrainConfig.Optimizer.PARAMS.lr"])


def _side(value: Any, _: Flat) -> int:
    channels, height, width = value
    if channels != 3 or height != width:
        raise ValueError("[3, N, N]: training clips are square")
    return int(height)


def _run_folder(value: Any, flat: Flat) -> str:
    return str(PurePath(flat.get("BasicConfig.ROOT_LOG_DIR") or "") / str(value))


def _phase(value: Any, _: Flat) -> str:
    return "" if value == "TRAIN" else "the TEST phase is the command dvos evaluate"


def _test_tables(value: Any, _: Flat) -> str:
    tables = ", ".join(map(str, value or []))
    return f"not part of training; run dvos evaluate with --truth on {tables}" if tables else ""


def _cosine(value: Any, flat: Flat) -> str:
    epochs = flat.get("TrainConfig.NUM_EPOCHS")
    return "" if value == epochs else f"the cosine spans all {epochs} epochs"


_UNET = "shape of the published UNet; our network has keys of its own under network"
_DECIDED = (
    "BasicConfig.DETERMINISTIC_CUDANN",
    "BasicConfig.BENCHMARK_CUDANN",
    "BasicConfig.DETERMINISTIC_ALGORITHM",
    "TrainConfig.PREFETCH_FACTOR",
    "TrainConfig.PIN_MEMORY",
)
_LOSS_SHAPE = "belongs to losses that ours has not, or is fixed there"

TRAINING = Kind(
    name="the training",
    command="train",
    marks=("BasicConfig", "TrainConfig", "ModelConfig"),
    rules={
        "BasicConfig.SEED": to("seed"),
        "BasicConfig.DEVICE": to("device"),
        "BasicConfig.DEFAULT_DEVICE_IDs": to(
            "devices",
            convert=lambda _, flat: _devices(flat),
            note="only their number is carried over; choose devices by CUDA_VISIBLE_DEVICES",
        ),
        "BasicConfig.EXPERIMENT_NAME": to("out", convert=_run_folder),
        "BasicConfig.ROOT_LOG_DIR": without(""),
        "BasicConfig.DEVELOPMENT_PHASE": Without(_phase),
        **dict.fromkeys(_DECIDED, without("no counterpart; our code decides it by itself")),
        "BasicConfig.DEBUGGING": unless(False, "use --debug"),
        "BasicConfig.LOGGER": unless(None, "no counterpart; every run writes records.csv"),
        "BasicConfig.PROJECT_NAME": without("no counterpart; it names a page of the logger"),
        "BasicConfig.ENTITY": without("no counterpart; it names an account of the logger"),
        "BasicConfig.DATASET": without("no counterpart; the tables under data say what is read"),
        "BasicConfig.TEST_EXPERIMENT_DIR": without("no counterpart; dvos evaluate has --out"),
        "TrainConfig.DISTRIBUTED": without(""),
        "TrainConfig.COMPILE": unless(False, "no counterpart; ours is not compiled"),
        "TrainConfig.NUM_EPOCHS": to("epochs"),
        "TrainConfig.BATCH_SIZE": to(
            "batch",
            convert=lambda value, flat: value * _devices(flat),
            note="published for each device, ours for all together",
        ),
        "TrainConfig.TRANSFORM_MEAN": to("network.mean"),
        "TrainConfig.TRANSFORM_STD": to("network.std"),
        "TrainConfig.SHUFFLE": unless(True, "no counterpart; clips are always drawn at random"),
        "TrainConfig.NUM_WORKERS": to("workers"),
        "TrainConfig.Optimizer.NAME": unless("AdamW", "no counterpart; ours is AdamW"),
        "TrainConfig.Optimizer.PARAMS.lr": to("optimiser.lr", convert=number),
        "TrainConfig.Optimizer.PARAMS.weight_decay": to("optimiser.weight_decay", convert=number),
        "TrainConfig.Optimizer.SCHEDULER.APPLY": without(""),
        "TrainConfig.Optimizer.SCHEDULER.NAME": unless(
            "CosineAnnealingLR", "no counterpart; ours is a cosine"
        ),
        "TrainConfig.Optimizer.SCHEDULER.PARAMS.T_max": Without(_cosine),
        "TrainConfig.Optimizer.SCHEDULER.PARAMS.eta_min": to("schedule.final", convert=_last_rate),
        "TrainConfig.Losses.RECONSTRUCTION_LOSS_WEIGHT": to(
            "losses.reconstruction",
            convert=_reconstruction,
            note="multiplied by the weight of MSE (published: ignored by the code)",
        ),
        "TrainConfig.Losses.SEGMENTATION_LOSS_WEIGHT": to("losses.mask", convert=number),
        "TrainConfig.Losses.RECONSTRUCTION_LOSSES": _other_losses("MSE"),
        "TrainConfig.Losses.RECONSTRUCTION_LOSSES_WEIGHTS": without(""),
        "TrainConfig.Losses.SEGMENTATION_LOSSES": _other_losses("BCE", "DICE"),
        "TrainConfig.Losses.SEGMENTATION_LOSSES_WEIGHTS": To((), _mask_losses),
        "TrainConfig.Losses.*": without(_LOSS_SHAPE),
        "TrainConfig.IMG_SHAPE": to("data.crop", convert=_side),
        "TrainConfig.NUM_REFERENCES": to("network.references"),
        "TrainConfig.REFERENCES_INTERVAL": to(
            "data.clips.intervals", convert=lambda value, _: [value]
        ),
        "TrainConfig.QUERY_IDENTIFIER": unless(1, "no counterpart; Label 1 marks a query"),
        "TrainConfig.VID": unless("VID", "no counterpart; the column is named VID"),
        "TrainConfig.FID": unless("FID", "no counterpart; the column is named FID"),
        "TrainConfig.APPLY_COLOR_AUGMENTATION": to(
            "data.colour.strength",
            "data.degradation.strength",
            convert=lambda value, _: 1.0 if value else 0.0,
        ),
        "TrainConfig.UsingSmallData": unless(False, "no counterpart; give a smaller table"),
        "TrainConfig.UsingSamllSize": unless(0, "no counterpart; give a smaller table"),
        "TrainConfig.TRAIN_METADATA_PATH.SEGMENTATION": to("data.clips.tables"),
        "TrainConfig.VALID_METADATA_PATH.SEGMENTATION": to("data.validation.clips.tables"),
        "TrainConfig.TEST_METADATA_PATH.SEGMENTATION": Without(_test_tables),
        "TrainConfig.InputDiffusion.*": without("no counterpart; references are not diffused"),
        "TrainConfig.Diffusion.*": without("no counterpart; features are not diffused"),
        "ModelConfig.FREEZE_ENCODER": to(
            "optimiser.encoder_lr_factor", convert=lambda value, _: 0.0 if value else 0.3
        ),
        "ModelConfig.FREEZE_DECODER": unless(False, "no counterpart; the decoder is trained"),
        "ModelConfig.FREEZE_Heads": unless(False, "no counterpart; the heads are trained"),
        "ModelConfig.FREEZE_REC_HEAD": unless(False, "set losses.reconstruction: 0 instead"),
        "ModelConfig.FREEZE_SEG_HEAD": unless(False, "no counterpart; the head is trained"),
        "ModelConfig.PRETRAINED_MODEL_PATH": unless(
            None, "these weights fit the published UNet only; network.weights takes ours"
        ),
        "ModelConfig.INIT_MODEL": unless(False, "no counterpart; see network.encoder_weights"),
        "ModelConfig.*": without(_UNET),
    },
    fixed={
        # The published training warms up nothing, averages nothing, changes
        # colours of references only, and shrinks crops of 256..768 px to 256.
        "schedule.warm_up": 0.0,
        "ema_decay": 0.0,
        "data.colour.query": False,
        "data.degradation.query": False,
        "data.spatial.scale": [0.33, 1.0],
    },
    notes=(
        "differs: the network is ours, which sees the query frame too; an epoch has "
        "clips_per_epoch random clips (published: every query once)",
    ),
)
