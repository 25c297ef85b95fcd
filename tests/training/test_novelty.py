"""How unlike the training data a picture is: exact figures, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dvos.training.calibration import NOVELTY, Novelty, learn_novelty

RED, GREEN, BLUE = range(3)


def colours(frames: Tensor) -> Tensor:
    """Features of a network that sees nothing but colours."""
    return frames[:, :, ::4, ::4]


def normalise(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).movedim(-1, -3).float() / 255


def reddish(count: int, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    means = np.stack([rng.normal(m, 0.05, count) for m in (0.7, 0.3, 0.2)], 1)
    return [
        torch.tensor(mean, dtype=torch.float32)[:, None, None].expand(3, 32, 32) for mean in means
    ]


def picture(red: float, green: float, blue: float, size: tuple[int, int] = (50, 90)) -> np.ndarray:
    return np.full((*size, 3), np.array([red, green, blue]) * 255, np.uint8)


@pytest.fixture(scope="module")
def known() -> Novelty:
    learnt = learn_novelty(colours, reddish(60), pictures=10)
    found = Novelty.read({NOVELTY: json.loads(json.dumps(learnt))})
    assert found is not None
    return found


def test_the_distance_is_in_standard_deviations(known: Novelty) -> None:
    assert known.side == 32
    assert known.distance(known.mean) == 0
    assert known.distance(known.mean + 2 * known.std) == pytest.approx(2)
    bluer = known.mean + np.array([0, 0, 3 * known.std[BLUE]])
    assert known.distance(bluer) == pytest.approx(3**0.5)


def test_a_picture_of_the_kind_is_within_the_limit_and_another_beyond_it(known: Novelty) -> None:
    def ratio(*colour: float, scale: float = 1.0) -> float:
        return known.ratio(colours, normalise, picture(*colour), scale)

    assert ratio(0.72, 0.31, 0.22) < 1
    assert ratio(0.2, 0.7, 0.3) > 2
    assert ratio(0.72, 0.31, 0.22, scale=0.5) == pytest.approx(ratio(0.72, 0.31, 0.22), rel=0.01)
    tiny = known.ratio(colours, normalise, picture(0.7, 0.3, 0.2, (5, 7)), 1.0)
    assert tiny < 1


def test_the_limit_holds_most_training_clips_and_is_wider_for_few_pictures() -> None:
    frames = reddish(200)
    many, one = (learn_novelty(colours, frames, pictures=n) for n in (10**6, 1))
    assert many is not None
    assert one is not None
    assert one["limit"] == pytest.approx(1.4 * many["limit"], rel=1e-3)
    known = Novelty.read({NOVELTY: many})
    assert known is not None
    inside = [known.distance(frame.mean((1, 2)).numpy()) <= known.limit for frame in frames]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01)


def test_the_median_of_the_windows_counts(known: Novelty) -> None:
    image = picture(0.7, 0.3, 0.2, (96, 96))
    image[:40, :40] = (0, 255, 255)
    assert known.ratio(colours, normalise, image, 1.0) < 1


@pytest.mark.parametrize(
    "kept",
    [
        None,
        5,
        {},
        {"mean": [1.0], "std": [0.0], "limit": 1, "side": 32},
        {"mean": [1.0, 2.0], "std": [1.0], "limit": 1, "side": 32},
        {"mean": [1.0], "std": [1.0], "limit": "x", "side": 32},
        {"mean": [1.0], "std": [1.0], "limit": 1, "side": 10**9},
        {"mean": [float("nan")], "std": [1.0], "limit": 1, "side": 32},
    ],
)
def test_what_makes_no_sense_is_not_gone_by(kept: Any) -> None:
    assert Novelty.read({NOVELTY: kept}) is None


def test_one_clip_tells_nothing() -> None:
    assert learn_novelty(colours, reddish(1), pictures=1) is None
