"""The parts of XMem: from frames to keys, from frames with masks to values, and to masks again.

Letters: B clips, N objects, H and W full size (multiples of 16), h and w at stride 16, CK key, CV
value and CH hidden channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem import layers

#: Maps of a frame at strides 16, 8 and 4, (B, channels, ...), and their channels.
Features = tuple[Tensor, Tensor, Tensor]
CHANNELS = (1024, 512, 256)

#: Channels of the decoder at stride 16, and at strides 8 and 4.
_FUSED, _WIDTH = 512, 256


class SharedMaps(NamedTuple):
    """What the decoder makes of a frame alone, for all its objects, at strides 16, 8 and 4."""

    fused: tuple[Tensor, Tensor]
    skip8: Tensor
    skip4: Tensor


class KeyEncoder(nn.Module):
    """ResNet-50 down to stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = layers.stem(3)
        self.res2 = layers.stage(layers.Bottleneck, 64, 64, 3, 1)
        self.layer2 = layers.stage(layers.Bottleneck, 256, 128, 4, 2)
        self.layer3 = layers.stage(layers.Bottleneck, 512, 256, 6, 2)

    def forward(self, frames: Tensor) -> Features:
        """(B, 3, H, W) to maps at strides 16, 8 and 4."""
        x = layers.normed(self.conv1, self.bn1, frames).relu_()
        f4 = self.res2(F.max_pool2d(x, 3, stride=2, padding=1))
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyProjection(nn.Module):
    """Key, shrinkage and selection of the coarsest map."""

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(inputs, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        assert self.key_proj.bias is not None
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, h, w) to key, shrinkage (at least 1) and selection (0..1)."""
        shrinkage, selection = self.d_proj(f16).square() + 1, self.e_proj(f16).sigmoid()
        return self.key_proj(f16), shrinkage, selection


class ValueEncoder(nn.Module):
    """ResNet-18 of frame and masks down to stride 16, joined with the frame's features.

    With ``single_object`` it does not see the other objects' masks.
    """

    def __init__(self, value_dim: int, hidden_dim: int, *, single_object: bool) -> None:
        super().__init__()
        self.single_object = single_object
        self.conv1, self.bn1 = layers.stem(4 if single_object else 5)
        self.layer1 = layers.stage(layers.BasicBlock, 64, 64, 2, 1)
        self.layer2 = layers.stage(layers.BasicBlock, 64, 128, 2, 2)
        self.layer3 = layers.stage(layers.BasicBlock, 128, 256, 2, 2)
        self.fuser = layers.FusionBlock(CHANNELS[0], 256, value_dim, value_dim)
        self.hidden_reinforce = layers.GatedUpdate(value_dim, hidden_dim)

    def share(self, f16: Tensor) -> tuple[Tensor, Tensor]:
        """What is the same for all objects of a frame, of its coarsest map (B, 1024, h, w)."""
        return self.fuser.share(f16)

    def forward(
        self,
        frames: Tensor,
        shared: tuple[Tensor, Tensor],
        hidden: Tensor,
        masks: Tensor,
        others: Tensor,
        *,
        update_hidden: bool,
    ) -> tuple[Tensor, Tensor]:
        """Values (B, N, CV, h, w) of objects in frames, to be remembered, and hidden states.

        Args:
            frames: (B, 3, H, W), normalised.
            shared: From :meth:`share`.
            hidden: (B, N, CH, h, w).
            masks: (B, N, H, W) in 0..1.
            others: (B, N, H, W), the sum of all other objects' masks.
            update_hidden: Whether the sensory state learns from the value (the paper's deep
                update).
        """
        count = masks.shape[1]
        # Masks (B, N, H, W) to one plane of each object, (B * N, 1, H, W).
        planes = [layers.repeat_for_objects(frames, count), masks.flatten(0, 1)[:, None]]
        if not self.single_object:
            planes.append(others.flatten(0, 1)[:, None])
        x = torch.cat([plane.to(self.conv1.weight.dtype) for plane in planes], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = layers.normed(self.conv1, self.bn1, x).relu_()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        value = self.fuser(shared, self.layer3(self.layer2(self.layer1(x))))
        if update_hidden:
            state = self.hidden_reinforce(value, hidden.flatten(0, 1))
            hidden = state.unflatten(0, (-1, count))
        # (B * N, CV, h, w) to (B, N, CV, h, w).
        return value.unflatten(0, (-1, count)), hidden


class SensoryUpdate(layers.GatedUpdate):
    """The sensory state moves on with the decoder's maps of all scales and the logits.

    The maps, of ``channels`` at strides 16, 8 and 4, are added up in ``inner`` channels.
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
        seen = self.g16_conv(g16) + self.g8_conv(F.avg_pool2d(g8, 2)) + self.g4_conv(finest)
        return super().forward(seen, state)


class Decoder(nn.Module):
    """Fusion at stride 16, two steps up to stride 4, a logit of each object."""

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        coarse, middle, fine = CHANNELS
        self.fuser = layers.FusionBlock(coarse, value_dim + hidden_dim, _FUSED, _FUSED)
        self.hidden_update = SensoryUpdate((_FUSED, _WIDTH, _WIDTH + 1), _WIDTH, hidden_dim)
        self.up_16_8 = layers.UpsampleBlock(middle, _FUSED, _WIDTH)
        self.up_8_4 = layers.UpsampleBlock(fine, _WIDTH, _WIDTH)
        self.pred = nn.Conv2d(_WIDTH, 1, 3, padding=1)

    def share(self, features: Features) -> SharedMaps:
        """What is the same for all objects of a frame."""
        f16, f8, f4 = features
        skips = self.up_16_8.skip_conv(f8), self.up_8_4.skip_conv(f4)
        return SharedMaps(self.fuser.share(f16), *skips)

    def forward(
        self, shared: SharedMaps, readout: Tensor, hidden: Tensor, *, update_hidden: bool
    ) -> tuple[Tensor, Tensor]:
        """The hidden state, and the logits (B, N, 16 h, 16 w) of each object on its own.

        ``readout`` (B, N, CV, h, w) is what memory says; with ``update_hidden`` the sensory state
        ``hidden`` (B, N, CH, h, w) moves on with the frame.
        """
        objects = readout.shape[1]
        state = hidden.flatten(0, 1)  # (B * N, CH, h, w)
        seen = torch.cat((readout.flatten(0, 1), state.to(readout.dtype)), 1)
        g16 = self.fuser(shared.fused, seen.contiguous(memory_format=torch.channels_last))
        g8 = self.up_16_8(shared.skip8, g16)
        g4 = self.up_8_4(shared.skip4, g8)
        logits = self.pred(g4.relu())
        if update_hidden:
            state = self.hidden_update((g16, g8, g4), logits, state)
            hidden = state.unflatten(0, (-1, objects))
        # Between the few values of half precision lie as many steps at the edge of a mask.
        logits = F.interpolate(logits.float(), scale_factor=4, mode="bilinear", align_corners=False)
        # (B * N, 1, 16 h, 16 w) to (B, N, 16 h, 16 w).
        return hidden, logits.view(-1, objects, *logits.shape[2:])
