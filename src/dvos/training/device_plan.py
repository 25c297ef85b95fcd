"""The plan of a run where settings leave it open: larger batches, crops and epochs on a GPU.

The defaults of the settings are a plan for two CPU cores. A GPU takes a batch of them in the time
of a few launches, and learns more from larger ones.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from dvos.config.load import load_settings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError
from dvos.networks.spec import NetworkSpec
from dvos.training.run_folder import RunFolder

_LOGGER = logging.getLogger(__name__)

#: Clips of a step and their side, by the GiB of memory that a GPU has at least.
_PLANS = ((24.0, 32, 256), (12.0, 16, 256), (6.0, 16, 160))
#: Clips of an epoch; 15 epochs of them are 20,000.
_CLIPS_PER_EPOCH = 1344


def settle_plan(settings: TrainingSettings, spec: NetworkSpec) -> TrainingSettings:
    """The settings with ``batch``, ``data.crop`` and ``clips_per_epoch`` chosen for the device.

    Only what was not given is chosen, of networks that say so, and on CUDA devices; a line tells
    what. A run that goes on keeps the plan it began with, whatever the device now.

    Args:
        settings: Of the run; those given are known from those that stand at their defaults.
        spec: Of its network.
    """
    given, data = settings.model_fields_set, settings.data
    free = {"batch", "clips_per_epoch"} - given
    if "data" not in given or "crop" not in data.model_fields_set:
        free |= {"crop"}
    if not spec.scales_up or not free:
        return settings
    earlier = _earlier(settings)
    chosen = _plan(settings) if earlier is None else _values(earlier)
    changed = {name: chosen[name] for name in free if chosen[name] != _values(settings)[name]}
    if not changed:
        return settings
    if earlier is None:
        told = ", ".join(f"{name} {value}" for name, value in sorted(changed.items()))
        _LOGGER.info("chosen for this GPU: %s; give them to train otherwise", told)
    crop = changed.pop("crop", data.crop)
    update: dict[str, Any] = {**changed, "data": data.model_copy(update={"crop": crop})}
    return settings.model_copy(update=update)


def _values(settings: TrainingSettings) -> dict[str, int]:
    return {
        "batch": settings.batch,
        "clips_per_epoch": settings.clips_per_epoch,
        "crop": settings.data.crop,
    }


def _earlier(settings: TrainingSettings) -> TrainingSettings | None:
    """Settings of the run in the folder that this one goes on with, if any."""
    folder = RunFolder(settings.out)
    if not settings.resume or not folder.config.is_file():
        return None
    try:
        return load_settings(TrainingSettings, config=folder.config)
    except ConfigError:
        return None  # told of when the run is looked for


def _plan(settings: TrainingSettings) -> dict[str, int]:
    """What suits the device: on a CPU the settings' own values."""
    plan = _values(settings)
    if settings.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return plan
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    for least, batch, crop in _PLANS:
        if memory >= least:
            # Of all devices together, in equal shares and parts.
            shares = settings.accumulate * _devices(settings)
            whole = max(1, batch // shares) * shares
            return {"batch": whole, "clips_per_epoch": _CLIPS_PER_EPOCH, "crop": crop}
    return plan


def _devices(settings: TrainingSettings) -> int:
    """Devices of the run, as ``torchrun`` or the settings tell."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return (settings.devices or 1) * settings.nodes
