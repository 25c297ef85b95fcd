"""The network of a GPU on the CPU, compiled by backends that take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import MEAN, STD, BrightnessNetwork

from dvos.config.prediction import PredictorOptions
from dvos.errors import RunError, UsageError
from dvos.networks.dvos.running import AcceleratedNetwork
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.streaming import StreamingPredictor, _gpu_batch, dvos_predictor
from dvos.registry import network_spec

SIZE = (40, 56)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    widths = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}
    return network_spec("dvos").network(**widths).eval().for_inference()


def _broken(given: Any, *_: Any, **__: Any) -> Any:
    raise RuntimeError("no C compiler")


def _wrong(given: Any, *_: Any, **__: Any) -> Any:
    return [torch.ones(1, 1, 1, 1).expand(len(given), 1, 1, 1)] * 5


def _loaded(network: Any) -> LoadedNetwork:
    extra = {"normalisation": {"mean": MEAN, "std": STD}}
    return LoadedNetwork(Path("best.safetensors"), network, extra, torch.device("cpu"))


def _video(frames: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(frames)]


def _segmented(network: Any, batch: int = 2) -> list[np.ndarray]:
    options = PredictorOptions(batch=batch)
    predictor = StreamingPredictor(_loaded(network), options)
    with torch.inference_mode():
        return [one.probability for one in predictor.segment(_video(5))]


@pytest.mark.parametrize("compiles", ["off", "on"])
def test_it_gives_what_the_network_gives(network: Any, compiles: str) -> None:
    # Five frames in batches of two: the last one is filled up.
    fast = AcceleratedNetwork(network, None, compiles, backend="eager")
    fast.expect(SIZE, 2, 5)
    for one, other in zip(_segmented(fast), _segmented(network), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_single_frame_that_stands_for_all_of_a_window_is_no_case_of_its_own(network: Any) -> None:
    seen = []

    def compiled(maps: Any, size: Any, *, reconstruct: bool) -> Any:
        seen.append({map_.data_ptr() for scale in maps for map_ in scale})
        return network.decode(maps, size, reconstruct=reconstruct)

    fast = AcceleratedNetwork(network, None, "on", backend="eager")
    fast._compiled_encode, fast._compiled_decode = network.encode, compiled
    fast.expect(SIZE, 1, 5)
    found = _segmented(fast, 1)
    assert all(len(each) == 5 * 5 for each in seen)
    for one, other in zip(found, _segmented(network, 1), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_half_precision_stays_near() -> None:
    torch.manual_seed(0)
    widths = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}
    plain = network_spec("dvos").network(**widths).eval()
    half = AcceleratedNetwork(plain.for_inference(), torch.bfloat16, "off")
    frames = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        maps = [[map_] * 2 for map_ in half.encode(frames)]
        found = half.decode(maps, (32, 32)).mask_logits
        maps = [[map_] * 2 for map_ in plain.encode(frames)]
        expected = plain.decode(maps, (32, 32), reconstruct=False).mask_logits
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert found.dtype == torch.float32


def test_few_frames_are_not_worth_compiling(network: Any) -> None:
    fast = AcceleratedNetwork(network, None, "auto", backend="eager")
    fast.expect((1080, 1920), 4, 300)
    assert not fast._batches
    fast.expect((1080, 1920), 4, 20_000)
    assert fast._batches == {(1080, 1920): 4}


def test_many_short_videos_of_one_size_are(network: Any) -> None:
    fast = AcceleratedNetwork(network, None, "auto", backend="eager")
    fast._pixels[SIZE] = 24 * 10**9
    fast.expect(SIZE, 2, 1)
    assert fast._batches == {SIZE: 2}


@pytest.mark.parametrize(("compiled", "told"), [(_broken, "no C comp"), (_wrong, "other values")])
def test_what_does_not_compile_well_runs_as_it_is(
    network: Any, compiled: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    fast = AcceleratedNetwork(network, None, "auto", backend="eager")
    fast._compiled_encode = compiled
    fast._pixels[SIZE] = 24 * 10**9
    fast.expect(SIZE, 2, 5)
    found = _segmented(fast)
    assert told in caplog.text
    for one, other in zip(found, _segmented(network), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_who_asks_for_it_is_told(network: Any) -> None:
    fast = AcceleratedNetwork(network, None, "on", backend="eager")
    fast._compiled_encode = _broken
    fast.expect(SIZE, 2, 5)
    with pytest.raises(RunError, match=r"compile: the network cannot be compiled.*set compile=off"):
        _segmented(fast)


def test_networks_that_are_not_compiled_refuse_it(network: Any) -> None:
    with pytest.raises(UsageError, match="auto or off for a BrightnessNetwork"):
        StreamingPredictor(_loaded(BrightnessNetwork()), PredictorOptions(compile="on"))
    with pytest.raises(UsageError, match="auto or off with tiles"):
        dvos_predictor(_loaded(network), PredictorOptions(compile="on", tile=64))


@pytest.mark.parametrize(
    ("size", "memory", "expected"),
    [
        ((1080, 1920), 80, 4),
        ((720, 1280), 80, 9),
        ((2160, 3840), 80, 1),
        ((64, 64), 80, 16),
        ((1080, 1920), 4, 1),
        (None, 80, 4),
    ],
)
def test_a_batch_is_as_large_as_keeps_a_gpu_busy(
    size: Any, memory: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Properties:
        total_memory = memory * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert _gpu_batch(size, 1.0, torch.device("cuda")) == expected
