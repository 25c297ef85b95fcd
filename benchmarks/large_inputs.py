"""Time of tables of many rows and masks of many objects, as JSON with the machine's facts.

    python benchmarks/large_inputs.py --rows 50000 --objects 20000 --out large.json

Four things are measured: ``dvos check`` on a table of clips, ``dvos score`` on as many masks,
``dvos extract objects`` on a still with as many objects, and what ``dvos predict`` does with a mask
of as many, which touch. Seconds pass on the clock; processor seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dvos.checking import check
from dvos.config.extraction import ObjectsSettings
from dvos.config.prediction import PredictionSettings
from dvos.config.scoring import ScoringSettings
from dvos.extraction.objects import extract_objects
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.write import FrameWriter
from dvos.scoring.score import score
from facts import machine, write_result

#: Frames of a clip, and distinct ones among them; the rest are links to these.
_FRAMES, _DISTINCT = 500, 20
#: Pixels between two objects, which are a little wider across.
_PITCH = 22
_TARGETS = {"check": 6.0, "score": 30.0, "extract": 20.0, "predict": 10.0}


def field(count: int) -> np.ndarray:
    """A mask of ``count`` numbered ellipses in a grid, which touch those beside them; int32."""
    across = round((1.5 * count) ** 0.5)
    down = -(-count // across)
    ids = np.zeros((down * _PITCH + 20, across * _PITCH + 20), np.int32)
    rng = np.random.default_rng(0)
    for number in range(count):
        row, column = divmod(number, across)
        centre = (column * _PITCH + 20, row * _PITCH + 20)
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(ids, centre, (13, 9), angle, 0, 360, number + 1, -1)
    return ids


def write_clips(folder: Path, rows: int) -> None:
    """A table of clips, ``clips.csv``, their frames and masks, and predictions of them."""
    rng = np.random.default_rng(0)
    lines = ["VID,FID,Image,Mask,Label"]
    for number in range(rows):
        clip, frame = f"c{number // _FRAMES:04d}", f"f{number % _FRAMES:04d}.png"
        places = [folder / kind / clip / frame for kind in ("frames", "masks", "predictions")]
        if number < _DISTINCT:
            mask = np.zeros((64, 64), np.uint8)
            cv2.circle(mask, tuple(rng.integers(20, 44, 2).tolist()), 12, 255, -1)
            image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            for place, pixels in zip(places, (image, mask, np.roll(mask, 2, 1)), strict=True):
                write_image(place, pixels)
        else:
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                first = place.parents[1] / "c0000" / f"f{number % _DISTINCT:04d}.png"
                os.link(first, place)
        lines.append(f"{clip},{number % _FRAMES},{places[0]},{places[1]},1")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds that work takes, and processor seconds of this process and its children."""

    def processor() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(used.ru_utime + used.ru_stime for used in both)

    started, used = time.perf_counter(), processor()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "processor_seconds": round(processor() - used, 2)}


def predict_frame(folder: Path, ids: np.ndarray) -> None:
    """What follows the network: objects told apart and measured, and the frame's files."""
    mask = ids > 0
    probability = np.where(mask, np.float32(0.9), np.float32(0.05))
    options = PredictionSettings.model_validate(
        {"input": folder, "checkpoint": folder, "out": folder, "instances": True}
    )
    writer = FrameWriter(folder / "clip", options, CountCalibration())
    image = np.zeros((*ids.shape, 3), np.uint8)
    writer(FramePrediction(0, 0.0, "f", image, probability, mask))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=list(_TARGETS), help="may be repeated")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--distractors", type=int, default=10, help="for each object")
    parser.add_argument("--out", type=Path, help="JSON file; standard output if not given")
    options = parser.parse_args()
    chosen = options.only or list(_TARGETS)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"check", "score"} & set(chosen):
            write_clips(folder, options.rows)
        ids = field(options.objects)
        if "check" in chosen:
            found["check"] = measured(lambda: check(folder / "clips.csv"))
        if "score" in chosen:
            scoring = ScoringSettings(
                truth=folder / "clips.csv",
                predictions=folder / "predictions",
                out=folder / "scores",
                workers=options.workers,
            )
            found["score"] = measured(lambda: score(scoring))
        if "extract" in chosen:
            rng = np.random.default_rng(1)
            shape = (*ids.shape, 3)
            write_image(folder / "s.png", rng.integers(0, 256, shape, dtype=np.uint8))
            write_mask(folder / "m.png", ids.astype(np.uint16))
            (folder / "s.csv").write_text("Image,Mask,OutDir\ns.png,m.png,objects\n")
            plan = ObjectsSettings(
                annotated=folder / "s.csv",
                cutouts=folder / "c.csv",
                distractors=folder / "d.csv",
                min_object_size=50,
                distractors_per_object=options.distractors,
                workers=options.workers,
            )
            found["extract"] = measured(lambda: extract_objects(plan))
        if "predict" in chosen:
            predict_frame(folder, field(10))  # what is compiled once
            found["predict"] = measured(lambda: predict_frame(folder, ids))
    for one, target in _TARGETS.items():
        if one in found:
            found[one]["target_seconds"] = target
    result = {
        "benchmark": "large_inputs",
        "rows": options.rows,
        "objects": options.objects,
        "distractors": options.distractors,
        "found": found,
        "machine": machine("numpy", "opencv-python-headless"),
    }
    write_result(result, options.out)


if __name__ == "__main__":
    main()
