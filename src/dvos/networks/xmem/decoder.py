"""From what memory says of the objects to their masks and next sensory states."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.blocks import FusionBlock, GatedUpdate, UpsampleBlock
from dvos.networks.xmem.convolution import convolve

__all__ = ["Decoder", "Features", "SharedMaps"]

#: Maps of a frame at strides 16, 8 and 4: (B, 1024, h, w) and finer ones.
Features = tuple[Tensor, Tensor, Tensor]

_WIDTH = 256
_FUSED = 512


class SharedMaps(NamedTuple):
    """What the decoder makes of a frame alone, for all its objects.

    Attributes:
        fused: For the fusion at stride 16.
        skip8: For the step to stride 8.
        skip4: For the step to stride 4.
    """

    fused: tuple[Tensor, Tensor]
    skip8: Tensor
    skip4: Tensor


class Decoder(nn.Module):
    """Fusion at stride 16, two steps up to stride 4, a logit of each object.

    Args:
        value_dim: Channels of what memory says.
        hidden_dim: Channels of the sensory state.
    """

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fuser = FusionBlock(1024, value_dim + hidden_dim, _FUSED, _FUSED)
        self.hidden_update = SensoryUpdate((_FUSED, _WIDTH, _WIDTH + 1), _WIDTH, hidden_dim)
        self.up_16_8 = UpsampleBlock(512, _FUSED, _WIDTH)
        self.up_8_4 = UpsampleBlock(256, _WIDTH, _WIDTH)
        self.pred = nn.Conv2d(_WIDTH, 1, 3, padding=1)

    def share(self, features: Features) -> SharedMaps:
        """What is the same for all objects of a frame."""
        f16, f8, f4 = features
        return SharedMaps(self.fuser.share(f16), self.up_16_8.share(f8), self.up_8_4.share(f4))

    def forward(
        self, shared: SharedMaps, readout: Tensor, hidden: Tensor, *, update_hidden: bool
    ) -> tuple[Tensor, Tensor]:
        """Segment each object on its own.

        Args:
            shared: From :meth:`share`.
            readout: (B, N, CV, h, w).
            hidden: (B, N, CH, h, w).
            update_hidden: Whether the sensory state moves on.

        Returns:
            The hidden state, and the logits (B, N, 16 h, 16 w).
        """
        objects = readout.shape[1]
        state = hidden.flatten(0, 1)
        seen = torch.cat((readout.flatten(0, 1), state.to(readout.dtype)), 1)
        g16 = self.fuser(shared.fused, seen.contiguous(memory_format=torch.channels_last))
        g8 = self.up_16_8(shared.skip8, g16)
        g4 = self.up_8_4(shared.skip4, g8)
        logits = convolve(self.pred, g4, relu_first=True)
        if update_hidden:
            state = self.hidden_update((g16, g8, g4), logits, state)
            hidden = state.unflatten(0, (-1, objects))
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        return hidden, logits.view(-1, objects, *logits.shape[2:])


class SensoryUpdate(GatedUpdate):
    """The sensory state moves on with the decoder's maps of all scales and the logits.

    Args:
        channels: Of the maps at strides 16, 8 and 4, the last with the logit.
        inner: Channels in which they are added up.
        hidden: Channels of the state.
    """

    def __init__(self, channels: tuple[int, int, int], inner: int, hidden: int) -> None:
        super().__init__(inner, hidden)
        self.g16_conv, self.g8_conv, self.g4_conv = (nn.Conv2d(c, inner, 1) for c in channels)

    def forward(  # type: ignore[override]
        self, maps: tuple[Tensor, Tensor, Tensor], logits: Tensor, state: Tensor
    ) -> Tensor:
        """Next state (B * N, hidden, h, w) from maps at strides 16, 8, 4 and logits at 4."""
        g16, g8, g4 = maps
        finest = torch.cat((F.avg_pool2d(g4, 4), F.avg_pool2d(logits, 4)), 1)
        seen = convolve(self.g16_conv, g16)
        seen = convolve(self.g8_conv, F.avg_pool2d(g8, 2), add=seen, spend=True)
        seen = convolve(self.g4_conv, finest, add=seen, spend=True)
        return super().forward(seen, state)
