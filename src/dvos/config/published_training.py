"""What each key of the published training settings becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from dvos.config.published_rules import (
    Convert,
    Flat,
    Kind,
    To,
    Without,
    number,
    to,
    unless,
    without,
)

#: Published names of losses and our settings of their weights.
_MASK_LOSSES = {
    "BCE": "losses.bce",
    "DICE": "losses.dice",
    "IOU": "losses.iou",
    "TV": "losses.tversky",
    "FOCAL": "losses.focal",
    "FTVERS": "losses.focal_tversky",
}
_IMAGE_LOSSES = {
    "MSE": "losses.mse",
    "MAE": "losses.mae",
    "SSIM": "losses.ms_ssim",
    "GDL": "losses.gradient_difference",
}
_PARTS = {"ENCODER": "encoder", "DECODER": "decoder", "Heads": "heads"}


def _losses(flat: Flat, which: str, ours: Mapping[str, str]) -> dict[str, float]:
    """Weights by our keys; those that are not named have none."""
    names = flat.get(f"TrainConfig.Losses.{which}_LOSSES") or []
    weights = flat.get(f"TrainConfig.Losses.{which}_LOSSES_WEIGHTS") or []
    if len(names) != len(weights):
        raise ValueError(f"one weight for each of the {len(names)} losses")
    given = {str(name).upper(): float(weight) for name, weight in zip(names, weights, strict=True)}
    return {key: given.get(name, 0.0) for name, key in ours.items()}


def _loss_notes(value: Any, _: Flat) -> str:
    names = [str(name).upper() for name in value or []]
    others = [name for name in names if name not in {*_MASK_LOSSES, *_IMAGE_LOSSES, "PERCEPTUAL"}]
    notes = {
        f"no counterpart of {', '.join(others)}; left out": others,
        "ssim is 1 - MS-SSIM (published: MS-SSIM added as it is, which punishes likeness)": (
            "SSIM" in names
        ),
        "perceptual left out: set losses.perceptual and losses.perceptual_weights, a file of "
        "your own": "PERCEPTUAL" in names,
        "soft losses (published: of masks cut at SEGMENTATION_THRESHOLD, without gradient)": (
            {"DICE", "IOU", "TV", "FTVERS"} & {*names}
        ),
        "tversky with losses.tversky_alpha and _beta (published: always 0.5)": "TV" in names,
    }
    return "; ".join(note for note, told in notes.items() if told)


def _freeze(_: Any, flat: Flat) -> dict[str, list[str]]:
    chosen = [part for key, part in _PARTS.items() if flat.get(f"ModelConfig.FREEZE_{key}")]
    return {"optimiser.freeze": chosen}


def _where_applied(group: str) -> Convert:
    def convert(value: Any, flat: Flat) -> float:
        return float(value) if flat.get(f"TrainConfig.{group}.APPLY", True) else 0.0

    return convert


def _fixed(
    value: Any, text: str = "no counterpart; ours is fixed at the published value"
) -> Without:
    """A note where a number, or list of numbers, is not the one that ours is fixed at."""

    def differs(found: Any, _: Flat) -> str:
        return "" if _plain(found) == _plain(value) else text

    return Without(differs)


def _plain(value: Any) -> Any:
    # YAML reads 1e-4, without a point, as text.
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(value)


def _devices(flat: Flat) -> int:
    ids = flat.get("BasicConfig.DEFAULT_DEVICE_IDs")
    together = flat.get("TrainConfig.DISTRIBUTED", True) and isinstance(ids, list)
    return max(1, len(ids)) if together and ids is not None else 1


def _side(value: Any, _: Flat) -> int:
    channels, height, width = value
    if channels != 3 or height != width:
        raise ValueError("[3, N, N]: training clips are square")
    return int(height)


_DECIDED = (
    "BasicConfig.DETERMINISTIC_CUDANN",
    "BasicConfig.BENCHMARK_CUDANN",
    "BasicConfig.DETERMINISTIC_ALGORITHM",
    "TrainConfig.PREFETCH_FACTOR",
    "TrainConfig.PIN_MEMORY",
)
_MEAN = unless("MEAN", "no counterpart; our losses are means")

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
        "BasicConfig.EXPERIMENT_NAME": to(
            "out",
            convert=lambda value, flat: str(
                PurePath(flat.get("BasicConfig.ROOT_LOG_DIR") or "") / str(value)
            ),
        ),
        "BasicConfig.ROOT_LOG_DIR": without(""),
        "BasicConfig.DEVELOPMENT_PHASE": unless(
            "TRAIN", "the TEST phase is the command dvos evaluate"
        ),
        **dict.fromkeys(_DECIDED, without("no counterpart; our code decides it by itself")),
        "BasicConfig.DEBUGGING": unless(False, "use --debug"),
        "BasicConfig.LOGGER": unless(
            None, "set trackers: [wandb]; every run writes records.csv whatever they are"
        ),
        "BasicConfig.PROJECT_NAME": without("no counterpart; the tracker's own settings name it"),
        "BasicConfig.ENTITY": without("no counterpart; the tracker's own settings name it"),
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
        "TrainConfig.Optimizer.SCHEDULER.PARAMS.T_max": Without(
            lambda value, flat: (
                ""
                if value == flat.get("TrainConfig.NUM_EPOCHS")
                else f"the cosine spans all {flat.get('TrainConfig.NUM_EPOCHS')} epochs"
            )
        ),
        "TrainConfig.Optimizer.SCHEDULER.PARAMS.eta_min": to(
            "schedule.final",
            convert=lambda value, flat: (
                1.0
                if flat.get("TrainConfig.Optimizer.SCHEDULER.APPLY") is False
                else float(value) / float(flat["TrainConfig.Optimizer.PARAMS.lr"])
            ),
        ),
        "TrainConfig.Losses.RECONSTRUCTION_LOSS_WEIGHT": to(
            "losses.reconstruction",
            convert=lambda value, flat: (
                float(value)
                if any(_losses(flat, "RECONSTRUCTION", _IMAGE_LOSSES).values())
                and not flat.get("ModelConfig.FREEZE_REC_HEAD")
                else 0.0
            ),
            note="counts (published: ignored by the code); 0 where its losses are or its head is "
            "frozen",
        ),
        "TrainConfig.Losses.SEGMENTATION_LOSS_WEIGHT": to("losses.mask", convert=number),
        "TrainConfig.Losses.RECONSTRUCTION_LOSSES": Without(_loss_notes),
        "TrainConfig.Losses.RECONSTRUCTION_LOSSES_WEIGHTS": To(
            (), lambda _, flat: _losses(flat, "RECONSTRUCTION", _IMAGE_LOSSES)
        ),
        "TrainConfig.Losses.RECONSTRUCTION_GDL_ALPHA": _fixed(1.0),
        "TrainConfig.Losses.RECONSTRUCTION_GDL_REDUCTION": _MEAN,
        "TrainConfig.Losses.SEGMENTATION_LOSSES": Without(_loss_notes),
        "TrainConfig.Losses.SEGMENTATION_LOSSES_WEIGHTS": To(
            (), lambda _, flat: _losses(flat, "SEGMENTATION", _MASK_LOSSES)
        ),
        "TrainConfig.Losses.SEGMENTATION_SIGMOID": unless(True, "no counterpart; ours needs it"),
        "TrainConfig.Losses.SEGMENTATION_THRESHOLD": without(""),
        "TrainConfig.Losses.SEGMENTATION_ALPHA": to("losses.tversky_alpha", convert=number),
        "TrainConfig.Losses.SEGMENTATION_BETA": to("losses.tversky_beta", convert=number),
        "TrainConfig.Losses.SEGMENTATION_GAMMA": To(
            (),
            lambda value, _: {
                "losses.focal_gamma": float(value),
                "losses.focal_tversky_gamma": 1.0 / float(value),
            },
        ),
        "TrainConfig.Losses.SEGMENTATION_REDUCTION": _MEAN,
        "TrainConfig.Losses.SEGMENTATION_SMOOTH": without(""),
        "TrainConfig.IMG_SHAPE": to("data.crop", convert=_side),
        "TrainConfig.NUM_REFERENCES": to("network.references"),
        "TrainConfig.REFERENCES_INTERVAL": to(
            "data.clips.intervals",
            convert=lambda value, flat: (
                list(range(1, int(value) + 1))
                if flat.get("TrainConfig.RANDOM_INTERVAL")
                else [int(value)]
            ),
        ),
        "TrainConfig.RANDOM_INTERVAL": without(""),
        "TrainConfig.QUERY_IDENTIFIER": unless(1, "no counterpart; Label 1 marks a query"),
        "TrainConfig.VID": unless("VID", "no counterpart; the column is named VID"),
        "TrainConfig.FID": unless("FID", "no counterpart; the column is named FID"),
        "TrainConfig.APPLY_COLOR_AUGMENTATION": to(
            "data.colour",
            "data.degradation",
            convert=lambda value, _: "published" if value else "none",
        ),
        "TrainConfig.UsingSmallData": unless(False, "no counterpart; give a smaller table"),
        "TrainConfig.UsingSamllSize": unless(0, "no counterpart; give a smaller table"),
        "TrainConfig.TRAIN_METADATA_PATH.SEGMENTATION": to("data.clips.tables"),
        "TrainConfig.VALID_METADATA_PATH.SEGMENTATION": to("data.validation.clips.tables"),
        "TrainConfig.TEST_METADATA_PATH.SEGMENTATION": Without(
            lambda value, _: (
                "not part of training; run dvos evaluate with --truth on "
                + ", ".join(map(str, value))
                if value
                else ""
            )
        ),
        "TrainConfig.InputDiffusion.APPLY": without(""),
        "TrainConfig.InputDiffusion.NUMSTEPS": _fixed(1000),
        "TrainConfig.InputDiffusion.TIMESTEPS": to("data.diffusion.steps"),
        "TrainConfig.InputDiffusion.BETA_RANGE": _fixed([1e-4, 1e-2]),
        "TrainConfig.InputDiffusion.PATCH_SIZE": to("data.diffusion.patch"),
        "TrainConfig.InputDiffusion.MP": to(
            "data.diffusion.blank", convert=_where_applied("InputDiffusion")
        ),
        "TrainConfig.InputDiffusion.DP": to(
            "data.diffusion.share", convert=_where_applied("InputDiffusion")
        ),
        "TrainConfig.Diffusion.APPLY": to(
            "network.paper.skip_diffusion",
            note="in training only (published: in evaluation, too, so its masks are random)",
        ),
        "TrainConfig.Diffusion.TIMESTEPS": _fixed(1000),
        "TrainConfig.Diffusion.P": without(""),
        "TrainConfig.Diffusion.INIT_ALPHA": _fixed(3.0),
        "TrainConfig.Diffusion.INIT_BETA": _fixed(18.0),
        "TrainConfig.Diffusion.BETA_REDUCTION_COEFF": _fixed(2.0),
        "ModelConfig.IS_VIDEO_TASK": unless(
            True, "no counterpart in training; dvos predict and dvos convert read its checkpoints"
        ),
        "ModelConfig.USING_QUERY_AS_INPUT": without(""),
        "ModelConfig.INIT_CHANNELS": _fixed(3),
        "ModelConfig.LATENT_CHANNELS": to("network.paper.latent"),
        "ModelConfig.BASE_CHANNELS": to("network.paper.base"),
        "ModelConfig.BASE_CHANNELS_MULTIPLIER": to("network.paper.multipliers"),
        "ModelConfig.Heads_MIDDLE_CHANNELS": to("network.paper.hidden"),
        "ModelConfig.NUM_RES_BLOCKS": _fixed(2),
        "ModelConfig.NUM_GROUPS": to("network.paper.groups"),
        "ModelConfig.SKIP_DROPOUT_RATIO": to("network.paper.dropout", convert=number),
        "ModelConfig.FREEZE_ENCODER": To((), _freeze),
        "ModelConfig.FREEZE_DECODER": To((), _freeze),
        "ModelConfig.FREEZE_Heads": To((), _freeze),
        "ModelConfig.FREEZE_REC_HEAD": unless(
            False, "losses.reconstruction is 0, which leaves that head out"
        ),
        "ModelConfig.FREEZE_SEG_HEAD": unless(False, "no counterpart; the mask is always trained"),
        "ModelConfig.PRETRAINED_MODEL_PATH": to("network.weights"),
        "ModelConfig.INIT_MODEL": unless(False, "no counterpart; PyTorch's own random weights"),
    },
    optional=frozenset({"TrainConfig.RANDOM_INTERVAL", "ModelConfig.USING_QUERY_AS_INPUT"}),
    fixed={
        "network.name": "paper",
        # The published focal loss weighs no class. The training warms up
        # nothing, limits no gradients, averages nothing, changes colours of
        # references only, each on its own, and shrinks crops of 256..768 px.
        "losses.focal_alpha": None,
        "optimiser.clip_norm": 0.0,
        "schedule.warm_up": 0.0,
        "ema_decay": 0.0,
        "data.colour": "published",
        "data.degradation": "published",
        "data.spatial": "published",
    },
    notes=(
        "differs: an epoch has clips_per_epoch random clips (published: every query once); "
        "network.name: dvos trains our network with the same data",
    ),
)
