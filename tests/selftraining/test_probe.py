from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fake_predictor import Colours

from dvos.networks.weights import save_network
from dvos.registry import features_of, load_network
from dvos.selftraining.probe import FeatureProbe, fit_probe, probability_grid

Samples = tuple[np.ndarray, np.ndarray, np.ndarray]


def samples(features: np.ndarray, probability: np.ndarray, counts: object = 1.0) -> Samples:
    return (
        np.asarray(features, np.float32).reshape(len(probability), -1),
        np.asarray(probability, np.float32),
        np.broadcast_to(np.asarray(counts, np.float32), len(probability)).copy(),
    )


def best_weight() -> float:
    """Of features -1 and 1: where the loss log(1 + exp(-w)) + 0.003 w^2 has no slope."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 / (1 + math.exp(middle)) > 0.006 * middle else (low, middle)
    return low


@pytest.mark.parametrize(("objects", "backgrounds"), [(100, 100), (60, 3000), (3000, 60)])
def test_two_clusters_have_a_known_answer_whatever_their_sizes(objects, backgrounds) -> None:
    features = np.repeat([1.0, -1.0], [objects, backgrounds])
    fit = fit_probe(*samples(features, np.where(features > 0, 0.9, 0.01)))
    assert fit.reason == ""
    assert (fit.objects, fit.backgrounds) == (objects, backgrounds)
    assert fit.weights == pytest.approx([best_weight()], abs=0.01)
    assert fit.bias == pytest.approx(0, abs=0.01)


def test_a_sample_counts_as_often_as_it_stands_for_pixels() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3)) + np.repeat([[1.0], [-1.0]], 150, axis=0)
    probability = np.repeat([0.9, 0.01], 150)
    counts = rng.integers(1, 4, 300)
    one = fit_probe(*samples(features, probability, counts))
    other = fit_probe(*samples(features.repeat(counts, 0), probability.repeat(counts)))
    np.testing.assert_allclose(one.weights, other.weights, atol=5e-3)
    assert one.bias == pytest.approx(other.bias, abs=5e-3)


def test_what_the_network_misses_is_found_by_its_features() -> None:
    # A quarter of the objects is taken for background, with certainty.
    truth = np.repeat([True, False], [400, 1600])
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2000, 8)).astype(np.float32)
    features[:, 0] += np.where(truth, 3, -3)
    probability = np.where(truth, 0.9, 0.01)
    probability[:100] = 0.03
    fit = fit_probe(*samples(features, probability))
    found = features @ fit.weights + fit.bias > 0
    assert np.mean(found[:100]) > 0.95
    assert np.mean(found == truth) > 0.98
    # They are objects of the second fit, not background of it.
    assert 380 <= fit.objects <= 400
    assert fit.backgrounds <= 1600


def test_a_fit_is_the_same_again() -> None:
    rng = np.random.default_rng(2)
    data = samples(rng.normal(size=(500, 5)), rng.random(500))
    one, other = fit_probe(*data), fit_probe(*data)
    np.testing.assert_array_equal(one.weights, other.weights)
    assert one.bias == other.bias


def test_neither_class_may_be_missing() -> None:
    features = np.zeros(200)
    sure = np.full(200, 0.9)
    few = fit_probe(*samples(features, np.where(np.arange(200) < 49, 0.9, 0.01)))
    assert few.weights is None
    assert few.reason == "49 samples are surely object, at least 50 are needed"
    none = fit_probe(*samples(features, sure))
    assert none.reason == "0 samples are surely background, at least 50 are needed"
    # Features that tell nothing leave no object to the second fit.
    useless = fit_probe(*samples(features, np.where(np.arange(200) < 100, 0.9, 0.01)))
    assert useless.reason == "0 samples are surely object, at least 50 are needed"


def test_applying_it_standardises_the_features() -> None:
    probe = FeatureProbe(
        np.array([2.0, -1.0], np.float32), 0.5, np.array([3, 1], np.float32), np.array([2, 4], "f4")
    )
    features = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    logits = 2 * (features[0] - 3) / 2 - (features[1] - 1) / 4 + 0.5
    np.testing.assert_allclose(probe.probability(features), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert probe.probability(features * 1e6).max() <= 1


def test_a_probe_of_a_frame_has_its_size_and_place() -> None:
    image = np.zeros((37, 50, 3), np.uint8)
    image[:20, :24, 0] = 255
    probe = FeatureProbe(
        np.array([20.0, 0, 0], "f4"), 0.0, np.full(3, 0.5, "f4"), np.ones(3, np.float32)
    )
    found = probe.of_frame(image, Colours())
    assert found.shape == (37, 50)
    assert found.dtype == np.float32
    assert (found[:18, :22] > 0.99).all()
    assert (found[22:] < 0.01).all()
    assert (found[:, 26:] < 0.01).all()


def test_probabilities_are_averaged_over_cells() -> None:
    mean = np.arange(6 * 9, dtype=np.float32).reshape(6, 9)
    grid = probability_grid(mean)
    assert grid.shape == (2, 3)
    assert grid[0, 0] == mean[:4, :4].mean()
    assert grid[1, 2] == mean[4:, 8].repeat([1, 3]).mean()


def test_a_probe_is_stored_and_read_back(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(k).random(4, np.float32) for k in range(3)]
    probe = FeatureProbe(arrays[0], 0.25, arrays[1], arrays[2])
    probe.save(tmp_path / "a.safetensors")
    FeatureProbe.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert FeatureProbe.load(tmp_path / "b.safetensors").bias == 0.25


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.4])
@pytest.mark.parametrize("tile", [0, 64])
def test_features_are_of_the_size_that_was_learnt_from(
    checkpoint: Path, tmp_path: Path, scale: float, tile: int
) -> None:
    """And lie on the grid of the frame, whatever that size."""
    network, info = load_network(checkpoint)
    path = tmp_path / "best.safetensors"
    extra = info.extra | {"scale": scale}
    save_network(path, network, name="dvos", arguments=info.arguments, extra=extra)
    image = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)
    reader = features_of(path, "cpu", tile=tile)
    seen = []
    features, plain = reader._features, features_of(checkpoint, "cpu", tile=tile)
    reader._features = lambda x: seen.append(x.shape[-2:]) or features(x)
    covered = np.zeros((23, 33), int)
    for piece in reader.pieces(image):
        covered[piece.rows, piece.columns] += 1
        assert piece.values[0].shape == covered[piece.rows, piece.columns].shape
    assert (covered == 1).all()
    if tile == 0:
        assert seen[0] == (round(90 * scale), round(130 * scale))
        (found,), (own,) = (list(one.pieces(image)) for one in (reader, plain))
        assert np.array_equal(found.values, own.values) is (scale == 1)
