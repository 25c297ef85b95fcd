"""Where a device's memory runs out, less is done at once, and masks stay the same."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xmem_clips import ColourXMem, moving, xmem_predictor


def _full() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_fewer_objects_of_xmem(caplog: pytest.LogCaptureFixture) -> None:
    class Limited(ColourXMem):
        def __init__(self) -> None:
            super().__init__()
            self.decoder.register_forward_pre_hook(self._check)
            self.value_encoder.register_forward_pre_hook(self._check)

        def _check(self, module: nn.Module, arguments: Any) -> None:
            # What memory says of the objects, or their masks.
            if arguments[1 if module is self.decoder else 3].shape[1] > 1:
                raise _full()

    video, masks = moving(12, 2)
    expected = list(xmem_predictor(ColourXMem(), masks[0]).segment(video))
    with caplog.at_level(logging.WARNING):
        found = list(xmem_predictor(Limited(), masks[0]).segment(video))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)
        assert (one.instances == other.instances).all()
    assert [text for text in caplog.messages if "memory" in text] == [
        "memory ran out with 2 objects at once; from now on 1 at once, with the same results"
    ]
