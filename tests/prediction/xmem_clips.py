"""A stand-in for XMem that follows colours, and clips for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.config.prediction import PredictorOptions
from dvos.networks.xmem.network import XMEM_NORMALISATION, Keys
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import Predictor
from dvos.prediction.xmem import XMemPredictor

_STRIDE = 16


class _Decoder(nn.Module):
    def share(self, features: Any) -> Any:
        return features

    def forward(
        self, shared: Any, readout: Tensor, hidden: Tensor, *, update_hidden: bool
    ) -> tuple[Tensor, Tensor]:
        small = readout[:, :, 0] + 0.05 * hidden[:, :, 0].tanh()
        logits = F.interpolate(8 * (small - 0.5), scale_factor=_STRIDE, mode="bilinear")
        return (0.5 * hidden + small[:, :, None] if update_hidden else hidden), logits


class _ValueEncoder(nn.Module):
    def share(self, f16: Tensor) -> Tensor:
        return f16

    def forward(
        self,
        frames: Tensor,
        shared: Tensor,
        hidden: Tensor,
        masks: Tensor,
        others: Tensor,
        *,
        update_hidden: bool,
    ) -> tuple[Tensor, Tensor]:
        value = F.avg_pool2d(masks, _STRIDE)[:, :, None].repeat(1, 1, 2, 1, 1)
        return value, (0.9 * hidden + 0.1 * value[:, :, :1] if update_hidden else hidden)


class ColourXMem(nn.Module):
    """Looks like XMem to the engine; a key is the mean colour of 16 x 16 pixels.

    A place is object as far as places of its colour were in the frames remembered.
    """

    hidden_dim = 1
    value_dim = 2

    def __init__(self, *, single_object: bool = False) -> None:
        super().__init__()
        self.single_object = single_object
        self.decoder = _Decoder()
        self.value_encoder = _ValueEncoder()

    def encode_key(self, frames: Tensor) -> Keys:
        key = 8 * F.avg_pool2d(frames, _STRIDE)
        return Keys(key, 1 + 0 * key[:, :1], torch.ones_like(key), (key, key, key))

    def for_inference(self, *, consume: bool = False, precision: torch.dtype | None = None) -> Self:
        del consume, precision
        return self


def xmem_predictor(
    network: Any, first_mask: Any, *, finder: Predictor | None = None, **settings: Any
) -> XMemPredictor:
    """A predictor with small memories; keywords are XMemPredictionSettings, or PredictorOptions."""
    names = ("scale", "threshold", "tile", "augment")
    options = {name: settings.pop(name) for name in names if name in settings}
    memory = {
        "mem_every": 2, "min_mid_term_frames": 2, "max_mid_term_frames": 4, "prototypes": 4,
        "long_term_max": 8,
    }  # fmt: skip
    loaded = LoadedNetwork(
        Path("xmem.safetensors"), network, {"normalisation": XMEM_NORMALISATION.as_lists()},
        torch.device("cpu"),
    )  # fmt: skip
    chosen = PredictorOptions.model_validate({**options, "xmem": {**memory, **settings}})
    return XMemPredictor(loaded, chosen, first_mask, finder)


def squares(size: tuple[int, int], count: int = 1) -> np.ndarray:
    """Ids (H, W) of ``count`` squares in a row, from 1."""
    mask = np.zeros(size, np.uint16)
    for index in range(count):
        mask[8:24, 2 + 18 * index : 18 + 18 * index] = index + 1
    return mask


COLOURS = [(220, 40, 40), (40, 220, 40), (40, 40, 220), (220, 220, 40)]
CLIP_SIZE = (64, 96)


def moving(frames: int, objects: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Squares of 32 pixels in colours of their own, moving by 16 a frame; frames and ids."""
    images, masks = [], []
    for step in range(frames):
        image = np.full((*CLIP_SIZE, 3), 128, np.uint8)
        ids = np.zeros(CLIP_SIZE, np.uint16)
        for index in range(objects):
            left = 16 * (step % 4) + 16 * index
            top = 32 * index
            image[top : top + 32, left : left + 32] = COLOURS[index]
            ids[top : top + 32, left : left + 32] = index + 1
        images.append(image)
        masks.append(ids)
    return images, masks
