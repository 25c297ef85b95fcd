"""The pass over time: what is minimised, resumed runs, two processes, the weights to start from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_xmem import FRAMES, MovingSquares, tiny_network, tiny_objective, tiny_xmem_run
from torch.utils.data import default_collate

from dvos.errors import CheckpointError
from dvos.training.networks import load_backbone, quieten_residuals
from dvos.training.run_folder import read_state
from dvos.training.targets import IGNORED_CLASS
from dvos.training.tracking import TrackingObjective

CPU = torch.device("cpu")


def _batch(*numbers: int) -> dict[str, torch.Tensor]:
    return default_collate([MovingSquares()[k] for k in numbers])


def _loss(objective: TrackingObjective, batch, *, step: int = 0, network=None):
    network = network or tiny_network()
    return objective(network, batch, step=step, devices=1, add=lambda x: x)


def test_a_batch_has_the_mean_loss_of_its_clips():
    objective, network = tiny_objective(), tiny_network()
    both = _loss(objective, _batch(0, 1), network=network)[1]
    alone = [_loss(objective, _batch(k), network=network)[1] for k in (0, 1)]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-5, atol=1e-6)
    assert both[0] == pytest.approx(float(both[1:].sum()), rel=1e-6)


def test_every_weight_has_a_gradient():
    network = tiny_network()
    loss, _ = _loss(tiny_objective(), _batch(0, 1), network=network)
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_unknown_pixels_and_absent_objects_do_not_matter():
    objective, network = tiny_objective(), tiny_network()
    batch = _batch(1)
    assert int(batch["count"]) == 1
    changed = {key: value.clone() for key, value in batch.items()}
    for item in (batch, changed):
        item["target"][:, 1:, :8] = IGNORED_CLASS
    # What lies under unknown pixels counts neither for the entropy nor for Dice.
    before = objective.loss(*_frame(network, batch), [1], 0)
    scrambled = _frame(network, changed)
    scrambled[0][..., :8, :] += 1.0
    after = objective.loss(*scrambled, [1], 0)
    torch.testing.assert_close(before, after)


def _frame(network, batch):
    masks = torch.stack([(batch["target"][:, 0] == i).float() for i in (1, 2)], 1)
    with torch.no_grad():
        logits, probability = network(
            batch["frames"], masks, batch["count"], batch["memory"], [True] * FRAMES
        )
    truth = batch["target"][:, 1]
    return logits[:, 0].clone(), probability[:, 0, 1:] * (truth != IGNORED_CLASS)[:, None], truth


def test_it_learns(tmp_path):
    network = tiny_network()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss, values = _loss(tiny_objective(), _batch(0, 1), network=network)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(values[0]))
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_run_is_an_unbroken_one(tmp_path):
    class StopError(Exception):
        pass

    class Breaking(MovingSquares):
        def __getitem__(self, k):
            if k >= 12:
                raise StopError
            return super().__getitem__(k)

    whole = tmp_path / "whole"
    tiny_xmem_run(whole, accumulate=2).run()
    broken = tmp_path / "broken"
    with pytest.raises(StopError):
        tiny_xmem_run(broken, accumulate=2, training=Breaking(), save_steps=1).run()
    state = read_state(broken / "last.ckpt")
    assert state["progress"]["step"] in (2, 3)
    again = tiny_xmem_run(broken, accumulate=2)
    again.restore(state)
    again.run()
    one, two = (read_state(folder / "last.ckpt") for folder in (whole, broken))
    for part in ("network", "average"):
        states = [found[part].get("state", found[part]) for found in (one, two)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


_SCRIPT = """
import sys
from pathlib import Path
from dvos.training.devices import build_fabric
from tiny_training import tiny_settings
from tiny_xmem import tiny_xmem_run
fabric = build_fabric(tiny_settings(Path(sys.argv[1]), device="cpu", threads=1))
assert fabric.world_size == 2
tiny_xmem_run(Path(sys.argv[1]), fabric=fabric, accumulate=2, sgd=True).run()
"""


def test_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tiny_xmem_run(tmp_path / "one", accumulate=2, sgd=True).run()
    one, two = (read_state(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    for record, twin in zip(one["progress"]["records"], two["progress"]["records"], strict=True):
        for name in ("train_loss", "train_cross_entropy", "train_soft_dice"):
            assert record[name] == pytest.approx(twin[name], rel=1e-4), name
    for key, value in one["network"].items():
        torch.testing.assert_close(value, two["network"][key], atol=1e-5, rtol=1e-4)


def test_validation_counts_the_labelled_frames_after_the_first():
    objective, network = tiny_objective(objects=1), tiny_network().eval()
    clips = MovingSquares(count=2)
    found = objective.measure(network, clips, [0, 1], device=CPU, add=lambda x: x)
    assert found.losses["loss"] == pytest.approx(
        found.losses["cross_entropy"] + found.losses["soft_dice"]
    )
    halves = [objective.measure(network, clips, [k], device=CPU, add=lambda x: x) for k in (0, 1)]
    assert min(h.dice for h in halves) <= found.dice <= max(h.dice for h in halves)
    picture = objective.segment(network, clips[0], CPU)
    assert picture.probability.shape == picture.target.shape == picture.weight.shape
    torch.testing.assert_close(picture.query, clips[0]["frames"][-1])


def _resnet18() -> dict[str, torch.Tensor]:
    """The names of the published classifier, as far as they matter."""
    from dvos.networks.xmem.network import XMem

    encoder = XMem(key_dim=4, value_dim=4, hidden_dim=4).value_encoder
    own = encoder.state_dict()
    state = {k: torch.full_like(v, 0.5) for k, v in own.items() if k.startswith(("bn1", "layer"))}
    state["conv1.weight"] = torch.ones(64, 3, 7, 7)
    return state | {"fc.bias": torch.zeros(1000), "layer4.0.conv1.weight": torch.zeros(1)}


def test_backbone_weights_fill_the_encoder(tmp_path):
    from dvos.networks.xmem.network import XMem

    file = tmp_path / "resnet18.pth"
    state = _resnet18()
    torch.save(state, file)
    encoder = XMem(key_dim=4, value_dim=4, hidden_dim=4).value_encoder
    load_backbone(encoder, file, name="resnet18")
    stem = encoder.state_dict()["conv1.weight"]
    assert (stem[:, :3] == 1).all()
    rows = stem[:, 3:].flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
    assert (encoder.state_dict()["layer3.1.conv2.weight"] == 0.5).all()
    del state["layer1.0.conv1.weight"]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"is no resnet18.*layer1\.0\.conv1\.weight"):
        load_backbone(encoder, file, name="resnet18")


def test_without_weights_maps_stay_in_range():
    network = tiny_network()
    quieten_residuals(network.value_encoder)
    x = torch.randn(1, 64, 16, 16)
    after = network.value_encoder.layer3(
        network.value_encoder.layer2(network.value_encoder.layer1(x))
    )
    assert 0.1 < float(after.detach().std()) < 3
