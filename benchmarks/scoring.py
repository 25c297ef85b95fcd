"""Time of scoring many mask pairs, as JSON with the machine's facts.

python benchmarks/scoring.py --masks 1000 --side 1024 --out scoring.json

With --instances the masks hold numbered objects, which are matched and counted, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from dvos.config.scoring import ScoringSettings
from dvos.media.mask import write_mask
from dvos.scoring.score import score
from facts import machine, write_result


def dense_mask(rng: np.random.Generator, side: int, objects: int) -> np.ndarray:
    """A mask full of numbered ellipses, as an ear-dense field gives; uint16."""
    mask = np.zeros((side, side), np.uint16)
    for name, (x, y) in enumerate(rng.integers(0, side, (objects, 2)).tolist(), 1):
        cv2.ellipse(mask, (x, y), (30, 12), float(rng.uniform(0, 180)), 0, 360, name, -1)
    return mask


def write_pairs(
    folder: Path, *, masks: int, side: int, instances: bool, distinct: int = 20
) -> None:
    """Write truth and shifted predictions; few distinct ones, linked under many names."""
    rng = np.random.default_rng(0)
    for kind in ("truth", "predictions"):
        (folder / kind / "clip").mkdir(parents=True)
    for index in range(masks):
        names = {
            kind: folder / kind / "clip" / f"{index:05d}.png" for kind in ("truth", "predictions")
        }
        if index < distinct:
            truth = dense_mask(rng, side, side * side // 7000)
            truth = truth if instances else truth > 0
            write_mask(names["truth"], truth)
            write_mask(names["predictions"], np.roll(truth, (2, 3), (0, 1)))
        else:
            for kind, path in names.items():
                os.link(folder / kind / "clip" / f"{index % distinct:05d}.png", path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--instances", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file; standard output if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, masks=options.masks, side=options.side, instances=options.instances)
        settings = ScoringSettings(
            truth=folder / "truth",
            predictions=folder / "predictions",
            out=folder / "out",
            workers=options.workers,
        )
        started, cpu_started = time.perf_counter(), time.process_time()
        scores = score(settings)
        seconds = time.perf_counter() - started
        cpu_seconds = time.process_time() - cpu_started
    result = {
        "benchmark": "scoring",
        "masks": options.masks,
        "side": options.side,
        "instances": options.instances,
        "workers": options.workers,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "masks_per_second": round(options.masks / seconds, 1),
        "target_seconds": 20.0 if (options.masks, options.side) == (1000, 1024) else None,
        "pooled_dice": scores.pooled_dice,
        "instance_f1": scores.figures["instance_f1"],
        "machine": machine("numpy", "opencv-python-headless"),
    }
    write_result(result, options.out)


if __name__ == "__main__":
    main()
