"""Predictors on a device: nothing of theirs lies elsewhere, and they give what they give on a CPU.

The device is the stand-in of ``tests/fake_device.py``, which computes on the CPU: results are the
same bit by bit. Its name is one of which nothing but tensors is asked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xmem_clips import ColourXMem, moving, xmem_predictor

from dvos.config.prediction import PredictorOptions
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.paper.network import PaperNetwork
from dvos.networks.xmem.network import XMem
from dvos.prediction.features import FeatureReader
from dvos.prediction.network import LoadedNetwork, choose_device
from dvos.prediction.predictor import FramePrediction, Predictor, Views
from dvos.prediction.streaming import StreamingPredictor, dvos_predictor
from fake_device import FakeDevice, fake_device, is_there
from toy_network import Toy

_NORMALISATION = {"normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}}


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    shape = {"references": 2, "channels": [4, 4, 4, 4, 4], "widths": [4, 4, 4, 4]}
    paper = {"references": 2, "base": 2, "multipliers": (1, 2), "latent": 4, "groups": 2}
    networks: dict[str, Any] = {
        "dvos": lambda: DvosNetwork(**shape, encoder="lite0"),
        "dvos, query not seen": lambda: DvosNetwork(**shape, encoder="lite0", sees_query=False),
        "paper": lambda: PaperNetwork(**paper, hidden=4),
        "toy": lambda: Toy(width=4, references=2),
    }
    return networks[name]().eval()


def _predictor(network: nn.Module, device: torch.device, **options: Any) -> Predictor:
    network = copy.deepcopy(network).to(device)
    loaded = LoadedNetwork(Path("best.safetensors"), network, _NORMALISATION, device)
    build = dvos_predictor if isinstance(network, DvosNetwork) else StreamingPredictor
    chosen = PredictorOptions.model_validate({"precision": "float32", **options})
    return build(loaded, chosen)


def _video(frames: int, size: tuple[int, int] = (70, 90)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(frames)]


def _equal(found: Iterable[FramePrediction], expected: Iterable[FramePrediction]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name in ("probability", "mask", "instances", "std"):
            values = getattr(one, name), getattr(other, name)
            assert (values[0] is None) == (values[1] is None)
            assert values[0] is None or (values[0] == values[1]).all(), name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dvos", {}),
        ("dvos", {"batch": 3, "augment": "flips_and_scales"}),
        ("dvos", {"tile": 64, "batch": 2}),
        ("dvos, query not seen", {"reference_interval": 2}),
        ("paper", {"batch": 2, "scale": 0.5}),
        ("paper", {"tile": 64, "augment": "flips"}),
        ("toy", {}),
    ],
)
def test_a_stream(name: str, options: dict[str, Any]) -> None:
    network, video = _network(name), _video(4)
    expected = _predictor(network, torch.device("cpu"), **options).segment(video, start=1)
    with fake_device("mps") as there:
        found = list(_predictor(network, there.device, **options).segment(video, start=1))
    _equal(found, expected)


@pytest.mark.parametrize("name", ["dvos", "paper"])
def test_views(name: str) -> None:
    network, video, views = _network(name), _video(3, (40, 50)), Views((1.0, 0.75), "horizontal")
    expected = _predictor(network, torch.device("cpu")).segment_views(video, views)
    with fake_device("mps") as there:
        found = list(_predictor(network, there.device).segment_views(video, views))
    _equal(found, expected)


def _brought(loaded: LoadedNetwork, there: FakeDevice) -> None:
    """Put a network that was loaded on the CPU onto the device."""
    loaded.network.to(there.device)
    object.__setattr__(loaded, "device", there.device)
    tensors = tuple(tensor.to(there.device) for tensor in loaded._normalisation)
    object.__setattr__(loaded, "_normalisation", tensors)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"long_term": False},
        {"frames": "new", "objects_at_once": 1},
        {"frames": "all", "scale": 0.5},
        {"objects": "union"},
    ],
)
def test_xmem(options: dict[str, Any]) -> None:
    video, masks = moving(24, 2)
    given = {0: np.where(masks[0] == 1, 7, 0).astype(np.uint16), 5: masks[5] * 7, 9: masks[9]}
    expected = xmem_predictor(ColourXMem(), given, **options).segment(video)
    with fake_device() as there:
        predictor = xmem_predictor(ColourXMem(), given, **options)
        _brought(predictor._loaded, there)
        found = list(predictor.segment(video))
    _equal(found, expected)


def test_the_real_xmem_consolidates_there() -> None:
    torch.manual_seed(0)
    network = XMem(key_dim=4, value_dim=8, hidden_dim=4)
    video, masks = moving(6, 2)
    options = {"mem_every": 1, "min_mid_term_frames": 1, "max_mid_term_frames": 2, "size": 32}
    expected = xmem_predictor(copy.deepcopy(network), masks[0], **options).segment(video)
    with fake_device() as there:
        predictor = xmem_predictor(network, masks[0], **options)
        _brought(predictor._loaded, there)
        found = list(predictor.segment(video))
    _equal(found, expected)


def test_features() -> None:
    network, image = _network("dvos"), _video(1)[0]

    def pieces(device: torch.device) -> list[np.ndarray]:
        loaded = LoadedNetwork(Path("x"), copy.deepcopy(network).to(device), _NORMALISATION, device)
        return [piece.values for piece in FeatureReader(loaded, 64).pieces(image)]

    expected = pieces(torch.device("cpu"))
    with fake_device() as there:
        found = pieces(there.device)
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_a_device_is_chosen_where_it_works() -> None:
    with fake_device() as there:
        place = choose_device("cuda")
        assert is_there(torch.zeros(1, device=place))
        assert place == there.device
