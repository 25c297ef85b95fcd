"""From frames to keys, and from frames with masks to values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.blocks import FusionBlock, GatedUpdate, spread
from dvos.networks.xmem.convolution import convolve
from dvos.networks.xmem.decoder import Features
from dvos.networks.xmem.resnet import BasicBlock, Bottleneck, convolve_and_norm, stage, stem

__all__ = ["KeyEncoder", "KeyProjection", "ValueEncoder"]


class KeyEncoder(nn.Module):
    """ResNet-50 down to stride 16.

    Attributes:
        channels: Of the maps at strides 16, 8 and 4.
    """

    channels = (1024, 512, 256)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = stem(3)
        self.res2 = stage(Bottleneck, 64, 64, 3, 1)
        self.layer2 = stage(Bottleneck, 256, 128, 4, 2)
        self.layer3 = stage(Bottleneck, 512, 256, 6, 2)

    def forward(self, frames: Tensor) -> Features:
        """(B, 3, H, W) to maps at strides 16, 8 and 4."""
        x = _pooled(convolve_and_norm(self.conv1, self.bn1, frames, relu=True))
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyProjection(nn.Module):
    """Key, shrinkage and selection of the coarsest map.

    Args:
        inputs: Channels of the map.
        key_dim: Channels of keys.
    """

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(inputs, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        assert self.key_proj.bias is not None
        nn.init.zeros_(self.key_proj.bias)

    def forward(
        self, f16: Tensor, *, need_shrinkage: bool, need_selection: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, inputs, h, w) to key, shrinkage (at least 1) and selection (0..1)."""
        shrinkage = convolve(self.d_proj, f16).square() + 1 if need_shrinkage else None
        selection = convolve(self.e_proj, f16).sigmoid() if need_selection else None
        return convolve(self.key_proj, f16), shrinkage, selection


class ValueEncoder(nn.Module):
    """ResNet-18 of frame and masks down to stride 16, joined with the frame's features.

    Args:
        value_dim: Channels of values.
        hidden_dim: Channels of the sensory state.
        single_object: Whether it does not see the other objects' masks.
    """

    def __init__(self, value_dim: int, hidden_dim: int, *, single_object: bool) -> None:
        super().__init__()
        self.single_object = single_object
        self.conv1, self.bn1 = stem(4 if single_object else 5)
        self.layer1 = stage(BasicBlock, 64, 64, 2, 1)
        self.layer2 = stage(BasicBlock, 64, 128, 2, 2)
        self.layer3 = stage(BasicBlock, 128, 256, 2, 2)
        self.fuser = FusionBlock(KeyEncoder.channels[0], 256, value_dim, value_dim)
        self.hidden_reinforce = GatedUpdate(value_dim, hidden_dim)

    def share(self, f16: Tensor) -> tuple[Tensor, Tensor]:
        """What is the same for all objects of a frame, of its coarsest map (B, 1024, h, w)."""
        shared: tuple[Tensor, Tensor] = self.fuser.share(f16)
        return shared

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
        """Values and hidden states; see :meth:`XMem.encode_value`, but for ``shared``."""
        count = masks.shape[1]
        planes = [spread(frames, count), masks.flatten(0, 1)[:, None]]
        if not self.single_object:
            planes.append(others.flatten(0, 1)[:, None])
        x = torch.cat([plane.to(frames.dtype) for plane in planes], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = _pooled(convolve_and_norm(self.conv1, self.bn1, x, relu=True))
        value = self.fuser(shared, self.layer3(self.layer2(self.layer1(x))))
        if update_hidden:
            state = self.hidden_reinforce(value, hidden.flatten(0, 1))
            hidden = state.unflatten(0, (-1, count))
        return value.unflatten(0, (-1, count)), hidden


def _pooled(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)
