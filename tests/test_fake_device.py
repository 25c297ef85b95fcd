"""The stand-in for an accelerator refuses what one would, and nothing else."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fake_device import WrongPlaceError, fake_device, is_there

_CUDA = torch.device("cuda")


def test_tensors_are_where_they_were_brought() -> None:
    with fake_device() as there:
        memory = torch.ones(2, 3)
        brought = memory.to(there.device)
        assert (memory.device.type, brought.device) == ("cpu", _CUDA)
        assert (brought.is_cuda, brought.is_cpu, memory.is_cuda) == (True, False, False)
        assert memory.to("cpu") is memory
        assert brought.to("cuda:0") is brought
        for same in (
            brought[0],
            brought + 1,
            brought.new_tensor([1.0]),
            brought.new_zeros(2),
            torch.zeros_like(brought),
            torch.zeros(2, device=brought.device),
            torch.tensor([1], device="cuda"),
            torch.as_tensor(np.ones(2), device="cuda"),
            memory.cuda(),
            memory.to(brought),
            brought.double(),
            brought.to(torch.float16),
            copy.deepcopy(brought),
            F.one_hot(brought.long()),
            brought.expand(4, 2, 3).reshape(-1),
        ):
            assert is_there(same)
            assert same.device == _CUDA
        elsewhere = (
            brought.cpu(), brought.to("cpu"), brought.new_zeros(2, device="cpu"), torch.zeros(2),
            torch.from_numpy(np.ones(2)), memory.to(torch.float16), torch.arange(brought.shape[0]),
        )  # fmt: skip
        assert not any(is_there(x) for x in elsewhere)


def test_copies_are_copies() -> None:
    with fake_device() as there:
        array = np.ones(2, np.float32)
        memory = torch.from_numpy(array)
        copies = [memory.to(there.device), torch.as_tensor(array, device="cuda")]
        array[:] = 5
        assert [x.tolist() for x in copies] == [[1, 1], [1, 1]]
        memory.copy_(copies[0])
        assert array.tolist() == [1, 1]
        assert not is_there(memory)


_WRONG = {
    "sum of both": lambda on, off: on + off,
    "in place": lambda on, off: on.add_(off),
    "into memory": lambda on, off: off.add_(on),
    "a count in memory": lambda on, off: off.sum().add_(on.sum()),
    "joined": lambda on, off: torch.cat((on, off)),
    "stacked numbers": lambda on, off: torch.stack((on.sum(), off.sum())),
    "a product": lambda on, off: on @ off.T,
    "a choice": lambda on, off: torch.where(on > 0, on, off),
    "a mask elsewhere": lambda on, off: on[off > 0],
    "places elsewhere": lambda on, off: on[torch.tensor([0, 1])],
    "written elsewhere": lambda on, off: torch.mul(on, 2, out=off),
    "a loss": lambda on, off: F.cross_entropy(on, off.argmax(1)),
    "a convolution": lambda on, off: F.conv1d(on[None], torch.ones(1, 2, 1)),
    "an array": lambda on, off: on.numpy(),
    "an array by NumPy": lambda on, off: np.asarray(on),
    "a generator": lambda on, off: on.normal_(generator=torch.Generator()),
}


@pytest.mark.parametrize("name", _WRONG)
def test_two_places_do_not_mix(name: str) -> None:
    with fake_device() as there, pytest.raises(WrongPlaceError):
        _WRONG[name](torch.ones(2, 2, device=there.device), torch.ones(2, 2))


def test_numbers_go_anywhere() -> None:
    with fake_device() as there:
        on, number = torch.ones(2, 2, device=there.device), torch.tensor(2.0)
        assert (on * number + 1).tolist() == [[3, 3], [3, 3]]
        assert torch.where(on > 1, on, number).tolist() == [[2, 2], [2, 2]]
        on[on > 0] = number
        assert on.sum().item() == 8


def test_what_waits_is_noted() -> None:
    with fake_device() as there:
        on = torch.ones(2, 2, device=there.device)
        on.add_(1).softmax(1).topk(1)
        on[:, 0] = 3
        on.masked_fill_(on > 2, 0)
        assert there.waits == []
        on.sum().item()
        bool(on.any())
        on.cpu()
        on.tolist()
        on.nonzero()
        on[on > 0]
        assert there.waits == [
            "_local_scalar_dense", "_local_scalar_dense", "cpu", "tolist", "nonzero", "index",
        ]  # fmt: skip


def test_a_network_learns_there() -> None:
    with fake_device() as there:
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
        )
        frames = torch.randn(2, 3, 3, 3)
        with pytest.raises(WrongPlaceError):
            network(frames.to(there.device))
        network.to(there.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
        before = network[3].weight.detach().clone()
        network(frames.to(there.device)).square().sum().backward()
        optimiser.step()
        assert not torch.equal(before, network[3].weight)
        for state in (*network.state_dict().values(), *optimiser.state[network[3].weight].values()):
            assert is_there(state)
        assert all(is_there(x.grad) for x in network.parameters())
        assert not any(is_there(x) for x in network.to("cpu").state_dict().values())


def test_threads_know_it() -> None:
    found = []
    with fake_device() as there:
        thread = threading.Thread(target=lambda: found.append(torch.ones(1).to(there.device)))
        thread.start()
        thread.join()
    assert is_there(found[0])


def test_afterwards_there_is_none() -> None:
    with fake_device():
        pass
    assert torch.ones(2).device.type == "cpu"
    # As torch was built: without CUDA, or with it and without a driver.
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        torch.zeros(1, device="cuda")
