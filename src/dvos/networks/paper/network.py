"""The published network (arXiv 2406.05131), with the keys of its checkpoints.

It takes R earlier frames and gives the mask and the colours of the frame after them, which it does
not see unless ``sees_query`` is set. Letters: B clips, T frames of a clip (the last is the query),
N frames, R frames the network looks at, C channels, H and W of a frame, h and w of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from dvos.networks.paper import layers
from dvos.networks.paper.layers import ResidualBlock
from dvos.networks.spec import Maps, Normalisation, Outputs, frames_of, padded

#: Of the input, per channel, as the published network was trained.
PUBLISHED_NORMALISATION = Normalisation(
    mean=(0.45829801, 0.46257378, 0.4352858), std=(0.21251279, 0.18627654, 0.2033325)
)

_MOST_SCALES = 8


@dataclass(frozen=True)
class PaperShape:
    """What a network is built by, as checkpoints keep it; a ValueError if values do not fit."""

    references: int = 4  # Earlier frames of each window; fixed, as the weights depend on it.
    base: int = 4  # Channels of the first blocks.
    #: Channels of each scale as multiples of ``base``, finest first; each scale halves the size.
    multipliers: Sequence[int] = (4, 8, 16, 32)
    latent: int = 256  # Channels of the coarsest map.
    groups: int = 4  # Of the norms of encoder, decoder and heads; all widths are multiples of it.
    hidden: int = 32  # Widest channels of the heads.
    blocks: int = 2  # Residual blocks of each scale, in encoder and decoder.
    dropout: float = 0.0  # Probability that a channel of a skip connection is dropped in training.
    skip_diffusion: bool = True  # Whether training adds noise to the skip connections.
    #: Whether evaluation adds it, too, as the published code does; its answers are random then.
    diffuse_in_evaluation: bool = False
    sees_query: bool = False  # Whether the query is one more frame behind the references.
    #: Whether frames are joined by attention; without, it takes one (the published image variant).
    attention: bool = True
    reconstructs: bool = True  # Whether it has a head for the query's colours.

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError("a network that does not see the query needs at least one reference")
        if not self.attention and self.frames != 1:
            raise ValueError(f"without attention a network takes one frame, not {self.frames}")
        # The noise of deeper skips has no distribution: its b falls to 0.
        count = len(self.multipliers)
        if not 1 <= count <= _MOST_SCALES:
            raise ValueError(f"multipliers has {count} values; give 1 to {_MOST_SCALES}")
        widths = (*self.widths, self.base, self.latent, self.hidden, self.hidden // 2)
        unfit = [width for width in widths if width < 1 or width % self.groups]
        if unfit:
            raise ValueError(f"widths {unfit} are no multiples of groups = {self.groups}")

    @property
    def frames(self) -> int:
        """R, the frames that are looked at."""
        return self.references + self.sees_query

    @property
    def widths(self) -> list[int]:
        """Channels of each scale, finest first."""
        return [self.base * multiplier for multiplier in self.multipliers]


class PaperNetwork(nn.Module):
    """Shared encoder, attention over frames at each scale, decoder, two heads."""

    #: Prefixes of the parameters' names by the part of the network they make up.
    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **{part: (f"{part}.",) for part in ("encoder", "decoder", "heads")},
        "mask": ("heads.seg_head.",),
        "reconstruction": ("heads.rec_head.",),
    }

    def __init__(self, shape: PaperShape | None = None, **arguments: Any) -> None:
        super().__init__()
        self.shape = shape = shape or PaperShape(**arguments)
        self.references, self.stride = shape.references, 2 ** len(shape.multipliers)
        self.encoder, self.decoder, self.heads = _Encoder(shape), _Decoder(shape), _Heads(shape)

    def forward(self, frames: Tensor, *, reconstruct: bool = True) -> Outputs:
        """Segment the last frame of clips (B, references + 1, 3, H, W), normalised; any H and W."""
        seen = frames if self.shape.sees_query else frames[:, :-1]
        self._check_window(frames.shape[1])
        # (B, R, 3, H, W) to (R * B, 3, H, W), so that the maps of one frame lie together.
        maps = self.encode(seen.transpose(0, 1).flatten(0, 1))
        # Each (R * B, C, h, w) to (B, R * C, h, w).
        joined = [torch.cat(x.chunk(self.shape.frames), 1) for x in maps]
        return self._decode(joined, frames.shape[-2:], reconstruct)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Maps (N, C, h, w) of each of the frames (N, 3, H, W), finest first, ``latent`` last."""
        return cast("list[Tensor]", self.encoder(padded(frames, self.stride)))

    def decode(self, features: Maps, size: tuple[int, int], *, reconstruct: bool = True) -> Outputs:
        """Outputs for the last of T frames of (H, W), by T maps (B, C, h, w) of each scale."""
        windows = [frames_of(maps) for maps in features]
        for window in windows:
            self._check_window(len(window))
        joined = [torch.cat(list(window[: self.shape.frames]), 1) for window in windows]
        return self._decode(joined, size, reconstruct)

    def _check_window(self, count: int) -> None:
        if count != self.references + 1:
            taken = f"this network takes {self.references} references and a query"
            raise ValueError(f"a window of {count} frames; {taken}")

    def _decode(self, maps: list[Tensor], size: Sequence[int], reconstruct: bool) -> Outputs:
        x = self.decoder(maps)
        height, width = size
        mask = self.heads.seg_head(x)[..., :height, :width].contiguous()
        colours = None
        if reconstruct and self.heads.rec_head is not None:
            colours = self.heads.rec_head(x)[..., :height, :width].contiguous()
        return Outputs(mask, colours)


class _Encoder(nn.Module):
    def __init__(self, shape: PaperShape) -> None:
        super().__init__()
        base, groups = shape.base, shape.groups
        first = min(groups, base)
        self.backbone = nn.Sequential(
            layers.convolution(3, first, bias=True),
            ResidualBlock(first, base, groups),
            ResidualBlock(base, base, groups),
        )
        self.encoder = nn.ModuleList()
        before = base
        for width in shape.widths:
            blocks = chain((before,), repeat(width, shape.blocks - 1))
            self.encoder.extend(ResidualBlock(inputs, width, groups) for inputs in blocks)
            self.encoder.append(layers.Downsample(width, groups))
            before = width
        self.bottleneck = ResidualBlock(before, shape.latent, groups)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the map of each scale, finest first, and the latent one."""
        x = self.backbone(frames)
        maps = []
        for layer in self.encoder:
            if isinstance(layer, layers.Downsample):
                maps.append(x)
            x = layer(x)
        return [*maps, self.bottleneck(x)]


class _Decoder(nn.Module):
    def __init__(self, shape: PaperShape) -> None:
        super().__init__()
        self.blocks = shape.blocks
        groups, widths, frames = shape.groups, shape.widths, shape.frames
        self.bottleneck_diff_atten: nn.Module = nn.Identity()
        if shape.attention:
            self.bottleneck_diff_atten = layers.SkipAttention(shape.latent, frames)
        self.bottleneck = ResidualBlock(shape.latent, widths[-1], groups)
        self.decoder = nn.ModuleList()
        before = widths[-1]
        for depth, width in enumerate(reversed(widths)):
            # The deepest skip gets the least noise: the mean step is a / (a + b).
            beta = (3.0 + depth, 18.0 - 2 * depth)
            attention: nn.Module = nn.Identity()
            if shape.attention:
                attention = layers.SkipAttention(
                    width,
                    frames,
                    beta=beta if shape.skip_diffusion else None,
                    dropout=shape.dropout,
                    diffuse_in_evaluation=shape.diffuse_in_evaluation,
                )
            self.decoder.extend([attention, layers.Upsample(before, groups)])
            blocks = chain((before + width,), repeat(2 * width, shape.blocks - 1))
            self.decoder.extend(ResidualBlock(inputs, width, groups) for inputs in blocks)
            before = width

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, R*C, h, w), finest first and the latent one last, to the finest (B, C, H, W)."""
        x: Tensor = self.bottleneck(self.bottleneck_diff_atten(maps[-1]))
        modules = iter(self.decoder)
        for skip in reversed(maps[:-1]):
            joined = next(modules)(skip)
            x = next(modules)(x)
            for _ in range(self.blocks):
                x = next(modules)(torch.cat((x, joined), 1))
        return x


class _Heads(nn.Module):
    def __init__(self, shape: PaperShape) -> None:
        super().__init__()
        self.rec_head = _head(shape, 3) if shape.reconstructs else None
        self.seg_head = _head(shape, 1)


def _head(shape: PaperShape, outputs: int) -> nn.Sequential:
    channels, hidden, half, groups = shape.widths[0], shape.hidden, shape.hidden // 2, shape.groups
    return nn.Sequential(
        ResidualBlock(channels, channels, groups),
        ResidualBlock(channels, hidden, groups),
        ResidualBlock(hidden, half, groups),
        nn.GroupNorm(groups, half),
        nn.SiLU(),
        layers.convolution(half, outputs, bias=True),
    )
