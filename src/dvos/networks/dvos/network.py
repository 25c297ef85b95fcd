"""The compact video network: reference frames and a query in, the query's mask out.

Every frame goes through one encoder on its own, so that a stream encodes each
frame once and keeps its features: :meth:`DvosNetwork.encode`, then
:meth:`DvosNetwork.decode` over a window of cached features. ``forward`` does
both for whole clips and gives the same values.

Tensor letters: B clips, T frames of a clip (the last is the query), N frames,
C channels, H height, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.dvos.decoder import Decoder, Head
from dvos.networks.dvos.efficientnet import FEATURE_STRIDES, EfficientNetLite, fold_norms
from dvos.networks.dvos.fusion import Fusion, build_fusion
from dvos.networks.outputs import MASK, RECONSTRUCTION, Outputs

__all__ = ["DvosNetwork", "frames_of", "padded"]

_DEFAULT_HEADS = {MASK: 1, RECONSTRUCTION: 3}

# Of the maps that ``features`` gives: finer ones know only edges and colours,
# coarser ones are too coarse for objects of some pixels.
_JUDGED_STRIDES = (4, 8, 16)
_FEATURE_STRIDE = min(_JUDGED_STRIDES)


class DvosNetwork(nn.Module):
    """Shared EfficientNet-Lite encoder, fusion over time at each scale, decoder, heads.

    Attributes:
        PARTS: Prefixes of the parameters' names by the part of the network they
            make up. The encoder is what pretrained weights fill; the reduction
            and the fusion begin at random and belong to the decoder.

    Args:
        references: Reference frames a clip brings in training. In prediction the
            fusions ``attention`` and ``mean`` may be given any other number.
        channels: Channels each scale is reduced to before fusion, finest first
            (strides 2, 4, 8, 16, 32).
        widths: Channels of the decoder at strides 2, 4, 8 and 16.
        fused: For each scale whether the references take part in it; where
            not, the query alone passes on.
        encoder: Size of the encoder, a key of
            :data:`~dvos.networks.dvos.efficientnet.ENCODERS`.
        fusion: Kind of the fusion, a key of :data:`~dvos.networks.dvos.fusion.FUSIONS`.
        sees_query: Whether the query's own picture is used. If not, its mask is
            foretold from the references: the newest takes the query's place in
            the fusion, and the query is neither encoded nor decoded.
        heads: Channels of each output by name; ``mask`` is required.
        frozen_statistics: Whether the encoder's batch-norm statistics stay as
            loaded; see :class:`~dvos.networks.dvos.efficientnet.ConvNorm`.
        reference_gradient: Whether training sends gradients through the
            encoding of the references too. Off, the encoder learns from the
            query alone (from the newest reference if the query is not seen) and
            a step costs about half.

    Raises:
        ValueError: If arguments do not fit each other.
    """

    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {
            "encoder": ("encoder.",),
            "decoder": ("reduce.", "fusions.", "decoder."),
            "heads": ("heads.",),
            MASK: (f"heads.{MASK}.",),
            RECONSTRUCTION: (f"heads.{RECONSTRUCTION}.",),
        }
    )

    def __init__(
        self,
        *,
        references: int = 4,
        channels: Sequence[int] = (16, 32, 48, 96, 160),
        widths: Sequence[int] = (32, 48, 64, 128),
        fused: Sequence[bool] = (False, True, True, True, True),
        encoder: str = "lite0",
        fusion: str = "attention",
        sees_query: bool = True,
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
        if not sees_query and references < 1:
            raise ValueError("a network that does not see the query needs a reference")
        self.references = references
        self.sees_query = sees_query
        self.reference_gradient = reference_gradient
        self.encoder = EfficientNetLite(encoder, frozen=frozen_statistics)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            for inputs, outputs in zip(self.encoder.channels, channels, strict=True)
        )
        # A frame that stands alone in the fusion is its own reference.
        others = max(1, references if sees_query else references - 1)
        self.fusions = nn.ModuleList(
            build_fusion(fusion if joined else "none", outputs, references=others)
            for outputs, joined in zip(channels, fused, strict=True)
        )
        self.decoder = Decoder(channels, widths)
        self.heads = nn.ModuleDict(
            {name: Head(widths[0], outputs) for name, outputs in heads.items()}
        )

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """Segment the last frame of each clip.

        Args:
            frames: (B, T, 3, H, W) float, normalised; any H, W and T >= 1, as
                far as the fusion allows.
            reconstruct: Whether the reconstruction is computed, too.

        Raises:
            ValueError: If the fusion is for another T.
        """
        size = (frames.shape[-2], frames.shape[-1])
        frames = frames[:, self.window(frames.shape[1])]
        if frames.shape[1] > 1 and self.training and not self.reference_gradient:
            with torch.no_grad():
                references = self._encode_clips(frames[:, :-1])
            query = self._encode_clips(frames[:, -1:])
            maps = [first + last for first, last in zip(references, query, strict=True)]
        else:
            maps = self._encode_clips(frames)
        return self._decode(maps, size, reconstruct=reconstruct)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of frames, each on its own, to be kept for later windows.

        Args:
            frames: (N, 3, H, W) float, normalised; any H and W.

        Returns:
            Five maps (N, C, ceil(H / 32) * 32 / stride, ...), finest first.
        """
        maps = self.encoder(padded(frames))
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
        maps = [frames_of(scale) for scale in features]
        window = self.window(len(maps[0]))
        return self._decode([scale[window] for scale in maps], size, reconstruct=reconstruct)

    def features(self, frames: Tensor) -> Tensor:
        """What the encoder sees in frames, each on its own: for judges beside the mask head.

        Args:
            frames: (N, 3, H, W) float, normalised; any H and W.

        Returns:
            (N, C, ceil(H / 4), ceil(W / 4)): the encoder's maps of strides 4, 8
            and 16, neither reduced nor fused, resampled to stride 4.
        """
        height, width = (-(-length // _FEATURE_STRIDE) for length in frames.shape[-2:])
        maps = self.encoder(padded(frames))
        used = [
            x for x, stride in zip(maps, FEATURE_STRIDES, strict=True) if stride in _JUDGED_STRIDES
        ]
        size = used[0].shape[-2:]
        finest = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in used]
        return torch.cat(finest, 1)[..., :height, :width]

    def for_inference(self) -> DvosNetwork:
        """A copy that gives the same outputs a little faster and cannot be trained.

        The encoder's norms are folded into its convolutions, and all kernels lie
        in the memory order they are used in.
        """
        network = copy.deepcopy(self).eval().requires_grad_(False)
        fold_norms(network.encoder)
        # PyTorch declares the argument for tensors only.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def window(self, count: int) -> slice:
        """Which of ``count`` frames take part; the last of them stands for the query."""
        last = count if self.sees_query else count - 1
        if last < 1:
            raise ValueError("a network that does not see the query needs a reference")
        looks_back = any(isinstance(fusion, Fusion) for fusion in self.fusions)
        return slice(0 if looks_back else last - 1, last)

    def _decode(
        self, maps: Sequence[Sequence[Tensor]], size: tuple[int, int], *, reconstruct: bool
    ) -> Outputs:
        """As :meth:`decode`, from T maps (B, C, h, w) of each scale that take part."""
        fused = []
        for fusion, frames in zip(self.fusions, maps, strict=True):
            needed = frames if isinstance(fusion, Fusion) else frames[-1:]
            fused.append(fusion([_channels_last(frame) for frame in needed]))
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


def frames_of(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """T maps (B, C, h, w), whether they came stacked or not."""
    return maps.unbind(1) if isinstance(maps, Tensor) else maps


def _channels_last(x: Tensor) -> Tensor:
    """The same values in the memory order that convolutions are fastest in."""
    return x.contiguous(memory_format=torch.channels_last)


def padded(frames: Tensor) -> Tensor:
    """Frames repeated at the bottom and right up to multiples of 32."""
    coarsest = FEATURE_STRIDES[-1]
    down, right = -frames.shape[-2] % coarsest, -frames.shape[-1] % coarsest
    if down or right:
        frames = F.pad(frames, (0, right, 0, down), mode="replicate")
    return _channels_last(frames)
