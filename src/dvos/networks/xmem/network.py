"""XMem (Cheng and Schwing, ECCV 2022, arXiv 2207.07115), over batches of clips.

A frame's key says what stands where; an object's value where the object is, and the affinity of
keys where it has gone. Every object carries a sensory (hidden) state along. Letters: B clips, T
frames, N objects, H and W full size (multiples of 16), h and w at stride 16, CK key, CV value and
CH hidden channels. Names of modules are those of published checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.spec import Normalisation, channels_last
from dvos.networks.xmem import layers
from dvos.networks.xmem.memory import read_all

#: Of the frames, per channel, as the published network was trained (ImageNet's).
XMEM_NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

#: Probabilities keep away from 0 and 1 by so much before their odds are taken.
_EDGE = 1e-7
#: Maps of a frame at strides 16, 8 and 4, (B, channels, ...), and their channels.
Features = tuple[Tensor, Tensor, Tensor]
CHANNELS = (1024, 512, 256)
#: Channels of the decoder at stride 16, and at strides 8 and 4.
_FUSED, _WIDTH = 512, 256


class Keys(NamedTuple):
    """What the key encoder says about frames, whatever the objects in them."""

    key: Tensor  # (B, CK, h, w).
    shrinkage: Tensor  # (B, 1, h, w), at least 1: how sharply each remembered place is matched.
    selection: Tensor  # (B, CK, h, w), 0..1: how much each channel counts at a place of a query.
    features: Features


class SharedMaps(NamedTuple):
    """What the decoder makes of a frame alone, for all its objects, at strides 16, 8 and 4."""

    fused: tuple[Tensor, Tensor]
    skip8: Tensor
    skip4: Tensor


class _KeyEncoder(nn.Module):
    """ResNet-50 down to stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = layers.stem(3)
        self.res2 = layers.stage(64, 64, 3, 1, deep=True)
        self.layer2 = layers.stage(256, 128, 4, 2, deep=True)
        self.layer3 = layers.stage(512, 256, 6, 2, deep=True)

    def forward(self, frames: Tensor) -> Features:  # (B, 3, H, W)
        x = layers.normed(self.conv1, self.bn1, frames).relu_()
        f4 = self.res2(F.max_pool2d(x, 3, stride=2, padding=1))
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class _KeyProjection(nn.Module):
    """Key, shrinkage and selection of the coarsest map."""

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj, self.d_proj, self.e_proj = (
            nn.Conv2d(inputs, outputs, 3, padding=1) for outputs in (key_dim, 1, key_dim)
        )
        nn.init.orthogonal_(self.key_proj.weight)
        assert self.key_proj.bias is not None
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, h, w) to key, shrinkage (at least 1) and selection (0..1)."""
        shrinkage, selection = self.d_proj(f16).square() + 1, self.e_proj(f16).sigmoid()
        return self.key_proj(f16), shrinkage, selection


class ValueEncoder(nn.Module):
    """ResNet-18 of frame and masks down to stride 16, joined with the frame's features."""

    def __init__(self, value_dim: int, hidden_dim: int, *, single_object: bool) -> None:
        super().__init__()
        self.single_object = single_object
        self.conv1, self.bn1 = layers.stem(4 if single_object else 5)
        self.layer1 = layers.stage(64, 64, 2, 1)
        self.layer2 = layers.stage(64, 128, 2, 2)
        self.layer3 = layers.stage(128, 256, 2, 2)
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

        Masks are (B, N, H, W) in 0..1, ``others`` the sums of all other objects'. The sensory state
        (B, N, CH, h, w) learns from the value with ``update_hidden`` (the paper's deep update).
        """
        count = masks.shape[1]
        # Masks (B, N, H, W) to one plane of each object, (B * N, 1, H, W).
        planes = [layers.repeat_for_objects(frames, count), masks.flatten(0, 1)[:, None]]
        if not self.single_object:
            planes.append(others.flatten(0, 1)[:, None])
        x = torch.cat([plane.to(self.conv1.weight.dtype) for plane in planes], 1)
        x = layers.normed(self.conv1, self.bn1, channels_last(x)).relu_()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        value = self.fuser(shared, self.layer3(self.layer2(self.layer1(x))))
        if update_hidden:
            hidden = self.hidden_reinforce(value, hidden.flatten(0, 1)).unflatten(0, (-1, count))
        return value.unflatten(0, (-1, count)), hidden


class SensoryUpdate(layers.GatedUpdate):
    """The sensory state moves on with the decoder's maps of strides 16, 8 and 4, and logits."""

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
        """Hidden state and logits (B, N, 16 h, 16 w), by what memory says (B, N, CV, h, w)."""
        objects = readout.shape[1]
        state = hidden.flatten(0, 1)  # (B * N, CH, h, w)
        seen = torch.cat((readout.flatten(0, 1), state.to(readout.dtype)), 1)
        g16 = self.fuser(shared.fused, channels_last(seen))
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


def aggregate(single: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Let the objects and the background compete for each pixel.

    Oh et al. (ICCV 2019, arXiv 1904.00607), section 3.5: the background's own probability is that
    no object is there; the odds of each are divided by the sum of all odds. Of each object's own
    probability, N along ``dim``, gives logits and probabilities, N + 1, background first.
    """
    whole = torch.cat(((1 - single).prod(dim, keepdim=True), single), dim)
    whole = whole.clamp(_EDGE, 1 - _EDGE)
    logits = torch.log(whole / (1 - whole))
    return logits, logits.softmax(dim)


def aggregate_probability(single: Tensor) -> Tensor:
    """The probabilities of :func:`aggregate` alone, (N, H, W) to (N + 1, H, W), in one buffer."""
    odds = single.new_empty((len(single) + 1, *single.shape[1:]))
    torch.prod(1 - single, 0, out=odds[0])
    odds[1:] = single
    odds.clamp_(_EDGE, 1 - _EDGE)
    odds.div_(1 - odds)
    return odds.div_(odds.sum(0))


class XMem(nn.Module):
    """Key encoder, value encoder and decoder, under the published keys.

    With ``single_object`` the value encoder sees the object's mask alone (4 input channels), not
    the sum of the other objects' too (5). Backbone weights fill its encoders.
    """

    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("key_encoder.", "value_encoder."),
        "decoder": ("key_proj.", "decoder."),
    }

    def __init__(
        self,
        *,
        key_dim: int = 64,
        value_dim: int = 512,
        hidden_dim: int = 64,
        single_object: bool = False,
    ) -> None:
        super().__init__()
        if min(key_dim, value_dim, hidden_dim) < 1:
            raise ValueError("key_dim, value_dim and hidden_dim are at least 1")
        self.value_dim, self.hidden_dim = value_dim, hidden_dim
        self.single_object = single_object
        self.key_encoder = _KeyEncoder()
        self.value_encoder = ValueEncoder(value_dim, hidden_dim, single_object=single_object)
        self.key_proj = _KeyProjection(CHANNELS[0], key_dim)
        self.decoder = Decoder(value_dim, hidden_dim)

    def forward(
        self, frames: Tensor, masks: Tensor, counts: Tensor, memory: Tensor, deepens: Sequence[bool]
    ) -> tuple[Tensor, Tensor]:
        """Follow the objects of the first frame through clips (B, T, 3, H, W), normalised.

        ``masks`` (B, N, H, W) are of these objects, of which the first ``counts`` (B,) are real;
        ``memory`` (B, T, R) integer are the frames remembered for frame t, of the first R all
        earlier; ``deepens`` says for each frame but the last whether the sensory state learns from
        its values. Logits, for the cross-entropy, and probabilities are of all frames but the
        first, (B, T - 1, N + 1, H, W), background first.
        """
        last, objects, references = frames.shape[1] - 1, masks.shape[1], memory.shape[2]
        real = (torch.arange(objects, device=masks.device) < counts[:, None])[..., None, None]
        keys = self.encode_key(frames.flatten(0, 1))
        # Each (B * T, ...) to (B, T, ...).
        key, shrinkage, selection, *features = (
            x.reshape(*frames.shape[:2], *x.shape[1:])
            for x in (keys.key, keys.shrinkage, keys.selection, *keys.features)
        )
        hidden = key.new_zeros((len(frames), objects, self.hidden_dim, *key.shape[-2:]))
        values: list[Tensor] = []
        logits: list[Tensor] = []
        probabilities: list[Tensor] = []
        for moment in range(last + 1):
            f16, f8, f4 = (x[:, moment] for x in features)
            if moment:
                chosen = memory[:, moment, : min(moment, references)]
                stored = (key, 1), (shrinkage, 1), (torch.stack(values, 1), 2)
                remembered = (_chosen(x, chosen, dim) for x, dim in stored)
                readout = read_all(key[:, moment], selection[:, moment], *remembered)
                shared = self.decoder.share((f16, f8, f4))
                hidden, single = self.decoder(shared, readout, hidden, update_hidden=moment < last)
                found, probability = aggregate(single.float().sigmoid() * real, 1)
                masks = probability[:, 1:]
                logits.append(found)
                probabilities.append(probability)
            if moment < last:
                others = masks.sum(1, keepdim=True) - masks
                given = frames[:, moment], self.value_encoder.share(f16), hidden, masks, others
                value, hidden = self.value_encoder(*given, update_hidden=deepens[moment])
                values.append(value)
        return torch.stack(logits, 1), torch.stack(probabilities, 1)

    def encode_key(self, frames: Tensor) -> Keys:
        """Keys and features of frames (B, 3, H, W), normalised, each on its own."""
        # Weights may be in half precision, those that project keys apart; see for_inference.
        frames = frames.to(self.decoder.pred.weight.dtype)
        features = self.key_encoder(channels_last(frames))
        coarsest = features[0].to(self.key_proj.key_proj.weight.dtype)
        key, shrinkage, selection = self.key_proj(coarsest)
        return Keys(key, shrinkage, selection, features)

    def for_inference(self, *, consume: bool = False, precision: torch.dtype | None = None) -> XMem:
        """A copy, or with ``consume`` the same network, that is faster and cannot be trained.

        A ``precision`` of weights and maps gives outputs that are nearly the same; keys, of which
        differences are squared, are projected in float32.
        """
        network = self if consume else copy.deepcopy(self)
        layers.fold_norms(network)
        # PyTorch declares the argument for tensors only.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision is not None:
            network.to(precision).key_proj.float()
        return network.eval().requires_grad_(False)


def _chosen(x: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """Of each clip (T, ...) its frames ``chosen`` (B, R), with T as dimension ``dim`` of (...)."""
    return torch.stack([clip[which].movedim(0, dim) for clip, which in zip(x, chosen, strict=True)])
