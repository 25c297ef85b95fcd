"""The way of arrays between the host and the device a network runs on.

On CUDA copies in both directions run beside the network: from and to page-locked memory, which
PyTorch's allocator gives out again, on a stream of their own. Elsewhere they are made when asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Link:
    """Sends frames to a device and fetches what was made of them."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        cuda: Any = torch.cuda
        self._up: Any = cuda.Stream(device) if self._cuda else None
        self._down: Any = cuda.Stream(device) if self._cuda else None
        self._event = cuda.Event

    def send(self, images: Sequence[NDArray[np.uint8]]) -> Callable[[], Tensor]:
        """Begin to send a batch of images, uint8 (H, W, 3) of one size; from any thread.

        What is given returns them, uint8 (B, H, W, 3), for work that is queued from then on; the
        host does not wait.
        """
        shape = (len(images), *images[0].shape)
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        np.stack(images, out=staged.numpy())
        if not self._cuda:
            return lambda: staged.to(self._device)
        with torch.cuda.stream(self._up):
            frames = staged.to(self._device, non_blocking=True)
            copied = self._event()
            copied.record(self._up)

        def arrived() -> Tensor:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            frames.record_stream(current)
            return frames

        return arrived

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
