"""The compact video network: reference frames and a query in, the query's mask out.

Every frame is encoded on its own, so that a stream keeps its features: :meth:`DvosNetwork.encode`,
then :meth:`DvosNetwork.decode` over a window; ``forward`` does both. Letters: B clips, T frames of
a clip (the last is the query), N frames of all clips, C channels, H and W of a frame, h and w.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks import spec
from dvos.networks.dvos import efficientnet
from dvos.networks.dvos.depthwise import convolve_depthwise
from dvos.networks.spec import MASK, OBJECTS, RECONSTRUCTION, Maps, ObjectChannels, Outputs

#: How references may enter, see :class:`DvosShape`.
_FUSIONS = ("attention", "none")
#: Maps that ``features`` gives, of strides 4, 8 and 16: finer ones know only edges and colours,
#: coarser ones are too coarse for objects of some pixels.
_PROBED, _PROBE_STRIDE = slice(1, 4), 4
#: Sides of what the encoder takes are multiples of this.
STRIDE = efficientnet.FEATURE_STRIDES[-1]
#: Of the output ``objects``, against the frame.
OBJECT_STRIDE = 2
#: Offsets and motions are told in these, pixels, so that what the filters give lies about 1.
_UNIT = 16.0
_HIDDEN = 32
#: Logit of a centre at first: one in ten.
_RARE = -2.2


@dataclass(frozen=True)
class DvosShape:
    """What a network is built by, as checkpoints keep it; a ValueError if values do not fit."""

    references: int = 4  # Frames a clip brings in training; in prediction any number will do.
    #: Channels each scale is reduced to before fusion, finest first (strides 2 to 32).
    channels: Sequence[int] = (24, 48, 72, 128, 192)
    widths: Sequence[int] = (48, 72, 96, 160)  # Channels of the decoder at strides 2 to 16.
    #: For each scale whether the references take part in it; else the query passes alone.
    fused: Sequence[bool] = (False, True, True, True, True)
    encoder: str = "lite2"  # A key of :data:`~dvos.networks.dvos.efficientnet.ENCODERS`.
    fusion: str = "attention"  # See :class:`Fusion`; or ``none``: each frame on its own.
    #: Whether the query's own picture is used; else the newest reference foretells its mask.
    sees_query: bool = True
    #: Channels of each output by name; ``mask`` is required.
    heads: Mapping[str, int] = field(default_factory=lambda: {MASK: 1, RECONSTRUCTION: 3})
    frozen_statistics: bool = True  # Whether the encoder's batch-norm statistics stay as loaded.
    #: Whether training sends gradients through the references too, for about twice the time.
    reference_gradient: bool = False

    def __post_init__(self) -> None:
        scales = len(efficientnet.FEATURE_STRIDES)
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


class _ChannelNorm(nn.Module):
    """Layer norm over each position's channels (ConvNeXt, arXiv 2201.03545), tiles or not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w)
        # (N, C, h, w) to (N, h, w, C), a free view of a channels-last tensor.
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class Fusion(nn.Module):
    """What the references add to the query, at one scale.

    References are averaged with weights softmax(q . r / sqrt C) of each position; their maximum
    stands beside the average, so that any number in any order will do. A 1x1 convolution mixes both
    with the query, a depthwise 3x3 one lets neighbours correct what moved, and the query is added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.mix = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.norm = _ChannelNorm(channels)
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
        self.norm = _ChannelNorm(outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # (B, C, h, w), (B, C, 2h, 2w)
        x = F.interpolate(self.narrow(coarse), scale_factor=2.0, mode="bilinear")
        if x.requires_grad and x.device.type == "cpu":
            # The gradient is a part of that of both maps, which does not lie together in memory.
            x.register_hook(spec.channels_last)  # type: ignore[no-untyped-call]
        return torch.relu(self.norm(self.filter(torch.cat([x, fine], 1))))


class _Decoder(nn.Module):
    """Top-down path over the scales, coarsest first; channels and widths as of the shape."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.joins = nn.ModuleList()
        coarse = channels[-1]
        for fine, width in zip(reversed(channels[:-1]), reversed(widths), strict=True):
            self.joins.append(_Join(coarse, fine, width))
            coarse = width


class Head(nn.Module):
    """One output of the network: a 3x3 convolution, enlarged to the frame."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H / 2, W / 2) to (B, outputs, H, W)."""
        return F.interpolate(self.predict(x), scale_factor=2.0, mode="bilinear")


class ObjectHead(nn.Module):
    """Where the centre of each pixel's object lies, and where it was in the frame before.

    Its channels are :class:`~dvos.networks.spec.ObjectChannels`. A separable 5x5 convolution and
    one for each position, as in Panoptic-DeepLab's instance head (Cheng et al., CVPR 2020, arXiv
    1911.10194), at stride 2: enlarged, an offset between two objects would point to neither.
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
        spread = convolve_depthwise(x, self.spread.weight, self.spread.bias, padding=2)
        y: Tensor = self.predict(torch.relu(self.mix(spread))) * self.unit
        return y


def cropped(name: str, output: Tensor, size: Sequence[int]) -> Tensor:
    """The part of a head's output that a frame of this (height, width) covers, memory in order."""
    stride = OBJECT_STRIDE if name == OBJECTS else 1
    height, width = (-(-side // stride) for side in size)
    return output[..., :height, :width].contiguous()


class DvosNetwork(nn.Module):
    """Shared EfficientNet-Lite encoder, fusion over time at each scale, decoder, heads."""

    #: Prefixes of the parameters' names by the part of the network they make up.
    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("encoder.",),
        "decoder": ("reduce.", "fusions.", "decoder."),
        "heads": ("heads.",),
        **{name: (f"heads.{name}.",) for name in (MASK, RECONSTRUCTION, OBJECTS)},
    }

    def __init__(self, shape: DvosShape | None = None, **arguments: Any) -> None:
        super().__init__()
        self.shape = shape = shape or DvosShape(**arguments)
        self.references, frozen = shape.references, shape.frozen_statistics
        self.encoder = efficientnet.EfficientNetLite(shape.encoder, frozen=frozen)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            for inputs, outputs in zip(self.encoder.channels, shape.channels, strict=True)
        )
        self.fusions = nn.ModuleList(
            Fusion(channels) if joined and shape.fusion == "attention" else nn.Identity()
            for channels, joined in zip(shape.channels, shape.fused, strict=True)
        )
        self.decoder = _Decoder(shape.channels, shape.widths)
        self.heads = nn.ModuleDict()
        for name, outputs in shape.heads.items():
            self.heads[name] = (ObjectHead if name == OBJECTS else Head)(shape.widths[0], outputs)

    @staticmethod
    def completed(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
        """A checkpoint's arguments; encoder and widths that it does not name, by its weights."""
        if {"encoder", "channels", "widths"} <= {*arguments}:
            return {**arguments}
        maps = [f"reduce.{scale}.weight" for scale in range(len(efficientnet.FEATURE_STRIDES))]
        joins = [f"decoder.joins.{join}.filter.weight" for join in reversed(range(len(maps) - 1))]
        told = {
            "encoder": efficientnet.encoder_of(state),
            "channels": [len(state[key]) for key in maps if key in state],
            "widths": [len(state[key]) for key in joins if key in state],
        }
        return {key: value for key, value in told.items() if value} | {**arguments}

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """Segment the last frame of clips (B, T, 3, H, W), normalised; any H, W and T >= 1."""
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
        """Five maps (N, C, h, w), finest first, of each of the frames (N, 3, H, W); any H and W."""
        maps = self.encoder(spec.padded(frames, STRIDE))
        return [reduce(x) for reduce, x in zip(self.reduce, maps, strict=True)]

    def decode(self, features: Maps, size: tuple[int, int], *, reconstruct: bool = True) -> Outputs:
        """Outputs for the last of T frames of (H, W), by T maps (B, C, h, w) of each scale."""
        maps = [spec.frames_of(scale) for scale in features]
        window = self.window(len(maps[0]))
        return self._decode([scale[window] for scale in maps], size, reconstruct=reconstruct)

    def features(self, frames: Tensor) -> Tensor:
        """For probes, (N, C, ceil(H / 4), ceil(W / 4)): the encoder's maps of strides 4 to 16."""
        height, width = (-(-length // _PROBE_STRIDE) for length in frames.shape[-2:])
        used = self.encoder(spec.padded(frames, STRIDE))[_PROBED]
        size = used[0].shape[-2:]
        finest = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in used]
        return torch.cat(finest, 1)[..., :height, :width]

    def for_inference(self) -> DvosNetwork:
        """A copy that gives the same outputs a little faster and cannot be trained."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        efficientnet.fold_norms(network.encoder)
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
            return spec.channels_last(frames[-1])
        result: Tensor = fusion([spec.channels_last(frame) for frame in frames])
        return result

    def joined(self, x: Tensor, maps: Sequence[Sequence[Tensor]], scales: range) -> Tensor:
        """A coarser map, or the coarsest fused, joined with those of these scales in turn."""
        for scale in reversed(scales):
            x = self.decoder.joins[-1 - scale](x, self.fused(scale, maps[scale]))
        return x

    def _decode(
        self, maps: Sequence[Sequence[Tensor]], size: Sequence[int], *, reconstruct: bool
    ) -> Outputs:
        """As :meth:`decode`, from T maps (B, C, h, w) of each scale that take part."""
        coarsest = len(maps) - 1
        x = self.joined(self.fused(coarsest, maps[coarsest]), maps, range(coarsest))
        outputs = {
            name: cropped(name, head(x), size)
            for name, head in self.heads.items()
            if reconstruct or name != RECONSTRUCTION
        }
        return Outputs(outputs.pop(MASK), outputs.pop(RECONSTRUCTION, None), outputs)

    def _encode_clips(self, frames: Tensor) -> list[list[Tensor]]:
        """Encode (B, T, 3, H, W) as one batch; for each scale T maps (B, C, h, w)."""
        # (B, T, 3, H, W) to (T * B, 3, H, W), so that the maps of one frame lie together.
        maps = self.encode(frames.transpose(0, 1).flatten(0, 1))
        return [list(x.chunk(frames.shape[1])) for x in maps]
