from __future__ import annotations

import collections
import pathlib

import numpy as np
import pytest
import torch
from published_figures import TINY, filled

from dvos.errors import CheckpointError
from dvos.networks.paper.network import PUBLISHED_NORMALISATION, PaperNetwork
from dvos.networks.weights import read_network_info
from dvos.registry import load_network, network_spec

SHAPES = {
    "tiny": TINY,
    "many references": {**TINY, "references": 5},
    "one group": {**TINY, "groups": 1},
    "wide": {**TINY, "base": 8, "latent": 16, "groups": 4, "hidden": 16, "multipliers": (1, 3, 2)},
    "image": {**TINY, "references": 0, "sees_query": True, "attention": False},
    "three blocks": {**TINY, "blocks": 3},
    "mask alone": {**TINY, "reconstructs": False},
}


def _prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_is_read_off_the_weights(tmp_path, shape):
    network = filled(PaperNetwork(**SHAPES[shape]))
    path = tmp_path / "ckpt_best.tar"
    torch.save(network.state_dict(), path)
    loaded, info = load_network(path)
    assert info.name == "paper"
    assert info.extra["normalisation"] == PUBLISHED_NORMALISATION.as_lists()
    assert not loaded.training
    frames = torch.randn(1, network.references + 1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(loaded(frames).mask_logits, network(frames).mask_logits)
    assert read_network_info(path) == info


WRAPPINGS = {
    "data parallel": lambda state: _prefixed(state, "module."),
    "compiled": lambda state: _prefixed(state, "_orig_mod."),
    "both": lambda state: _prefixed(state, "_orig_mod.module."),
    "both the other way": lambda state: _prefixed(state, "module._orig_mod."),
    "a compiled part": lambda state: {
        key.replace("decoder.", "decoder._orig_mod.", 1): value for key, value in state.items()
    },
    "nested": lambda state: {"epoch": 3, "optimizer": {"state": {}}, "network": state},
    "nested and wrapped": lambda state: {"model": {"state_dict": _prefixed(state, "module.")}},
    "beside another state": lambda state: {"loss": {"weight": torch.zeros(2)}, "model": state},
    "ordered": collections.OrderedDict,
    "half precision": lambda state: {key: value.half() for key, value in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".tar"])
def test_prefixes_and_nesting(tmp_path, wrapping, suffix):
    network = filled(PaperNetwork(**TINY))
    path = tmp_path / f"weights{suffix}"
    torch.save(WRAPPINGS[wrapping](network.state_dict()), path)
    state = load_network(path)[0].state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(state[key], value, atol=2e-3, rtol=0)


def test_old_format_and_a_name_without_a_suffix(tmp_path):
    path = tmp_path / "weights"
    torch.save(PaperNetwork(**TINY).state_dict(), path, _use_new_zipfile_serialization=False)
    assert load_network(path)[1].arguments["references"] == 2


def test_the_query_may_be_the_last_of_the_frames(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(PaperNetwork(**TINY).state_dict(), path)
    network, info = load_network(path, sees_query=True)
    assert (info.arguments["references"], network.references) == (1, 1)
    assert network(torch.zeros(1, 2, 3, 16, 16)).mask_logits.shape == (1, 1, 16, 16)


def _fault(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 300, -200])
def test_truncated(tmp_path, keep):
    path = tmp_path / "weights.tar"
    torch.save(PaperNetwork(**TINY).state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in _fault(path)


def test_missing_and_of_another_format(tmp_path):
    assert "no such file" in _fault(tmp_path / "none.pth")
    path = tmp_path / "text.pth"
    path.write_text("not weights")
    assert "damaged" in _fault(path)


def test_pickles_that_could_run_code_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": PaperNetwork(**TINY).state_dict(), "log": pathlib.Path("x")}, path)
    assert "could run code" in _fault(path)
    torch.save(PaperNetwork(**TINY), path)
    assert "could run code" in _fault(path)


def test_no_state_dict(tmp_path):
    path = tmp_path / "weights.pth"
    for value in ({"epoch": 3}, [1, 2], torch.zeros(3)):
        torch.save(value, path)
        assert "no state dict" in _fault(path)


def test_weights_of_other_networks_name_what_is_wrong(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network_spec("dvos").network().state_dict(), path)
    assert "lacks" in (text := _fault(path))
    assert "encoder.backbone.0.weight" in text
    assert "too many" in text
    assert "encoder.stem.weight" in text
    state = PaperNetwork(**TINY).state_dict()
    missing = state.pop("heads.seg_head.5.bias")
    torch.save(state, path)
    assert "lacks 1 (heads.seg_head.5.bias)" in _fault(path)
    torch.save({**state, "heads.seg_head.5.bias": missing, "spare": missing}, path)
    assert "has too many 1 (spare)" in _fault(path)
    torch.save({**state, "heads.seg_head.5.bias": torch.zeros(3)}, path)
    assert "of other shape 1 (heads.seg_head.5.bias)" in _fault(path)


def test_shapes_that_make_no_network(tmp_path):
    path = tmp_path / "weights.pth"
    state = PaperNetwork(**TINY).state_dict()
    state["encoder.encoder.2.downsample.2.weight"] = torch.zeros(3, 3, 3, 3)
    torch.save(state, path)
    assert str(path) in _fault(path)


def _spoilt(state, rng):
    """A state dict with one entry changed, as another version or a slip may."""
    keys = list(state)
    key = keys[int(rng.integers(len(keys)))]
    value = state[key]
    ways = {
        "lacking": None,
        "scalar": torch.tensor(1.0),
        "empty": torch.zeros(0),
        "no outputs": value[:0],
        "twice as wide": torch.cat([value, value]),
        "another rank": value[None],
        "another size": value.new_zeros([side + 1 for side in value.shape]),
        "sparse": value.to_sparse(),
        "no tensor": 3,
    }
    way = list(ways)[int(rng.integers(len(ways)))]
    changed = {**state, key: ways[way]}
    if ways[way] is None:
        del changed[key]
    return changed


@pytest.mark.parametrize("name", ["paper", "xmem"])
def test_other_shapes_and_entries_are_one_clear_line(tmp_path, name):
    arguments = TINY if name == "paper" else {"key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    state = filled(network_spec(name).network(**arguments)).state_dict()
    rng = np.random.default_rng(0)
    path = tmp_path / "weights.pth"
    for _ in range(60 if name == "paper" else 12):
        torch.save(_spoilt(state, rng), path)
        try:
            load_network(path)
        except CheckpointError as error:
            (fault,) = error.faults
            assert fault.where == str(path)
            assert len(str(fault)) < 700
