"""The compact video network: reference frames and a query in, the query's mask out.

Every frame goes through one encoder on its own, so that a stream encodes each
frame once and keeps its features: :meth:`DvosNetwork.encode`, then
:meth:`DvosNetwork.decode` over a window of cached features. ``forward`` does
both for whole clips and gives the same values.

Tensor letters: B clips, T frames of a clip (the last is the query), N frames,
C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.dvos.decoder import Decoder, Head
from dvos.networks.dvos.efficientnet import (
    FEATURE_CHANNELS,
    FEATURE_STRIDES,
    EfficientNetLite0,
)
from dvos.networks.dvos.fusion import TemporalFusion

__all__ = ["MASK", "RECONSTRUCTION", "DvosNetwork", "Outputs"]

MASK = "mask"
RECONSTRUCTION = "reconstruction"
_DEFAULT_HEADS = {MASK: 1, RECONSTRUCTION: 3}


class Outputs(NamedTuple):
    """What the network says about the query frame.

    Attributes:
        mask_logits: (B, 1, H, W); the sigmoid is the probability of object.
        reconstruction: (B, 3, H, W) in the normalised colours of the input;
            None where it was not asked for or the network has no such head.
        others: Outputs of further heads by name, each (B, outputs, H, W).
    """

    mask_logits: Tensor
    reconstruction: Tensor | None = None
    others: Mapping[str, Tensor] = MappingProxyType({})


class DvosNetwork(nn.Module):
    """Shared EfficientNet-Lite0 encoder, fusion over time at each scale, decoder, heads.

    Args:
        references: Reference frames a clip brings in training; prediction may
            use any number, as the fusion does not depend on it.
        channels: Channels each scale is reduced to before fusion, finest first
            (strides 2, 4, 8, 16, 32).
        widths: Channels of the decoder at strides 2, 4, 8 and 16.
        fused: For each scale whether the references take part in it; where
            not, the query alone passes on.
        heads: Channels of each output by name; ``mask`` is required.
        frozen_statistics: Whether the encoder's batch-norm statistics stay as
            loaded; see :class:`~dvos.networks.dvos.efficientnet.ConvNorm`.
        reference_gradient: Whether training sends gradients through the
            encoding of the references too. Off, the encoder learns from the
            query alone and a step costs about half.
    """

    def __init__(
        self,
        *,
        references: int = 4,
        channels: Sequence[int] = (16, 32, 48, 96, 160),
        widths: Sequence[int] = (32, 48, 64, 128),
        fused: Sequence[bool] = (False, True, True, True, True),
        heads: Mapping[str, int] | None = None,
        frozen_statistics: bool = True,
        reference_gradient: bool = False,
    ) -> None:
        super().__init__()
        heads = dict(heads or _DEFAULT_HEADS)
        scales = len(FEATURE_STRIDES)
        if len(channels) != scales or len(fused) != scales or len(widths) != scales - 1:
            raise ValueError(f"channels and fused take {scales} values, widths {scales - 1}")
        if MASK not in heads:
            raise ValueError("a network needs the head 'mask'")
        self.references = references
        self.reference_gradient = reference_gradient
        self.encoder = EfficientNetLite0(frozen=frozen_statistics)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            for inputs, outputs in zip(FEATURE_CHANNELS, channels, strict=True)
        )
        self.fusions = nn.ModuleList(
            TemporalFusion(outputs) if joined else _QueryOnly()
            for outputs, joined in zip(channels, fused, strict=True)
        )
        self.decoder = Decoder(channels, widths)
        self.heads = nn.ModuleDict(
            {name: Head(widths[0], outputs) for name, outputs in heads.items()}
        )

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """Segment the last frame of each clip.

        Args:
            frames: (B, T, 3, H, W) float, normalised; any H, W and T >= 1.
            reconstruct: Whether the reconstruction is computed, too.
        """
        count = frames.shape[1]
        size = (frames.shape[-2], frames.shape[-1])
        if count > 1 and self.training and not self.reference_gradient:
            with torch.no_grad():
                references = self._encode_clips(frames[:, :-1])
            query = self._encode_clips(frames[:, -1:])
            maps = [first + last for first, last in zip(references, query, strict=True)]
        else:
            maps = self._encode_clips(frames)
        return self.decode(maps, size, reconstruct=reconstruct)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of frames, each on its own, to be kept for later windows.

        Args:
            frames: (N, 3, H, W) float, normalised; any H and W.

        Returns:
            Five maps (N, C, ceil(H / 32) * 32 / stride, ...), finest first.
        """
        maps = self.encoder(_padded(frames))
        return [reduce(x) for reduce, x in zip(self.reduce, maps, strict=True)]

    def decode(
        self,
        features: Sequence[Tensor | Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> Outputs:
        """Outputs for the last frame of each window.

        Args:
            features: For each scale, finest first, what :meth:`encode` gave
                for T frames, the query last: T maps (B, C, h, w), or these
                stacked as (B, T, C, h, w).
            size: (H, W) of the frames before encoding.
            reconstruct: Whether the reconstruction is computed, too.
        """
        fused = [
            fusion([_channels_last(frame) for frame in _frames(maps)])
            for fusion, maps in zip(self.fusions, features, strict=True)
        ]
        x = self.decoder(fused)
        height, width = size
        outputs = {
            name: head(x)[..., :height, :width].contiguous()
            for name, head in self.heads.items()
            if reconstruct or name != RECONSTRUCTION
        }
        return Outputs(outputs.pop(MASK), outputs.pop(RECONSTRUCTION, None), outputs)

    def _encode_clips(self, frames: Tensor) -> list[list[Tensor]]:
        """Encode (B, T, 3, H, W) as one batch; for each scale T maps (B, C, h, w)."""
        # Frame after frame, so that the maps of one frame lie together.
        batch = frames.transpose(0, 1).flatten(0, 1)
        return [list(x.chunk(frames.shape[1])) for x in self.encode(batch)]


class _QueryOnly(nn.Module):
    """A scale at which the references have no say."""

    def forward(self, frames: Sequence[Tensor]) -> Tensor:
        """The query of T maps (B, C, H, W)."""
        return frames[-1]


def _frames(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """T maps (B, C, h, w), whether they came stacked or not."""
    return maps.unbind(1) if isinstance(maps, Tensor) else maps


def _channels_last(x: Tensor) -> Tensor:
    """The same values in the memory order that convolutions are fastest in."""
    return x.contiguous(memory_format=torch.channels_last)


def _padded(frames: Tensor) -> Tensor:
    """Frames repeated at the bottom and right up to multiples of 32."""
    coarsest = FEATURE_STRIDES[-1]
    down, right = -frames.shape[-2] % coarsest, -frames.shape[-1] % coarsest
    if down or right:
        frames = F.pad(frames, (0, right, 0, down), mode="replicate")
    return _channels_last(frames)
