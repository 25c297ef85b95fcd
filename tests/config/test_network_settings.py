"""Which settings belong to which network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvos.config.load import load_settings
from dvos.config.network import NetworkSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError


def network(*overrides: str, **values: Any) -> NetworkSettings:
    options = {"out": "x", **values}
    return load_settings(TrainingSettings, overrides=overrides, options=options).network


def test_a_name_alone_is_enough(tmp_path: Path) -> None:
    assert network("network=paper") == network("network.name=paper")
    file = tmp_path / "train.yaml"
    file.write_text("out: x\nnetwork: paper\n")
    assert load_settings(TrainingSettings, config=file).network.name == "paper"
    assert network(network="dvos") == NetworkSettings()


def test_the_query_is_seen_by_one_network_and_not_by_the_other() -> None:
    assert network().looks_at_query
    assert not network("network=paper").looks_at_query
    assert network("network={name: paper, sees_query: true}").looks_at_query
    assert not network("network.sees_query=false").looks_at_query


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{name: paper, dvos: {widths: [8, 8, 8, 8]}}", "dvos cannot be set for the network paper"),
        (
            "{name: paper, encoder_weights: none, dvos: {fused: [true, true, true, true, true]}}",
            "encoder_weights, dvos",
        ),
        ("{paper: {base: 8}}", "paper cannot be set for the network dvos"),
        ("{name: paper, references: 0}", "references is 0"),
        ("{name: paper, paper: {groups: 3}}", "base = 4, latent = 256"),
        ("{name: paper, paper: {hidden: 12}}", "half of hidden = 6"),
        ("{name: paper, paper: {multipliers: [4, 0]}}", "under 1"),
    ],
)
def test_contradictions_are_told(settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(f"network={settings}")


def test_defaults_of_the_other_network_are_no_contradiction() -> None:
    shown = network("network=paper").model_dump()
    assert NetworkSettings.model_validate(shown).name == "paper"
