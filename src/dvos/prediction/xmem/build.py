"""An XMem predictor from a loaded network and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvos.config.xmem_prediction import XMemPredictionSettings
from dvos.errors import CheckpointError, UsageError
from dvos.networks.weights import read_network_info
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMEM_NORMALISATION, XMem
from dvos.prediction.objects import ObjectKnowledge, read_knowledge
from dvos.prediction.predictor import FirstMask, load_predictor
from dvos.prediction.xmem.first_masks import (
    ArrayMasks,
    FirstMasks,
    FoundMasks,
    MaskRules,
    MaskTree,
)
from dvos.prediction.xmem.predictor import XMemPredictor

__all__ = ["build_xmem_predictor"]


def build_xmem_predictor(
    checkpoint: Path,
    network: XMem,
    extra: Mapping[str, Any],
    *,
    first_mask: FirstMask | None,
    first_mask_checkpoint: Path | None,
    device: torch.device,
    scale: float,
    tile: int,
    threshold: float,
    augment: str,
    autocast: torch.dtype | None,
    settings: XMemPredictionSettings | None = None,
) -> XMemPredictor:
    """Make the predictor; see :func:`dvos.prediction.predictor.load_predictor`.

    Args:
        checkpoint: File of the network.
        network: In evaluation mode, on ``device``; it becomes part of the predictor and is of no
            other use afterwards.
        extra: What the checkpoint says besides.
        first_mask: What clips start from.
        first_mask_checkpoint: Network that finds it, where that is ``auto``.
        device: Where the network is.
        scale: Other than 1, takes the place of the settings' size.
        tile: Must be 0.
        threshold: Probability from which a pixel is object.
        augment: Must be ``none``.
        autocast: Type of mixed precision; None = float32.
        settings: All that concerns XMem alone.

    Raises:
        UsageError: If there is no first mask, or XMem has no such choice.
        CheckpointError: If ``first_mask_checkpoint`` cannot find masks.
    """
    _refuse_others(tile, augment)
    settings = settings or XMemPredictionSettings()
    rules = MaskRules(
        objects=settings.objects,
        frames=settings.frames,
        objects_max=settings.objects_max,
        minimum_area=settings.minimum_area,
        single_object=network.single_object,
    )
    normalisation = extra.get("normalisation") or XMEM_NORMALISATION
    return XMemPredictor(
        network.for_inference(consume=True),
        first_masks=_first_masks(checkpoint, first_mask, first_mask_checkpoint, device, rules),
        mean=normalisation["mean"],
        std=normalisation["std"],
        device=device,
        memory=MemorySettings(
            mem_every=settings.every,
            min_mid_term_frames=settings.working_min,
            max_mid_term_frames=settings.working_max,
            prototypes=settings.prototypes,
            long_term_max=settings.long_term_max,
            top_k=settings.top_k,
            long_term=settings.long_term,
        ),
        memory_limit=round(settings.memory_limit * 1e9),
        size=settings.size,
        scale=None if scale == 1.0 else scale,
        threshold=threshold,
        corrects=settings.frames == "all",
        objects_at_once=settings.objects_at_once,
        autocast=autocast,
        # Of the size of objects nothing is known: frames come at many scales.
        knowledge=ObjectKnowledge(calibration=read_knowledge(extra).calibration),
    )


def _refuse_others(tile: int, augment: str) -> None:
    if tile:
        raise UsageError.at(
            "tile", f"is {tile}", "0, as XMem sees whole frames", "set xmem.size instead"
        )
    if augment != "none":
        raise UsageError.at("augment", f"is {augment!r}", "none, as XMem has no such views")


def _first_masks(
    checkpoint: Path,
    first_mask: FirstMask | None,
    finder: Path | None,
    device: torch.device,
    rules: MaskRules,
) -> FirstMasks | MaskTree:
    if first_mask is None:
        raise UsageError.at(
            checkpoint,
            "is XMem, which follows the objects of a first mask, and none is given",
            "--first-mask with a mask, a folder of masks, or auto",
            "give it, or predict with a checkpoint of the network 'dvos' or 'paper'",
        )
    if isinstance(first_mask, np.ndarray):
        return ArrayMasks({0: first_mask}, rules)
    if isinstance(first_mask, Mapping):
        return ArrayMasks(first_mask, rules)
    if str(first_mask) != "auto":
        return MaskTree(Path(first_mask), rules)
    if finder is None:
        raise UsageError.at(
            "first_mask",
            "is auto, and no network is named that finds it",
            "first_mask_checkpoint, a checkpoint of the network 'dvos' or 'paper'",
            "give it with --first-mask-checkpoint",
        )
    if finder.suffix.lower() != ".onnx" and read_network_info(finder).name == "xmem":
        raise CheckpointError.at(
            finder,
            "is XMem, which finds no first mask",
            "a network that segments without one, as 'dvos' or 'paper'",
            "give the best.safetensors of such a training as --first-mask-checkpoint",
        )
    return FoundMasks(load_predictor(finder, str(device)), rules)
