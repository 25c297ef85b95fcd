"""Where networks run, and in parts that fit into its memory.

That is a GPU that computes what a CPU does, or the CPU, if nothing is said. Where memory runs out,
half as much is done at once.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import cache, partial

import torch

#: How errors are worded that tell of a full memory without a type of their own: those of torch on a
#: CPU, and of libraries of a GPU that get no room to work in.
_WORDS = ("out of memory", "allocate memory", "alloc_failed")
#: By how much logits of a network may differ between devices.
_TOLERANCE = 1e-2
_TILE = 96


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    told = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def fits(work: Callable[[], None], shrink: Callable[[], bool]) -> bool:
    """Do some work; False where memory ran out and ``shrink`` chose to do less at once."""
    try:
        work()
        return True
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or not shrink():
            raise
    # Not inside the block above, where the error still holds what was being computed.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


class AtOnce:
    """How many things of a kind are computed together: fewer once memory has run out.

    What is computed of a thing must not depend on the others, so that results are the same.

    Args:
        size: Most that are computed together; the attribute falls where memory runs out.
        what: The things, in the plural, for the line that says what was chosen.
        then: Does with less memory what is still to be done, where one thing alone does not fit:
            says in words what it chose, or None where nothing is left to try.
    """

    def __init__(self, size: int, what: str, then: Callable[[], str | None] = lambda: None) -> None:
        self.size, self._what, self._then = size, what, then
        # What the untold line says: how many did not fit, and what was chosen for one alone.
        self._failed, self._chosen = 0, ""

    def run(self, count: int, work: Callable[[slice], None]) -> None:
        """Do work on ``count`` things, part by part; where it raises it leaves nothing behind."""
        done = 0
        while done < count:
            part = slice(done, min(count, done + self.size))
            if fits(partial(work, part), partial(self._shrink, part.stop - done)):
                done = part.stop
                self._tell()

    def _shrink(self, failed: int) -> bool:
        if failed > 1:
            self.size = failed // 2
        else:
            chosen = self._then()
            if chosen is None:
                return False
            self._chosen = chosen
        self._failed = max(self._failed, failed)
        return True

    def _tell(self) -> None:
        if not self._failed:
            return
        chosen = [self._chosen] if self._chosen else []
        if self.size > 1 or not chosen:
            chosen.append(f"{self.size} at once")
        told = "memory ran out with %d %s at once; from now on %s, with the same results"
        logging.getLogger(__name__).warning(told, self._failed, self._what, ", ".join(chosen))
        self._failed, self._chosen = 0, ""


@cache
def best_device() -> torch.device:
    """The first CUDA device; else Apple's, where a tile agrees there with the CPU; else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        found = _disagreement(torch.device("mps"))
        if not found:
            return torch.device("mps")
        told = "mps is passed over for the CPU: %s; ask for it with device=mps"
        logging.getLogger(__name__).warning(told, found)
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
