from __future__ import annotations

import logging

import pytest
import torch

from dvos.networks.devices import AtOnce, is_out_of_memory


class Device:
    """Takes ``most`` things at once; notes which parts were done."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.most, self.error = most, error
        self.done: list[tuple[int, int]] = []
        self.asked: list[int] = []

    def __call__(self, part: slice) -> None:
        length = part.stop - part.start
        self.asked.append(length)
        if length > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.done.append((part.start, part.stop))


@pytest.mark.parametrize("most", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 16])
def test_everything_is_done_once_and_in_order(most: int, count: int) -> None:
    device = Device(most)
    AtOnce(8, "frames").run(count, device)
    places = [place for start, stop in device.done for place in range(start, stop)]
    assert places == list(range(count))


def test_it_stays_with_what_fits_and_says_so_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    device, frames = Device(3), AtOnce(16, "frames")
    with caplog.at_level(logging.WARNING):
        frames.run(16, device)
        frames.run(16, device)
    assert frames.size == 2
    assert device.asked[:4] == [16, 8, 4, 2]
    assert max(device.asked[4:]) == 2
    assert caplog.messages == [
        "memory ran out with 16 frames at once; from now on 2 at once, with the same results"
    ]


def test_where_one_does_not_fit_something_else_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(0)
    sides = iter([1024, 512])

    def tiles() -> str | None:
        side = next(sides, None)
        device.most = 1 if side == 512 else 0
        return None if side is None else f"tiles of {side} pixels"

    with caplog.at_level(logging.WARNING):
        AtOnce(2, "frames", tiles).run(3, device)
    assert device.done == [(0, 1), (1, 2), (2, 3)]
    assert caplog.messages == [
        "memory ran out with 2 frames at once; from now on tiles of 512 pixels, with the same"
        " results"
    ]
    device.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        AtOnce(2, "frames", tiles).run(3, device)


def test_other_errors_pass() -> None:
    def fails(part: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        AtOnce(4, "frames").run(4, fails)


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
