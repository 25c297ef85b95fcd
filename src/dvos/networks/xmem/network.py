"""XMem (Cheng and Schwing, ECCV 2022, arXiv 2207.07115), with the keys of its checkpoints.

A frame's key says what stands where, whatever the objects; an object's value
says where the object is. Frames remembered with their keys and values tell a
later frame, by the likeness of keys, where each object has gone. Beside them
every object carries a sensory (hidden) state from frame to frame.

The parts below work on batches of clips and are what training calls frame after
frame; :mod:`dvos.networks.xmem.engine` runs them over a video.

Tensor letters: B clips, T frames, N objects, H and W full size (multiples of
16), h and w at stride 16, CK key, CV value and CH hidden channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dvos.networks.xmem.aggregate import aggregate
from dvos.networks.xmem.convolution import pack
from dvos.networks.xmem.decoder import Decoder, Features
from dvos.networks.xmem.encoders import KeyEncoder, KeyProjection, ValueEncoder
from dvos.networks.xmem.heap import apart_from_the_heap
from dvos.networks.xmem.likeness import read_all
from dvos.networks.xmem.resnet import fold_norms

__all__ = ["XMEM_NORMALISATION", "Keys", "Segmented", "XMem"]

#: Of the frames, per channel, as the published network was trained (ImageNet's).
XMEM_NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Keys(NamedTuple):
    """What the key encoder says about frames, whatever the objects in them.

    Attributes:
        key: (B, CK, h, w).
        shrinkage: (B, 1, h, w), at least 1; how sharply each place of a
            remembered frame is matched. None where not asked for.
        selection: (B, CK, h, w) in 0..1; how much each channel counts at each
            place of a query frame. None where not asked for.
        features: Maps at strides 16, 8 and 4, of 1024, 512 and 256 channels.
    """

    key: Tensor
    shrinkage: Tensor | None
    selection: Tensor | None
    features: Features


class Segmented(NamedTuple):
    """Where the objects are in a frame.

    Attributes:
        hidden: (B, N, CH, h, w); as given where it was not to be updated.
        logits: (B, N + 1, H, W), background first; for the cross-entropy.
        probability: (B, N + 1, H, W), background first, sums to 1.
    """

    hidden: Tensor
    logits: Tensor
    probability: Tensor


class XMem(nn.Module):
    """Key encoder, value encoder and decoder, under the published keys.

    Batch-norm statistics stay as loaded, in training too.

    Attributes:
        PARTS: Prefixes of the parameters' names by part; the encoders are what
            backbone weights fill, all but the value encoder's fusion.

    Args:
        key_dim: Channels CK of keys.
        value_dim: Channels CV of values.
        hidden_dim: Channels CH of the sensory state.
        single_object: Whether the value encoder sees the object's mask alone
            (4 input channels), not the sum of the other objects' too (5).
    """

    PARTS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {
            "encoder": ("key_encoder.", "value_encoder."),
            "decoder": ("key_proj.", "decoder."),
        }
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
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.hidden_dim = hidden_dim
        self.single_object = single_object
        self.key_encoder = KeyEncoder()
        self.value_encoder = ValueEncoder(value_dim, hidden_dim, single_object=single_object)
        self.key_proj = KeyProjection(self.key_encoder.channels[0], key_dim)
        self.decoder = Decoder(value_dim, hidden_dim)

    def encode_key(
        self, frames: Tensor, *, need_selection: bool = True, need_shrinkage: bool = True
    ) -> Keys:
        """Keys and features of frames, each on its own.

        Args:
            frames: (B, 3, H, W) float, normalised; H and W multiples of 16.
            need_selection: Whether the frames are to be segmented or consolidated.
            need_shrinkage: Whether the frames are to be remembered.
        """
        features = self.key_encoder(frames.contiguous(memory_format=torch.channels_last))
        key, shrinkage, selection = self.key_proj(
            features[0], need_shrinkage=need_shrinkage, need_selection=need_selection
        )
        return Keys(key, shrinkage, selection, features)

    def encode_value(
        self,
        frames: Tensor,
        f16: Tensor,
        hidden: Tensor,
        masks: Tensor,
        *,
        update_hidden: bool,
        others: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Values of objects in frames, to be remembered.

        Args:
            frames: (B, 3, H, W) as given to :meth:`encode_key`.
            f16: (B, 1024, h, w), the first of its features.
            hidden: (B, N, CH, h, w).
            masks: (B, N, H, W) in 0..1.
            update_hidden: Whether the sensory state learns from the value (the
                paper's deep update).
            others: (B, N, H, W), for each object the sum of all other objects'
                masks; computed from ``masks`` where None. Needed where
                ``masks`` are some of the objects only.

        Returns:
            Values (B, N, CV, h, w) and the hidden state (B, N, CH, h, w).
        """
        if others is None:
            others = masks.sum(1, keepdim=True) - masks
        shared = self.value_encoder.share(f16)
        result: tuple[Tensor, Tensor] = self.value_encoder(
            frames, shared, hidden, masks, others, update_hidden=update_hidden
        )
        return result

    def read_memory(
        self,
        query_key: Tensor,
        query_selection: Tensor,
        memory_key: Tensor,
        memory_shrinkage: Tensor,
        memory_value: Tensor,
    ) -> Tensor:
        """Values of the places most like each place of the query; all places count (training).

        Args:
            query_key: (B, CK, h, w).
            query_selection: (B, CK, h, w).
            memory_key: (B, CK, T, h, w).
            memory_shrinkage: (B, 1, T, h, w).
            memory_value: (B, N, CV, T, h, w).

        Returns:
            (B, N, CV, h, w).
        """
        return read_all(query_key, query_selection, memory_key, memory_shrinkage, memory_value)

    def segment(
        self,
        features: Features,
        readout: Tensor,
        hidden: Tensor,
        *,
        update_hidden: bool,
        selector: Tensor | None = None,
    ) -> Segmented:
        """Masks of the objects in a frame.

        Args:
            features: Of the frame, from :meth:`encode_key`.
            readout: (B, N, CV, h, w), what memory says.
            hidden: (B, N, CH, h, w).
            update_hidden: Whether the sensory state moves on with the frame.
            selector: (B, N) or (B, N, 1, 1), 0 for objects that only fill up a
                batch; None where all are real.
        """
        shared = self.decoder.share(features)
        hidden, logits = self.decoder(shared, readout, hidden, update_hidden=update_hidden)
        single = logits.float().sigmoid()
        if selector is not None:
            single = single * selector.reshape(*single.shape[:2], 1, 1)
        logits, probability = aggregate(single, dim=1)
        return Segmented(hidden, logits, probability)

    def for_inference(self, *, consume: bool = False) -> XMem:
        """A copy that gives the same outputs faster; it cannot be trained, moved or saved.

        Norms are folded into convolutions, and those packed for the CPU.

        Args:
            consume: Whether this network may be turned into the result itself,
                which spares the memory of its weights.
        """
        network = self
        if not consume:
            # Convolutions and norms need not be copied: what is made of them is new.
            replaced = (x for x in self.modules() if isinstance(x, (nn.Conv2d, nn.BatchNorm2d)))
            shared: dict[int, object] = {
                id(x): x for layer in replaced for x in (*layer.parameters(), *layer.buffers())
            }
            network = copy.deepcopy(self, shared)
        with apart_from_the_heap():
            fold_norms(network)
            # Tiles of the coarser maps would be faster still, but their weights are too large.
            pack(network, {network.decoder.up_16_8: 2, network.decoder.up_8_4: 4})
        return network.eval().requires_grad_(False)
