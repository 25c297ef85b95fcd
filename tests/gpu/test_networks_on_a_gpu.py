"""Every network gives on a GPU what it gives on a CPU, in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.dvos.running import TiledDvosNetwork
from dvos.networks.paper.network import PaperNetwork
from dvos.networks.spec import Outputs
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem

CPU = torch.device("cpu")
#: Largest difference of a value from the CPU's, in units of the largest value.
OUTPUTS, GRADIENTS = 1e-4, 1e-3

_BUILD: dict[str, Callable[[], nn.Module]] = {
    "dvos": lambda: DvosNetwork(references=2),
    "dvos, statistics learnt": lambda: DvosNetwork(
        references=2, encoder="lite0", frozen_statistics=False, reference_gradient=True
    ),
    "dvos, query not seen": lambda: DvosNetwork(references=2, encoder="lite0", sees_query=False),
    # Noise on the skips is drawn by the device's own generator.
    "paper": lambda: PaperNetwork(references=2, skip_diffusion=False),
    "xmem": lambda: XMem(key_dim=16, value_dim=32, hidden_dim=16),
}


def _arguments(name: str) -> tuple[Any, ...]:
    """Of the network's forward pass, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 3, 3, 64, 96, generator=generator)
    if name != "xmem":
        return (frames,)
    masks = torch.zeros(2, 2, 64, 96)
    masks[:, 0, 8:40, 8:40] = 1
    masks[0, 1, 20:60, 50:90] = 1
    memory = torch.tensor([[0, 0], [0, 0], [0, 1]]).expand(2, 3, 2)
    return frames, masks, torch.tensor([2, 1]), memory, [True, False, True]


def _apart(found: Tensor, expected: Tensor) -> float:
    scale = max(float(expected.abs().max()), 1e-6)
    return float((found.detach().cpu() - expected.detach()).abs().max()) / scale


def _passes(network: nn.Module, arguments: tuple[Any, ...], device: torch.device) -> Any:
    """Outputs of a pass, and the gradients of their mean square."""
    network = copy.deepcopy(network).to(device).train()
    moved = [x.to(device) if isinstance(x, Tensor) else x for x in arguments]
    outputs = network(*moved)
    if isinstance(outputs, Outputs):
        outputs = [x for x in (outputs.mask_logits, outputs.reconstruction) if x is not None]
    sum(x.square().mean() for x in outputs).backward()
    grads = {name: x.grad for name, x in network.named_parameters() if x.grad is not None}
    return outputs, grads


@pytest.mark.parametrize("name", _BUILD)
def test_outputs_and_gradients(name: str, device: torch.device) -> None:
    torch.manual_seed(0)
    network, arguments = _BUILD[name](), _arguments(name)
    expected, expected_grads = _passes(network, arguments, CPU)
    found, grads = _passes(network, arguments, device)
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == device.type
        assert _apart(one, other) < OUTPUTS
    assert grads.keys() == expected_grads.keys()
    largest = max(float(x.abs().max()) for x in expected_grads.values())
    wrong = {
        key: float((grads[key].cpu() - expected_grads[key]).abs().max()) / largest for key in grads
    }
    assert max(wrong.values()) < GRADIENTS, max(wrong, key=lambda key: wrong[key])


@pytest.mark.parametrize("tile", [0, 64])
def test_the_compact_network_as_it_predicts(tile: int, device: torch.device) -> None:
    torch.manual_seed(0)
    network = DvosNetwork(references=2, encoder="lite0").for_inference()
    frames = [torch.randn(1, 3, 130, 150) for _ in range(3)]

    def run(where: torch.device, side: int) -> Tensor:
        there = copy.deepcopy(network).to(where)
        tiled = TiledDvosNetwork(there, side) if side else there
        with torch.inference_mode():
            maps = [tiled.encode(frame.to(where)) for frame in frames]
            windows = [list(scale) for scale in zip(*maps, strict=True)]
            return tiled.decode(windows, (130, 150), reconstruct=False).mask_logits

    assert _apart(run(device, tile), run(CPU, 0)) < OUTPUTS


@pytest.mark.parametrize("long_term", [True, False])
def test_xmem_over_a_video(long_term: bool, device: torch.device) -> None:
    """All elements are read, as near ties of the last read and the first not read go either way."""
    torch.manual_seed(0)
    network = XMem(key_dim=8, value_dim=16, hidden_dim=8).for_inference()
    settings = MemorySettings(
        mem_every=1, min_mid_term_frames=1, max_mid_term_frames=3, prototypes=6,
        long_term_max=14, top_k=10_000, long_term=long_term,
    )  # fmt: skip
    video = torch.randn(1, 3, 64, 80) + 0.1 * torch.randn(9, 3, 64, 80)
    first, later = torch.zeros(3, 64, 80), torch.zeros(2, 64, 80)
    for index in range(3):
        first[index, 8:40, 20 * index : 20 * index + 16] = 1
    later[0, 40:60, 10:30] = later[1, 44:64, 50:80] = 1
    masks = {0: (first, [1, 2, 3]), 4: (later, [2, 9])}

    def run(where: torch.device) -> list[Tensor]:
        engine = XMemEngine(copy.deepcopy(network).to(where), settings=settings, objects_at_once=2)
        found = []
        for index, frame in enumerate(video):
            mask, ids = masks.get(index, (None, None))
            found.append(engine.step(frame.to(where), mask, ids).cpu())
        assert (engine.memories[0].long_term_elements > 0) == long_term
        return found

    for one, other in zip(run(device), run(CPU), strict=True):
        assert _apart(one, other) < OUTPUTS


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_xmem_in_half_precision(precision: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    network = XMem(key_dim=8, value_dim=16, hidden_dim=8).for_inference()
    video, mask = (
        torch.randn(1, 3, 64, 80) + 0.1 * torch.randn(4, 3, 64, 80),
        torch.zeros(2, 64, 80),
    )
    mask[0, 8:40, 8:40] = mask[1, 20:60, 50:70] = 1

    def run(where: torch.device, half: torch.dtype | None) -> Tensor:
        engine = XMemEngine(network.to(where).for_inference(precision=half))
        steps = [engine.step(x.to(where), mask if not i else None) for i, x in enumerate(video)]
        assert all(x.dtype == torch.float32 for x in steps)
        return steps[-1].cpu()

    assert float((run(device, precision) - run(CPU, None)).abs().mean()) < 0.01
