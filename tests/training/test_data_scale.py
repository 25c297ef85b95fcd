"""``data.scale``: training, validation and what is learnt of objects see pictures at one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from dvos.config.load import load_settings
from dvos.config.show import settings_yaml
from dvos.config.training import TrainingSettings
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.dvos.efficientnet import IMAGENET_NORMALISATION
from dvos.networks.weights import save_network
from dvos.training.data import (
    build_labelled_clips,
    build_object_sizes,
    build_training_clips,
    build_validation_clips,
)
from dvos.training.run import settle_scale
from dvos.training.targets import QueryTarget

SIDE, RADIUS = 120, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still with a disc in its middle."""
    folder = tmp_path_factory.mktemp("labelled")
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    disc = rows**2 + columns**2 <= RADIUS**2
    for name in ("images", "masks"):
        (folder / name).mkdir()
    write_image(folder / "images" / "a.png", np.repeat(disc[..., None] * np.uint8(200), 3, 2))
    write_mask(folder / "masks" / "a.png", disc.astype(np.uint16))
    return folder


def settings(folder: Path, scale: float) -> TrainingSettings:
    stills = {"folders": [folder]}
    data = {
        "stills": {**stills, "motion": "none"},
        "validation": {"stills": stills, "speed": 0},
        "scale": scale,
        "crop": 64,
        "object_share": 1.0,
        **dict.fromkeys(("spatial", "colour", "degradation"), "none"),
    }
    return load_settings(TrainingSettings, options={"out": folder / "run", "data": data})


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_validation_shows_whole_pictures_at_that_size(folder: Path, scale: float) -> None:
    chosen = settings(folder, scale)
    item = build_validation_clips(chosen, QueryTarget(chosen), IMAGENET_NORMALISATION)[0]
    side = round(SIDE * scale)
    assert item["frames"].shape[-2:] == item["target"].shape[-2:] == (side, side)
    area = float(item["target"].sum())
    assert area == pytest.approx(np.pi * (RADIUS * scale) ** 2, rel=0.06)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 8.0])
def test_what_was_learnt_from_is_looked_at_as_it_is_and_at_that_size(
    folder: Path, scale: float
) -> None:
    chosen = settings(folder, scale)
    clips = build_labelled_clips(chosen, QueryTarget(chosen), IMAGENET_NORMALISATION)
    assert clips.names == ["a"]
    side, area = min(round(SIDE * scale), 512), np.pi * (RADIUS * scale) ** 2
    assert clips[0]["frames"].shape[-2:] == clips[0]["target"].shape[-2:] == (side, side)
    assert float(clips[0]["target"].sum()) == pytest.approx(area, rel=0.06)


def test_training_shows_objects_at_that_size(folder: Path) -> None:
    chosen = settings(folder, 0.4)
    clips = build_training_clips(chosen, QueryTarget(chosen), IMAGENET_NORMALISATION)
    largest = max(float(clips[k]["target"].sum()) for k in range(4))
    assert largest == pytest.approx(np.pi * (RADIUS * 0.4) ** 2, rel=0.15)
    assert clips[0]["frames"].shape[-2:] == (64, 64)
    assert clips.pictures == 1


def test_what_is_learnt_of_objects_is_of_that_size(folder: Path) -> None:
    plain, half = (build_object_sizes(settings(folder, s).data, seed=1) for s in (1.0, 0.5))
    assert plain is not None
    assert half is not None
    assert half["width"] == pytest.approx(plain["width"] / 2)
    assert half["area"] == pytest.approx(plain["area"] / 4)


def test_the_scale_of_the_network_that_is_started_from_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "best.safetensors"
    save_network(weights, nn.Linear(1, 1), name="dvos", arguments={}, extra={"scale": 1.4})
    options = {"out": tmp_path / "run", "network.weights": weights}

    def scale(**given: float) -> float:
        return settle_scale(load_settings(TrainingSettings, options=options | given)).data.scale

    assert scale() == 1.4
    assert scale(**{"data.scale": 1.0}) == 1.0
    # A run that an earlier version began goes on as it was begun.
    config = tmp_path / "run" / "config.yaml"
    config.parent.mkdir()
    config.write_text(settings_yaml(load_settings(TrainingSettings, options=options), full=True))
    assert scale() == 1.0
    assert scale(resume=False) == 1.4
    save_network(weights, nn.Linear(1, 1), name="dvos", arguments={}, extra={"scale": "large"})
    assert scale(resume=False) == 1.0
