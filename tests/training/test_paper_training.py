"""Training and conversion of the published network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from made_stills import write_stills

from dvos.api import convert, train
from dvos.cli.main import main
from dvos.config.prediction import ConvertSettings
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError
from dvos.networks.paper.network import PUBLISHED_NORMALISATION, PaperNetwork
from dvos.networks.weights import read_network_info
from dvos.registry import load_network, network_spec
from dvos.training.networks import build_trained_network

SHAPE: dict[str, Any] = {"base": 2, "multipliers": (1, 2), "latent": 4, "groups": 2, "hidden": 4}
TINY: dict[str, Any] = {"name": "paper", "references": 2, "paper": SHAPE}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "ckpt_best.tar"
    network = PaperNetwork(references=2, **SHAPE)
    torch.save({f"module.{key}": x for key, x in network.state_dict().items()}, path)
    return path


def _started(reconstructs: bool = True, **network: Any) -> torch.nn.Module:
    values = {"out": "run", "seed": 1, "network": {**TINY, **network}}
    losses = {} if reconstructs else {"losses": {"reconstruction": 0}}
    settings = TrainingSettings.model_validate(values | losses)
    return build_trained_network(network_spec("paper"), settings).module


def test_a_run_started_from_published_weights(tmp_path: Path, published: Path) -> None:
    stills = write_stills(tmp_path / "stills", 2, (64, 64))
    before = torch.get_num_threads()
    values = {
        "out": tmp_path / "run",
        "network": {**TINY, "weights": published},
        "data": {"stills": {"folders": [stills]}, "crop": 32},
        "epochs": 1,
        "clips_per_epoch": 4,
        "batch": 2,
        "pictures": 0,
        "threads": 1,
    }
    result = train(TrainingSettings.model_validate(values))
    torch.set_num_threads(before)
    assert math.isfinite(result.dice)
    network, info = load_network(result.best)
    assert isinstance(network, PaperNetwork)
    assert info.arguments == {
        "references": 2,
        "sees_query": False,
        "reconstructs": True,
        "dropout": 0.0,
        "skip_diffusion": True,
        **{key: list(x) if isinstance(x, tuple) else x for key, x in SHAPE.items()},
    }
    assert info.extra["normalisation"] == PUBLISHED_NORMALISATION.as_lists()


def test_weights_of_a_published_checkpoint_arrive(published: Path) -> None:
    expected = load_network(published)[0].state_dict()
    for key, value in _started(weights=published).state_dict().items():
        assert torch.equal(value, expected[key])


def test_the_head_that_is_not_trained_may_be_in_the_weights(published: Path) -> None:
    network = _started(reconstructs=False, weights=published)
    assert not [key for key in network.state_dict() if "rec_head" in key]


def test_the_query_may_be_one_of_the_frames_of_the_weights(published: Path) -> None:
    network = _started(references=1, sees_query=True, weights=published)
    assert (network.references, network.shape.sees_query) == (1, True)


def test_weights_of_other_widths_are_refused(published: Path) -> None:
    with pytest.raises(CheckpointError, match="other widths"):
        _started(references=3, weights=published)


def test_the_seed_gives_the_weights() -> None:
    one, other = _started().state_dict(), _started().state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_convert_writes_configuration_and_normalisation(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "published.safetensors"
    assert main(["convert", str(published), "--out", str(out)]) == 0
    assert "network paper" in capsys.readouterr().out
    info = read_network_info(out)
    assert (info.name, info.arguments["references"]) == ("paper", 2)
    assert info.extra == {
        "normalisation": PUBLISHED_NORMALISATION.as_lists(),
        "reference_interval": 1,
    }
    frames = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        first, second = (load_network(path)[0](frames) for path in (published, out))
    assert torch.equal(first.mask_logits, second.mask_logits)


def test_convert_takes_what_a_checkpoint_does_not_say(published: Path, tmp_path: Path) -> None:
    result = convert(
        ConvertSettings(
            checkpoint=published,
            out=tmp_path / "a.safetensors",
            sees_query=True,
            mean=(0.5, 0.5, 0.5),
            reference_interval=3,
        )
    )
    assert result.arguments["references"] == 1
    info = read_network_info(result.out)
    assert info.extra["normalisation"]["mean"] == [0.5, 0.5, 0.5]
    assert info.extra["normalisation"]["std"] == list(PUBLISHED_NORMALISATION.std)
    assert info.extra["reference_interval"] == 3


def test_convert_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.pth"
    torch.save(network_spec("dvos").network().state_dict(), path)
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(path), "--out", str(out)]) == 1
    assert "lacks" in capsys.readouterr().err
    assert not out.exists()
    assert main(["convert", str(path), "--out", str(tmp_path / "out.tar")]) == 2
    assert ".safetensors" in capsys.readouterr().err
