"""Every command that computes, on a GPU, with its default precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_stills import write_stills

import dvos
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask

_SHAPE = {"channels": (4, 4, 4, 4, 4), "widths": (4, 4, 4, 4)}
_NETWORKS: dict[str, dict[str, Any]] = {
    "dvos": {"references": 2, "encoder": "lite0", "encoder_weights": "none", "dvos": _SHAPE},
    "paper": {"references": 2, "paper": {"base": 4, "multipliers": (1, 2), "latent": 8,
                                         "groups": 4, "hidden": 8}},
    "xmem": {"references": 2, "xmem": {"key_dim": 8, "value_dim": 16, "hidden_dim": 8}},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled stills, and a labelled clip of eight frames."""
    folder = tmp_path_factory.mktemp("data")
    write_stills(folder / "stills", 4, (96, 96))
    rng = np.random.default_rng(0)
    for number in range(8):
        image = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
        mask = np.zeros((96, 128), bool)
        mask[20:60, 10 + 4 * number : 50 + 4 * number] = True
        image[mask] += 150
        write_image(folder / "clip" / "frames" / f"{number:03d}.png", image)
        write_mask(folder / "clip" / "masks" / f"{number:03d}.png", mask)
    return folder


@pytest.fixture(scope="module", params=_NETWORKS)
def trained(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory,
    gpu: torch.device,
) -> tuple[str, Path]:  # fmt: skip
    """A network by name, and its weights after two epochs that were interrupted by nothing."""
    name = request.param
    out = tmp_path_factory.mktemp(name) / "run"
    result = dvos.train(out=out, device=gpu.type, **_training(name, data))
    assert json.loads((out / "run.json").read_text())["hardware"]["device"] == gpu.type
    return name, result.best


def _training(name: str, data: Path) -> dict[str, Any]:
    more = {"xmem": {"frames": 3}} if name == "xmem" else {}
    return {
        "network": {"name": name, **_NETWORKS[name]},
        "data": {"stills": {"folders": [str(data / "stills")]}, "crop": 64},
        "epochs": 2, "clips_per_epoch": 8, "batch": 4, "pictures": 1, "workers": 2, **more,
    }  # fmt: skip


def _first_mask(name: str, data: Path) -> dict[str, Any]:
    return {"first_mask": data / "clip" / "masks" / "000.png"} if name == "xmem" else {}


def test_predict(trained: tuple[str, Path], data: Path, tmp_path: Path, gpu: torch.device) -> None:
    name, best = trained
    chosen: list[dict[str, Any]] = [{"overlay": True, "probabilities": True}]
    if name != "xmem":
        chosen += [{"tile": 64}, {"augment": "flips"}, {"batch": 3, "instances": True}]
    for number, options in enumerate(chosen):
        out = tmp_path / str(number)
        result = dvos.predict(
            checkpoint=best, input=data / "clip", out=out, device=gpu.type,
            **_first_mask(name, data), **options,
        )  # fmt: skip
        assert result.frames == 8
        masks = sorted((out / "clip").glob("*.png"))
        assert [read_mask(path).shape for path in masks] == [(96, 128)] * 8


def test_evaluate(trained: tuple[str, Path], data: Path, tmp_path: Path, gpu: torch.device) -> None:
    name, best = trained
    result = dvos.evaluate(
        checkpoint=best, truth=data / "clip", out=tmp_path, device=gpu.type,
        **_first_mask(name, data),
    )  # fmt: skip
    assert json.loads((tmp_path / "scores.json").read_text())["masks"] == 8
    assert result.prediction.frames == 8


def test_a_gpu_gives_what_a_cpu_gives(
    trained: tuple[str, Path], data: Path, tmp_path: Path, gpu: torch.device
) -> None:
    name, best = trained
    for where in ("cpu", gpu.type):
        dvos.predict(
            checkpoint=best, input=data / "clip", out=tmp_path / where, device=where,
            precision="float32", **_first_mask(name, data),
        )  # fmt: skip
    for path in sorted((tmp_path / "cpu" / "clip").glob("*.png")):
        other = tmp_path / gpu.type / "clip" / path.name
        assert (read_mask(path) == read_mask(other)).mean() > 0.999


def test_pseudo_labels(
    trained: tuple[str, Path], data: Path, tmp_path: Path, gpu: torch.device
) -> None:
    name, best = trained
    if name == "xmem":
        pytest.skip("XMem finds no masks of its own")
    loose = {"object_threshold": 0.5, "background_threshold": 0.45, "min_known": 0.0}
    result = dvos.pseudo_label(
        checkpoint=best, input=data / "clip", out=tmp_path, device=gpu.type, scales=[1.0, 0.71],
        probe=name == "dvos", probe_frames=4, filter=loose,
    )  # fmt: skip
    assert result.frames == 8


def test_a_round(data: Path, tmp_path: Path, gpu: torch.device) -> None:
    training = _training("dvos", data) | {"device": gpu.type}
    result = dvos.rounds(
        out=tmp_path, unlabelled=[{"input": data / "clip"}], rounds=1, train=training,
        pseudo_label={"device": gpu.type, "scales": [1.0], "flips": "none", "probe_frames": 4},
    )  # fmt: skip
    assert result.best.is_file()
