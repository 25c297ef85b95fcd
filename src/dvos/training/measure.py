"""Validation: the loss and the pooled scores of a network on whole frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.training.losses.combined import ClipLoss

__all__ = ["Measures", "SegmentedClip", "measure", "segment_clip"]

_THRESHOLD_LOGIT = 0.0  # probability 0.5


@dataclass(frozen=True)
class Measures:
    """What validation found.

    Attributes:
        losses: Mean over the clips of the loss and each part, by name.
        dice: Of all pixels with a known label together, at threshold 0.5.
        iou: Likewise.
    """

    losses: dict[str, float]
    dice: float
    iou: float


@dataclass(frozen=True)
class SegmentedClip:
    """A clip and what the network made of it, on the CPU, without batch axis.

    Attributes:
        query: float32 (3, H, W), normalised.
        target: float32 (1, H, W).
        weight: float32 (1, H, W).
        probability: float32 (1, H, W).
    """

    query: Tensor
    target: Tensor
    weight: Tensor
    probability: Tensor


@torch.no_grad()
def measure(
    forward: Callable[..., object],
    clips: Dataset[dict[str, Tensor]],
    indices: Sequence[int],
    *,
    loss: ClipLoss,
    device: torch.device,
    add: Callable[[Tensor], Tensor],
) -> Measures:
    """Measure a network in evaluation mode.

    Args:
        forward: The network: frames (1, T, 3, H, W) to its outputs.
        clips: Items of frames, target and weight; sizes may differ.
        indices: The clips this device measures.
        loss: The training loss; each clip counts alike.
        device: Where the network is.
        add: Adds a tensor over all devices.
    """
    parts = torch.zeros(len(loss.names), dtype=torch.float64)
    counts = torch.zeros(3, dtype=torch.float64)
    for index in indices:
        item = {key: value[None].to(device) for key, value in clips[index].items()}
        query = item["frames"][:, -1]
        outputs = forward(item["frames"], reconstruct=loss.reconstructs)
        sums = loss.sums(
            outputs.mask_logits,  # type: ignore[attr-defined]
            item["target"],
            item["weight"],
            outputs.reconstruction,  # type: ignore[attr-defined]
            query,
        )
        parts += loss(sums).detached()
        known = item["weight"] > 0
        predicted = (outputs.mask_logits > _THRESHOLD_LOGIT) & known  # type: ignore[attr-defined]
        truth = (item["target"] > 0.5) & known
        counts += (
            torch.stack([(predicted & truth).sum(), predicted.sum(), truth.sum()]).cpu().double()
        )
    total = add(torch.cat([parts, counts, torch.tensor([float(len(indices))]).double()]))
    (overlap, predicted_area, true_area), clip_count = total[-4:-1], total[-1]
    means = (total[:-4] / clip_count).tolist()
    both = float(predicted_area + true_area)
    union = both - float(overlap)
    return Measures(
        dict(zip(loss.names, means, strict=True)),
        2 * float(overlap) / both if both else 1.0,
        float(overlap) / union if union else 1.0,
    )


@torch.no_grad()
def segment_clip(
    network: nn.Module, item: dict[str, Tensor], device: torch.device
) -> SegmentedClip:
    """What the network makes of one validation clip, for a picture."""
    frames = item["frames"][None].to(device)
    logits = network(frames, reconstruct=False).mask_logits
    return SegmentedClip(
        item["frames"][-1], item["target"], item["weight"], torch.sigmoid(logits)[0].float().cpu()
    )
