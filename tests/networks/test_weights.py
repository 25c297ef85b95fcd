from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dvos.errors import CheckpointError
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import read_network_info, read_state, save_network
from dvos.registry import load_network, network_spec
from dvos.training.run_folder import write_state

ARGUMENTS = {
    "references": 2,
    "channels": [4, 4, 4, 4, 4],
    "widths": [4, 4, 4, 4],
    "heads": {"mask": 1},
}
EXTRA = {"normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}


@pytest.fixture
def saved(tmp_path):
    network = network_spec("dvos").network(**ARGUMENTS).eval()
    path = tmp_path / "best.safetensors"
    save_network(path, network, name="dvos", arguments=ARGUMENTS, extra=EXTRA)
    return path, network


def test_what_is_saved_comes_back(saved):
    path, network = saved
    loaded, info = load_network(path)
    assert isinstance(loaded, DvosNetwork)
    assert not loaded.training
    assert (info.name, info.arguments, info.extra) == ("dvos", ARGUMENTS, EXTRA)
    assert read_network_info(path) == info
    frames = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(frames).mask_logits, network(frames).mask_logits)


def test_nothing_else_is_left_in_the_folder(saved):
    path, _ = saved
    assert [file.name for file in path.parent.iterdir()] == ["best.safetensors"]


def _fault(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing(tmp_path):
    assert "no such file" in _fault(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 1000, -10])
def test_truncated(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in _fault(path)


def test_a_bit_that_has_changed_is_told(saved):
    path, _ = saved
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for at in (whole.index(b"0.5, 0.5"), length + 8, (length + len(whole)) // 2, len(whole) - 1):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        assert "damaged: its weights are not those that were written" in _fault(path)


def test_the_same_weights_are_the_same_bytes(saved):
    path, network = saved
    data = path.read_bytes()
    for _ in range(8):
        save_network(path, network, name="dvos", arguments=ARGUMENTS, extra=EXTRA)
        assert path.read_bytes() == data


def test_weights_of_an_earlier_release_have_no_checksum(saved):
    path, network = saved
    with safe_open(path, "pt") as stored:
        said = json.loads(stored.metadata()["dvos"])
    del said["checksum"]
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata={"dvos": json.dumps(said)})
    assert load_network(path)[1].extra == EXTRA


def test_of_another_kind(tmp_path):
    path = tmp_path / "other.safetensors"
    torch.save({"weight": torch.zeros(2)}, path)
    assert "not a safetensors file" in _fault(path)
    save_file({"weight": torch.zeros(2)}, path)
    assert "which network" in _fault(path)
    save_file({"weight": torch.zeros(2)}, path, metadata={"dvos": "[1, 2]"})
    assert "which network" in _fault(path)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_weights_that_are_no_numbers(tmp_path, value, ending):
    """Of a training that diverged unseen, or of a file that a program spoilt."""
    path, network = tmp_path / f"w{ending}", network_spec("dvos").network(**ARGUMENTS)
    key, tensor = next((k, t) for k, t in network.state_dict().items() if t.ndim == 4)
    with torch.no_grad():
        tensor[0, 0, 0, 0] = value
    if ending == ".pth":
        torch.save({"model": network.state_dict()}, path)
    else:
        save_network(path, network, name="dvos", arguments=ARGUMENTS)
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert str(caught.value).startswith(f"{path}: {key} holds values that are no numbers")
    assert "holds values that are no numbers" in _fault(path)


def test_weights_of_another_network(tmp_path):
    network = network_spec("dvos").network(**ARGUMENTS)
    path = tmp_path / "best.safetensors"
    save_network(path, network, name="dvos", arguments={**ARGUMENTS, "widths": [4, 4, 4, 8]})
    assert "do not fit" in _fault(path)
    save_network(path, network, name="dvos", arguments={"colour": "red"})
    assert "cannot be built" in _fault(path)
    save_network(path, network, name="unknown", arguments={})
    assert "the network 'unknown'" in _fault(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.to(torch.int8), "of another type 1"),
        (lambda x: x.to(torch.complex64), "of another type 1"),
        (lambda x: x[:1], "of other shape 1"),
        (lambda x: torch.zeros(()), "of other shape 1"),
        (None, "lacks 1"),
    ],
)
def test_one_weight_that_is_not_as_it_should_be(saved, change, words):
    path, network = saved
    state = dict(network.state_dict())
    key = next(key for key, value in state.items() if value.ndim == 4 and len(value) > 1)
    value = state.pop(key)
    if change:
        state[key] = change(value)
    save_network(path, state, name="dvos", arguments=ARGUMENTS, extra=EXTRA)
    told = _fault(path)
    assert words in told
    assert key in told


@pytest.mark.parametrize(
    "arguments", [{"references": -1}, {"channels": [-1] * 5}, {"widths": None}, {"other": 1}]
)
def test_arguments_that_build_no_network(saved, arguments):
    path, network = saved
    save_network(path, network, name="dvos", arguments=ARGUMENTS | arguments, extra=EXTRA)
    assert "its network cannot be built" in _fault(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"widths": [10**6] * 4},  # 72 terabytes
        {"channels": [4, 4, 4, 4, 10**12]},
        {"heads": {"mask": 10**10}},
        {"heads": {"mask": 1} | {f"head {number}": 1 for number in range(10_000)}},
    ],
)
def test_an_enormous_network_is_refused_before_it_takes_memory(saved, arguments):
    path, network = saved
    save_network(path, network, name="dvos", arguments=ARGUMENTS | arguments, extra=EXTRA)
    assert "it is larger than its weights" in _fault(path)


def test_a_published_network_whose_blocks_never_end_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    arguments = {"references": 1, "base": 8, "multipliers": [1, 2], "latent": 16, "groups": 4}
    network = network_spec("paper").network(**arguments, hidden=8)
    save_network(path, network, name="paper", arguments={**arguments, "hidden": 8})
    load_network(path)
    # More than any list can hold: they are not listed before they are counted.
    many = {**arguments, "hidden": 8, "blocks": 10**15}
    save_network(path, network, name="paper", arguments=many)
    assert "it is larger than its weights" in _fault(path)


@pytest.mark.parametrize("encoder", ["lite0", "lite2"])
def test_what_earlier_checkpoints_do_not_name_is_read_off_the_weights(
    tmp_path: Path, encoder: str
) -> None:
    # The widths and the encoder that version 0.1.0 took where nothing was said.
    widths = {"channels": [16, 32, 48, 96, 160], "widths": [32, 48, 64, 128]}
    network = network_spec("dvos").network(encoder=encoder, **widths)
    save_network(tmp_path / "a.safetensors", network, name="dvos", arguments={"references": 4})
    loaded, info = load_network(tmp_path / "a.safetensors")
    assert info.arguments == {"references": 4}
    assert all(
        torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items()
    )


def test_reading_a_network_loads_no_compiler_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arguments = {"references": 1, "base": 8, "multipliers": [1, 2], "latent": 16, "hidden": 8}
    network = network_spec("paper").network(**arguments)
    save_network(path, network, name="paper", arguments=arguments)
    code = (
        "import sys; from pathlib import Path; from dvos.registry import load_network\n"
        f"load_network(Path({str(path)!r}))\n"
        "sys.exit(bool({'sympy', 'torch._dynamo'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_state_of_a_training_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_state(path, {"network": {"a": torch.zeros(2)}, "step": 3})
    told = r"last\.ckpt: is the state of a training.*give .*best\.safetensors"
    for read in (read_network_info, load_network):
        with pytest.raises(CheckpointError, match=told):
            read(path)
