"""What a GPU does beside the network, here on the CPU: the same as the host does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import MEAN, STD

pytest.register_assert_rewrite("predictor_contract")

from predictor_contract import PredictorContract  # noqa: E402

from dvos.api import load_predictor  # noqa: E402
from dvos.config.prediction import PredictorOptions  # noqa: E402
from dvos.errors import MediaError, RunError  # noqa: E402
from dvos.media.frames import behind  # noqa: E402
from dvos.media.image import resized  # noqa: E402
from dvos.media.video import VideoFrame  # noqa: E402
from dvos.networks.spec import MASK, OBJECTS  # noqa: E402
from dvos.prediction import streaming  # noqa: E402
from dvos.prediction.flows import (  # noqa: E402
    DeviceFlow,
    enlarged,
    resized_planes,
    scaled_size,
    to_levels,
)
from dvos.prediction.network import LoadedNetwork  # noqa: E402
from dvos.prediction.predictor import (  # noqa: E402
    FramePrediction,
    LevelPrediction,
    Predictor,
    Views,
)
from dvos.prediction.streaming import dvos_predictor  # noqa: E402
from dvos.registry import network_spec  # noqa: E402

HALF_A_LEVEL = 0.5 / 65535 + 1e-7


def _video(frames: int, size: tuple[int, int] = (46, 58)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(frames)]


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    heads = {MASK: 1, OBJECTS: 5}
    widths = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}
    return network_spec("dvos").network(**widths, heads=heads).eval()


def _predictor(network: Any, **options: Any) -> Predictor:
    apart = {"centres": 0.9, "shapes": 0.1}
    extra = {"normalisation": {"mean": MEAN, "std": STD}, "apart": apart}
    loaded = LoadedNetwork(Path("best.safetensors"), network, extra, torch.device("cpu"))
    return dvos_predictor(loaded, PredictorOptions.model_validate(options))


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(streaming, "flow_for", DeviceFlow)
    return monkeypatch


def _same_maps(one: FramePrediction, other: FramePrediction) -> None:
    assert one.maps is not None
    assert other.maps is not None
    for name in ("offset", "motion"):
        np.testing.assert_allclose(
            getattr(one.maps, name), getattr(other.maps, name), atol=1e-4, err_msg=name
        )


def test_a_network_that_tells_objects_apart_says_so(network: Any) -> None:
    assert _predictor(network).tells_apart


class TestDeviceFlow(PredictorContract):
    """The whole suite of predictors, with a batch on the way at all times."""

    @pytest.fixture
    def predictor(self, checkpoint: Path, on_device: pytest.MonkeyPatch) -> Predictor:
        del on_device
        return load_predictor(checkpoint, "cpu", batch=2)


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((46, 58), 0.5),
        ((45, 57), 0.5),
        ((60, 90), 1 / 3),
        ((46, 58), 0.73),
        ((46, 58), 0.05),
        ((46, 58), 1.7),
        ((46, 58), 1.0),
    ],
)
def test_frames_are_resized_as_opencv_does(size: tuple[int, int], factor: float) -> None:
    image = _video(1, size)[0]
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = resized_planes(planes, scaled_size(size, factor))[0].permute(1, 2, 0).numpy()
    expected = resized(image, factor)
    assert found.shape == expected.shape
    apart = np.abs(found - expected)
    assert apart.max() <= 1
    # By areas the very same; bilinearly OpenCV calculates with 11 bits.
    assert apart.max() == 0 or factor > 1


def test_every_probability_keeps_its_level() -> None:
    exact = torch.linspace(0, 1, 65536, dtype=torch.float64).float()
    bits = to_levels(exact).numpy().view(np.uint16)
    assert (bits == np.arange(65536)).all()


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1e-6, 1 - 1e-6, 13107 / 65535])
def test_a_mask_of_levels_is_that_of_their_probabilities(threshold: float) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    frame = VideoFrame(3, math.nan, "a", np.zeros((256, 256, 3), np.uint8))
    found = LevelPrediction.of(frame, levels, threshold)
    assert (found.mask == (found.probability >= threshold)).all()
    assert found.probability.dtype == np.float32
    assert (found.probability[0, 0], found.probability[-1, -1]) == (0, 1)
    # As 16-bit images keep them, nothing is lost.
    assert (np.rint(found.probability * 65535.0) == levels).all()
    other = replace(found, name="b")
    assert other.name == "b"
    assert (other.mask == found.mask).all()


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 2},
        {"batch": 3, "scale": 0.5, "threshold": 0.4},
        {"batch": 2, "augment": "flips_and_scales", "augment_scales": [0.5, 1.0]},
        {"batch": 2, "tile": 64},
    ],
)
def test_device_and_host_give_the_same(
    network: Any, options: dict[str, Any], on_device: pytest.MonkeyPatch
) -> None:
    images = _video(7)
    device = list(_predictor(network, **options).segment(images, start=1))
    on_device.undo()
    host = list(_predictor(network, **options).segment(images, start=1))
    assert [one.frame_index for one in device] == list(range(1, 7))
    for one, other in zip(device, host, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=HALF_A_LEVEL)
        apart = one.mask != other.mask
        assert (np.abs(other.probability[apart] - options.get("threshold", 0.5)) < 1e-5).all()
        _same_maps(one, other)


def test_mean_and_deviation_over_views_are_those_of_the_host(
    network: Any, on_device: pytest.MonkeyPatch
) -> None:
    images, views = _video(4), Views((0.5, 1.0), "horizontal")
    device = list(_predictor(network, batch=2).segment_views(images, views))
    on_device.undo()
    for one, other in zip(
        device, _predictor(network, batch=2).segment_views(images, views), strict=True
    ):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
        assert one.std is not None
        np.testing.assert_allclose(one.std, other.std, atol=1e-5)


def test_probabilities_are_enlarged_as_on_the_host(network: Any) -> None:
    maps = torch.rand(2, 23, 31)
    found = enlarged(maps, (46, 70))
    assert found.shape == (2, 46, 70)
    import cv2

    for one, small in zip(found, maps, strict=True):
        expected = cv2.resize(small.numpy(), (70, 46), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize("tile", [0, 64])
def test_what_is_told_of_objects_comes_through_to_the_prediction(network: Any, tile: int) -> None:
    images = _video(3, (150, 131))
    found = list(_predictor(network, tile=tile, augment="flips", batch=2).segment(images))
    plain = list(_predictor(network).segment(images))
    for one, other in zip(found, plain, strict=True):
        assert one.maps is not None
        assert one.maps.offset.shape == (2, 75, 66)
        _same_maps(one, other)


def test_a_fault_comes_after_the_frames_before_it_also_within_a_batch(network: Any) -> None:
    def torn() -> Iterator[np.ndarray]:
        yield from _video(3)
        raise MediaError("the tape is torn")

    found: list[Any] = []
    with pytest.raises(MediaError, match="the tape is torn"):
        found.extend(_predictor(network, batch=2).segment(torn()))
    assert [one.frame_index for one in found] == [0, 1, 2]


def test_values_that_are_no_numbers_are_told_and_give_no_mask(
    network: Any, on_device: pytest.MonkeyPatch
) -> None:
    predictor = _predictor(network, batch=2)

    def overflown(logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, torch.nan)

    on_device.setattr(torch.Tensor, "sigmoid", overflown)
    with pytest.raises(RunError, match=r"precision: .*set precision=bfloat16"):
        list(predictor.segment(_video(2)))


def test_what_is_begun_is_given_before_a_fault() -> None:
    def batches() -> Iterator[Any]:
        yield iter("ab")
        yield iter("c")
        raise ValueError("later")

    found: list[Any] = []
    with pytest.raises(ValueError, match="later"):
        found.extend(chain.from_iterable(behind(batches(), 1)))
    assert found == ["a", "b", "c"]


def test_batches_are_begun_ahead() -> None:
    begun: list[int] = []

    def batches() -> Iterator[Any]:
        for number in range(4):
            begun.append(number)
            yield iter([number])

    stream = chain.from_iterable(behind(batches(), 1))
    assert next(stream) == 0
    assert begun == [0, 1]
