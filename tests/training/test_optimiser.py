from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from dvos.config.training import OptimiserSettings
from dvos.training.networks import WeightAverage, build_adamw, set_rate

SETTINGS = OptimiserSettings(lr=1.0, weight_decay=0.1)


class _Parts(nn.ModuleDict):
    PARTS: ClassVar = {"encoder": ("encoder.",)}


def _network() -> nn.Module:
    parts = {"encoder": nn.Conv2d(1, 2, 3), "norm": nn.LayerNorm(2), "head": nn.Linear(2, 2)}
    return _Parts(parts)


def test_decay_is_for_kernels_and_the_encoder_is_slower():
    network = _network()
    optimiser = build_adamw(network, SETTINGS, encoder=0.3)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    by_name = {name: found[id(p)] for name, p in network.named_parameters()}
    assert by_name == {
        "encoder.weight": (0.3, 0.1),
        "encoder.bias": (0.3, 0.0),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
    }
    set_rate(optimiser, 0.5)
    assert sorted({group["lr"] for group in optimiser.param_groups}) == [0.15, 0.5]


def test_frozen_parameters_are_left_out():
    network = _network()
    network["encoder"].requires_grad_(False)
    optimiser = build_adamw(network, SETTINGS)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4


def test_average_forgets_the_start_and_lags_behind():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    average = WeightAverage(network, 0.9)
    for _ in range(60):
        nn.init.constant_(network.weight, 1.0)
        average.update(network)
    assert average.weights["weight"].item() == pytest.approx(1.0, abs=0.1)
    nn.init.constant_(network.weight, 2.0)
    average.update(network)
    assert average.weights["weight"].item() == pytest.approx(1.1, abs=0.1)


def test_average_is_lent_and_given_back():
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        network.weight.add_(1)
    average.update(network)
    own = network.weight.clone()
    with average.applied(network):
        assert torch.equal(network.weight, average.weights["weight"])
        assert not torch.equal(network.weight, own)
    assert torch.equal(network.weight, own)


def test_of_the_start_a_share_is_kept_where_it_is_known():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    start = {"0.weight": torch.tensor([[3.0]], dtype=torch.float16), "other": torch.ones(2)}
    for one in network:
        nn.init.constant_(one.weight, 1.0)
    average = WeightAverage(network, 0.0, (start, 0.25))
    average.update(network)
    with average.applied(network):
        assert [one.weight.item() for one in network] == [1.5, 1.0]
    assert [one.weight.item() for one in network] == [1.0, 1.0]
    assert average.weights["0.weight"].item() == 1.0


def test_average_goes_on_where_it_stopped():
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.9)
    average.update(network)
    other = WeightAverage(nn.Linear(2, 2), 0.9)
    other.load_state_dict(average.state_dict())
    for one in (average, other):
        one.update(network)
    assert torch.equal(average.weights["weight"], other.weights["weight"])
