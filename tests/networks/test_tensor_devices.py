"""Networks make every tensor where its partners are.

The device ``meta``, which holds shapes and no values, stands for a GPU; a mode that sees every
operator refuses those that would join tensors of two devices, as a GPU would.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.dvos.running import TiledDvosNetwork
from dvos.networks.paper.network import PaperNetwork
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem, aggregate_probability
from fake_device import fake_device, is_there

#: What brings tensors from one device to another.
_COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class OneDevice(TorchDispatchMode):
    """Refuses operators on tensors of two devices; numbers of the CPU go with any."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        devices = {x.device for x in tensors if x.ndim or x.device.type != "cpu"}
        if len(devices) > 1 and func not in _COPIES:
            raise AssertionError(f"{func} joins tensors of {sorted(map(str, devices))}")
        return func(*args, **(kwargs or {}))


def _there(*shape: int) -> Tensor:
    return torch.zeros(shape, device="meta")


def _clip_networks():
    shape = {"references": 2, "channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}
    paper = {"references": 2, "base": 2, "multipliers": (1, 2), "latent": 4, "groups": 2}
    with torch.device("meta"):
        return {
            "dvos": DvosNetwork(**shape),
            "dvos, query not seen": DvosNetwork(**shape, sees_query=False),
            "dvos, query alone": DvosNetwork(**shape, fusion="none"),
            "paper": PaperNetwork(**paper, hidden=4),
            "paper, query seen": PaperNetwork(**paper, hidden=4, sees_query=True),
        }


@pytest.mark.parametrize("name", _clip_networks())
@pytest.mark.parametrize("training", [True, False])
def test_clips(name: str, training: bool) -> None:
    network = _clip_networks()[name].train(training)
    with OneDevice(), torch.set_grad_enabled(training):
        outputs = network(_there(2, 3, 3, 33, 40))
        if training:
            (outputs.mask_logits.sum() + outputs.reconstruction.sum()).backward()
    assert outputs.mask_logits.device.type == "meta"


@pytest.mark.parametrize("name", _clip_networks())
@pytest.mark.parametrize("tile", [0, 32])
def test_streams(name: str, tile: int) -> None:
    network = _clip_networks()[name].eval()
    if isinstance(network, DvosNetwork):
        network = network.for_inference()
        network = TiledDvosNetwork(network, tile) if tile else network
    with OneDevice(), torch.inference_mode():
        maps = [network.encode(_there(1, 3, 70, 90)) for _ in range(3)]
        windows = [list(scale) for scale in zip(*maps, strict=True)]
        found = network.decode(windows, (70, 90), reconstruct=False).mask_logits
    assert found.device.type == "meta"


@pytest.mark.parametrize("long_term", [True, False])
def test_xmem_over_a_video(long_term: bool) -> None:
    with torch.device("meta"):
        network = XMem(key_dim=8, value_dim=16, hidden_dim=8)
    settings = MemorySettings(
        mem_every=1, min_mid_term_frames=1, max_mid_term_frames=3, prototypes=2, long_term=long_term
    )
    engine = XMemEngine(network.for_inference(), settings=settings, objects_at_once=2)
    # Masks may come from anywhere: they are brought to the frame.
    masks = {1: (torch.zeros(3, 40, 50), [1, 2, 3]), 4: (_there(2, 40, 50), [2, 9])}
    for index in range(9):
        with OneDevice():
            found = engine.step(_there(3, 40, 50), *masks.get(index, ()))
        assert found.device.type == "meta"
    assert len(engine.memories) == 2
    assert (engine.memories[0].long_term_elements > 0) == long_term


def test_xmem_over_a_clip(monkeypatch) -> None:
    # There is no mixed precision on the stand-in.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with torch.device("meta"):
        network = XMem(key_dim=8, value_dim=16, hidden_dim=8).train()
    with OneDevice():
        frames, masks = _there(1, 3, 3, 32, 48), _there(1, 2, 32, 48)
        logits, probability = network(frames, masks, _there(1), _there(1, 3, 1).long(), [True] * 3)
        logits.sum().backward()
        probability = aggregate_probability(probability[0, -1, 1:].detach())
    assert probability.device.type == "meta"


def test_the_mode_sees_two_devices() -> None:
    with OneDevice(), pytest.raises(AssertionError, match="joins tensors"):
        torch.cat((_there(2), torch.zeros(2)))


def test_xmem_never_waits_for_its_device() -> None:
    """Neither with objects that come nor with memories and consolidations; evictions apart."""
    torch.manual_seed(0)
    network = XMem(key_dim=4, value_dim=8, hidden_dim=4).for_inference()
    settings = MemorySettings(mem_every=1, min_mid_term_frames=1, max_mid_term_frames=2)
    frames, mask = torch.randn(6, 3, 32, 48), torch.zeros(3, 32, 48)
    mask[0, :20, :20] = mask[1, 10:, 30:] = mask[2, :10, 30:] = 1
    steps = {0: (mask[:2], [1, 2]), 2: (mask[2:], [7]), 4: (mask[1:2], [2])}

    def follow(where: torch.device) -> list[Tensor]:
        engine = XMemEngine(network.to(where), settings=settings, objects_at_once=1)
        given = {i: (mask.to(where), ids) for i, (mask, ids) in steps.items()}
        return [engine.step(x, *given.get(i, ())) for i, x in enumerate(frames.to(where))]

    expected = follow(torch.device("cpu"))
    with fake_device() as there:
        found = follow(there.device)
        assert there.waits == []
        assert all(map(is_there, found))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
