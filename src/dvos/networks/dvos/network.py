"""The compact video network: reference frames and a query in, the query's mask out.

Every frame goes through one encoder on its own, so that a stream encodes each frame once and keeps
its features: :meth:`DvosNetwork.encode`, then :meth:`DvosNetwork.decode` over a window of cached
features. ``forward`` does both for whole clips and gives the same values.

Letters: B clips, T frames of a clip (the last is the query), R = T - 1 references, N frames of all
clips, C channels, H and W of a frame, h and w of a map.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.dvos.efficientnet import (
    FEATURE_STRIDES,
    EfficientNetLite,
    encoder_of,
    fold_norms,
)
from dvos.networks.dvos.heads import build_head, cropped
from dvos.networks.spec import (
    MASK,
    OBJECTS,
    RECONSTRUCTION,
    Outputs,
    channels_last,
    frames_of,
    padded,
)

#: How references may enter, see :class:`DvosShape`.
_FUSIONS = ("attention", "none")
#: Maps that ``features`` gives, of strides 4, 8 and 16: finer ones know only edges and colours,
#: coarser ones are too coarse for objects of some pixels.
_PROBED, _PROBE_STRIDE = slice(1, 4), 4
#: Sides of what the encoder takes are multiples of this.
STRIDE = FEATURE_STRIDES[-1]


@dataclass(frozen=True)
class DvosShape:
    """What a network is built by: its widths, and what it sees. Checkpoints keep it by name.

    Attributes:
        references: Reference frames a clip brings in training; in prediction any number will do.
        channels: Channels each scale is reduced to before fusion, finest first (strides 2 to 32).
        widths: Channels of the decoder at strides 2, 4, 8 and 16.
        fused: For each scale whether the references take part in it; else the query passes alone.
        encoder: Size of the encoder, a key of
            :data:`~dvos.networks.dvos.efficientnet.ENCODERS`.
        fusion: ``attention`` (:class:`Fusion`), or ``none``: each frame on its own.
        sees_query: Whether the query's own picture is used. If not, the newest
            reference takes its place, and its mask is foretold.
        heads: Channels of each output by name; ``mask`` is required.
        frozen_statistics: Whether the encoder's batch-norm statistics stay as loaded.
        reference_gradient: Whether training sends gradients through the
            encoding of the references too, for about twice the time.

    Raises:
        ValueError: If values do not fit each other.
    """

    references: int = 4
    channels: Sequence[int] = (24, 48, 72, 128, 192)
    widths: Sequence[int] = (48, 72, 96, 160)
    fused: Sequence[bool] = (False, True, True, True, True)
    encoder: str = "lite2"
    fusion: str = "attention"
    sees_query: bool = True
    heads: Mapping[str, int] = field(default_factory=lambda: {MASK: 1, RECONSTRUCTION: 3})
    frozen_statistics: bool = True
    reference_gradient: bool = False

    def __post_init__(self) -> None:
        scales = len(FEATURE_STRIDES)
        lengths = len(self.channels), len(self.fused), len(self.widths) + 1
        if lengths != (scales,) * 3:
            raise ValueError(f"channels and fused take {scales} values, widths {scales - 1}")
        if self.fusion not in _FUSIONS:
            raise ValueError(f"fusion is {self.fusion!r}; it is one of {', '.join(_FUSIONS)}")
        if MASK not in self.heads:
            raise ValueError("a network needs the head 'mask'")
        if self.references < 0:
            raise ValueError(f"references is {self.references}")
        if not self.sees_query and self.references < 1:
            raise ValueError("a network that does not see the query needs a reference")


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position (ConvNeXt, arXiv 2201.03545).

    A crop, a tile and a whole frame are treated alike, in training and in prediction.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, h, w)."""
        # (N, C, h, w) to (N, h, w, C), a free view of a channels-last tensor.
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class Fusion(nn.Module):
    """What the references add to the query, at one scale.

    References are averaged with weights softmax(q . r / sqrt C) of each position; their maximum
    stands beside the average, so that any number in any order will do. A 1x1 convolution mixes
    both with the query, a depthwise 3x3 one lets neighbours correct what moved, and the query is
    added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.mix = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.norm = ChannelNorm(channels)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, frames: Sequence[Tensor]) -> Tensor:
        """Fuse T maps (B, C, h, w), the query last, to one; a lone query is its own reference."""
        query, references = frames[-1], frames[:-1] or frames
        # (B, R, h, w): agreement of each reference with the query. Sums of products may reach
        # millions; in half precision the little that tells references apart would be lost.
        exact = query if self.training else query.float()
        agreement = torch.stack([(exact * reference).sum(1) for reference in references], 1)
        weights = (agreement * self.scale).softmax(1)
        weights = weights if self.training else weights.to(query.dtype)
        average = references[0] * weights[:, :1]
        largest = references[0]
        for index, reference in enumerate(references[1:], start=1):
            average = torch.addcmul(average, reference, weights[:, index : index + 1])
            largest = torch.maximum(largest, reference)
        mixed = self.mix(torch.cat([query, average, largest], 1))  # (B, 3 * C, h, w)
        fused: Tensor = query + self.spread(torch.relu(self.norm(mixed)))
        return fused


class _Join(nn.Module):
    """Enlarge the coarse map twice, join the finer one, and filter; arguments are channels."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        # Narrowing comes before enlarging: a quarter of the positions, the same result.
        self.narrow = nn.Conv2d(coarse, outputs, 1, bias=False)
        self.filter = nn.Conv2d(outputs + fine, outputs, 3, padding=1, bias=False)
        self.norm = ChannelNorm(outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (B, coarse, h, w) and (B, fine, 2h, 2w) to (B, outputs, 2h, 2w)."""
        x = F.interpolate(self.narrow(coarse), scale_factor=2.0, mode="bilinear")
        return torch.relu(self.norm(self.filter(torch.cat([x, fine], 1))))


class Decoder(nn.Module):
    """Top-down path over the scales, coarsest first; channels and widths as of the shape."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        joins = []
        coarse = channels[-1]
        for fine, width in zip(reversed(channels[:-1]), reversed(widths), strict=True):
            joins.append(_Join(coarse, fine, width))
            coarse = width
        self.joins = nn.ModuleList(joins)

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Join maps (B, C, H / stride, W / stride), finest first, into one of stride 2."""
        x = fused[-1]
        for join, fine in zip(self.joins, reversed(fused[:-1]), strict=True):
            x = join(x, fine)
        return x


class DvosNetwork(nn.Module):
    """Shared EfficientNet-Lite encoder, fusion over time at each scale, decoder, heads.

    It is built by a shape, or by the fields of :class:`DvosShape` by name. ``PARTS`` are prefixes
    of the parameters' names by the part of the network they make up.

    Raises:
        ValueError: If values do not fit each other.
        TypeError: If a name is none of the shape's.
    """

    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {
            "encoder": ("encoder.",),
            "decoder": ("reduce.", "fusions.", "decoder."),
            "heads": ("heads.",),
            MASK: (f"heads.{MASK}.",),
            RECONSTRUCTION: (f"heads.{RECONSTRUCTION}.",),
            OBJECTS: (f"heads.{OBJECTS}.",),
        }
    )

    def __init__(self, shape: DvosShape | None = None, **arguments: Any) -> None:
        super().__init__()
        shape = shape or DvosShape(**arguments)
        self.shape = shape
        self.references = shape.references
        self.encoder = EfficientNetLite(shape.encoder, frozen=shape.frozen_statistics)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            for inputs, outputs in zip(self.encoder.channels, shape.channels, strict=True)
        )
        self.fusions = nn.ModuleList(
            Fusion(channels) if joined and shape.fusion == "attention" else nn.Identity()
            for channels, joined in zip(shape.channels, shape.fused, strict=True)
        )
        self.decoder = Decoder(shape.channels, shape.widths)
        finest = shape.widths[0]
        self.heads = nn.ModuleDict(
            {name: build_head(name, finest, outputs) for name, outputs in shape.heads.items()}
        )

    @staticmethod
    def completed(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
        """A checkpoint's arguments; encoder and widths that it does not name, by its weights."""
        if {"encoder", "channels", "widths"} <= {*arguments}:
            return {**arguments}
        maps = [f"reduce.{scale}.weight" for scale in range(len(FEATURE_STRIDES))]
        joins = [f"decoder.joins.{join}.filter.weight" for join in reversed(range(len(maps) - 1))]
        told = {
            "encoder": encoder_of(state),
            "channels": [len(state[key]) for key in maps if key in state],
            "widths": [len(state[key]) for key in joins if key in state],
        }
        return {key: value for key, value in told.items() if value} | {**arguments}

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """Segment the last frame of each clip.

        Args:
            frames: (B, T, 3, H, W) float, normalised; any H, W and T >= 1.
            reconstruct: Whether the reconstruction is computed, too.

        Raises:
            ValueError: If the query is not seen and stands alone.
        """
        size = frames.shape[-2:]
        frames = frames[:, self.window(frames.shape[1])]
        if frames.shape[1] > 1 and self.training and not self.shape.reference_gradient:
            with torch.no_grad():
                references = self._encode_clips(frames[:, :-1])
            query = self._encode_clips(frames[:, -1:])
            maps = [first + last for first, last in zip(references, query, strict=True)]
        else:
            maps = self._encode_clips(frames)
        return self._decode(maps, size, reconstruct=reconstruct)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of frames (N, 3, H, W), normalised, each on its own, to be kept for windows.

        Five maps (N, C, ceil(H / 32) * 32 / stride, ...), finest first; any H and W.
        """
        maps = self.encoder(padded(frames, STRIDE))
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
            features: For each scale what :meth:`encode` gave for T frames, the query
                last: T maps (B, C, h, w), or these stacked as (B, T, C, h, w).
            size: (H, W) of the frames before encoding.
            reconstruct: As for :meth:`forward`.
        """
        maps = [frames_of(scale) for scale in features]
        window = self.window(len(maps[0]))
        return self._decode([scale[window] for scale in maps], size, reconstruct=reconstruct)

    def features(self, frames: Tensor) -> Tensor:
        """What the encoder sees in frames (N, 3, H, W), normalised, for probes; any H and W.

        (N, C, ceil(H / 4), ceil(W / 4)): the encoder's maps of strides 4, 8 and 16, neither
        reduced nor fused, resampled to stride 4.
        """
        height, width = (-(-length // _PROBE_STRIDE) for length in frames.shape[-2:])
        used = self.encoder(padded(frames, STRIDE))[_PROBED]
        size = used[0].shape[-2:]
        finest = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in used]
        return torch.cat(finest, 1)[..., :height, :width]

    def for_inference(self) -> DvosNetwork:
        """A copy that gives the same outputs a little faster and cannot be trained."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        fold_norms(network.encoder)
        # PyTorch declares the argument for tensors only.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def window(self, count: int) -> slice:
        """Which of ``count`` frames take part; the last of them stands for the query."""
        last = count if self.shape.sees_query else count - 1
        if last < 1:
            raise ValueError("a network that does not see the query needs a reference")
        looks_back = any(isinstance(fusion, Fusion) for fusion in self.fusions)
        return slice(0 if looks_back else last - 1, last)

    def fused(self, scale: int, frames: Sequence[Tensor]) -> Tensor:
        """The fusion of T maps (B, C, h, w) of one scale that take part."""
        fusion = self.fusions[scale]
        if not isinstance(fusion, Fusion):
            return channels_last(frames[-1])
        result: Tensor = fusion([channels_last(frame) for frame in frames])
        return result

    def _decode(
        self, maps: Sequence[Sequence[Tensor]], size: Sequence[int], *, reconstruct: bool
    ) -> Outputs:
        """As :meth:`decode`, from T maps (B, C, h, w) of each scale that take part."""
        x = self.decoder([self.fused(scale, frames) for scale, frames in enumerate(maps)])
        outputs = {
            name: cropped(name, head(x), size)
            for name, head in self.heads.items()
            if reconstruct or name != RECONSTRUCTION
        }
        return Outputs(outputs.pop(MASK), outputs.pop(RECONSTRUCTION, None), outputs)

    def _encode_clips(self, frames: Tensor) -> list[list[Tensor]]:
        """Encode (B, T, 3, H, W) as one batch; for each scale T maps (B, C, h, w)."""
        # (B, T, 3, H, W) to (T * B, 3, H, W), so that the maps of one frame lie together.
        batch = frames.transpose(0, 1).flatten(0, 1)
        return [list(x.chunk(frames.shape[1])) for x in self.encode(batch)]
