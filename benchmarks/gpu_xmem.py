"""Rows ``xmem`` and ``published xmem`` of ``benchmarks/gpu.py``: by the number of objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gpu_bench import Bench
from xmem import our_step, published_step
from xmem_scenes import Scene

OBJECTS = (1, 10, 100)
SIZE = (480, 848)
#: Working memory is consolidated for the first time after some 50 frames.
_FRAMES = 64
Step = Callable[[int], Tensor]


class DeviceScene:
    """A scene whose frames lie on the device."""

    def __init__(self, scene: Scene, count: int, device: torch.device) -> None:
        self.mask = scene.mask.to(device)
        self._frames = [scene.frame(index).to(device) for index in range(count)]

    def frame(self, index: int) -> Tensor:
        return self._frames[index % len(self._frames)]


def ours(bench: Bench) -> dict[str, Any]:
    """The engine, in float32 and in mixed precision, as prediction has it."""
    mixed = torch.bfloat16 if bench.device == "cpu" else torch.float16
    precisions = {"float32": None, str(mixed).removeprefix("torch."): mixed}
    return by_objects(bench, precisions, lambda scene: our_step(scene, None, False, bench.device))


def published(bench: Bench) -> dict[str, Any]:
    """The published code, in float32 and in its own mixed precision."""
    precisions = {"float32": None, "float16": torch.float16}
    if bench.device == "cpu":
        del precisions["float16"]  # which its code has on a GPU only
    checkout = str(bench.published_xmem)
    return by_objects(
        bench,
        precisions,
        lambda scene: published_step(scene, checkout, None, False, bench.device),
    )


def by_objects(
    bench: Bench,
    precisions: dict[str, torch.dtype | None],
    begin: Callable[[DeviceScene], Step],
) -> dict[str, Any]:
    """Frames a second and peak memory, by number of objects and precision."""
    size = (96, 112) if bench.tiny else SIZE  # no fewer places than are read of each
    figures: dict[str, Any] = {"size": size}
    for objects in OBJECTS[:1] if bench.tiny else OBJECTS:
        scene = DeviceScene(Scene(*size, objects), 3 if bench.tiny else _FRAMES, bench.place)
        found: dict[str, Any] = {}
        for name, precision in precisions.items():
            bench.forget_peak()
            found[name] = timed(bench, begin(scene), precision) | {"peak_mib": bench.peak_mib()}
            figures[str(objects)] = found
            bench.note(figures)
    return figures


def timed(bench: Bench, step: Step, precision: torch.dtype | None) -> dict[str, float]:
    """Frames a second, after those of a warm-up that come before memory is consolidated."""
    warm_up, most = (1, 3) if bench.tiny else (6, _FRAMES)
    mixed = torch.autocast(bench.device, dtype=precision, enabled=precision is not None)
    seconds: list[float] = []
    until = time.perf_counter() + 8.0
    with torch.inference_mode(), mixed:
        for index in range(most):
            begun = time.perf_counter()
            step(index)
            bench.synchronise()
            seconds.append(time.perf_counter() - begun)
            if time.perf_counter() > until and index > warm_up:
                break
    measured = seconds[warm_up:]
    return {
        "frames_per_second": round(len(measured) / sum(measured), 2),
        "frames": len(seconds),
        "slowest_ms": round(1000 * max(measured), 1),
        "first_frame_ms": round(1000 * seconds[0], 1),
    }
