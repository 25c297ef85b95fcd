"""Predictions averaged with those of neighbouring frames, along the optical flow."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_networks import MEAN, STD, BrightnessNetwork

from dvos.config.prediction import PredictorOptions
from dvos.errors import MediaError
from dvos.media.grouping import ObjectMaps
from dvos.prediction.along_flow import averaged_along_flow
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.streaming import StreamingPredictor

HEIGHT, WIDTH = 96, 128
STEP = 3


def ground(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with something to hold on to everywhere."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, 2 * WIDTH, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.5).astype(np.float32)
    return np.clip(128 + 6 * (blurred - 128), 0, 255).astype(np.uint8)


def passing(count: int, wide: NDArray[np.uint8] | None = None) -> list[NDArray[np.uint8]]:
    """A camera that moves to the right, by STEP pixels a frame."""
    wide = ground() if wide is None else wide
    return [np.ascontiguousarray(wide[:, STEP * k : STEP * k + WIDTH]) for k in range(count)]


def disc(x: float, y: float = HEIGHT / 2) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.where(np.hypot(rows - y, columns - x) < 12, 0.9, 0.05).astype(np.float32)


def predictions(
    images: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[NDArray[np.float32]],
    maps: ObjectMaps | None = None,
    indices: Iterable[int] | None = None,
) -> Generator[FramePrediction, None, None]:
    places = range(len(images)) if indices is None else indices
    for index, image, probability in zip(places, images, probabilities, strict=True):
        yield FramePrediction(
            index, 0.1 * index, f"{index:06d}", image, probability, probability >= 0.5, maps=maps
        )


def averaged(
    given: Generator[FramePrediction, None, None], count: int = 4, start: int = 0
) -> list[FramePrediction]:
    return list(averaged_along_flow(given, count, start=start))


def test_in_a_still_scene_it_is_the_mean_of_the_window() -> None:
    images = [ground()[:, :WIDTH]] * 6
    values = [0.1, 0.9, 0.3, 0.4, 0.8, 0.2]
    maps = [np.full((HEIGHT, WIDTH), value, np.float32) for value in values]
    found = averaged(predictions(images, maps), count=2)
    assert [one.frame_index for one in found] == list(range(6))
    for k, one in enumerate(found):
        mean = np.mean(values[max(0, k - 2) : k + 3])
        np.testing.assert_allclose(one.probability, mean, atol=1e-5)
        assert (one.mask == (one.probability >= 0.5)).all()


def test_what_is_missed_in_one_frame_is_found_where_it_has_moved_to() -> None:
    images = passing(9)
    seen = [disc(90 - STEP * k) for k in range(9)]
    truth = [probability > 0.5 for probability in seen]
    seen[4] = np.full_like(seen[4], 0.05)
    found = averaged(predictions(images, seen))
    for one, true in zip(found, truth, strict=True):
        both = np.count_nonzero(one.mask & true)
        assert 2 * both / (one.mask.sum() + true.sum()) > 0.93
    # At the same place instead of along the flow, eight frames would smear it.
    assert np.count_nonzero(found[4].mask) < 1.1 * np.count_nonzero(truth[4])


def test_offsets_are_averaged_where_objects_are() -> None:
    images = [ground()[:, :WIDTH]] * 3
    given = []
    for k, one in enumerate(predictions(images, [disc(60.0)] * 3)):
        offset = np.full((2, HEIGHT // 2, WIDTH // 2), float(k), np.float32)
        given.append(replace(one, maps=ObjectMaps(offset, None)))
    found = averaged((one for one in given), count=1)
    for one, mean in zip(found, (0.5, 1.0, 1.5), strict=True):
        assert one.maps is not None
        np.testing.assert_allclose(one.maps.offset, mean, atol=1e-4)
        assert one.maps.motion is None


def test_another_scene_has_no_say() -> None:
    images = passing(4) + passing(4, ground(seed=9))
    seen = [np.full((HEIGHT, WIDTH), value, np.float32) for value in [0.9] * 4 + [0.1] * 4]
    found = averaged(predictions(images, seen))
    for one, own in zip(found, seen, strict=True):
        np.testing.assert_allclose(one.probability, own, atol=1e-5)


def test_a_frame_alone_stays_as_it_is() -> None:
    (given,) = predictions(passing(1), [disc(60.0)])
    (found,) = averaged(one for one in [given])
    assert found is given


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (9, 40)])
def test_frames_too_small_for_a_flow_stay_as_they_are(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    seen = [np.full(size, value, np.float32) for value in (0.2, 0.7)]
    for one, own in zip(averaged(predictions([image] * 2, seen)), seen, strict=True):
        np.testing.assert_array_equal(one.probability, own)


@pytest.mark.parametrize("indices", [range(12), [0, 1, 2, 5, 6, 7, 8, 11, 12, 13, 14, 20]])
@pytest.mark.parametrize("start", [1, 4, 6, 11])
def test_a_run_that_begins_in_the_middle_gives_the_same(indices: list[int], start: int) -> None:
    rng = np.random.default_rng(3)
    images, indices = passing(12), list(indices)
    seen = [rng.random((HEIGHT, WIDTH), np.float32) for _ in images]
    whole = averaged(predictions(images, seen, indices=indices))
    assert [one.frame_index for one in whole] == indices
    from_here = [k for k, index in enumerate(indices) if index >= max(0, start - 4)]
    later = averaged(
        predictions(
            [images[k] for k in from_here],
            [seen[k] for k in from_here],
            indices=[indices[k] for k in from_here],
        ),
        start=start,
    )
    wanted = [one for one in whole if one.frame_index >= start]
    assert [one.frame_index for one in later] == [one.frame_index for one in wanted]
    for one, other in zip(later, wanted, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)


def test_frames_before_a_fault_of_the_video_are_given_then_it_is_told() -> None:
    def broken() -> Generator[FramePrediction, None, None]:
        yield from predictions(passing(3), [disc(60.0)] * 3)
        raise MediaError.at("clip.mp4", "ends early", "all its frames")

    found = averaged_along_flow(broken(), 4, start=0)
    assert [next(found).frame_index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MediaError, match="ends early"):
        next(found)


def test_who_stops_early_ends_the_predictions() -> None:
    ended = []

    def endless() -> Generator[FramePrediction, None, None]:
        try:
            while True:
                yield from predictions(passing(1), [disc(60.0)])
        finally:
            ended.append(True)

    found = averaged_along_flow(endless(), 2, start=0)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert ended


@pytest.mark.parametrize(
    ("references", "asked", "averages"),
    [(0, "auto", True), (2, "auto", False), (2, 1, True), (0, 0, False)],
)
def test_networks_that_see_a_frame_alone_are_averaged(
    references: int, asked: int | str, averages: bool
) -> None:
    network = BrightnessNetwork(references=references, reference_weight=0.0)
    images = [ground()[:, :WIDTH]] * 3
    images[1] = np.clip(images[1].astype(int) + 9, 0, 255).astype(np.uint8)
    extra = {"normalisation": {"mean": MEAN, "std": STD}}
    loaded = LoadedNetwork(Path("best.safetensors"), network, extra, torch.device("cpu"))
    predictor = StreamingPredictor(loaded, PredictorOptions(device="cpu", flow_frames=asked))
    first, second, _ = (one.probability for one in predictor.segment(images))
    assert (np.abs(first - second).max() > 0.02) != averages


@pytest.mark.parametrize(
    ("extra", "asked", "frames"),
    [
        ({}, "auto", 4),
        ({"scene": "wheat_green"}, "auto", 4),
        ({"scene": "cells"}, "auto", 2),
        ({"scene": "cells"}, 3, 3),
        ({"scene": 7}, "auto", 4),
    ],
)
def test_cells_that_deform_are_averaged_over_fewer_frames(
    extra: dict[str, object], asked: int | str, frames: int
) -> None:
    network = BrightnessNetwork(references=0, reference_weight=0.0)
    image = ground()[:, :WIDTH]
    images = [np.clip(image.astype(int) + 2 * k, 0, 255).astype(np.uint8) for k in range(7)]

    def found(extra: dict[str, object], asked: int | str) -> list[NDArray[np.float32]]:
        known = {"normalisation": {"mean": MEAN, "std": STD}} | extra
        loaded = LoadedNetwork(Path("best.safetensors"), network, known, torch.device("cpu"))
        options = PredictorOptions.model_validate({"device": "cpu", "flow_frames": asked})
        return [one.probability for one in StreamingPredictor(loaded, options).segment(images)]

    told = found(extra, asked)
    for count in range(6):
        same = all(np.array_equal(a, b) for a, b in zip(told, found({}, count), strict=True))
        assert same == (count == frames)
