"""Steps that do not wait for their device: what a CPU can show of them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import ARGUMENTS, Squares, tiny_run

from dvos.config.training import LossSettings
from dvos.errors import RunError
from dvos.networks.spec import Normalisation
from dvos.registry import network_spec
from dvos.training import step as step_module
from dvos.training.objective import QueryObjective, build_loss
from dvos.training.run_folder import read_state
from dvos.training.step import PendingLosses, _Recorder, _Recording

NAMES = ("loss", "part")
HALF = Normalisation((0.5,) * 3, (0.5,) * 3)


def test_on_a_cpu_each_loss_is_looked_at_at_once() -> None:
    pending, losses = PendingLosses(NAMES, torch.device("cpu")), {}
    assert pending.add(5, torch.tensor([1.0, 0.5]))
    assert pending.take(losses) is None
    assert losses == {"loss": 1.0, "part": 0.5}


def test_on_a_device_losses_wait_and_add_up_to_the_same() -> None:
    at_once, later = {}, {}
    values = torch.rand(40, 2, dtype=torch.float64)
    waiting = PendingLosses(NAMES, torch.device("cuda"))
    direct = PendingLosses(NAMES, torch.device("cpu"))
    due = [step for step, row in enumerate(values) if waiting.add(step, row)]
    assert due[0] == 0
    assert len(due) < 25
    for step, row in enumerate(values):
        direct.add(step, row)
        direct.take(at_once)
    assert waiting.take(later) is None
    assert later == at_once
    assert waiting.take(later) is None


def test_the_step_of_a_loss_that_is_no_number_is_told_later() -> None:
    pending = PendingLosses(NAMES, torch.device("cuda"))
    for step, value in enumerate([1.0, 2.0, math.nan, math.inf], 7):
        pending.add(step, torch.tensor([value, 0.0]))
    losses: dict[str, float] = {}
    found = pending.take(losses)
    assert found is not None
    assert found[0] == 9
    assert math.isnan(found[1])


def test_a_loss_seen_late_still_ends_the_run_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path, lr=1e30, clip_norm=0.0, clips=20)
    monkeypatch.setattr(run._pending, "_most", 100)
    with pytest.raises(RunError, match="the loss is"):
        run.run()
    assert not run.folder.state.exists()


class Replayed:
    """Stands for a CUDA graph: does what was recorded anew, into the same tensors."""

    def __init__(self, module: torch.nn.Module, run: Any, given: Any) -> None:
        self.module, self.run, self.given = module, run, given
        self.found = run(given)

    def replay(self) -> None:
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        self.found.copy_(self.run(self.given))


def _recording(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made = []

    def recorded(self: Any, run: Any, batch: Any) -> _Recording:
        given = {name: tensor.clone() for name, tensor in batch.items()}
        graph = Replayed(training.network, run, given)
        made.append(graph)
        return _Recording(graph, given, graph.found)

    training: Any = None

    def use(run: Any) -> None:
        nonlocal training
        training = run

    monkeypatch.setattr(_Recorder, "_recorded", recorded)
    monkeypatch.setattr(_Recorder, "_beside", lambda self, run, batch: run(batch))
    return [made, use]


def test_replayed_steps_learn_what_single_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_run(tmp_path / "plain", clips=20, epochs=1, validation=None, arguments={})
    plain.run()
    made, use = _recording(monkeypatch)
    fast = tiny_run(tmp_path / "fast", clips=20, epochs=1, validation=None, arguments={})
    fast._take_step._recorder = _Recorder()
    use(fast)
    fast.run()
    assert len(made) == 1
    one, other = (read_state(run.folder.state)["network"] for run in (plain, fast))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])
    assert plain.progress.records[-1]["train_loss"] == pytest.approx(
        fast.progress.records[-1]["train_loss"], rel=1e-5
    )


def test_what_cannot_be_recorded_goes_on_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tiny_run(tmp_path / "plain", clips=20, epochs=1, validation=None)
    plain.run()

    def fails(self: Any, run: Any, batch: Any) -> Any:
        raise step_module._NotRecordedError("it waits")

    _recording(monkeypatch)
    monkeypatch.setattr(_Recorder, "_recorded", fails)
    other = tiny_run(tmp_path / "other", clips=20, epochs=1, validation=None)
    other._take_step._recorder = _Recorder()
    other.run()
    assert "recording one failed: it waits" in caplog.text
    one, same = (read_state(run.folder.state)["network"] for run in (plain, other))
    assert all(torch.equal(value, same[key]) for key, value in one.items())


@pytest.mark.parametrize("losses", [{}, {"ms_ssim": 1.0, "focal": 1.0, "gradient_difference": 1.0}])
def test_nothing_in_a_pass_waits_for_the_device(
    losses: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors of the device "meta" hold no values: whoever asks for one fails.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    objective = QueryObjective(build_loss(LossSettings(**losses), HALF))
    with torch.device("meta"):
        network = network_spec("dvos").network(**ARGUMENTS)
    item = Squares(64)[0]
    batch = {name: torch.stack([value, value]).to("meta") for name, value in item.items()}
    loss, found = objective(network, batch, step=0, devices=1, add=lambda values: values)
    loss.backward()
    assert found.device.type == "meta"
    assert found.dtype == torch.float64
