"""Processor time to make a training clip, on one core, as JSON with the machine's facts.

    python benchmarks/clip_data.py --clips 200 --out clip_data.json
    python benchmarks/clip_data.py --published PATH --published-python PYTHON

Cases: simulated pans of 512 x 512 stills at 160 pixels; clips of five 1024 x 1024
frames at 256 pixels, decoded, augmented and collated: PNG and JPEG files and
clip stores with nothing kept in memory, and PNG files with all kept. Windows
are 256 to 768 pixels wide, as those of the published training. With
``--published``, a checkout of the published repository's ``DVOSCode``, its data
set makes clips of the same PNG files in the same run, in turns with ours;
``--published-python`` is the interpreter of an environment that has its
requirements (torch is lent to it if it has none).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from dvos.config.data import DataSettings
from dvos.config.training import TrainingSettings
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.spec import Normalisation
from dvos.tables import ClipRow, frame_address, write_clips
from dvos.training.data import build_training_clips
from dvos.training.datasets import TrainingClips
from dvos.training.targets import QueryTarget
from facts import machine

SIDE, FRAMES = 1024, 5
BATCH = 8  # clips made in a turn, and collated
# Windows of 256 to 768 pixels, half of them rotated, as the published training takes them.
AS_PUBLISHED = {"scale": (256 / 768, 1.0), "rotation_share": 0.5}

Make = Callable[[int, int], list[float]]


def textured(rng: np.random.Generator, side: int) -> np.ndarray:
    """An image that compresses as field photos do: about 14 bits a pixel as PNG, 4 as JPEG 95."""
    image = np.zeros((side, side, 3), np.float32)
    for cells in (4, 16, 64, 256):
        spread = 40 / np.sqrt(np.log2(cells))
        grid = rng.normal(0, spread, (cells, cells, 1)).astype(np.float32)
        # Colour varies less than brightness, and over longer distances.
        tint = rng.normal(0, 0.35 * spread if cells < 256 else 0, (cells, cells, 3))
        grid = grid + tint.astype(np.float32)
        image += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 8, image.shape).astype(np.float32)
    image += cv2.GaussianBlur(noise, (0, 0), 0.7)
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
    return DataSettings.model_validate(
        {"stills": {"folders": [folder]}, "crop": 160, "validation": {"share": 0}}
    )


def write_material(folder: Path, count: int) -> dict[str, Path]:
    """The same clips as PNG files, JPEG files and clip stores; a table of each."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[ClipRow]] = {"png": [], "jpeg": [], "store": []}
    for clip in range(count):
        name = f"VID_{clip:05d}"
        store = folder / f"{name}.dvclip"
        with ClipStoreWriter(store, size=(SIDE, SIDE)) as writer:
            for frame in range(FRAMES):
                image, mask = textured(rng, SIDE), dense_mask(rng, SIDE)
                writer.write(image, mask.astype(np.uint16))
                of_mask = folder / name / f"mask-{frame}.png"
                write_mask(of_mask, mask)
                label = int(frame == FRAMES - 1)
                for kind, suffix in (("png", ".png"), ("jpeg", ".jpg")):
                    of_frame = folder / name / f"frame-{frame}{suffix}"
                    write_image(of_frame, image)
                    rows[kind].append(ClipRow("", name, frame, of_frame, of_mask, label))
                address = frame_address(store, frame)
                rows["store"].append(ClipRow("", name, frame, address, address, label))
    tables = {kind: folder / f"{kind}.csv" for kind in rows}
    for kind, table in tables.items():
        write_clips(table, rows[kind])
    # The published code does not look for files beside its table.
    published = folder / "published.csv"
    lines = [f"{r.vid},{r.fid},{r.image},{r.mask},{r.label}" for r in rows["png"]]
    published.write_text("\n".join(["VID,FID,Image,Mask,Label", *lines]) + "\n")
    return {**tables, "published": published}


def built(data: DataSettings) -> TrainingClips:
    settings = TrainingSettings(out=Path("unused"), data=data, seed=0)
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return build_training_clips(settings, QueryTarget(settings, references=4), normalisation)


def clips_of(table: Path, memory_mb: int, **more: Any) -> TrainingClips:
    settings = {
        "clips": {"tables": [table]},
        "crop": 256,
        "memory_mb": memory_mb,
        "spatial": AS_PUBLISHED,
        "validation": {"share": 0},
        **more,
    }
    return built(DataSettings.model_validate(settings))


def maker(data: TrainingClips) -> Make:
    """What times ``clips`` clips from clip ``first`` on, collating included."""

    def make(first: int, clips: int) -> list[float]:
        items, seconds = [], []
        for k in range(first, first + clips):
            started = time.process_time()
            items.append(data[k])
            seconds.append(time.process_time() - started)
        started = time.process_time()
        default_collate(items)
        share = (time.process_time() - started) / clips
        return [second + share for second in seconds]

    return make


class Published:
    """The published data set in its own interpreter."""

    def __init__(self, checkout: Path, python: str, table: Path) -> None:
        script = Path(__file__).with_name("published_clips.py")
        packages = Path(torch.__file__).parents[1]
        self._process = subprocess.Popen(
            [python, str(script), str(checkout.resolve()), str(table), str(packages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def make(self, first: int, clips: int) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{first} {clips}\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            message = "the published code failed; run published_clips.py to see why"
            raise SystemExit(message) from error

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def in_turns(cases: dict[str, Make], clips: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a clip in each case, the cases taking turns of ``BATCH`` clips."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for make in cases.values():
        for first in range(0, 2 * BATCH, BATCH):  # compiles, and fills what is kept
            make(first, BATCH)
    for first in range(1000, 1000 + clips, BATCH):
        for name, make in cases.items():
            seconds[name] += make(first, BATCH)
    return {
        name: {
            "mean_ms": round(1000 * float(np.mean(times)), 2),
            "median_ms": round(1000 * float(np.median(times)), 2),
            "p95_ms": round(1000 * float(np.percentile(times, 95)), 2),
            "clips": len(times),
        }
        for name, times in seconds.items()
    }


def stages(data: TrainingClips, clips: int) -> dict[str, float]:
    """Mean milliseconds up to each stage of an item."""
    found = {}
    for name, make in (
        ("read and geometry", data.raw),
        ("as images", data.sample),
        ("as tensors", data.__getitem__),
    ):
        started = time.process_time()
        for k in range(clips):
            make(k)
        found[name] = round(1000 * (time.process_time() - started) / clips, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200, help="clips timed in each case")
    parser.add_argument("--published", type=Path, help="DVOSCode of the published repository")
    parser.add_argument("--published-python", default=sys.executable, help="its interpreter")
    parser.add_argument("--out", type=Path, help="JSON file; standard output if not given")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "benchmark": "clip_data",
        "frames": FRAMES,
        "machine": machine("numpy", "opencv-python-headless", "torch"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = write_material(folder, 8)
        sources = {
            "clip store": clips_of(tables["store"], 64),
            "png": clips_of(tables["png"], 1),
            "jpeg": clips_of(tables["jpeg"], 1),
            "png, kept in memory": clips_of(tables["png"], 1024),
        }
        cases = {kind: maker(data) for kind, data in sources.items()}
        published = None
        if options.published:
            published = Published(options.published, options.published_python, tables["published"])
            cases["published, png"] = published.make
        try:
            measured = in_turns(cases, options.clips)
        finally:
            if published:
                published.close()
        result["clips, 5 x 1024 to 256"] = measured
        if published:
            theirs = measured["published, png"]
            result["times_published"] = {
                kind: {
                    of: round(theirs[f"{of}_ms"] / measured[kind][f"{of}_ms"], 2)
                    for of in ("mean", "median")
                }
                for kind in sources
            }
        result["stages, mean ms"] = {
            kind: stages(data, max(20, options.clips // 4)) for kind, data in sources.items()
        }
        stills = built(write_stills(folder / "s", 8))
        case = {"stills, 5 x 512 to 160": maker(stills)}
        result.update(in_turns(case, options.clips))
    text = json.dumps(result, indent=2)
    if options.out is None:
        sys.stdout.write(text + "\n")
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
