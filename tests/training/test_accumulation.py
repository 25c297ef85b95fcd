from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_run
from tiny_xmem import tiny_xmem_run
from torch import Tensor, nn

from dvos.errors import RunError
from dvos.training.loop import Training
from dvos.training.step import Accumulation


def _limited(run: Training, most: int) -> list[int]:
    """Let memory run out with more than ``most`` clips, in the middle of the backward pass."""
    asked: list[int] = []
    backward = run.fabric.backward

    def limited(loss: Tensor) -> None:
        backward(loss)
        if asked[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def watched(objective: Any, module: Any, batch: dict[str, Tensor], **options: Any) -> Any:
        asked.append(len(batch["frames"]))
        return objective(module, batch, **options)

    objective = run.objective
    run.fabric.backward = limited
    run._take_step.objective = _Watched(objective, watched)
    return asked


class _Watched:
    def __init__(self, objective: Any, call: Any) -> None:
        self._objective, self._call = objective, call

    def __call__(self, module: Any, batch: dict[str, Tensor], **options: Any) -> Any:
        return self._call(self._objective, module, batch, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)


def _weights(run: Training) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in run.network.state_dict().items()}


@pytest.mark.parametrize("build", [tiny_run, tiny_xmem_run])
def test_a_full_memory_is_met_by_more_parts(
    tmp_path: Path, build: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked_for = build(tmp_path / "asked", accumulate=4, epochs=1, validation=None)
    asked_for.run()
    met = build(tmp_path / "met", epochs=1, validation=None)
    asked = _limited(met, 1)
    with caplog.at_level(logging.WARNING):
        met.run()
    assert asked[:7] == [4, 2, 1, 1, 1, 1, 1]
    lines = [text for text in caplog.messages if "memory" in text]
    assert lines == [
        "memory ran out with 4 clips at once; from now on each batch is run in 4 parts, as with"
        " accumulate=4"
    ]
    # Nothing is left of the passes that failed.
    for one, other in zip(_weights(asked_for).values(), _weights(met).values(), strict=True):
        assert torch.equal(one, other)


def test_a_clip_that_does_not_fit_is_told(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, validation=None)
    _limited(run, 0)
    with pytest.raises(RunError, match="4 clips in 4 parts do not fit into memory"):
        run.run()


def test_statistics_of_a_failed_pass_are_taken_back() -> None:
    network = nn.BatchNorm1d(2)
    accumulation = Accumulation(network, parts=1, batch=6, devices=1)
    sizes: list[int] = []

    def passes(pieces: list[dict[str, Tensor]]) -> Tensor:
        for piece in pieces:
            sizes.append(len(piece["x"]))
            network(piece["x"])
            if sizes[-1] > 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return torch.zeros(1)

    accumulation.run([{"x": torch.randn(6, 2)}], passes)
    assert sizes == [6, 3, 3]
    assert (accumulation.pieces, accumulation.passes) == (2, 2)
    assert int(network.num_batches_tracked) == 2


def test_several_devices_do_not_part_ways() -> None:
    def passes(pieces: list[dict[str, Tensor]]) -> Tensor:
        raise torch.OutOfMemoryError

    accumulation = Accumulation(nn.Linear(1, 1), parts=1, batch=8, devices=2)
    with pytest.raises(torch.OutOfMemoryError):
        accumulation.run([{"x": torch.zeros(4, 1)}], passes)
