"""Training on a device: nothing of it lies elsewhere, and it learns what it learns on a CPU.

The device is the stand-in of ``tests/fake_device.py``, of which CUDA is not asked; weights are the
same, whether a run goes on where it began or on another device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from tiny_training import tiny_run
from tiny_xmem import MovingSquares, tiny_network, tiny_objective, tiny_xmem_run
from torch import Tensor

from dvos.networks.spec import Normalisation
from dvos.networks.weights import read_state as read_weights
from dvos.training.loop import Training
from dvos.training.losses import ImageBatch, PerceptualFeatures, perceptual
from dvos.training.objective import Measures
from dvos.training.run_folder import read_state
from fake_device import FakeDevice, fake_device, is_there

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")

_MASK_LOSSES = ("iou", "tversky", "focal", "focal_tversky")
_IMAGE_LOSSES = ("reconstruction", "mse", "mae", "ms_ssim", "gradient_difference")
_LOSSES = dict.fromkeys((*_MASK_LOSSES, *_IMAGE_LOSSES), 0.5)
_RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "paper": (tiny_run, {"losses": _LOSSES}),
    "dvos": (tiny_run, {"arguments": {}, "clip_norm": 0.5}),
    "dvos, statistics learnt": (
        tiny_run,
        {"arguments": {"frozen_statistics": False}, "sgd": True, "validation": None},
    ),
    # Its narrow network is built by no arguments that a checkpoint could tell.
    "xmem": (tiny_xmem_run, {"validation": None}),
}


class _Anywhere(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        del device


def _fabric(there: FakeDevice) -> Any:
    return Fabric(strategy=SingleDeviceStrategy(there.device, accelerator=_Anywhere()))


def _trained(run: Training) -> dict[str, Tensor]:
    run.run()
    return {key: value.detach().cpu() for key, value in run.network.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    # Under a mode that sees operators torch takes batch norms apart, which rounds otherwise.
    return all(torch.allclose(value, other[key], 1e-4, 1e-5) for key, value in one.items())


@pytest.mark.parametrize("name", _RUNS)
def test_a_run_is_all_on_its_device(name: str, tmp_path: Path) -> None:
    build, options = _RUNS[name]
    options = {"epochs": 1, "clips": 4, "pictures": 1, **options}
    expected = _trained(build(tmp_path / "cpu", **options))
    with fake_device("mps") as there:
        run = build(tmp_path / "there", fabric=_fabric(there), **options)
        found = _trained(run)
        state = [*run.network.state_dict().values(), *run.average.weights.values()]
        moments = [x for each in run.optimiser.state.values() for x in each.values()]
        assert all(map(is_there, [*state, *moments]))
    assert _same(found, expected)
    best = [read_weights(tmp_path / where / "best.safetensors") for where in ("cpu", "there")]
    assert _same(*best)


@pytest.mark.parametrize("name", ["paper", "xmem"])
def test_a_run_goes_on_elsewhere_and_back(name: str, tmp_path: Path) -> None:
    build, options = _RUNS[name]
    options = {"epochs": 3, "clips": 4, **options, "validation": None}
    expected = _trained(build(tmp_path / "whole", **options))

    def go_on(epochs: int, fabric: Any = None) -> dict[str, Tensor]:
        run = build(tmp_path / "parts", fabric=fabric, **options)
        if run.folder.state.is_file():
            run.restore(read_state(run.folder.state))
        # It stops after so many epochs, as one that is killed does.
        end = run._end_epoch

        def stop() -> None:
            end()
            run.progress.finished = len(run.progress.records) == epochs

        run._end_epoch = stop  # type: ignore[method-assign]
        return _trained(run)

    go_on(1)
    with fake_device("mps") as there:
        go_on(2, _fabric(there))
    assert _same(go_on(3), expected)


def test_xmem_is_measured_there() -> None:
    clips, objective, network = MovingSquares(1), tiny_objective(), tiny_network()

    def measured(device: torch.device) -> Measures:
        return objective.measure(
            network.to(device).eval(), clips, [0], device=device, add=lambda x: x
        )

    expected = measured(torch.device("cpu"))
    with fake_device("mps") as there:
        found = measured(there.device)
        picture = objective.segment(network, clips[0], there.device)
    assert found == expected
    assert picture.probability.shape == picture.target.shape


def test_the_perceptual_loss_follows_its_images() -> None:
    features = PerceptualFeatures()
    with fake_device("mps") as there:
        images = [torch.rand(1, 3, 16, 16, device=there.device) for _ in range(2)]
        norm = Normalisation((0.5,) * 3, (0.5,) * 3)
        batch = ImageBatch(images[0].requires_grad_(), images[1], norm)
        loss, amount = perceptual(batch, features=features)
        loss.backward()
        assert is_there(loss)
        assert is_there(amount)
        assert is_there(images[0].grad)
