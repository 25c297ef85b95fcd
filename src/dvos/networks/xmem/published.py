"""Telling the weights published for XMem from others, and what network they fit.

``XMem.pth`` is a plain state dict. Its form for single objects has a value
encoder of four input channels: frame and mask, without the other objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["published_xmem_arguments"]

_KEY = "key_proj.key_proj.weight"
_VALUE = "value_encoder.fuser.block2.conv2.weight"
_STATE = "decoder.hidden_update.transform.weight"
_FIRST = "value_encoder.conv1.weight"
_SINGLE_OBJECT_CHANNELS = 4


def published_xmem_arguments(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Arguments of the :class:`~dvos.networks.xmem.network.XMem` of a state dict.

    Returns:
        The arguments; None where the keys are not those of such a network.
    """
    try:
        return {
            "key_dim": len(state[_KEY]),
            "value_dim": len(state[_VALUE]),
            # Forget gate, update gate and content.
            "hidden_dim": len(state[_STATE]) // 3,
            "single_object": state[_FIRST].shape[1] == _SINGLE_OBJECT_CHANNELS,
        }
    except (KeyError, TypeError, IndexError):
        return None
