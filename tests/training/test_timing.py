"""A run that is to end in the minutes given: its length follows from rates, and is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import tiny_settings

from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, RunError
from dvos.registry import network_spec
from dvos.training import run
from dvos.training.run import Rates, fit_length, settle_length
from dvos.training.run_folder import RunFolder

RATES = Rates(clip=0.1, validation=2.0, start=4.0, batch=8, crop=160, device="cpu")
SPEC = network_spec("dvos")


def _seconds(settings: TrainingSettings, rates: Rates) -> float:
    """What a run of these settings takes: with its start, validations and the calibration."""
    clips = settings.epochs * settings.clips_per_epoch
    return rates.start + (settings.epochs + 1) * rates.validation + clips * rates.clip


@pytest.mark.parametrize("minutes", [0.5, 2, 10, 60])
@pytest.mark.parametrize("validation", [0.0, 0.5, 8.0])
def test_a_run_of_this_length_ends_in_time_and_uses_it(minutes: float, validation: float) -> None:
    rates = RATES._replace(validation=validation)
    settings = TrainingSettings(out=Path("run"), minutes=minutes)
    fitted = fit_length(settings, rates, 60 * minutes)
    assert 1 <= fitted.epochs <= settings.epochs
    assert fitted.clips_per_epoch % rates.batch == 0
    taken = _seconds(fitted, rates)
    assert taken <= 60 * minutes * 0.9 + rates.clip * rates.batch
    # The rest is less than a step of each epoch.
    assert taken > 60 * minutes * 0.9 - fitted.epochs * rates.batch * rates.clip
    assert fitted.epochs == 1 or fitted.epochs * validation <= 0.08 * 60 * minutes


def test_too_little_time_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fitted = fit_length(TrainingSettings(out=Path("run"), minutes=0.01), RATES, 0.6)
    assert (fitted.epochs, fitted.clips_per_epoch) == (1, RATES.batch)
    assert "too few for a single step" in caplog.text


def test_a_run_that_goes_on_keeps_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path, minutes=3)
    asked: list[TrainingSettings] = []

    def timed(trial: TrainingSettings, spec: object) -> Rates:
        asked.append(trial)
        return RATES

    monkeypatch.setattr(run, "time_training", timed)
    begun = settle_length(settings, SPEC)
    # The trial writes into a folder of its own.
    assert [trial.out == tmp_path for trial in asked] == [False]
    assert begun.clips_per_epoch > settings.clips_per_epoch
    RunFolder(tmp_path).begin(begun)
    again = settle_length(settings.model_copy(update={"minutes": 5}), SPEC)
    assert (again.epochs, again.clips_per_epoch) == (begun.epochs, begun.clips_per_epoch)
    assert len(asked) == 1
    plain = tiny_settings(tmp_path)
    assert settle_length(plain, SPEC) is plain


def test_a_run_without_minutes_gets_none_later(tmp_path: Path) -> None:
    """That is told at once, and not after some steps were timed."""
    RunFolder(tmp_path).begin(tiny_settings(tmp_path))
    with pytest.raises(RunError, match=r"^minutes: is 3 now, and the run in .* had none; leave it"):
        settle_length(tiny_settings(tmp_path, minutes=3), SPEC)
    anew = tiny_settings(tmp_path, minutes=3, resume=False, nodes=2)
    with pytest.raises(ConfigError, match="minutes: is for one machine"):
        settle_length(anew, SPEC)


def test_several_machines_are_refused(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, minutes=3, nodes=2)
    with pytest.raises(ConfigError, match="minutes: is for one machine"):
        settle_length(settings, SPEC)
