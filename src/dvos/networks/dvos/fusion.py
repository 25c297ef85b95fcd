"""Fusion over time: what the reference frames add to the query, at one scale.

Every kind mixes the query with a summary of the references; they differ in the
summary alone, so that a comparison of two shows what the summary is worth.

Tensor letters: B clips, T frames of a clip (the last is the query), R = T - 1
references, C channels, H height, W width, N frames of all clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "FUSIONS",
    "AttentionFusion",
    "ChannelNorm",
    "ConcatFusion",
    "Fusion",
    "MeanFusion",
    "QueryOnly",
    "RunsFusion",
    "build_fusion",
]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position (ConvNeXt, arXiv 2201.03545).

    It depends neither on the batch nor on the rest of the frame, so that a crop,
    a tile and a whole frame are treated alike, in training and in prediction.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        # (N, C, H, W) -> (N, H, W, C), a free view of a channels-last tensor.
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class Fusion(nn.Module, ABC):
    """Query and a summary of its references, mixed by a 1x1 convolution.

    A depthwise 3x3 convolution then lets neighbours correct what moved between
    the frames, and the query is added.

    Args:
        channels: C of the maps that come in and go out.
        summaries: Maps of C channels the summary consists of.
    """

    def __init__(self, channels: int, summaries: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d((1 + summaries) * channels, channels, 1, bias=False)
        self.norm = ChannelNorm(channels)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, frames: Sequence[Tensor]) -> Tensor:
        """Fuse a clip.

        Args:
            frames: T maps (B, C, H, W), the query last; a query without
                references is its own reference.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: If the kind is for another number of references.
        """
        query = frames[-1]
        mixed = self.mix(torch.cat([query, *self.summarise(frames)], 1))
        fused: Tensor = query + self.spread(torch.relu(self.norm(mixed)))
        return fused

    @abstractmethod
    def summarise(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """The maps (B, C, H, W) that stand for the references, from all T, oldest first."""


class AttentionFusion(Fusion):
    """The references' average, weighted by likeness to the query, and their maximum.

    At each position the weights are softmax(q . r / sqrt C), so that a reference
    that shows the same thing counts most. Average and maximum are symmetric in
    the references: one set of weights serves any number in any order.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2)
        self.scale = channels**-0.5

    def summarise(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """Weighted average and maximum."""
        query, references = frames[-1], _references(frames)
        # (B, R, H, W): agreement of each reference with the query.
        agreement = torch.stack([(query * reference).sum(1) for reference in references], 1)
        weights = (agreement * self.scale).softmax(1)
        average = references[0] * weights[:, :1]
        largest = references[0]
        for index, reference in enumerate(references[1:], start=1):
            average = torch.addcmul(average, reference, weights[:, index : index + 1])
            largest = torch.maximum(largest, reference)
        return average, largest


class MeanFusion(Fusion):
    """The references' plain mean: pooling across time, channel by channel.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)

    def summarise(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """The mean."""
        references = _references(frames)
        total = references[0]
        for reference in references[1:]:
            total = total + reference
        return (total / len(references),)


class ConcatFusion(Fusion):
    """All references side by side, each with weights of its own.

    Args:
        channels: C.
        references: R of every clip.
    """

    def __init__(self, channels: int, references: int) -> None:
        super().__init__(channels, references)
        self.references = references

    def summarise(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """The references themselves."""
        return _references(frames, self.references)


class RunsFusion(Fusion):
    """Mean over runs of R adjacent channels of the references, frame after frame.

    So the published network pools. As the channels of one frame lie together, a
    run lies inside one frame: C / R channels are left of each, and nothing is
    averaged over time.

    Args:
        channels: C.
        references: R of every clip.
    """

    def __init__(self, channels: int, references: int) -> None:
        super().__init__(channels, 1)
        self.references = references

    def summarise(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """The means of the runs."""
        references = _references(frames, self.references)
        # (B, R * C, H, W) -> (B, R * C / run, run, H, W); as many runs as channels.
        batch, channels, height, width = references[0].shape
        runs = torch.cat(list(references), 1).view(batch, channels, -1, height, width)
        return (runs.mean(2),)


class QueryOnly(nn.Module):
    """A scale at which the references have no say."""

    def forward(self, frames: Sequence[Tensor]) -> Tensor:
        """The query of T maps (B, C, H, W)."""
        return frames[-1]


#: Of any number of references, whatever they were trained with.
_OF_ANY_NUMBER = {"attention": AttentionFusion, "mean": MeanFusion}
#: Of one number of references, set when they are built.
_OF_ONE_NUMBER = {"concat": ConcatFusion, "runs": RunsFusion}

#: Kinds by name.
FUSIONS = (*_OF_ANY_NUMBER, *_OF_ONE_NUMBER, "none")


def build_fusion(kind: str, channels: int, *, references: int) -> nn.Module:
    """Make a fusion of one of the ``FUSIONS``, for C channels and R references.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind in _OF_ANY_NUMBER:
        return _OF_ANY_NUMBER[kind](channels)
    if kind in _OF_ONE_NUMBER:
        return _OF_ONE_NUMBER[kind](channels, references)
    if kind == "none":
        return QueryOnly()
    raise ValueError(f"fusion is {kind!r}; it is one of {', '.join(FUSIONS)}")


def _references(frames: Sequence[Tensor], count: int = 0) -> Sequence[Tensor]:
    """The references among T maps; of a query without any, the query.

    Args:
        frames: The query last.
        count: How many there must be; 0 for any number.
    """
    references = frames[:-1] or frames
    if count not in (0, len(references)):
        raise ValueError(f"a clip brings {len(references)} references; this fusion takes {count}")
    return references
