"""One step of a run: the passes over a batch, and the new weights.

On a CUDA device nothing in a step waits for the device. Where every pass does the same work, that
of one is recorded as a CUDA graph and replayed: the host then launches it at once instead of a
thousand kernels one by one, which takes longer than the kernels themselves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dvos.config.training import TrainingSettings
from dvos.errors import RunError
from dvos.networks.devices import fits
from dvos.training.losses import AddOver
from dvos.training.objective import Batch, Objective

_LOGGER = logging.getLogger(__name__)

#: Steps whose losses the host leaves unseen on a device at most; a loss that is no number ends
#: the run that much later, and before anything is saved.
_UNSEEN_STEPS = 20
#: Passes before one is recorded: libraries choose and load their kernels in them.
_WARM_UP = 3
#: Steps from which on compiling the network, about a minute, gains more than it takes.
_STEPS_WORTH_COMPILING = 5000


@dataclass(eq=False)
class TrainingStep:
    """Takes the steps of a run."""

    settings: TrainingSettings
    fabric: Any  # Launched.
    module: Any  # The network, as the fabric has set it up.
    optimiser: Any  # Likewise.
    objective: Objective  # What is minimised.
    add: AddOver  # Adds a tensor over devices.
    accumulation: Accumulation  # How a batch is parted.
    #: What becomes of a batch on its device before a pass over it.
    prepare: Callable[[Batch], Batch] | None = None

    def __post_init__(self) -> None:
        may = self.fabric.device.type == "cuda" and self.settings.compile != "off"
        # Gradients are added up over parts and devices outside of what could be recorded.
        alone = self.accumulation.passes == 1 and self.fabric.world_size == 1
        self._recorder = _Recorder() if may and self.objective.steady and alone else None

    def __call__(self, step: int, batches: Iterator[Batch]) -> Tensor:
        """Take a step: the batch's losses, float64 (L,), where they were made, finite or not."""
        batch = [next(batches) for _ in range(self.accumulation.parts)]
        with _fitting_kernels(self.fabric.device):
            values = self.accumulation.run(batch, partial(self._passes, step))
        if norm := self.settings.optimiser.clip_norm:
            self.fabric.clip_gradients(
                self.module, self.optimiser, max_norm=norm, error_if_nonfinite=False
            )
        self.optimiser.step()
        if self._recorder is None or not self._recorder.recorded:
            self.optimiser.zero_grad()
        return values

    def _passes(self, step: int, pieces: list[Batch]) -> Tensor:
        """Add up the gradients of a batch's pieces; the mean of their losses."""
        count = len(pieces)
        if count > 1:
            self._recorder = None
        values = [
            self._pass(step, piece, count, last=number == count)
            for number, piece in enumerate(pieces, start=1)
        ]
        return torch.stack(values).sum(0) / count

    def _pass(self, step: int, piece: Batch, count: int, *, last: bool) -> Tensor:
        batch = self.fabric.to_device(piece)
        batch = batch if self.prepare is None else self.prepare(batch)

        def run(given: Batch) -> Tensor:
            with self.fabric.no_backward_sync(self.module, enabled=not last):
                loss, found = self.objective(
                    self.module, given, step=step, devices=self.fabric.world_size, add=self.add
                )
                self.fabric.backward(loss / count)
            return found

        if self._recorder is None:
            return run(batch)
        try:
            return self._recorder(run, batch)
        except _NotRecordedError as error:
            _LOGGER.warning("the steps are launched one by one, as recording one failed: %s", error)
            self._recorder = None
            self.optimiser.zero_grad()
            return run(batch)


@dataclass(eq=False)
class Accumulation:
    """In how many pieces each part of a batch is run.

    One, until memory runs out: then the step is begun anew with every part in so many equal pieces
    as fit, and so are all steps after it, as if ``accumulate`` had been so much larger.
    """

    network: nn.Module  # Whose gradients and statistics a failed pass must not leave changed.
    parts: int  # Of a batch.
    batch: int  # Clips of it, over all parts and devices.
    devices: int  # That share each part; of several one alone cannot take more passes.
    pieces: int = 1  # Of each part; always a divisor of its clips, so that all are alike.

    def __post_init__(self) -> None:
        self._clips = self.batch // (self.parts * self.devices)
        self._fits = False

    @property
    def passes(self) -> int:
        """Pieces of a whole batch."""
        return self.parts * self.pieces

    def run(self, batch: Sequence[Batch], passes: Callable[[list[Batch]], Tensor]) -> Tensor:
        """What ``passes``, which adds up gradients, gives over a batch's pieces, just seeded."""
        # Memory runs out in the first step or hardly ever.
        buffers = [] if self._fits else [value.clone() for value in self.network.buffers()]
        before, found = self.pieces, []

        def attempt() -> None:
            found.append(passes([piece for part in batch for piece in self._split(part)]))

        while not fits(attempt, self._shrink):
            torch.manual_seed(torch.initial_seed())
            self.network.zero_grad()
            for value, earlier in zip(self.network.buffers(), buffers, strict=bool(buffers)):
                value.copy_(earlier)
        self._fits = True
        if self.pieces > before:
            told = "memory ran out with %d clips at once; from now on each batch is run in"
            told += " %d parts, as with accumulate=%d"
            _LOGGER.warning(told, self._clips // before, self.passes, self.passes)
        return found[0]

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
        if self.devices > 1 or self.pieces >= self._clips:
            return False
        most = self._clips // self.pieces // 2
        size = next(size for size in range(most, 0, -1) if self._clips % size == 0)
        self.pieces = self._clips // size
        return True


@contextmanager
def _fitting_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN try which of its kernels suit the shapes best: in training they never change."""
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class PendingLosses:
    """Losses, by name the total first, that the host looks at every few steps, on a CPU at once."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = names
        self._most = 1 if device.type == "cpu" else _UNSEEN_STEPS
        self._steps: list[int] = []
        self._values: list[Tensor] = []

    def add(self, step: int, values: Tensor) -> bool:
        """Take in the losses (L,) of a step; whether it is time to look."""
        self._steps.append(step)
        self._values.append(values)
        return len(self._steps) >= self._most or step == 0

    def take(self, losses: dict[str, float]) -> tuple[int, float] | None:
        """Add all to ``losses``, up to a total that is not finite: its step and it, if any."""
        rows = torch.stack(self._values).tolist() if self._values else []
        steps, self._steps, self._values = self._steps, [], []
        for step, row in zip(steps, rows, strict=True):
            if not math.isfinite(row[0]):
                return step, row[0]
            for name, value in zip(self._names, row, strict=True):
                losses[name] = losses.get(name, 0.0) + value
        return None


class _NotRecordedError(Exception):
    """A pass cannot be recorded, as it waits for the device."""


class _Recording(NamedTuple):
    graph: Any
    given: Batch
    found: Tensor


class _Recorder:
    """Runs passes as they are, then records one and replays it, which writes the same gradients."""

    def __init__(self) -> None:
        self._passes = 0
        self._recording: _Recording | None = None

    @property
    def recorded(self) -> bool:
        """Whether passes are replayed from now on."""
        return self._recording is not None

    def __call__(self, run: Any, batch: Batch) -> Tensor:
        """The losses of a pass over a batch; batches are all of the same shapes."""
        if self._recording is None:
            if self._passes < _WARM_UP:
                self._passes += 1
                return self._beside(run, batch)
            self._recording = self._recorded(run, batch)
        for name, given in self._recording.given.items():
            given.copy_(batch[name], non_blocking=True)
        self._recording.graph.replay()
        return self._recording.found.clone()

    def _beside(self, run: Any, batch: Batch) -> Tensor:
        """A pass on a stream of its own, as recording needs those before it to be."""
        cuda: Any = torch.cuda
        current, own = cuda.current_stream(), cuda.Stream()
        own.wait_stream(current)
        with torch.cuda.stream(own):
            found: Tensor = run(batch)
        current.wait_stream(own)
        return found

    def _recorded(self, run: Any, batch: Batch) -> _Recording:
        given = {name: tensor.clone() for name, tensor in batch.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            # The thread that pins batches goes on with its work meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                found = run(given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.synchronize()
            raise _NotRecordedError(str(error).splitlines()[0]) from error
        if not found.is_cuda:
            raise _NotRecordedError("its losses come to the host")
        return _Recording(graph, given, found)


def compile_for_training(
    network: Any, compiles: str, steps: int, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Compile a network in place if that is worth it; gives a context in which it runs as it is."""
    worth = device.type == "cuda" and steps >= _STEPS_WORTH_COMPILING
    if compiles == "off" or (compiles == "auto" and not worth):
        return nullcontext
    try:
        network.compile(dynamic=False)
    except RuntimeError as error:
        found = f"is not to be had ({error})"
        raise RunError.at("compile", found, remedy="set compile=off") from error
    _LOGGER.info("compiling the network, which takes about a minute")
    return lambda: torch.compiler.set_stance("force_eager")
