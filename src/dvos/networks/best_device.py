"""Where networks run if nothing is said: a GPU that computes what a CPU does, or the CPU."""

from __future__ import annotations

import copy
import logging
from functools import cache

import torch

#: By how much logits of a network may differ between devices.
_TOLERANCE = 1e-2
_TILE = 96


@cache
def best_device() -> torch.device:
    """The first CUDA device; else Apple's, where a tile agrees there with the CPU; else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        found = _disagreement(torch.device("mps"))
        if not found:
            return torch.device("mps")
        logging.getLogger(__name__).warning(
            "mps is passed over for the CPU: %s; ask for it with device=mps", found
        )
    return torch.device("cpu")


def _disagreement(device: torch.device) -> str:
    """In what a small network's logits of a tile differ from the CPU's; empty if in nothing."""
    from dvos.networks.dvos.network import DvosNetwork

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = DvosNetwork(channels=[8] * 5, widths=[8] * 4).eval()
        tile = torch.randn(1, network.references + 1, 3, _TILE, _TILE)
        expected = network(tile).mask_logits
        try:
            logits = copy.deepcopy(network).to(device)(tile.to(device)).mask_logits.cpu()
        except (RuntimeError, NotImplementedError, TypeError) as error:
            return f"a network does not run there ({str(error).splitlines()[0]})"
    difference = float((logits - expected).abs().max())
    # What is no number is no agreement.
    return "" if difference <= _TOLERANCE else f"a tile's logits differ by {difference:.3g}"
