"""The one list of networks: what is looked up in it, and what is told of names and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvos.api import train
from dvos.checking import check
from dvos.errors import CheckpointError, ConfigError
from dvos.networks.weights import save_network
from dvos.registry import NETWORKS, network_spec, spec_of


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_by_its_own_name(name: str) -> None:
    spec = network_spec(name)
    assert spec.name == name
    assert len(spec.normalisation.mean) == len(spec.normalisation.std) == 3


def test_a_network_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    message = r"network\.name: .*'other'; expected one of dvos, paper, xmem"
    with pytest.raises(ConfigError, match=message):
        train(out=tmp_path / "run", network="other")
    assert not (tmp_path / "run").exists()
    file = tmp_path / "train.yaml"
    file.write_text("out: run\nnetwork: other\ndata: {stills: {folders: [none]}}\n")
    with pytest.raises(ConfigError, match=message):
        check(file)


def test_options_are_for_networks_that_have_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.options: holds width, but the network dvos"):
        train(out=tmp_path / "run", network={"options": {"width": 3}})


def test_the_network_of_a_checkpoint(tmp_path: Path) -> None:
    arguments = {"base": 4, "multipliers": [1], "latent": 4, "hidden": 8}
    path = tmp_path / "paper.safetensors"
    save_network(
        path, network_spec("paper").network(**arguments), name="paper", arguments=arguments
    )
    spec = spec_of(path)
    assert spec is not None
    assert spec.name == "paper"
    assert spec_of(tmp_path / "model.onnx") is None
    save_network(path, network_spec("paper").network(**arguments), name="new", arguments=arguments)
    with pytest.raises(CheckpointError, match="holds the network 'new'; expected one of dvos"):
        spec_of(path)
