from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import ARGUMENTS, tiny_run

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import read_network_info, save_network
from dvos.registry import load_network, network_spec
from dvos.training.calibration import (
    calibrate,
    calibrate_checkpoint,
    calibrate_tracks,
    fit_calibration,
    learn_dispersion,
    widened,
)
from dvos.training.clips.files import FrameClip
from dvos.training.objective import SegmentedClip


def _labels(logits: np.ndarray, *, temperature: float, bias: float) -> np.ndarray:
    chance = 1 / (1 + np.exp(-(logits / temperature + bias)))
    return np.random.default_rng(1).random(len(logits)) < chance


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, 0.8), (0.6, -1.0)])
def test_the_temperature_and_bias_of_the_labels_are_found(temperature: float, bias: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, 200_000)
    found = fit_calibration(logits, _labels(logits, temperature=temperature, bias=bias))
    assert found is not None
    assert found["temperature"] == pytest.approx(temperature, rel=0.03)
    assert found["bias"] == pytest.approx(bias, abs=0.03)


def test_a_network_without_a_mistake_stays_finite() -> None:
    logits = np.array([-13.0, -12.0, 11.0, 13.0] * 100)
    found = fit_calibration(logits, logits > 0)
    assert found is not None
    assert 0 < found["temperature"] <= 1


def test_what_cannot_be_fitted_is_none() -> None:
    logits = np.linspace(-3, 3, 100)
    assert fit_calibration(logits, np.ones(100, bool)) is None
    assert fit_calibration(logits, logits < 0) is None
    assert calibrate([]) is None


def test_pixels_without_a_label_do_not_count() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (1, 300, 200)))
    target = torch.from_numpy(_labels(logits.numpy().ravel(), temperature=2.0, bias=0.0))
    target = target.reshape(1, 300, 200).float()
    weight = torch.ones_like(target)
    # Wrong labels in the half that is unknown.
    weight[:, 150:] = 0
    target[:, 150:] = (logits[:, 150:] < 0).float()
    probability = torch.sigmoid(logits).float()
    found = calibrate([SegmentedClip(torch.zeros(3, 300, 200), target, weight, probability)])
    assert found is not None
    assert found["temperature"] == pytest.approx(2.0, rel=0.1)


def test_a_checkpoint_keeps_its_weights_and_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_spec("dvos").network(**ARGUMENTS)
    path = tmp_path / "best.safetensors"
    save_network(path, network, name="dvos", arguments=ARGUMENTS, extra={"objects": {"width": 9.0}})

    def segment(
        network: torch.nn.Module, item: dict[str, torch.Tensor], device: torch.device
    ) -> SegmentedClip:
        return SegmentedClip(item["query"], item["target"], item["weight"], item["probability"])

    logits = torch.linspace(-4, 4, 64 * 64).reshape(1, 64, 64)
    labels = _labels(logits.double().numpy().ravel(), temperature=1.5, bias=0.0)
    item = {
        "query": torch.zeros(3, 64, 64),
        "target": torch.from_numpy(labels).float().reshape(1, 64, 64),
        "weight": torch.ones(1, 64, 64),
        "probability": torch.sigmoid(logits),
    }
    how = {"build": DvosNetwork, "segment": segment, "device": torch.device("cpu")}
    calibrate_checkpoint(path, [item], **how)  # type: ignore[arg-type]
    once = path.read_bytes()
    calibrate_checkpoint(path, [item], **how)  # type: ignore[arg-type]
    assert path.read_bytes() == once
    loaded, info = load_network(path)
    assert info.extra["objects"] == {"width": 9.0}
    assert info.extra["calibration"]["temperature"] == pytest.approx(1.5, rel=0.1)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_what_clips_say_of_tracks_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    spec = network_spec("dvos")
    path = tmp_path / "best.safetensors"
    save_network(path, spec.network(**ARGUMENTS), name="dvos", arguments=ARGUMENTS, extra={"a": 1})
    clip, cpu = FrameClip("c", {0: path}, {0: path}), torch.device("cpu")
    once = path.read_bytes()
    for told, clips in (({"error": 0.1}, []), (None, [clip])):
        calibrate_tracks(path, replace(spec, learn_tracks=lambda *_, t=told: t), clips, cpu)
        assert path.read_bytes() == once
    learnt = {"broken": 0.5, "missed": 0.0, "error": 0.1}
    calibrate_tracks(path, replace(spec, learn_tracks=lambda *_: learnt), [clip], cpu)
    assert read_network_info(path).extra == {"a": 1, "tracks": learnt}


class _Named(list[dict[str, torch.Tensor]]):
    """Clips with names, as those of validation."""

    def __init__(self, items: list[dict[str, torch.Tensor]], names: list[str]) -> None:
        super().__init__(items)
        self.names = names


@pytest.mark.parametrize(
    ("names", "known"), [("field_{}", True), ("synthetic_{:03d}", False), (None, True)]
)
def test_counts_are_held_against_the_truth_of_real_clips(
    tmp_path: Path, names: str | None, known: bool
) -> None:
    network = network_spec("dvos").network(**ARGUMENTS)
    path = tmp_path / "best.safetensors"
    sizes = {"width": 9.0, "area": 81.0}
    save_network(path, network, name="dvos", arguments=ARGUMENTS, extra={"objects": sizes})
    squares = torch.zeros(1, 60, 60)
    for row in range(0, 60, 15):
        for column in range(0, 60, 15):
            squares[0, row + 3 : row + 12, column + 3 : column + 12] = 1
    fewer = squares.clone()
    fewer[:, :15] = 0
    weight = torch.ones(1, 60, 60)
    # What has no label is not counted.
    weight[:, 45:] = 0
    items = [{"probability": found} for found in (fewer, squares, fewer, squares)]

    def segment(
        network: torch.nn.Module, item: dict[str, torch.Tensor], device: torch.device
    ) -> SegmentedClip:
        return SegmentedClip(torch.zeros(3, 60, 60), squares, weight, item["probability"])

    clips = items if names is None else _Named(items, [names.format(k) for k in range(4)])
    how = {"build": DvosNetwork, "segment": segment, "device": torch.device("cpu")}
    calibrate_checkpoint(path, clips, **how)  # type: ignore[arg-type]
    counting = read_network_info(path).extra.get("counting")
    assert (counting is not None) == known
    if counting is not None:
        expected = learn_dispersion([(8, 12), (12, 12), (8, 12), (12, 12)])
        assert counting["dispersion"] == pytest.approx(expected, abs=1e-3)


def test_dispersion_is_the_variance_for_each_object_and_withstands_an_outlier() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(20, 200, 400)
    found = np.maximum(0, np.rint(true + rng.normal(0, 1, 400) * np.sqrt(2 * true))).astype(int)
    counts = list(zip(found.tolist(), true.tolist(), strict=True))
    assert learn_dispersion(counts) == pytest.approx(2, rel=0.2)
    assert learn_dispersion([*counts, (2000, 3)]) == pytest.approx(2, rel=0.2)
    assert learn_dispersion([(5, 5)] * 4) == pytest.approx(0, abs=1e-6)
    assert learn_dispersion(counts[:2]) is None


@pytest.mark.parametrize(("examples", "student"), [(4, 2.776), (8, 2.306), (30, 2.042)])
def test_few_examples_widen_as_students_t(examples: int, student: float) -> None:
    assert widened(1.0, examples) == pytest.approx(student / 1.96, rel=0.02)


def test_a_finished_run_has_learnt_both(tmp_path: Path) -> None:
    objects = {"width": 12.0, "area": 144.0}
    tiny_run(tmp_path, epochs=1, clips=8, extra={"objects": objects}).run()
    extra = read_network_info(tmp_path / "best.safetensors").extra
    assert extra["objects"] == objects
    assert extra["calibration"]["temperature"] > 0
