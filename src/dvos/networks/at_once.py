"""Work in parts that fit into memory: where it runs out, half as much is done at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch

#: How errors are worded that tell of a full memory without a type of their own: those of torch on a
#: CPU, and of libraries of a GPU that get no room to work in.
_WORDS = ("out of memory", "allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _WORDS)


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
        self.size = size
        self._what = what
        self._then = then
        # What the untold line says: how many did not fit, and what was chosen for one alone.
        self._failed = 0
        self._chosen = ""

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
        chosen = f"{self.size} at once"
        if self._chosen:
            chosen = self._chosen if self.size == 1 else f"{self._chosen}, {chosen}"
        logging.getLogger(__name__).warning(
            "memory ran out with %d %s at once; from now on %s, with the same results",
            self._failed,
            self._what,
            chosen,
        )
        self._failed, self._chosen = 0, ""
