"""Prediction with the published network: straight from its checkpoint, as a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dvos.api import load_predictor
from dvos.config.prediction import PredictionSettings
from dvos.media.image import write_image
from dvos.networks.paper.network import PUBLISHED_NORMALISATION, PaperNetwork
from dvos.prediction.predict import predict
from dvos.registry import predictor_for

REFERENCES = 3
SIZE = (21, 34)


def _network(sees_query: bool) -> PaperNetwork:
    torch.manual_seed(0)
    references = REFERENCES - sees_query
    return PaperNetwork(
        references=references,
        base=2,
        multipliers=(1, 2),
        latent=4,
        groups=2,
        hidden=4,
        sees_query=sees_query,
    ).eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "ckpt_best.tar"
    torch.save(_network(sees_query=False).state_dict(), path)
    return path


def _frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("batch", [1, 2])
def test_streaming_equals_windows_with_the_first_frame_for_missing_ones(
    checkpoint: Path, batch: int
) -> None:
    frames = _frames(6)
    mean, std = (
        np.array(values, np.float32)
        for values in (PUBLISHED_NORMALISATION.mean, PUBLISHED_NORMALISATION.std)
    )
    network = _network(sees_query=False)
    predictor = load_predictor(checkpoint, "cpu", batch=batch)
    assert predictor.context == REFERENCES
    for found in predictor.segment(frames):
        window = [frames[max(0, found.frame_index - step)] for step in range(REFERENCES, -1, -1)]
        pixels = (np.stack(window).astype(np.float32) / 255 - mean) / std
        clip = torch.from_numpy(pixels.transpose(0, 3, 1, 2)[None].astype(np.float32))
        with torch.no_grad():
            expected = network(clip).mask_logits.sigmoid()[0, 0].numpy()
        np.testing.assert_allclose(found.probability, expected, atol=1e-4)


def test_the_query_is_not_looked_at(checkpoint: Path) -> None:
    frames = _frames(5)
    first = [x.probability for x in load_predictor(checkpoint, "cpu").segment(frames)]
    changed = [*frames[:4], 255 - frames[4]]
    second = [x.probability for x in load_predictor(checkpoint, "cpu").segment(changed)]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tiles_of_one_size_join_to_masks_of_the_frame(checkpoint: Path) -> None:
    frames = [np.tile(frame, (5, 4, 1)) for frame in _frames(2)]
    for found in load_predictor(checkpoint, "cpu", tile=64).segment(frames):
        assert found.mask.shape == (105, 136)
        assert np.isfinite(found.probability).all()


def test_the_command_takes_a_published_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    for index, frame in enumerate(_frames(4)):
        write_image(tmp_path / "clip" / f"f{index}.png", frame)
    values = {
        "checkpoint": checkpoint,
        "input": tmp_path / "clip",
        "out": tmp_path / "masks",
        "device": "cpu",
    }
    result = predict(PredictionSettings.model_validate(values), predictor_for)
    assert result.frames == 4
