"""Speed of an exported network under onnxruntime against torch, and how far they differ.

Both segment the same noise through the same stream, in turn, on two threads::

    python benchmarks/export.py [--checkpoint best.safetensors] [--frames 8] [--repeats 5]

Without a checkpoint the default networks with random weights are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

# Threads that wait must not take the cores from others; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from dvos.api import convert, load_predictor
from dvos.config.prediction import ConvertSettings
from dvos.networks.weights import save_network
from dvos.prediction.predictor import Predictor
from dvos.registry import network_spec

NORMALISATION = {"mean": [0.46, 0.46, 0.44], "std": [0.21, 0.19, 0.2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--networks", nargs="+", default=["dvos", "paper"])
    parser.add_argument("--sides", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in [""] if options.checkpoint else options.networks:
            checkpoint = options.checkpoint or _random(Path(folder) / f"{name}.safetensors", name)
            graph = Path(folder) / f"{name or 'network'}.onnx"
            started = time.perf_counter()
            print(convert(ConvertSettings(checkpoint=checkpoint, out=graph)), flush=True)
            print(f"  written in {time.perf_counter() - started:.0f} s")
            for side in options.sides:
                _compare(checkpoint, graph, side, options.frames, options.repeats)


def _random(path: Path, name: str) -> Path:
    torch.manual_seed(0)
    save_network(
        path,
        network_spec(name).network(),
        name=name,
        arguments={},
        extra={"normalisation": NORMALISATION},
    )
    return path


def _compare(checkpoint: Path, graph: Path, side: int, frames: int, repeats: int) -> None:
    noise = np.random.default_rng(0)
    clip = noise.integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    predictors = {"torch": load_predictor(checkpoint, "cpu"), "onnxruntime": load_predictor(graph)}
    found = {name: _run(predictor, clip)[2] for name, predictor in predictors.items()}
    difference = max(float(np.abs(a - b).max()) for a, b in zip(*found.values(), strict=True))
    clock: dict[str, list[float]] = {name: [] for name in predictors}
    processor: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(repeats):
        for name, predictor in predictors.items():
            wall, cpu, _ = _run(predictor, clip)
            clock[name].append(frames / wall)
            processor[name].append(frames / cpu)
    print(f"  {side} x {side}: probabilities differ by {difference:.1e}")
    for name in predictors:
        print(
            f"    {name:12s} {statistics.median(clock[name]):6.2f} frames/s,"
            f" {statistics.median(processor[name]):6.2f} frames per processor second"
        )


def _run(predictor: Predictor, clip: np.ndarray) -> tuple[float, float, list[np.ndarray]]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = [frame.probability for frame in predictor.segment(clip)]
    return time.perf_counter() - wall, time.process_time() - cpu, found


if __name__ == "__main__":
    main()
