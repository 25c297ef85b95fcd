"""What the compact network says of a frame, each by a head on the decoder's map of stride 2.

Tensor letters: B frames, C channels of the decoder's map, H and W of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.spec import OBJECTS, ObjectChannels

#: Offsets and motions are told in these, pixels, so that what the filters give lies about 1.
_UNIT = 16.0
_HIDDEN = 32
#: Logit of a centre at first: one in ten.
_RARE = -2.2
#: Of the output ``objects``, against the frame.
OBJECT_STRIDE = 2


class Head(nn.Module):
    """One output of the network: a 3x3 convolution, enlarged to the frame."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H / 2, W / 2) to (B, outputs, H, W)."""
        y: Tensor = F.interpolate(self.predict(x), scale_factor=2.0, mode="bilinear")
        return y


class ObjectHead(nn.Module):
    """Where the centre of each pixel's object lies, and where it was in the frame before.

    Its channels are those of :class:`~dvos.networks.spec.ObjectChannels`. A separable 5x5
    convolution and one for each position, as of the instance head of Panoptic-DeepLab (Cheng et
    al., CVPR 2020, arXiv 1911.10194), at stride 2: enlarged, an offset between two objects would
    point to neither.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.mix = nn.Conv2d(channels, _HIDDEN, 1)
        self.predict = nn.Conv2d(_HIDDEN, outputs, 1)
        # Almost nowhere is a centre: at a half, all of a frame would first have to be unlearnt
        # (Lin et al., ICCV 2017, arXiv 1708.02002, section 3.3).
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias[ObjectChannels.CENTRE], _RARE)
        unit = torch.full((outputs, 1, 1), _UNIT)
        unit[ObjectChannels.CENTRE] = 1
        self.register_buffer("unit", unit, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H / 2, W / 2) to (B, outputs, H / 2, W / 2), lengths in pixels."""
        y: Tensor = self.predict(torch.relu(self.mix(self.spread(x)))) * self.unit
        return y


def build_head(name: str, channels: int, outputs: int) -> Head | ObjectHead:
    """The head of an output's name."""
    return (ObjectHead if name == OBJECTS else Head)(channels, outputs)


def cropped(name: str, output: Tensor, size: Sequence[int]) -> Tensor:
    """The part of a head's output that a frame of this (height, width) covers, memory in order."""
    stride = OBJECT_STRIDE if name == OBJECTS else 1
    height, width = (-(-side // stride) for side in size)
    return output[..., :height, :width].contiguous()
