"""Where a device's memory runs out, less is done at once, and masks stay the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import MEAN, STD, BrightnessNetwork
from torch import Tensor, nn
from xmem_clips import ColourXMem, moving, xmem_predictor

from dvos.config.prediction import PredictorOptions
from dvos.errors import RunError
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.dvos.running import TiledDvosNetwork
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import Predictor, Views
from dvos.prediction.streaming import StreamingPredictor, dvos_predictor


def _full() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class _Limited(BrightnessNetwork):
    """Memory runs out with more than ``most`` frames, in the middle of the work."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def decode(self, features: Any, size: tuple[int, int], *, reconstruct: bool = True) -> Any:
        if len(features[0][0]) > self.most:
            raise _full()
        return super().decode(features, size, reconstruct=reconstruct)


def _predictor(network: nn.Module, **options: Any) -> Predictor:
    extra = {"normalisation": {"mean": MEAN, "std": STD}}
    loaded = LoadedNetwork(Path("best.safetensors"), network, extra, torch.device("cpu"))
    build = dvos_predictor if isinstance(network, DvosNetwork) else StreamingPredictor
    return build(loaded, PredictorOptions.model_validate(options))


def _video(frames: int, size: tuple[int, int] = (40, 56)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(frames)]


@pytest.mark.parametrize("start", [0, 5])
def test_half_the_batch_and_the_same_masks(start: int, caplog: pytest.LogCaptureFixture) -> None:
    video = _video(13)
    expected = list(_predictor(BrightnessNetwork(), batch=4).segment(video, start=start))
    with caplog.at_level(logging.WARNING):
        found = list(_predictor(_Limited(1), batch=4).segment(video, start=start))
    assert [one.frame_index for one in found] == list(range(start, 13))
    for one, other in zip(found, expected, strict=True):
        # A sigmoid's last bit depends on where in a batch a pixel lies.
        np.testing.assert_allclose(one.probability, other.probability, rtol=0, atol=1e-6)
    assert len(caplog.messages) == 1
    assert "frames at once; from now on 1 at once, with the same results" in caplog.text


def test_half_the_batch_of_views() -> None:
    video, views = _video(6), Views((1.0, 0.5), "horizontal")
    expected = _predictor(BrightnessNetwork(), batch=3).segment_views(video, views)
    found = _predictor(_Limited(1), batch=3).segment_views(video, views)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, rtol=0, atol=1e-6)
        assert one.std is not None
        np.testing.assert_allclose(one.std, other.std, rtol=0, atol=1e-6)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compact network fits in tiles of 256 pixels, one frame at a time."""
    tiled = TiledDvosNetwork.encode

    def encode(self: DvosNetwork, frames: Tensor) -> list[Tensor]:
        raise _full()

    def encode_tiled(self: TiledDvosNetwork, frames: Tensor) -> list[Tensor]:
        if self.tile > 256 or len(frames) > 1:
            raise _full()
        return tiled(self, frames)

    monkeypatch.setattr(DvosNetwork, "encode", encode)
    monkeypatch.setattr(TiledDvosNetwork, "encode", encode_tiled)


def _compact() -> DvosNetwork:
    torch.manual_seed(0)
    widths = {"channels": [4] * 5, "widths": [4] * 4}
    return DvosNetwork(references=1, encoder="lite0", **widths).eval()


def test_then_tiles_that_give_the_same(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    video = _video(3, (270, 300))
    expected = list(_predictor(_compact()).segment(video))
    request.getfixturevalue("small_memory")
    with caplog.at_level(logging.WARNING):
        found = list(_predictor(_compact(), batch=2).segment(video))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
    assert caplog.messages == [
        "memory ran out with 2 frames at once; from now on in tiles of 256 pixels, with the same"
        " results"
    ]


@pytest.mark.usefixtures("small_memory")
def test_what_is_smaller_than_the_smallest_is_told() -> None:
    with pytest.raises(RunError, match="memory ran out on cpu"):
        list(_predictor(_Limited(0)).segment(_video(2)))
    # Tiles that were asked for become no larger ones.
    network = _compact()
    chosen = dvos_predictor(
        LoadedNetwork(
            Path("x"), network, {"normalisation": {"mean": MEAN, "std": STD}}, torch.device("cpu")
        ),
        PredictorOptions(tile=512),
    )
    assert list(chosen._smaller) == [256]


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
