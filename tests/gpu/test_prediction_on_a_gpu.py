"""Every predictor gives on a GPU what it gives on a CPU, in float32."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xmem_clips import ColourXMem, moving

from dvos.config.prediction import PredictorOptions
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.paper.network import PaperNetwork
from dvos.networks.xmem.network import XMem
from dvos.prediction.features import FeatureReader
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import Predictor, Views
from dvos.prediction.streaming import StreamingPredictor, dvos_predictor
from dvos.prediction.xmem import XMemPredictor

_EXTRA = {"normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}}
_CPU = torch.device("cpu")
_CLOSE = 1e-4


def _loaded(network: nn.Module, device: torch.device) -> LoadedNetwork:
    network = copy.deepcopy(network).to(device)
    return LoadedNetwork(Path("best.safetensors"), network, _EXTRA, device)


def _predictor(network: nn.Module, device: torch.device, **options: Any) -> Predictor:
    build = dvos_predictor if isinstance(network, DvosNetwork) else StreamingPredictor
    chosen = PredictorOptions.model_validate({"precision": "float32", **options})
    return build(_loaded(network, device), chosen)


def _xmem(network: nn.Module, device: torch.device, masks: Any, **options: Any) -> Predictor:
    memory = {"mem_every": 2, "min_mid_term_frames": 2, "max_mid_term_frames": 4, "prototypes": 8,
              "long_term_max": 16, "top_k": 1000, "frames": "new"}  # fmt: skip
    precision = options.pop("precision", "float32")
    chosen = PredictorOptions.model_validate({"precision": precision, "xmem": memory | options})
    return XMemPredictor(_loaded(network, device), chosen, masks)


def _video(frames: int, size: tuple[int, int] = (100, 130)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(frames)]


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "dvos":
        return DvosNetwork(references=2, encoder="lite0").eval()
    return PaperNetwork(references=2).eval()


@pytest.mark.parametrize("name", ["dvos", "paper"])
@pytest.mark.parametrize(
    "options",
    [{"batch": 1}, {"batch": 3}, {"tile": 64, "batch": 2}, {"augment": "flips_and_scales"}],
    ids=["one by one", "batches", "tiles", "augmented"],
)
def test_a_stream(name: str, options: dict[str, Any], device: torch.device) -> None:
    network, video = _network(name), _video(5)
    expected = _predictor(network, _CPU, **options).segment(video)
    found = _predictor(network, device, **options).segment(video)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=_CLOSE)
        assert (one.mask == (one.probability >= 0.5)).all()


@pytest.mark.parametrize("name", ["dvos", "paper"])
def test_views(name: str, device: torch.device) -> None:
    network, video, views = _network(name), _video(3), Views((1.0, 0.75), "horizontal")
    expected = _predictor(network, _CPU).segment_views(video, views)
    found = _predictor(network, device).segment_views(video, views)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=_CLOSE)
        assert one.std is not None
        np.testing.assert_allclose(one.std, other.std, atol=_CLOSE)


@pytest.mark.parametrize("name", ["dvos", "paper"])
def test_a_stream_that_begins_in_the_middle(name: str, device: torch.device) -> None:
    network, video = _network(name), _video(7, (64, 64))
    whole = list(_predictor(network, device, batch=2).segment(video))
    rest = list(_predictor(network, device, batch=2).segment(video, start=3))
    for one, other in zip(rest, whole[3:], strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=_CLOSE)


def test_the_default_precision_gives_masks(device: torch.device) -> None:
    network, video = _network("dvos"), _video(4)
    expected = list(_predictor(network, _CPU).segment(video))
    found = list(_predictor(network, device, precision="auto", batch=0).segment(video))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.probability - other.probability).mean() < 0.01


@pytest.mark.parametrize("options", [{}, {"long_term": False}, {"frames": "all"}])
def test_xmem_with_a_long_memory(options: dict[str, Any], device: torch.device) -> None:
    video, masks = moving(40, 2)
    given = {0: np.where(masks[0] == 1, 7, 0).astype(np.uint16), 5: masks[5] * 7, 9: masks[9]}
    expected = _xmem(ColourXMem(), _CPU, given, **options).segment(video)
    found = _xmem(ColourXMem(), device, given, **options).segment(video)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=_CLOSE)
        assert (one.instances == other.instances).mean() > 0.999


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_the_real_xmem(precision: str, device: torch.device) -> None:
    torch.manual_seed(0)
    network, (video, masks) = XMem(key_dim=8, value_dim=16, hidden_dim=8), moving(9, 2)
    expected = list(_xmem(network, _CPU, masks[0]).segment(video))
    found = list(_xmem(network, device, masks[0], precision=precision).segment(video))
    assert (found[0].instances == masks[0]).all()
    far = 1e-3 if precision == "float32" else 0.02
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.probability - other.probability).mean() < far


def test_features(device: torch.device) -> None:
    network, image = _network("dvos"), _video(1)[0]
    expected = FeatureReader(_loaded(network, _CPU), 64).pieces(image)
    found = FeatureReader(_loaded(network, device), 64).pieces(image)
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other.values).max()
        np.testing.assert_allclose(one.values, other.values, atol=_CLOSE * scale)
