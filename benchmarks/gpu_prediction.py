"""Rows of ``benchmarks/gpu.py`` about prediction: frames in memory, the network alone, a file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dvos
from dvos.config.prediction import PredictionOptions
from dvos.media.video import VideoFile
from dvos.networks.dvos.network import DvosNetwork
from dvos.prediction.counting import count_frame
from dvos.registry import load_network
from gpu_bench import Bench, fresh_checkpoint, moving, usual_checkpoint

#: Height and width, and how many frames at most.
SIZES = {
    "512 x 512": ((512, 512), 900),
    "1280 x 720": ((720, 1280), 480),
    "1920 x 1080": ((1080, 1920), 240),
    "3840 x 2160": ((2160, 3840), 60),
}
_DISTINCT = 16


def frames_in_memory(bench: Bench) -> dict[str, Any]:
    """Frames a second that ``segment`` gives, probabilities and masks at full size."""
    checkpoint = fresh_checkpoint(bench)
    figures: dict[str, Any] = {}
    sizes = {"64 x 48": ((48, 64), 6)} if bench.tiny else SIZES
    for name, (size, count) in sizes.items():
        figures[name] = {"default": segmented(bench, checkpoint, size, count)}
        bench.note(figures)
    middle = "64 x 48" if bench.tiny else "1920 x 1080"
    size, count = sizes[middle]
    figures[middle]["float32"] = segmented(bench, checkpoint, size, count, precision="float32")
    return figures


def segmented(
    bench: Bench, checkpoint: Path, size: tuple[int, int], count: int, **options: Any
) -> dict[str, Any]:
    """How fast masks come: the first, and the rest once all is warm."""
    distinct = list(moving(min(count, _DISTINCT), size))
    bench.forget_peak()
    predictor = dvos.load_predictor(checkpoint, bench.device, **options)
    begun = time.perf_counter()
    until, times = begun + 8.0, []
    for frame in predictor.segment(islice(cycle(distinct), count)):
        frame.mask.any()
        times.append(time.perf_counter())
        if times[-1] > until:
            break
    # What is compiled or tried out at the beginning is told apart.
    warm = times[len(times) // 2 :]
    return {
        "frames_per_second": round((len(warm) - 1) / max(warm[-1] - warm[0], 1e-9), 1),
        "first_mask_s": round(times[0] - begun, 3),
        "frames": len(times),
        "all_s": round(times[-1] - begun, 3),
        "peak_mib": bench.peak_mib(),
    }


def network_alone(bench: Bench) -> dict[str, Any]:
    """Encoding each frame once and decoding its window, four frames at a time."""
    loaded, _ = load_network(fresh_checkpoint(bench), device=bench.device)
    assert isinstance(loaded, DvosNetwork)
    figures: dict[str, Any] = {"batch": 4}
    sizes = {"64 x 48": (48, 64)} if bench.tiny else {k: SIZES[k][0] for k in list(SIZES)[1:3]}
    half = torch.bfloat16 if bench.device == "cpu" else torch.float16
    variants: dict[str, tuple[torch.dtype, torch.dtype | None, bool]] = {
        "float32": (torch.float32, None, False),
        "bfloat16 autocast": (torch.float32, torch.bfloat16, False),
        "half weights": (half, None, False),
        "half weights, compiled": (half, None, True),
    }
    if bench.tiny:
        del variants["half weights, compiled"]  # its compiler takes longer than all rows
    for name, (kind, mixed, compiled) in variants.items():
        network = loaded.for_inference().to(kind)
        for size_name, size in reversed(sizes.items()):
            bench.forget_peak()
            begun = time.perf_counter()
            run = pass_of(network, size, kind, mixed, bench, compiled=compiled)
            run()
            bench.synchronise()
            ready = time.perf_counter() - begun
            figures.setdefault(size_name, {})[name] = {
                "frames_per_second": round(bench.rate(run, 4), 1),
                "ready_s": round(ready, 2),
                "peak_mib": bench.peak_mib(),
            }
            bench.note(figures)
    return figures


def pass_of(
    network: DvosNetwork,
    size: tuple[int, int],
    kind: torch.dtype,
    mixed: torch.dtype | None,
    bench: Bench,
    *,
    compiled: bool,
) -> Callable[[], Tensor]:
    """A pass over four frames that lie on the device; each stands for its references too."""
    frames = torch.randn(4, 3, *size, device=bench.place, dtype=kind)
    frames = frames.contiguous(memory_format=torch.channels_last)
    steps = network.references + 1

    def masks(batch: Tensor) -> Tensor:
        maps = [[scale] * steps for scale in network.encode(batch)]
        return network.decode(maps, size, reconstruct=False).mask_logits

    run = torch.compile(masks) if compiled else masks

    def once() -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(bench.device, dtype=mixed, enabled=mixed is not None),
        ):
            return run(frames)

    return once


def from_file(bench: Bench) -> dict[str, Any]:
    """``dvos predict`` of a video file, twice; and what decoding it takes alone."""
    from prediction import write_video

    size, count = ((48, 64), 6) if bench.tiny else ((1080, 1920), 300)
    begun = time.perf_counter()
    video = write_video(bench.work / "file.mp4", count, size, moving(count, size, 400))
    figures: dict[str, Any] = {
        "size": size,
        "frames": count,
        "writing_the_video_s": round(time.perf_counter() - begun, 2),
    }
    begun = time.perf_counter()
    for frame in VideoFile(video):
        frame.image.any()
    figures["decoding_alone_frames_per_second"] = round(count / (time.perf_counter() - begun), 1)
    bench.note(figures)
    checkpoint, figures["network"] = usual_checkpoint(bench)
    for name in ("first", "second"):
        bench.forget_peak()
        begun = time.perf_counter()
        out = bench.work / f"file-{name}"
        result = dvos.predict(video, checkpoint=checkpoint, out=out, device=bench.device)
        seconds = time.perf_counter() - begun
        assert result.frames == count
        figures[name] = {
            "frames_per_second": round(count / seconds, 1),
            "seconds": round(seconds, 2),
            "peak_mib": bench.peak_mib(),
        }
        bench.note(figures)
    return figures


def fast_default(bench: Bench) -> dict[str, Any]:
    """Dice between the masks of the default settings and those of float32, and their counts."""
    checkpoint, origin = usual_checkpoint(bench)
    size, count = ((64, 96), 5) if bench.tiny else ((720, 1280), 60)
    frames = list(moving(count, size))
    # On a CPU the default is float32 itself.
    default: dict[str, Any] = {"precision": "bfloat16"} if bench.device == "cpu" else {}
    found = {}
    for name, options in (("float32", {"precision": "float32"}), ("default", default)):
        predictor = dvos.load_predictor(checkpoint, bench.device, **options)
        found[name] = list(predictor.segment(frames))
    exact, fast = (np.stack([frame.mask for frame in each]) for each in found.values())
    areas = int(exact.sum()) + int(fast.sum())
    figures: dict[str, Any] = {
        "network": origin,
        "coverage": float(exact.mean()),
        "dice": 2 * int((exact & fast).sum()) / areas if areas else 1.0,
    }
    bench.note(figures)
    chosen = PredictionOptions(checkpoint=checkpoint)
    counts = {
        name: [count_frame(x, predictor.calibration, chosen).count for x in each]
        for name, each in found.items()
    }
    totals = {name: float(sum(each)) for name, each in counts.items()}
    return figures | {
        "counts": totals,
        "counts_differ_by": abs(totals["default"] - totals["float32"])
        / max(totals["float32"], 1.0),
        "worst_frame_differs_by": max(
            abs(a - b) / max(b, 1.0)
            for a, b in zip(counts["default"], counts["float32"], strict=True)
        ),
    }


def published(bench: Bench) -> dict[str, Any]:
    """The published network at 256 x 256, one frame at a time, beside ours in the same run."""
    from prediction_published import measure

    found = measure(
        argparse.Namespace(
            size=64 if bench.tiny else 256,
            queries=1 if bench.tiny else 40,
            repeats=1 if bench.tiny else 5,
            threads=2,
            published=bench.published,
            published_python=sys.executable,
            device=bench.device,
        )
    )
    del found["machine"]
    return found
