"""Batches in pieces: where a batch does not fit into memory, its gradients add up over pieces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dvos.networks.at_once import is_out_of_memory

_LOGGER = logging.getLogger(__name__)

Batch = dict[str, Tensor]


class Accumulation:
    """In how many pieces each part of a batch is run.

    One, until memory runs out: then the step is begun anew with every part in so many equal pieces
    as fit, and so are all steps after it. Clips, steps and learning rates stay those of the plan;
    it is as if ``accumulate`` had been so much larger.

    Attributes:
        parts: Of a batch, as they come.
        pieces: Of each part; always a divisor of its clips, so that all are alike.

    Args:
        network: Whose gradients and statistics a pass that failed must not leave changed.
        parts: Of a batch.
        batch: Clips of it, over all parts and devices.
        devices: That share each part. Of several one alone cannot take more passes than the others.
    """

    def __init__(self, network: nn.Module, *, parts: int, batch: int, devices: int) -> None:
        self.parts = parts
        self.pieces = 1
        self._network = network
        self._clips = batch // (parts * devices)
        self._devices = devices
        self._fits = False

    @property
    def passes(self) -> int:
        """Pieces of a whole batch."""
        return self.parts * self.pieces

    def run(self, batch: Sequence[Batch], passes: Callable[[list[Batch]], Tensor]) -> Tensor:
        """What ``passes`` gives over the pieces of a batch.

        Args:
            batch: Its parts.
            passes: Adds up gradients over pieces of equal size. torch's generators were seeded by
                ``torch.manual_seed`` for this batch.

        Raises:
            RuntimeError, MemoryError: If a single clip does not fit, or there are several devices.
        """
        # Memory runs out in the first step or hardly ever.
        buffers = [] if self._fits else [value.clone() for value in self._network.buffers()]
        before = self.pieces
        while True:
            try:
                values = passes([piece for part in batch for piece in self._split(part)])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self._shrink():
                    raise
            else:
                break
            torch.manual_seed(torch.initial_seed())
            self._network.zero_grad()
            for value, earlier in zip(self._network.buffers(), buffers, strict=bool(buffers)):
                value.copy_(earlier)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        self._fits = True
        if self.pieces > before:
            _LOGGER.warning(
                "memory ran out with %d clips at once; from now on each batch is run in %d parts,"
                " as with accumulate=%d",
                self._clips // before,
                self.passes,
                self.passes,
            )
        return values

    def _split(self, part: Batch) -> list[Batch]:
        if self.pieces == 1:
            return [part]
        size = self._clips // self.pieces
        return [
            {name: values[first : first + size] for name, values in part.items()}
            for first in range(0, self._clips, size)
        ]

    def _shrink(self) -> bool:
        """Take half as many clips at once, or as many fewer as divide a part; False for one."""
        if self._devices > 1 or self.pieces >= self._clips:
            return False
        most = self._clips // self.pieces // 2
        size = next(size for size in range(most, 0, -1) if self._clips % size == 0)
        self.pieces = self._clips // size
        return True
