"""Parts that are frozen keep weights and statistics; the rest learns."""

from __future__ import annotations

import pytest
import torch
from tiny_training import ARGUMENTS, tiny_run

from dvos.config.training import OptimiserSettings
from dvos.errors import ConfigError
from dvos.networks.paper.network import PaperNetwork
from dvos.registry import load_network, network_spec
from dvos.training.networks import freeze_parts, parts_of

PAPER = {"references": 2, "base": 4, "multipliers": [1, 2], "latent": 8, "groups": 4, "hidden": 8}
PARTS = ("encoder", "decoder", "heads", "mask", "reconstruction")


def _networks():
    return {"dvos": network_spec("dvos").network(**ARGUMENTS), "paper": PaperNetwork(**PAPER)}


@pytest.mark.parametrize("name", ["dvos", "paper"])
def test_the_parts_make_up_the_network(name):
    network = _networks()[name]
    names = {key for key, _ in network.named_parameters()}
    assert set(type(network).PARTS) - {"objects"} == set(PARTS)
    owned = {
        part: {key for key in names if key.startswith(parts_of(network)[part])} for part in PARTS
    }
    assert all(owned.values())
    assert owned["encoder"] | owned["decoder"] | owned["heads"] == names
    assert sum(len(owned[part]) for part in ("encoder", "decoder", "heads")) == len(names)
    assert owned["mask"] | owned["reconstruction"] <= owned["heads"]
    assert not owned["mask"] & owned["reconstruction"]


@pytest.mark.parametrize("name", ["dvos", "paper"])
@pytest.mark.parametrize("part", PARTS)
def test_a_frozen_part_alone_has_no_gradient(name, part):
    network = _networks()[name]
    freeze_parts(network, [part])
    prefixes = parts_of(network)[part]
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad != key.startswith(prefixes), key


def test_parts_that_are_not_there_are_told_each():
    network = network_spec("dvos").network(**ARGUMENTS, heads={"mask": 1})
    with pytest.raises(ConfigError) as caught:
        freeze_parts(network, ["reconstruction", "mask", "tail"])
    first, second = map(str, caught.value.faults)
    assert "optimiser.freeze: reconstruction is no part" in first
    assert "losses.reconstruction" in first
    assert "tail is no part of this network; expected some of encoder, decoder, heads" in second
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_freezing_all_is_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        freeze_parts(network_spec("dvos").network(**ARGUMENTS), ["encoder", "decoder", "heads"])
    with pytest.raises(ValueError, match="tail"):
        OptimiserSettings(freeze=("tail",))


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_a_frozen_part_stay_too(tmp_path, frozen):
    run = tiny_run(tmp_path, arguments={"frozen_statistics": False}, epochs=1)
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    if frozen:
        run.frozen = tuple(freeze_parts(run.network, ["encoder"]))
        assert len(run.frozen) > 40
    run.run()
    after = run.network.state_dict()
    same = {
        key: torch.equal(before[key], after[key]) for key in before if key.startswith("encoder.")
    }
    assert all(same.values()) == frozen
    assert any("running_mean" in key for key in same)
    assert not any(
        torch.equal(before[key], after[key]) for key in before if key.startswith("heads.mask.")
    )


def test_a_run_with_frozen_parts(tmp_path):
    ends = {}
    for name, optimiser in {
        "factor": {"encoder_lr_factor": 0},
        "parts": {"freeze": ["encoder", "mask"]},
    }.items():
        options = {"epochs": 1, "clips": 4, "ema_decay": 0, "optimiser": optimiser}
        run = tiny_run(tmp_path / name, arguments={}, **options)
        ends["begun"] = {key: value.clone() for key, value in run.network.state_dict().items()}
        ends[name] = load_network(run.run().best)[0].state_dict()

    def moved(name: str, prefix: str) -> bool:
        weights = [k for k in ends[name] if k.startswith(prefix) and k.endswith("weight")]
        return any((ends[name][k] - ends["begun"][k]).abs().max() > 1e-6 for k in weights)

    assert not moved("factor", "encoder.")
    assert not moved("parts", "encoder.")
    assert not moved("parts", "heads.mask.")
    for name, prefix in (("factor", "heads.mask."), ("factor", "decoder."), ("parts", "decoder.")):
        assert moved(name, prefix)
