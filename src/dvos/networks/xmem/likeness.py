"""How like two places are, and reading memory by it.

The likeness of a remembered place n to a queried place q is, over key channels c,
``-s_n / sqrt(CK) * sum_c e_qc (k_nc - k_qc)^2``: XMem's anisotropic distance
(arXiv 2207.07115, equation 6) with the shrinkage s of what is remembered and the
selection e of the query. Multiplied out it is one product of matrices: a row of
``[s k k, s k, s]`` for each n with a row of ``[-e, 2 e k, -sum e k k]`` for each q.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["key_rows", "query_rows", "read_all", "strongest"]

#: Likenesses of this many elements are looked through in blocks.
_MANY = 2048
_BLOCK = 32


def key_rows(key: Tensor, shrinkage: Tensor) -> Tensor:
    """Rows of remembered places: key (..., n, CK), shrinkage (..., n, 1) to (..., n, 2 CK + 1)."""
    scale = shrinkage / math.sqrt(key.shape[-1])
    scaled = key * scale
    return torch.cat((scaled * key, scaled, scale), -1)


def query_rows(key: Tensor, selection: Tensor) -> Tensor:
    """Rows of queried places: key and selection (..., q, CK) to (..., q, 2 CK + 1)."""
    chosen = selection * key
    return torch.cat((-selection, 2 * chosen, -(chosen * key).sum(-1, keepdim=True)), -1)


def strongest(likeness: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest values of each row, in any order, and where they are.

    Args:
        likeness: (q, n).
        count: At most n.

    Returns:
        Values and indices, (q, count).
    """
    length = likeness.shape[1]
    if length < max(_MANY, 2 * _BLOCK * count) or likeness.is_cuda:
        values, places = likeness.topk(count, 1, sorted=False)
        return values, places
    # The largest values lie in the blocks of largest maxima, as many of them.
    whole = length // _BLOCK * _BLOCK
    blocks = likeness[:, :whole].view(len(likeness), -1, _BLOCK)
    best = blocks.amax(2).topk(count, 1, sorted=False).indices
    chosen = blocks.gather(1, best[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    values, within = torch.cat((chosen, likeness[:, whole:]), 1).topk(count, 1, sorted=False)
    inside = within < count * _BLOCK
    block = best.gather(1, torch.where(inside, within // _BLOCK, 0))
    rest = within - count * _BLOCK + whole
    return values, torch.where(inside, block * _BLOCK + within % _BLOCK, rest)


def read_all(
    query_key: Tensor,
    query_selection: Tensor,
    memory_key: Tensor,
    memory_shrinkage: Tensor,
    memory_value: Tensor,
) -> Tensor:
    """See :meth:`dvos.networks.xmem.network.XMem.read_memory`."""
    clips, objects = memory_value.shape[:2]
    # In full precision: differences of squares, then an exponential.
    with torch.autocast(query_key.device.type, enabled=False):
        key, shrinkage, query, selection = (
            x.float().flatten(2).transpose(1, 2)
            for x in (memory_key, memory_shrinkage, query_key, query_selection)
        )
        remembered = key_rows(key, shrinkage).transpose(1, 2)
        affinity = (query_rows(query, selection) @ remembered).softmax(2)
    value = memory_value.flatten(3).flatten(1, 2)
    read = value @ affinity.to(value.dtype).transpose(1, 2)
    return read.view(clips, objects, -1, *query_key.shape[-2:])
