"""A network from outside, in one file: what ``docs/how-to/extend.md`` says it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from dvos.config.base import Settings
from dvos.config.network import NetworkSettings
from dvos.config.training import TrainingSettings
from dvos.networks.spec import NetworkSpec, Normalisation, Outputs
from dvos.prediction.streaming import StreamingPredictor
from dvos.training.losses import MeanLoss, cross_entropy, tensor_loss
from dvos.training.networks import start_from_weights
from dvos.training.objective import ClipLoss, QueryObjective
from dvos.training.targets import QueryTarget


class ToySettings(Settings):
    """What stands under ``network.options``."""

    width: int = Field(4, ge=1, le=64, description="channels of each frame's map")


class Toy(nn.Module):
    """One convolution a frame, and one over the query's map and the mean of its references'."""

    def __init__(self, *, width: int, references: int) -> None:
        super().__init__()
        self.references = references
        self.frame = nn.Conv2d(3, width, 3, padding=1)
        self.query = nn.Conv2d(2 * width, 1, 3, padding=1)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one map (B, width, H, W)."""
        return [torch.relu(self.frame(frames))]

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> Outputs:
        """T maps, the query's last, to its logits."""
        *references, query = features[0]
        return Outputs(self.query(torch.cat([query, torch.stack(references).mean(0)], 1)))

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """(B, T, 3, H, W), the query last."""
        maps = [self.encode(frame) for frame in frames.unbind(1)]
        return self.decode([[m[0] for m in maps]], (frames.shape[-2], frames.shape[-1]))


def lovasz(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The Lovász hinge (Berman et al. 2018, arXiv 1705.08790), which sorts pixels by error."""
    known = weight > 0
    logits, target = logits[known], target[known]
    errors, order = (1 - logits * (2 * target - 1)).sort(descending=True)
    target = target[order]
    missed = target.sum() - target.cumsum(0)
    jaccard = 1 - missed / (target.sum() + (1 - target).cumsum(0)).clamp_min(1)
    steps = torch.cat([jaccard[:1], jaccard.diff()])
    return torch.relu(errors) @ steps


def _arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    return {"references": settings.references, **ToySettings(**settings.options).model_dump()}


def _objective(settings: TrainingSettings, normalisation: Normalisation) -> QueryObjective:
    parts = [(1.0, MeanLoss("bce", cross_entropy)), (0.5, tensor_loss("lovasz", lovasz))]
    return QueryObjective(ClipLoss(parts, [], normalisation))


TOY = NetworkSpec(
    name="toy",
    network=Toy,
    normalisation=Normalisation((0.5,) * 3, (0.25,) * 3),
    arguments=_arguments,
    initialise=start_from_weights,
    target=QueryTarget,
    objective=_objective,
    predictor=StreamingPredictor,
    settings=ToySettings,
)
