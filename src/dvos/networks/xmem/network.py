"""XMem (Cheng and Schwing, ECCV 2022, arXiv 2207.07115), with the keys of its checkpoints.

A frame's key says what stands where, whatever the objects; an object's value says where the object
is. Frames remembered with their keys and values tell a later frame, by the affinity of keys, where
each object has gone. Beside them every object carries a sensory (hidden) state along.

The network itself runs over batches of clips of known length, so that gradients flow through
time; :mod:`dvos.networks.xmem.engine` runs its parts over a video.

Letters: B clips, T frames, N objects, H and W full size (multiples of 16), h and w at stride 16,
CK key, CV value and CH hidden channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dvos.networks.spec import Normalisation
from dvos.networks.xmem import parts
from dvos.networks.xmem.layers import fold_norms
from dvos.networks.xmem.memory import read_all

#: Of the frames, per channel, as the published network was trained (ImageNet's).
XMEM_NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

#: Probabilities keep away from 0 and 1 by so much before their odds are taken.
_EDGE = 1e-7


class Keys(NamedTuple):
    """What the key encoder says about frames, whatever the objects in them.

    Key and selection (0..1: how much each channel counts at each place of a query) are
    (B, CK, h, w); the shrinkage, how sharply each place of a remembered frame is matched, is
    (B, 1, h, w) and at least 1. Features are maps at strides 16, 8 and 4.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    features: parts.Features


def aggregate(single: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Let the objects and the background compete for each pixel.

    Oh et al. (ICCV 2019, arXiv 1904.00607), section 3.5: the background's own probability is that
    no object is there; the odds of each are divided by the sum of all odds. Of each
    object's own probability, N along ``dim``, gives logits and probabilities, N + 1, background
    first.
    """
    whole = torch.cat(((1 - single).prod(dim, keepdim=True), single), dim)
    whole = whole.clamp(_EDGE, 1 - _EDGE)
    logits = torch.log(whole / (1 - whole))
    return logits, logits.softmax(dim)


def aggregate_probability(single: Tensor) -> Tensor:
    """The probabilities of :func:`aggregate` alone, (N, H, W) to (N + 1, H, W).

    For many objects at full size: one buffer, no logarithm and no exponential.
    """
    odds = single.new_empty((len(single) + 1, *single.shape[1:]))
    torch.prod(1 - single, 0, out=odds[0])
    odds[1:] = single
    odds.clamp_(_EDGE, 1 - _EDGE)
    odds.div_(1 - odds)
    return odds.div_(odds.sum(0))


class XMem(nn.Module):
    """Key encoder, value encoder and decoder, under the published keys.

    Batch-norm statistics stay as loaded, in training too. With ``single_object`` the value encoder
    sees the object's mask alone (4 input channels), not the sum of the other objects' too (5).

    ``PARTS`` are prefixes of the parameters' names by part; the encoders are what backbone weights
    fill, all but the value encoder's fusion.

    Raises:
        ValueError: If a width is less than 1.
    """

    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"encoder": ("key_encoder.", "value_encoder."), "decoder": ("key_proj.", "decoder.")}
    )

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
        self.key_encoder = parts.KeyEncoder()
        self.value_encoder = parts.ValueEncoder(value_dim, hidden_dim, single_object=single_object)
        self.key_proj = parts.KeyProjection(parts.CHANNELS[0], key_dim)
        self.decoder = parts.Decoder(value_dim, hidden_dim)

    def forward(
        self,
        frames: Tensor,
        masks: Tensor,
        counts: Tensor,
        memory: Tensor,
        deepens: Sequence[bool],
    ) -> tuple[Tensor, Tensor]:
        """Follow the objects of the first frame through a clip.

        Args:
            frames: (B, T, 3, H, W), normalised.
            masks: (B, N, H, W), of the objects in the first frame.
            counts: (B,) integer: the first so many of the N objects are real.
            memory: (B, T, R) integer: frames remembered for frame t; of the
                first R frames all earlier ones are.
            deepens: For each frame, whether the sensory state learns from its
                values; the last is not looked at.

        Returns:
            Logits, for the cross-entropy, and probabilities of all frames but the first,
            (B, T - 1, N + 1, H, W), background first.
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
                readout = read_all(
                    key[:, moment],
                    selection[:, moment],
                    _chosen(key, chosen, 1),
                    _chosen(shrinkage, chosen, 1),
                    _chosen(torch.stack(values, 1), chosen, 2),
                )
                shared = self.decoder.share((f16, f8, f4))
                hidden, single = self.decoder(shared, readout, hidden, update_hidden=moment < last)
                found, probability = aggregate(single.float().sigmoid() * real, 1)
                masks = probability[:, 1:]
                logits.append(found)
                probabilities.append(probability)
            if moment < last:
                value, hidden = self.value_encoder(
                    frames[:, moment],
                    self.value_encoder.share(f16),
                    hidden,
                    masks,
                    masks.sum(1, keepdim=True) - masks,
                    update_hidden=deepens[moment],
                )
                values.append(value)
        return torch.stack(logits, 1), torch.stack(probabilities, 1)

    def encode_key(self, frames: Tensor) -> Keys:
        """Keys and features of frames (B, 3, H, W), normalised, each on its own."""
        # Weights may be in half precision, those that project keys apart; see for_inference.
        frames = frames.to(self.decoder.pred.weight.dtype)
        features = self.key_encoder(frames.contiguous(memory_format=torch.channels_last))
        coarsest = features[0].to(self.key_proj.key_proj.weight.dtype)
        key, shrinkage, selection = self.key_proj(coarsest)
        return Keys(key, shrinkage, selection, features)

    def for_inference(self, *, consume: bool = False, precision: torch.dtype | None = None) -> XMem:
        """A copy that gives the same outputs faster and cannot be trained.

        Norms are folded into convolutions, and kernels lie in the memory order they are used in.

        Args:
            consume: Whether this network may be turned into the result itself,
                which spares the memory of its weights.
            precision: Of weights and maps, for outputs that are nearly the same; None for that of
                the weights. Keys, of which differences are squared, are projected in float32.
        """
        network = self if consume else copy.deepcopy(self)
        fold_norms(network)
        # PyTorch declares the argument for tensors only.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision is not None:
            network.to(precision).key_proj.float()
        return network.eval().requires_grad_(False)


def _chosen(x: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """Of each clip (T, ...) its frames ``chosen`` (B, R), with T as dimension ``dim`` of (...)."""
    return torch.stack([clip[which].movedim(0, dim) for clip, which in zip(x, chosen, strict=True)])
