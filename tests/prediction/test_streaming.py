from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import MEAN, STD, BrightnessNetwork
from torch import nn

from dvos.config.prediction import PredictorOptions
from dvos.errors import MediaError
from dvos.media.frames import ImageFolder
from dvos.media.image import write_image
from dvos.media.video import VideoFrame
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.spec import OBJECTS
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import Views
from dvos.prediction.streaming import StreamingPredictor, dvos_predictor
from dvos.prediction.views import Found
from dvos.registry import network_spec


def _video(frames: int, size: tuple[int, int] = (40, 56), seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(frames)]


def _predictor(
    network: Any, displacement: tuple[float, float] | None = None, **options: Any
) -> StreamingPredictor:
    extra: dict[str, Any] = {"normalisation": {"mean": MEAN, "std": STD}}
    if displacement is not None:
        extra["displacement"] = dict(zip("xy", displacement, strict=True))
    loaded = LoadedNetwork(Path("best.safetensors"), network, extra, torch.device("cpu"))
    build = dvos_predictor if isinstance(network, DvosNetwork) else StreamingPredictor
    return build(loaded, PredictorOptions.model_validate(options))


def _naive(
    network: nn.Module, images: list[np.ndarray], query: int, *, references: int, interval: int
) -> np.ndarray:
    """One whole window through ``forward``, as in training."""
    window = [images[max(0, query - k * interval)] for k in range(references, -1, -1)]
    frames = torch.from_numpy(np.stack(window)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        logits = network(((frames - mean) / std).unsqueeze(0)).mask_logits
    return logits.sigmoid()[0, 0].numpy()


@pytest.fixture(scope="module")
def dvos_network() -> nn.Module:
    torch.manual_seed(0)
    network = network_spec("dvos").network(channels=[4, 4, 4, 8, 8], widths=[4, 4, 4, 8])
    return network.eval()


@pytest.mark.parametrize(("interval", "batch"), [(1, 1), (1, 3), (2, 2), (3, 5)])
def test_stream_equals_each_window_on_its_own(interval: int, batch: int) -> None:
    network, images = BrightnessNetwork(), _video(17)
    found = list(_predictor(network, reference_interval=interval, batch=batch).segment(images))
    assert [one.frame_index for one in found] == list(range(17))
    for query, one in enumerate(found):
        expected = _naive(network, images, query, references=4, interval=interval)
        np.testing.assert_allclose(one.probability, expected, atol=1e-6)
        assert (one.mask == (one.probability >= 0.5)).all()
        assert (one.image == images[query]).all()


@pytest.mark.parametrize("size", [(40, 56), (64, 33)])
def test_stream_of_the_real_network_equals_each_window(
    dvos_network: nn.Module, size: tuple[int, int]
) -> None:
    images = _video(6, size)
    found = list(_predictor(dvos_network, batch=2).segment(images))
    for query, one in enumerate(found):
        expected = _naive(dvos_network, images, query, references=4, interval=1)
        np.testing.assert_allclose(one.probability, expected, atol=1e-4)


def test_each_frame_is_encoded_once() -> None:
    network = BrightnessNetwork()
    list(_predictor(network, batch=4).segment(_video(30)))
    assert network.encoded == 30
    assert network.batches == [4] * 7 + [2]


@pytest.mark.parametrize("start", [0, 1, 5, 9, 16])
@pytest.mark.parametrize("batch", [1, 3])
def test_start_in_the_middle_gives_the_very_same(
    dvos_network: nn.Module, start: int, batch: int
) -> None:
    images = _video(17)
    predictor = _predictor(dvos_network, reference_interval=2, batch=batch)
    whole, rest = list(predictor.segment(images)), list(predictor.segment(images, start=start))
    assert [one.frame_index for one in rest] == list(range(start, 17))
    for one, again in zip(whole[start:], rest, strict=True):
        assert (one.probability == again.probability).all()


def test_features_kept_do_not_grow_with_the_video() -> None:
    alive: list[int] = []

    class Watched(BrightnessNetwork):
        def decode(self, features: Any, size: Any, *, reconstruct: bool = True) -> Any:
            alive.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))
            return super().decode(features, size, reconstruct=reconstruct)

    for _ in _predictor(Watched(), reference_interval=2, batch=2).segment(_video(40, (8, 8))):
        pass
    # Eight frames of context and a batch are kept from the fifth batch on.
    assert max(alive[6:]) <= max(alive[:6])


@pytest.mark.parametrize("tile", [64, 96])
def test_tiles_of_a_pointwise_network_join_exactly(tile: int) -> None:
    images = _video(6, (150, 201))
    whole = list(_predictor(BrightnessNetwork()).segment(images))
    tiled = list(_predictor(BrightnessNetwork(), tile=tile).segment(images))
    for one, other in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)


def test_flips_of_a_pointwise_network_change_nothing() -> None:
    images = _video(6, (30, 41))
    plain = list(_predictor(BrightnessNetwork()).segment(images))
    flipped = list(_predictor(BrightnessNetwork(), augment="flips").segment(images))
    for one, other in zip(plain, flipped, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)


def test_flips_average_the_mirror_images(dvos_network: nn.Module) -> None:
    images = _video(1, (32, 32))
    mean = np.zeros((32, 32))
    for axes in ((), (1,), (0,), (0, 1)):
        mirrored = [np.ascontiguousarray(np.flip(images[0], axes)) if axes else images[0]]
        one = next(iter(_predictor(dvos_network).segment(mirrored)))
        mean += np.flip(one.probability, axes) / 4 if axes else one.probability / 4
    averaged = next(iter(_predictor(dvos_network, augment="flips").segment(images)))
    np.testing.assert_allclose(averaged.probability, mean, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_scaled_prediction_comes_back_at_the_frames_size(scale: float) -> None:
    ramp = np.tile(np.linspace(0, 255, 120).astype(np.uint8)[None, :, None], (70, 1, 3))
    network = BrightnessNetwork(reference_weight=0.0)
    scaled = next(iter(_predictor(network, scale=scale).segment([ramp])))
    plain = next(iter(_predictor(network).segment([ramp])))
    assert scaled.probability.shape == (70, 120)
    np.testing.assert_allclose(scaled.probability, plain.probability, atol=0.02)


def test_one_view_scale_of_1_is_the_plain_prediction(dvos_network: nn.Module) -> None:
    images = _video(3, (40, 56))
    plain = _predictor(dvos_network, scale=0.8).segment(images)
    scaled = _predictor(dvos_network, scale=0.8, augment="scales", augment_scales=[1.0]).segment(
        images
    )
    for one, other in zip(plain, scaled, strict=True):
        assert (one.probability == other.probability).all()


@pytest.mark.parametrize("flips", [False, True])
def test_view_scales_average_the_predictions_at_each_scale(
    dvos_network: nn.Module, flips: bool
) -> None:
    images = _video(5, (40, 56))
    scales = (0.5, 1.0, 1.5)
    both, alone = ("flips_and_scales", "flips") if flips else ("scales", "none")
    averaged = _predictor(dvos_network, augment=both, augment_scales=list(scales), batch=2).segment(
        images
    )
    single = [
        list(_predictor(dvos_network, augment=alone, scale=scale).segment(images))
        for scale in scales
    ]
    for one, *views in zip(averaged, *single, strict=True):
        mean = sum(view.probability for view in views) / len(scales)
        # Resized by torch here, by OpenCV there.
        np.testing.assert_allclose(one.probability, mean, atol=1e-4)


@pytest.mark.parametrize("start", [3, 7])
def test_view_scales_begin_anywhere_with_the_very_same(dvos_network: nn.Module, start: int) -> None:
    images = _video(9)
    predictor = _predictor(
        dvos_network,
        reference_interval=2,
        augment="flips_and_scales",
        augment_scales=[0.7, 1.2],
        batch=2,
    )
    whole = list(predictor.segment(images))[start:]
    for one, again in zip(whole, predictor.segment(images, start=start), strict=True):
        assert (one.probability == again.probability).all()


@pytest.mark.parametrize("scales", [(), (1.0, 0.0)])
def test_view_scales_that_make_no_sense(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="augment_scales"):
        _predictor(BrightnessNetwork(), augment_scales=list(scales))
    with pytest.raises(ValueError, match="a scale, and each above 0"):
        Views(scales)


@pytest.mark.parametrize(
    "options", [{}, {"augment": "flips"}, {"augment": "scales", "augment_scales": [0.6, 1.0]}]
)
def test_tiles_of_the_real_network_equal_the_whole(
    dvos_network: nn.Module, options: dict[str, Any]
) -> None:
    images = _video(3, (150, 131))
    whole = _predictor(dvos_network, **options).segment(images)
    tiled = _predictor(dvos_network, tile=64, **options).segment(images)
    for one, other in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)


@pytest.mark.parametrize("flips", ["none", "horizontal", "all"])
def test_mean_and_deviation_over_any_views(dvos_network: nn.Module, flips: Any) -> None:
    images = _video(5, (40, 56))
    axes = {"none": 1, "horizontal": 2, "all": 4}[flips]
    single = []
    for scale in (0.5, 1.0):
        for turned in [(), (1,), (0,), (0, 1)][:axes]:
            frames = [np.ascontiguousarray(np.flip(image, turned)) for image in images]
            predictor = _predictor(dvos_network, scale=scale)
            found = [np.flip(one.probability, turned) for one in predictor.segment(frames)]
            single.append(np.stack(found))
    predictor = _predictor(dvos_network, batch=2, augment="flips", threshold=0.4)
    seen = list(predictor.segment_views(images, Views((0.5, 1.0), flips)))
    for place, one in enumerate(seen):
        views = [each[place] for each in single]
        np.testing.assert_allclose(one.probability, np.mean(views, 0), atol=1e-5)
        assert one.std is not None
        np.testing.assert_allclose(one.std, np.std(views, 0), atol=1e-5)
        assert (one.mask == (one.probability >= 0.4)).all()
    (last,) = predictor.segment_views(images, Views((0.5, 1.0), flips), start=4)
    assert last.frame_index == 4
    assert (last.probability == seen[4].probability).all()
    assert (last.std == seen[4].std).all()
    assert next(predictor.segment(images)).std is None


def test_a_source_is_read_once_for_all_views_and_not_hoarded(tmp_path: Path) -> None:
    for index, image in enumerate(_video(12)):
        write_image(tmp_path / f"f{index:02d}.png", image)
    read = []

    class Counted(ImageFolder):
        def frames(self, start: int = 0) -> Iterator[VideoFrame]:
            for frame in super().frames(start):
                read.append(frame.frame_index)
                yield frame

    predictor = _predictor(BrightnessNetwork())
    views = Views((0.5, 1.0), "all")
    for taken, _ in enumerate(predictor.segment_views(Counted(tmp_path), views)):
        assert len(read) <= taken + 6  # what is read ahead
    assert read == list(range(12))


def test_threshold() -> None:
    one = next(iter(_predictor(BrightnessNetwork(), threshold=0.8).segment(_video(1))))
    assert (one.mask == (one.probability >= 0.8)).all()
    assert one.mask.any()
    assert not one.mask.all()


def test_unreadable_frame_of_a_folder_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    images = _video(8, (16, 16))
    for index, image in enumerate(images):
        write_image(tmp_path / f"{index}.png", image)
    damaged = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(damaged[:-30])
    network = BrightnessNetwork()
    found = list(_predictor(network, batch=2).segment(tmp_path))
    assert [one.frame_index for one in found] == [0, 1, 2, 4, 5, 6, 7]
    held = [*images[:3], images[2], *images[4:]]
    expected = _naive(network, held, 6, references=4, interval=1)
    np.testing.assert_allclose(found[5].probability, expected, atol=1e-6)


@pytest.mark.parametrize("damaged", [(3,), (2, 3), (0,), (0, 1, 2), (5, 6)])
@pytest.mark.parametrize("batch", [1, 2])
def test_where_it_begins_makes_no_difference_beside_frames_that_cannot_be_read(
    tmp_path: Path, dvos_network: nn.Module, damaged: tuple[int, ...], batch: int
) -> None:
    """What stands in for an unreadable reference may lie before all others that are needed."""
    for index, image in enumerate(_video(12, (32, 32))):
        write_image(tmp_path / f"{index:02}.png", image)
        if index in damaged:
            path = tmp_path / f"{index:02}.png"
            path.write_bytes(path.read_bytes()[:-300])
    for interval in (1, 2):
        predictor = _predictor(dvos_network, reference_interval=interval, batch=batch)
        whole = {one.frame_index: one.probability for one in predictor.segment(tmp_path)}
        assert whole.keys() == {*range(12)} - {*damaged}
        for start in range(12):
            found = {x.frame_index: x.probability for x in predictor.segment(tmp_path, start=start)}
            assert found.keys() == {index for index in whole if index >= start}
            assert all((found[index] == whole[index]).all() for index in found)


def test_changing_size_is_one_clear_fault_after_the_frames_before_it() -> None:
    images = [*_video(3, (16, 16)), *_video(1, (16, 18))]
    found = []
    with pytest.raises(MediaError, match=r"frame 000003: is 18 x 16 pixels; expected 16 x 16"):
        found.extend(_predictor(BrightnessNetwork()).segment(images))
    assert len(found) == 3


@pytest.mark.parametrize("image", [np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))])
def test_arrays_of_another_kind(image: np.ndarray) -> None:
    with pytest.raises(MediaError, match="expected uint8 RGB"):
        list(_predictor(BrightnessNetwork()).segment([image]))


def test_no_frames_give_no_predictions() -> None:
    assert list(_predictor(BrightnessNetwork()).segment([])) == []


def test_the_reader_ends_when_the_consumer_stops_early() -> None:
    before = threading.active_count()
    predictions = _predictor(BrightnessNetwork()).segment(_video(50))
    next(predictions)
    predictions.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("x")])
def test_errors_of_the_source_come_through(error: Exception) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from _video(2)
        raise error

    found: list[Any] = []
    with pytest.raises(type(error)):
        found.extend(_predictor(BrightnessNetwork()).segment(frames()))
    assert len(found) == 2


def test_out_of_memory_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from dvos.errors import RunError

    network = BrightnessNetwork()

    def exhausted(frames: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "encode", exhausted)
    with pytest.raises(RunError, match=r"56 x 40 pixels: memory ran out on cpu; .*--tile"):
        list(_predictor(network).segment(_video(1)))


def test_a_source_of_frames_is_taken_as_it_is() -> None:
    class Source:
        name, frame_rate, size, frame_count, damage = "s", None, (8, 8), 2, []

        def frames(self, start: int = 0) -> Iterator[VideoFrame]:
            for index in range(start, 2):
                yield VideoFrame(index, index * 0.5, f"n{index}", _video(1, (8, 8))[0])

        def __iter__(self) -> Iterator[VideoFrame]:
            return self.frames()

    found = list(_predictor(BrightnessNetwork()).segment(Source()))
    assert [(one.name, one.time_s) for one in found] == [("n0", 0.0), ("n1", 0.5)]


@pytest.mark.parametrize("options", [{}, {"batch": 3, "augment": "flips"}, {"tile": 64}])
def test_predictions_lie_as_the_labels_that_were_learnt_from(
    dvos_network: nn.Module, options: dict[str, Any]
) -> None:
    images = _video(4, (70, 90))
    plain = list(_predictor(dvos_network, **options, flow_frames=0).segment(images))
    there = list(_predictor(dvos_network, (2, -3), **options, flow_frames=0).segment(images))
    for one, other in zip(plain, there, strict=True):
        np.testing.assert_allclose(other.probability[:-3, 2:], one.probability[3:, :-2], atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_that_is_as_far_whatever_the_size_they_are_seen_at(scale: float) -> None:
    ramp = np.tile(np.arange(120, dtype=np.uint8)[None, :, None], (60, 1, 3))
    network = BrightnessNetwork(reference_weight=0.0)
    for views in ({}, {"augment": "scales", "augment_scales": [1.0, 1.5]}):
        one, other = (
            next(iter(_predictor(network, by, scale=scale, **views).segment([ramp])))
            for by in (None, (4.0, 0.0))
        )
        moved = other.probability[:, 14:-10]
        np.testing.assert_allclose(moved, one.probability[:, 10:-14], atol=2e-3)
    first, second = (
        next(iter(_predictor(network, by, scale=scale).segment_views([ramp], Views())))
        for by in (None, (4.0, 0.0))
    )
    moved, plain = second.probability[:, 14:-10], first.probability[:, 10:-14]
    np.testing.assert_allclose(moved, plain, atol=2e-3)


def test_objects_are_told_apart_where_their_labels_would_lie() -> None:
    found = Found(torch.rand(2, 64, 80), {OBJECTS: torch.rand(2, 5, 32, 40)})
    there = found.moved(4 / 80, -2 / 64)
    torch.testing.assert_close(there.probability[:, :-2, 4:], found.probability[:, 2:, :-4])
    # A position of these maps is two pixels.
    torch.testing.assert_close(
        there.others[OBJECTS][..., :-1, 2:], found.others[OBJECTS][..., 1:, :-2]
    )
