"""Labels with the feature probe, from the frames to the masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_predictor import OBJECT, SIZE, SOIL, Brightness, Colours
from test_pseudo_label import contents

from dvos.config.selftraining import PseudoLabelSettings, RoundsSettings
from dvos.errors import CheckpointError, ConfigError
from dvos.media.image import write_image
from dvos.media.mask import read_mask
from dvos.networks.weights import save_network
from dvos.registry import features_of, load_network, network_spec
from dvos.selftraining import labeller, probe_fitting
from dvos.selftraining.label import PseudoLabelResult, pseudo_label
from dvos.selftraining.rounds import rounds

RED = 200


def field() -> np.ndarray:
    """Objects are red; the network sees blue, and misses two of them with certainty."""
    rng = np.random.default_rng(0)
    image = np.full((*SIZE, 3), SOIL, np.uint8)
    image[..., 1] = rng.integers(0, 256, SIZE, dtype=np.uint8)
    image[:, :20, 0] = RED
    image[:, :20, 2] = OBJECT
    image[8:28, 28:48, 0] = RED
    image[:, 60:64, 0] = RED  # too thin to be taken
    return image


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the network and its features; keeps the predictors and readers."""
    loaded: list[Any] = []

    def keep(one: Any) -> Any:
        loaded.append(one)
        return one

    monkeypatch.setattr(labeller, "predictor_of", lambda *_, **__: keep(Brightness()))
    monkeypatch.setattr(labeller, "features_of", lambda *_, **__: keep(Colours((0, 1))))
    return loaded


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / f"clip/f{number}.png", field())
    return tmp_path / "clip"


def run(source: Path, out: Path, **options: Any) -> PseudoLabelResult:
    weights = out.parent / "weights"
    weights.write_bytes(b"weights")
    values: dict[str, Any] = {"input": source, "checkpoint": weights, "out": out, "device": "cpu"}
    values |= {"scales": [1.0], "flips": "none"} | options
    return pseudo_label(PseudoLabelSettings.model_validate(values))


def facts(result: PseudoLabelResult) -> dict[str, Any]:
    return json.loads(result.provenance.read_text())


def test_missed_objects_are_found_or_at_least_not_background(fake, clip, tmp_path) -> None:
    result = run(clip, tmp_path / "out", filter={"decide_boundary_band": False})
    mask = read_mask(tmp_path / "out/masks/clip/f1.png")
    assert (mask[:, :18] == 255).all()
    assert (mask[12:24, 32:44] == 255).all()
    assert (mask[:, 60:64] == 128).all()
    assert (mask[40:, 26:54] == 0).all()
    alone = run(clip, tmp_path / "alone", probe=False)
    mask = read_mask(tmp_path / "alone/masks/clip/f1.png")
    assert (mask[:, 20:] == 0).all()
    found = facts(result)["probe"]
    assert (found["file"], found["frames"], found["samples"]) == ("probe.safetensors", 3, 960)
    assert (tmp_path / "out/probe.safetensors").is_file()
    assert facts(alone)["probe"] is None
    assert facts(alone)["probe_reason"] == "switched off by probe: false"


def test_switching_it_off_replaces_the_labels(fake, clip, tmp_path) -> None:
    run(clip, tmp_path / "out")
    run(clip, tmp_path / "out", probe=False)
    run(clip, tmp_path / "fresh", probe=False)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_where_none_can_be_fitted_the_network_labels_alone(fake, tmp_path, caplog) -> None:
    image = np.full((*SIZE, 3), SOIL, np.uint8)
    image[:20, :20, 2] = OBJECT  # 25 cells
    write_image(tmp_path / "clip/f0.png", image)
    result = run(tmp_path / "clip", tmp_path / "out")
    assert result.accepted == 1
    assert facts(result)["probe"] is None
    assert facts(result)["probe_reason"].startswith("25 samples are surely object")
    assert "no feature probe could be fitted on 1 frames" in caplog.text


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("place", ["fit", "after", "first", "last"])
def test_a_killed_run_goes_on_with_the_same_result(
    fake, clip, tmp_path, monkeypatch, place
) -> None:
    run(clip, tmp_path / "whole")
    count = {"fit": 1, "after": 0, "first": 1, "last": 2}[place]
    where, name = (Colours, "pieces") if place == "fit" else (labeller, "filter_frame")
    real = getattr(where, name)

    def killed(*arguments: Any, **rule: Any) -> Any:
        nonlocal count
        count -= 1
        if count < 0:
            raise _KilledError
        return real(*arguments, **rule)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(_KilledError):
            run(clip, tmp_path / "out")
    assert (tmp_path / "out/probe.safetensors").exists() == (place != "fit")
    fake.clear()
    run(clip, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    fake.clear()
    run(clip, tmp_path / "out")
    assert fake[0].segmented == []
    assert fake[1].read == 0


def test_another_rule_needs_no_new_probe_fitting(fake, clip, tmp_path, monkeypatch) -> None:
    run(clip, tmp_path / "out")
    run(clip, tmp_path / "fresh", filter={"opening": 31})

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(probe_fitting, "SampleStore", refuse)
    run(clip, tmp_path / "out", filter={"opening": 31})
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_features_are_the_encoders_on_the_grid_of_stride_4(checkpoint) -> None:
    network, _ = load_network(checkpoint)
    frames = torch.randn(2, 3, 50, 75)
    with torch.inference_mode():
        found = network.features(frames)
        padded = torch.nn.functional.pad(frames, (0, 21, 0, 14), mode="replicate")
        maps = network.encoder(padded)
    assert found.shape == (2, 24 + 40 + 112, 13, 19)
    torch.testing.assert_close(found[:, :24], maps[1][..., :13, :19], atol=1e-4, rtol=1e-4)
    assert found[:, 24:].std() > 0
    torch.testing.assert_close(
        network.for_inference().features(frames), found, atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("size", [(50, 75), (256, 250), (130, 31), (7, 9)])
@pytest.mark.parametrize("tile", [0, 96])
def test_the_pieces_of_a_frame_cover_its_grid_once(checkpoint, size, tile) -> None:
    reader = features_of(checkpoint, "cpu", tile=tile)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    grid = np.zeros((-(-size[0] // 4), -(-size[1] // 4)), int)
    for piece in reader.pieces(image):
        part = grid[piece.rows, piece.columns]
        assert piece.values.shape == (352, *part.shape)
        assert piece.values.dtype == np.float32
        part += 1
    assert (grid == 1).all()


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    arguments = {"base": 4, "multipliers": [1, 1, 1, 1], "latent": 8, "references": 1}
    path = tmp_path / "paper.safetensors"
    extra = {"normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    network = network_spec("paper").network(**arguments)
    save_network(path, network, name="paper", arguments=arguments, extra=extra)
    return path


def test_a_network_without_features_is_told_how_to_go_on(paper, clip, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="probe=false") as caught:
        run(clip, tmp_path / "out", checkpoint=paper)
    assert len(caught.value.faults) == 1
    assert not (tmp_path / "out").exists()


def test_rounds_tell_of_it_before_they_train(paper, clip, tmp_path) -> None:
    values = {"out": tmp_path / "rounds", "unlabelled": [{"input": clip}], "train": {}}
    with pytest.raises(CheckpointError, match="probe=false"):
        rounds(RoundsSettings.model_validate(values | {"start": paper}))
    with pytest.raises(ConfigError, match=r"pseudo_label\.probe=false"):
        rounds(RoundsSettings.model_validate(values | {"train": {"network": "paper"}}))
    assert not (tmp_path / "rounds").exists()
