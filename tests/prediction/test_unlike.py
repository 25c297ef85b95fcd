"""Clips unlike the training data are told of, and the scale of a checkpoint is gone by."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError, MediaError
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predict import _tell_unlike

NORMALISATION = {"mean": [0.5] * 3, "std": [0.5] * 3}


class Darkness:
    """A predictor that has learnt from dark pictures."""

    def novelty(self, image: np.ndarray) -> float | None:
        return float(image.mean()) / 100

    def at_scale(self, scale: float) -> Any:
        return self


def job(name: str, value: int) -> Any:
    def frames() -> Any:
        if value < 0:
            raise MediaError.at(name, "cannot be read")
        return iter([SimpleNamespace(image=np.full((4, 4, 3), value, np.uint8))])

    return SimpleNamespace(clip=SimpleNamespace(name=name, open=frames))


def test_one_line_tells_of_all_clips(caplog: pytest.LogCaptureFixture) -> None:
    jobs = [job("night", 20), job("noon", 250), job("lost", -1), job("day", 150)]
    with caplog.at_level(logging.WARNING):
        _tell_unlike(Darkness(), jobs)  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert line.startswith("2 of 4 clips looked at are unlike all that the network has learnt from")
    assert "noon, day; 2.5 times" in line


def test_nothing_is_told_of_what_is_alike(caplog: pytest.LogCaptureFixture) -> None:
    _tell_unlike(Darkness(), [job("night", 20)])  # type: ignore[arg-type]
    _tell_unlike(Darkness(), [])  # type: ignore[arg-type]
    _tell_unlike(object(), [job("noon", 250)])  # type: ignore[arg-type]
    assert not caplog.messages


def loaded(**extra: Any) -> LoadedNetwork:
    extra = {"normalisation": NORMALISATION, **extra}
    return LoadedNetwork(Path("a.safetensors"), None, extra, torch.device("cpu"))


def test_frames_are_seen_at_the_size_of_training() -> None:
    assert loaded().at_own_scale(PredictorOptions(scale=0.5)).scale == 0.5
    assert loaded(scale=0.4).at_own_scale(PredictorOptions(scale=0.5)).scale == pytest.approx(0.2)
    for wrong in (0, -1, "x", True, 100):
        with pytest.raises(CheckpointError, match="has the scale"):
            loaded(scale=wrong).at_own_scale(PredictorOptions())
