"""The way of arrays between the host and the device a network runs on.

On CUDA copies in both directions run beside the network: from and to page-locked
memory, on a stream of their own. PyTorch's allocator of such memory keeps blocks
that were used and gives them out again once their copies have ended, so that none
is locked twice. Elsewhere copies are made as they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sent:
    """Frames on their way to the device.

    Attributes:
        frames: uint8 (B, H, W, 3), on the device; to be used after :meth:`arrived`.
    """

    frames: Tensor
    _copied: Any = None

    def arrived(self) -> Tensor:
        """The frames, for work that is queued from now on; the host does not wait."""
        if self._copied is not None:
            current = torch.cuda.current_stream(self.frames.device)
            current.wait_event(self._copied)
            self.frames.record_stream(current)
        return self.frames


class Link:
    """Sends frames to a device and fetches what was made of them.

    Args:
        device: Where the network runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        cuda: Any = torch.cuda
        self._up: Any = cuda.Stream(device) if self._cuda else None
        self._down: Any = cuda.Stream(device) if self._cuda else None
        self._event = cuda.Event

    def send(self, images: Sequence[NDArray[np.uint8]]) -> Sent:
        """Begin to send a batch of images, uint8 (H, W, 3) of one size; from any thread."""
        shape = (len(images), *images[0].shape)
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        for place, image in zip(staged.numpy(), images, strict=True):
            np.copyto(place, image)
        if not self._cuda:
            return Sent(staged.to(self._device))
        with torch.cuda.stream(self._up):
            frames = staged.to(self._device, non_blocking=True)
            copied = self._event()
            copied.record(self._up)
        return Sent(frames, copied)

    def fetch(self, values: Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to fetch a tensor; what is given waits for it and returns it as an array."""
        if not self._cuda:
            return values.cpu().numpy
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values.record_stream(self._down)
            copied = self._event()
            copied.record(self._down)

        def fetched() -> NDArray[Any]:
            copied.synchronize()
            return host.numpy()

        return fetched
