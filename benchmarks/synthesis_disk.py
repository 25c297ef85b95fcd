"""Synthetic clips to disk and back, on one core, as JSON with the machine's facts.

python benchmarks/synthesis_disk.py --frames 60 --out synthesis_disk.json

160 sprites of 35..65 x 70..130 px at 1024 x 1024, published preset. Written:
the PNG tree and the clip store, masks included. Read: random clips of five
frames and a mask, cut to 256 and 512 px, from both. Beside the format that the
store has, those it might have had are measured on the same frames.

Times are of the processor, which other work on the machine hardly touches;
``wall`` is what the clock said. The published simulator writes 2.5 frames a
second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import zstandard

from dvos.config.scene import SynthesisSettings
from dvos.media.clip_store import ClipStore, ClipStoreWriter
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.synthesis.build import build_generator, build_recipe
from dvos.synthesis.write import synthesize, tree_name
from dvos.tables import ImageRow, write_images
from facts import machine

PUBLISHED = 2.5  # frames a second to disk
SIZE = (1024, 1024)


def textured(rng: np.random.Generator, size: tuple[int, int], mean: float) -> np.ndarray:
    """A photo-like image: detail at every scale.

    As JPEG 95 it takes as much as a field photo does, 0.6 MB per megapixel.
    """
    image = np.full((*size, 3), mean, np.float32)
    for cells in (4, 16, 64, 256):
        if cells <= max(size) / 4:
            grid = rng.normal(0, 40 / np.sqrt(np.log2(cells)), (cells, cells, 3)).astype(np.float32)
            image += cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def write_field(folder: Path) -> dict[str, list[Path]]:
    """A background video of 90 frames and 60 patches of each kind."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(90):
        frames.append(ImageRow(folder / f"plate_{number:06d}.png"))
        if number < 3:
            write_image(frames[-1].image, textured(rng, (1200, 1200), 90))
        else:
            frames[-1].image.hardlink_to(frames[number % 3].image)
    write_images(folder / "backgrounds.csv", frames)
    for kind, mean in (("cutouts", 170), ("distractors", 110)):
        rows = []
        for number in range(60):
            height, width = int(rng.integers(35, 66)), int(rng.integers(70, 131))
            alpha = np.zeros((height, width), np.uint8)
            middle, axes = (width // 2, height // 2), (width // 2 - 1, height // 2 - 1)
            cv2.ellipse(alpha, middle, axes, 0, 0, 360, 255, -1)
            rows.append(ImageRow(folder / f"{kind}{number}.png"))
            write_image(rows[-1].image, np.dstack([textured(rng, (height, width), mean), alpha]))
        write_images(folder / f"{kind}.csv", rows)
    return {k: [folder / f"{k}.csv"] for k in ("backgrounds", "cutouts", "distractors")}


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def writing(settings: SynthesisSettings, clips: int) -> dict[str, float]:
    """Frames a second of whole runs with one process, the maker built before."""
    # Backgrounds are decoded once for the many clips on them: they are kept by now.
    synthesize(settings.model_copy(update={"clips": 3, "out": settings.out / "warm"}))
    cpu, wall = timed(lambda: synthesize(settings.model_copy(update={"clips": clips})))
    frames = clips * settings.frames
    kept = [p for p in settings.out.rglob("*") if p.is_file() and "warm" not in p.parts]
    return {
        "frames_per_second": round(frames / cpu, 1),
        "frames_per_second_wall": round(frames / wall, 1),
        "times_published": round(frames / cpu / PUBLISHED, 1),
        "kilobytes_per_frame": round(sum(p.stat().st_size for p in kept) / frames / 1000, 1),
    }


def reading(tree: Path, store: Path, frames: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a random five-frame window with the last frame's mask."""
    results: dict[str, dict[str, float]] = {}
    for side in (256, 512):
        rng = np.random.default_rng(1)
        draws = [
            (int(rng.integers(frames - 4)), *rng.integers(0, SIZE[0] - side, 2).tolist())
            for _ in range(20)
        ]

        def from_tree(draws: list = draws, side: int = side) -> None:
            for t, y, x in draws:
                cut = np.s_[y : y + side, x : x + side]
                np.stack([read_image(tree / tree_name("frame", 0, t + k))[cut] for k in range(5)])
                _ = read_mask(tree / tree_name("mask", 0, t + 4))[cut] > 0

        def from_store(draws: list = draws, side: int = side) -> None:
            for t, y, x in draws:
                with ClipStore(store / "VID_00000.dvclip") as clip:
                    clip.read_frames(range(t, t + 5), (y, x, side, side))
                    _ = clip.read_instances([t + 4], (y, x, side, side)) > 0

        for name, function in (("tree", from_tree), ("store", from_store)):
            function()
            cpu, wall = timed(function)
            results.setdefault(name, {})[f"ms_{side}"] = round(1000 * cpu / len(draws), 2)
            results[name][f"ms_{side}_wall"] = round(1000 * wall / len(draws), 2)
    return results


def formats(frames: np.ndarray, ids: np.ndarray, folder: Path) -> dict[str, dict[str, float]]:
    """What other formats of the store would cost, a frame; windows of 256 px."""
    count = len(frames)
    results = {}
    for tile in (64, 128, 256, 512, 1024):
        path = folder / f"{tile}.dvclip"

        def write(path: Path = path, tile: int = tile) -> None:
            with ClipStoreWriter(path, size=SIZE, tile=tile) as writer:
                for image, instances in zip(frames, ids, strict=True):
                    writer.write(image, instances)

        results[f"JPEG 95 and zstd, tiles of {tile}"] = {
            "write_ms": round(1000 * min(timed(write)[0] for _ in range(3)) / count, 2),
            "kilobytes": round(path.stat().st_size / count / 1000, 1),
            "read_5_ms": read_windows(path, count),
        }
    for level in (-5, 1):
        codec, back = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
        blocks: list[bytes] = []

        def compress(codec: zstandard.ZstdCompressor = codec, blocks: list[bytes] = blocks) -> None:
            blocks.extend(codec.compress(f.tobytes()) for f in frames)

        def decompress(
            back: zstandard.ZstdDecompressor = back, blocks: list[bytes] = blocks
        ) -> None:
            _ = [back.decompress(x) for x in blocks]

        cpu, _ = timed(compress)
        results[f"zstd {level}, whole frames"] = {
            "write_ms": round(1000 * cpu / count, 2),
            "kilobytes": round(sum(map(len, blocks)) / count / 1000, 1),
            "read_5_ms": round(5000 * timed(decompress)[0] / count, 2),
        }
    data = [simplejpeg.encode_jpeg(f, 95, "RGB", "444") for f in frames]
    cpu, _ = timed(lambda: [simplejpeg.decode_jpeg(d, "RGB") for d in data])
    results["JPEG 95, whole frames"] = {"read_5_ms": round(5000 * cpu / count, 2)}
    return results


def read_windows(path: Path, count: int) -> float:
    rng = np.random.default_rng(2)
    places = rng.integers(0, SIZE[0] - 256, (40, 2)).tolist()
    with ClipStore(path) as clip:

        def read() -> None:
            for y, x in places:
                clip.read_frames(range(count)[:5], (y, x, 256, 256))
                _ = clip.read_instances([0], (y, x, 256, 256)) > 0

        read()
        return round(1000 * timed(read)[0] / len(places), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2, help="clips written to the store")
    parser.add_argument("--frames", type=int, default=60, help="frames of a clip")
    parser.add_argument("--out", type=Path, help="JSON file; standard output if not given")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SynthesisSettings.model_validate(
            {
                "scene": {
                    "preset": "published",
                    "population": {"objects": [80, 80], "distractors": [80, 80]},
                },
                **write_field(folder),
                "out": folder / "store",
                "layout": "store",
                "frames": options.frames,
                "workers": 1,
            }
        )
        store = writing(settings, options.clips)
        other = settings.model_copy(update={"layout": "tree", "out": folder / "tree"})
        tree = writing(other, 1)
        maker = build_generator(build_recipe(settings))
        maker.make(0, frames=options.frames, size=SIZE, background=0)
        cpu, _ = timed(lambda: maker.make(1, frames=options.frames, size=SIZE, background=0))
        clip = maker.make(0, frames=6, size=SIZE, background=0)
        result = {
            "benchmark": "synthesis_disk",
            "frames": options.frames,
            "sprites": 160,
            "published_frames_per_second": PUBLISHED,
            "target": {"store frames_per_second": 20 * PUBLISHED},
            "in_memory_frames_per_second": round(options.frames / cpu, 1),
            "write": {"store": store, "tree": tree},
            "read": reading(folder / "tree", folder / "store", options.frames),
            "formats": formats(clip.frames, clip.instances, folder),
            "machine": machine("numpy", "opencv-python-headless", "simplejpeg", "zstandard"),
        }
    text = json.dumps(result, indent=2)
    if options.out is None:
        sys.stdout.write(text + "\n")
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
