"""CPU time to make a training clip, on one core, as JSON with the machine's facts.

python benchmarks/clip_data.py --clips 200 --out clip_data.json

Cases: pan clips of 512 x 512 stills at 160 pixels; clips of five 1024 x 1024
frames from the disk at 256 pixels, PNG and JPEG, with nothing kept in memory
(each clip decodes its five frames) and with all kept. The published pipeline
takes 90 to 660 ms for the latter, depending on what it draws.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from dvos.config.data import DataSettings
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.training.data import IMAGENET_MEAN, IMAGENET_STD, build_training_data
from dvos.training.datasets import to_item


def textured(rng: np.random.Generator, side: int) -> np.ndarray:
    """A photo-like image: detail at every scale."""
    image = np.zeros((side, side, 3), np.float32)
    for cells in (4, 16, 64, 256):
        grid = rng.normal(0, 40 / np.sqrt(np.log2(cells)), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(0, 4, image.shape).astype(np.float32)
    return np.clip(image + 110, 0, 255).astype(np.uint8)


def dense_mask(rng: np.random.Generator, side: int) -> np.ndarray:
    """A mask full of ellipses."""
    mask = np.zeros((side, side), np.uint8)
    for x, y in rng.integers(0, side, (side * side // 7000, 2)).tolist():
        cv2.ellipse(mask, (x, y), (30, 12), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask > 0


def write_stills(folder: Path, count: int) -> DataSettings:
    rng = np.random.default_rng(0)
    for number in range(count):
        write_image(folder / "images" / f"{number}.png", textured(rng, 512))
        write_mask(folder / "masks" / f"{number}.png", dense_mask(rng, 512))
    return DataSettings(stills={"folders": [folder]}, crop=160, validation={"share": 0})


def write_clips(folder: Path, count: int, suffix: str, memory_mb: int) -> DataSettings:
    rng = np.random.default_rng(0)
    for clip in range(count):
        for frame in range(5):
            name = folder / "frames" / str(clip) / f"{frame}{suffix}"
            write_image(name, textured(rng, 1024))
        write_mask(folder / "masks" / str(clip) / "4.png", dense_mask(rng, 1024))
    return DataSettings(
        clips={"folders": [folder]}, crop=256, memory_mb=memory_mb, validation={"share": 0}
    )


def milliseconds(function: Callable[[int], object], clips: int) -> dict[str, float]:
    """CPU time of each of ``clips`` calls, after as many as meet every file once."""
    for k in range(40):
        function(k)
    times = []
    for k in range(clips):
        started = time.process_time()
        function(k)
        times.append(1000 * (time.process_time() - started))
    return {
        "mean_ms": round(float(np.mean(times)), 2),
        "median_ms": round(float(np.median(times)), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
    }


def measure(settings: DataSettings, clips: int) -> dict[str, dict[str, float]]:
    """Time of whole items, and of the steps up to each stage."""
    data = build_training_data(settings, references=4, seed=0)
    sample = data.sample(0)
    return {
        "item": milliseconds(data.__getitem__, clips),
        "read and geometry": milliseconds(data.mixture.raw, clips),
        "as images": milliseconds(data.sample, clips),
        "to tensors": milliseconds(
            lambda _: to_item(sample, mean=IMAGENET_MEAN, std=IMAGENET_STD), clips
        ),
        "choice of source": milliseconds(data.source_of, clips),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200, help="clips timed in each case")
    parser.add_argument("--out", type=Path, help="JSON file; standard output if not given")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cases = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases["stills, 5 x 512 to 160"] = measure(write_stills(folder / "s", 8), options.clips)
        for suffix in (".png", ".jpg"):
            for kept, memory_mb in (("from disk", 1), ("kept", 1024)):
                place = folder / f"{suffix[1:]}_{kept[:4]}"
                settings = write_clips(place, 8, suffix, memory_mb)
                title = f"clips {suffix[1:]} {kept}, 5 x 1024 to 256"
                cases[title] = measure(settings, max(20, options.clips // 4))
    result = {
        "benchmark": "clip_data",
        "frames": 5,
        "target_ms": {"stills, 5 x 512 to 160": 8.0},
        "published_ms": {"clips, 5 x 1024 to 256": [90, 660]},
        "cases": cases,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 1),
            "python": sys.version.split()[0],
            "opencv": cv2.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    text = json.dumps(result, indent=2)
    if options.out is None:
        sys.stdout.write(text + "\n")
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
