"""One step of a run: the passes over a batch, and the new weights.

On a CUDA device nothing in a step waits for the device. Where every pass does the same work, as
the compact network's does, the work of one is recorded as a CUDA graph, after three passes that
show what it is, and replayed: the host then launches it at once instead of a thousand kernels one
by one, which takes longer than the kernels themselves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dvos.errors import RunError
from dvos.training.accumulation import Accumulation
from dvos.training.losses.mask import AddOver
from dvos.training.objective import Objective

Batch = dict[str, Tensor]

_LOGGER = logging.getLogger(__name__)

#: Steps whose losses the host leaves unseen on a device at most; a loss that is no number ends
#: the run that much later, and before anything is saved.
_UNSEEN_STEPS = 20
#: Passes before one is recorded: libraries choose and load their kernels in them.
_WARM_UP = 3
#: Steps from which on compiling the network, about a minute, gains more than it takes.
_STEPS_WORTH_COMPILING = 5000


class TrainingStep:
    """Takes the steps of a run.

    Args:
        fabric: Launched.
        module: The network, as the fabric has set it up.
        optimiser: Likewise.
        objective: What is minimised.
        add: Adds a tensor over devices.
        accumulation: How a batch is parted.
        clip_norm: Gradients are scaled down to this norm; 0 for no limit.
        records: Whether passes may be recorded.

    Attributes:
        prepare: What becomes of a batch on its device before a pass over it; by default nothing.
    """

    def __init__(
        self,
        fabric: Any,
        module: Any,
        optimiser: Any,
        objective: Objective,
        *,
        add: AddOver,
        accumulation: Accumulation,
        clip_norm: float,
        records: bool,
    ) -> None:
        self.prepare: Callable[[Batch], Batch] = lambda batch: batch
        self._fabric = fabric
        self._module = module
        self._optimiser = optimiser
        self._objective = objective
        self._add = add
        self._accumulation = accumulation
        self._clip_norm = clip_norm
        # Gradients are added up over parts and devices outside of what could be recorded.
        alone = accumulation.passes == 1 and fabric.world_size == 1
        steady = getattr(objective, "steady", False) and alone
        self._recorder = _Recorder() if records and steady else None

    def __call__(self, step: int, batches: Iterator[Batch]) -> Tensor:
        """Gradients of a batch, clipped, and the optimiser's step.

        Args:
            step: Of the run, from 0.
            batches: The parts of its batch come next.

        Returns:
            The losses of the batch, float64 (L,), wherever they were calculated: finite or not.
        """
        batch = [next(batches) for _ in range(self._accumulation.parts)]
        with _fitting_kernels(self._fabric.device):
            values = self._accumulation.run(batch, partial(self._passes, step))
        if self._clip_norm:
            self._fabric.clip_gradients(
                self._module, self._optimiser, max_norm=self._clip_norm, error_if_nonfinite=False
            )
        self._optimiser.step()
        if self._recorder is None or not self._recorder.recorded:
            self._optimiser.zero_grad()
        return values

    def _passes(self, step: int, pieces: list[Batch]) -> Tensor:
        """Add up the gradients of a batch's pieces; the mean of their losses."""
        if len(pieces) > 1:
            self._recorder = None
        values: Tensor | None = None
        for number, piece in enumerate(pieces, start=1):
            last = number == len(pieces)
            found = self._pass(step, self._sent(piece), len(pieces), last=last)
            values = found if values is None else values + found
        assert values is not None
        return values / len(pieces)

    def _sent(self, piece: Batch) -> Batch:
        return self.prepare(self._fabric.to_device(piece))

    def _pass(self, step: int, batch: Batch, count: int, *, last: bool) -> Tensor:
        def run(given: Batch) -> Tensor:
            with self._fabric.no_backward_sync(self._module, enabled=not last):
                loss, found = self._objective(
                    self._module, given, step=step, devices=self._fabric.world_size, add=self._add
                )
                self._fabric.backward(loss / count)
            return found

        if self._recorder is None:
            return run(batch)
        try:
            return self._recorder(run, batch)
        except _NotRecordedError as error:
            _LOGGER.warning("the steps are launched one by one, as recording one failed: %s", error)
            self._recorder = None
            self._optimiser.zero_grad()
            return run(batch)


@contextmanager
def _fitting_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN try which of its kernels suit the shapes best: in training they never change."""
    if device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class PendingLosses:
    """Losses of steps that the host has not looked at yet, so that it need not wait for each.

    On a CPU it looks at each at once, on a device every few steps.

    Args:
        names: Of the losses, the total first.
        device: Where the steps run.
    """

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
        """Look: add all to ``losses``, by name, up to a total that is no finite number.

        Returns:
            The step and that total, if there is one.
        """
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


@dataclass(eq=False)
class _Recording:
    graph: Any
    given: Batch
    found: Tensor


class _Recorder:
    """Runs passes as they are, then records one and replays it.

    The gradients of a recorded pass lie where the recording left them: they are written anew by
    each replay and must not be taken away in between.
    """

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
    network: Any, *, compiles: str, steps: int, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Compile a network in place, where that is asked for or worth it.

    Args:
        network: The module; its weights and names stay as they are.
        compiles: ``auto``, ``on`` or ``off``, as the setting.
        steps: That are left of the run.
        device: Where it trains.

    Returns:
        Gives a context in which it runs as it is: frames of validation are of many sizes.

    Raises:
        RunError: If ``torch.compile`` is not to be had here.
    """
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
