"""Counts and masks on a real microscope video, learnt from twelve nuclei of its first frame.

    python benchmarks/cells.py --data FOLDER --out FOLDER [--set KEY=VALUE ...]

``--data`` holds ``images/`` and ``instances/`` of the same names: frames of a video and masks that
number their objects (Cell Tracking Challenge, Fluo-N2DL-HeLa). Of the first frame twelve nuclei are
taken as the labels somebody would draw; they are cut out, the frame's bare parts become the
background, a network is trained on clips synthesized from the two (scene preset ``cells``), and
the whole video is predicted. All other labels are used for scoring alone. ``--set`` changes a
setting of the training, as for ``dvos train``.

Every stage goes on where it was stopped if the same command is given again. Without the data the
benchmark says so and ends with code 0.

The challenge labels only objects that reach into its field of interest, the frame without a rim of
25 pixels, and hardly any that the frame's edge cuts. Counts are given for the whole frame as
predicted; for the same with cut objects left out, as in the truth (the setting
``border_objects: exclude``), or counted by half, which is what makes counts of an area unbiased
(``half``); and for that field.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Threads that wait must not take the cores from others; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.extraction import ObjectsSettings
from dvos.config.load import load_settings
from dvos.config.prediction import PredictionSettings
from dvos.config.scoring import ScoringSettings
from dvos.config.training import TrainingSettings
from dvos.extraction.objects import extract_objects
from dvos.media.image import read_image, write_image
from dvos.media.layout import list_images
from dvos.media.mask import read_mask, write_mask
from facts import machine

NUCLEI = 12
#: Rim outside the challenge's field of interest for Fluo-N2DL-HeLa, pixels.
RIM = 25
TARGETS = {"count_error": 0.10, "pooled_dice": 0.80}

#: As for ``dvos train``; ``--set`` comes on top.
TRAINING: dict[str, Any] = {
    "data.synthetic.scene.preset": "cells",
    "data.validation.synthetic": 12,
    "data.validation.largest_side": 256,
    "data.crop": 128,
    "epochs": 3,
    "clips_per_epoch": 400,
}


def choose_nuclei(image: NDArray[np.uint8], ids: NDArray[Any], count: int = NUCLEI) -> list[int]:
    """Pick objects spread over size and brightness that touch neither each other nor the border.

    In each third of the free objects by area, a third of ``count`` is taken evenly over brightness.

    Args:
        image: uint8 (H, W, 3).
        ids: Numbered objects (H, W).
        count: How many; a multiple of three.
    """
    brightness = image.mean(2)
    rows = []
    for number in np.unique(ids[ids > 0]).tolist():
        own = ids == number
        near = cv2.dilate(own.view(np.uint8), np.ones((9, 9), np.uint8)) > 0
        edge = np.concatenate([own[0], own[-1], own[:, 0], own[:, -1]])
        if not edge.any() and not (near & (ids > 0) & ~own).any():
            rows.append((int(own.sum()), float(brightness[own].mean()), int(number)))
    if len(rows) < count:
        sys.exit(f"only {len(rows)} objects of the first frame stand free, {count} are needed")
    rows.sort()
    chosen: list[int] = []
    for third in np.array_split(np.arange(len(rows)), 3):
        group = sorted((rows[k] for k in third), key=lambda row: row[1])
        places = (np.arange(count // 3) + 0.5) / (count // 3) * len(group)
        chosen += [group[int(place)][2] for place in places]
    return sorted(chosen)


def bare_background(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """The frame without its objects, and the share of it that was bare. No label is used.

    Bare is what, blurred a little, stays within three deviations of the ground about it. Elsewhere
    the ground is what a wide blur of the bare pixels gives, and its grain is taken from bare
    pixels beside.
    """
    grey = image.mean(2).astype(np.float32)
    calm = cv2.GaussianBlur(grey, (0, 0), 1.5)
    bare = calm < np.percentile(calm, 70)
    for _ in range(8):
        ground = _blurred(grey, bare, 40.0)
        over = calm - ground
        spread = 1.4826 * float(np.median(np.abs(over[bare] - np.median(over[bare]))))
        objects = (np.abs(over) > 3 * spread).astype(np.uint8)
        objects = cv2.morphologyEx(objects, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        bare = cv2.dilate(objects, np.ones((11, 11), np.uint8)) == 0
    ground = _blurred(grey, bare, 20.0)
    grain, filled = np.where(bare, grey - ground, 0), bare.copy()
    for _ in range(2000):
        if filled.all():
            break
        shift = tuple(rng.integers(-120, 121, 2).tolist())
        take = ~filled & np.roll(bare, shift, (0, 1))
        grain[take] = np.roll(np.where(bare, grey - ground, 0), shift, (0, 1))[take]
        filled |= take
    plate = np.clip(np.rint(ground + grain), 0, 255).astype(np.uint8)
    return np.repeat(plate[..., None], 3, 2), float(bare.mean())


def _blurred(grey: NDArray[np.float32], bare: NDArray[np.bool_], sigma: float) -> NDArray[Any]:
    """Gaussian mean over the bare pixels alone."""
    weight = bare.astype(np.float32)
    total = cv2.GaussianBlur(grey * weight, (0, 0), sigma)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-6))


def prepare(data: Path, out: Path) -> dict[str, Any]:
    """Cut out the nuclei and make the background; facts of both."""
    first = list_images(data / "images")[0]
    image, ids = read_image(first), read_mask(data / "instances" / first.name)
    chosen = choose_nuclei(image, ids)
    smallest = min(int((ids == number).sum()) for number in chosen)
    folder = out / "first"
    folder.mkdir(parents=True, exist_ok=True)
    write_mask(folder / "mask.png", np.where(np.isin(ids, chosen), ids, 0).astype(np.uint16))
    (folder / "annotated.csv").write_text(
        f"Image,Mask,OutDir\n{first.resolve()},mask.png,objects\n"
    )
    plate, bare = bare_background(image, np.random.default_rng(0))
    write_image(folder / "plate.png", plate)
    (folder / "backgrounds.csv").write_text("Image\nplate.png\n")
    settings = ObjectsSettings(
        annotated=folder / "annotated.csv",
        cutouts=folder / "cutouts.csv",
        distractors=folder / "distractors.csv",
        distractors_per_object=0,
        min_object_size=100,
        workers=1,
    )
    extract_objects(settings)
    return {
        "first_frame": first.name,
        "nuclei": chosen,
        "smallest_nucleus": smallest,
        "bare_share": round(bare, 3),
    }


def train_on(out: Path, overrides: list[str]) -> dict[str, Any]:
    """Train; the validation figure of the best weights, on synthetic clips."""
    from dvos.api import train

    options = TRAINING | {
        "out": out / "train",
        "data.synthetic.backgrounds": [out / "first" / "backgrounds.csv"],
        "data.synthetic.cutouts": [out / "first" / "cutouts.csv"],
    }
    given = {text.partition("=")[0].strip() for text in overrides}
    options = {key: value for key, value in options.items() if key not in given}
    result = train(load_settings(TrainingSettings, overrides=overrides, options=options))
    return {
        "training": {
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "synthetic_dice": round(result.dice, 4),
            "seconds": round(result.seconds, 1),
            "settings": overrides,
        }
    }


def predict_video(
    data: Path, out: Path, options: argparse.Namespace, *, smallest: int
) -> list[dict[str, str]]:
    """Predict the video; the rows of ``counts.csv``.

    What is smaller than half of the smallest labelled nucleus is debris, and not counted.
    """
    from dvos.prediction.predict import predict
    from dvos.registry import predictor_for

    settings = PredictionSettings(
        checkpoint=out / "train" / "best.safetensors",
        input=data / "images",
        out=out / "predict",
        instances=True,
        minimum_object_area=smallest // 2,
        threshold=options.threshold,
        scale=options.scale,
        augment=options.augment,
    )
    predict(settings, predictor_for)
    with (out / "predict" / "counts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def reaching_in(ids: NDArray[Any]) -> int:
    """Number of objects that reach into the field of interest."""
    return int(np.count_nonzero(np.unique(ids[RIM:-RIM, RIM:-RIM])))


def counted(rows: list[dict[str, str]], data: Path, out: Path) -> list[dict[str, Any]]:
    """True and predicted numbers of objects in each frame."""
    figures = []
    (objects,) = (out / "predict").glob("*.objects.csv")
    with objects.open(newline="") as file:
        cut = Counter(row["frame"] for row in csv.DictReader(file) if row["touches_border"] == "1")
    for row in rows:
        name = row["frame"]
        truth = read_mask(data / "instances" / f"{name}.png")
        clip = out / "predict" / row["clip"]
        found = read_mask(clip / "instances" / f"{name}.png")
        true = int(np.count_nonzero(np.unique(truth)))
        figures.append(
            {
                "frame": name,
                "true": true,
                "count": int(row["count"]),
                "count_cut_by_half": int(row["count"]) - cut[name] / 2,
                "count_without_cut": int(row["count"]) - cut[name],
                "count_smooth": float(row["count_smooth"]),
                "inside_interval": float(row["count_low"]) <= true <= float(row["count_high"]),
                "count_in_field": reaching_in(found),
            }
        )
    return figures


def count_errors(frames: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean absolute error and bias of each kind of count, as shares of the true count."""
    true = np.array([frame["true"] for frame in frames], float)
    result = {}
    kinds = ("count", "count_without_cut", "count_cut_by_half", "count_smooth", "count_in_field")
    for kind in kinds:
        error = (np.array([frame[kind] for frame in frames]) - true) / true
        result[kind] = {
            "mean_absolute_error": round(float(np.abs(error).mean()), 4),
            "bias": round(float(error.mean()), 4),
        }
    return result


def recall_by_contrast(data: Path, out: Path) -> list[dict[str, float]]:
    """Share of true objects that lie at least half in the mask, by brightness over the ground."""
    found: list[tuple[float, float]] = []
    for path in list_images(data / "images"):
        grey = read_image(path).mean(2)
        truth = read_mask(data / "instances" / path.name).astype(np.int64)
        (place,) = (out / "predict").glob(f"*/{path.name}")
        mask = read_mask(place) > 0
        size = np.bincount(truth.ravel())
        ids = np.flatnonzero(size)[1:]
        light = np.bincount(truth.ravel(), grey.ravel())[ids] / size[ids]
        hit = np.bincount(truth.ravel(), mask.ravel())[ids] / size[ids]
        found += zip((light - np.median(grey[truth == 0])).tolist(), hit.tolist(), strict=True)
    levels, shares = np.array(found).T
    edges = [-np.inf, 10, 20, 40, 80, 120, np.inf]
    return [
        {
            "grey_levels_below": high,
            "objects": int(inside.sum()),
            "found": round(float((shares[inside] >= 0.5).mean()), 3),
        }
        for low, high in itertools.pairwise(edges)
        if (inside := (levels >= low) & (levels < high)).any()
    ]


def score_video(data: Path, out: Path) -> dict[str, Any]:
    """Dice and its companions of all frames."""
    from dvos.scoring.score import score

    scores = score(
        ScoringSettings(
            truth=data / "instances",
            predictions=out / "predict",
            images=data / "images",
            out=out / "scores",
            flow_frames=0,
        )
    )
    return {key: value for key, value in scores.figures.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cells"))
    parser.add_argument("--out", type=Path, default=Path("runs/cells"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--augment", default="none")
    options = parser.parse_args()
    if not (options.data / "images").is_dir() or not (options.data / "instances").is_dir():
        sys.stdout.write(f"skipped: {options.data} holds no images/ and instances/\n")
        return
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(stage: str) -> None:
        seconds[stage] = round(time.perf_counter() - started - sum(seconds.values()), 1)

    result: dict[str, Any] = {"benchmark": "cells", **prepare(options.data, options.out)}
    lap("prepare")
    result |= train_on(options.out, options.overrides)
    lap("train")
    rows = predict_video(options.data, options.out, options, smallest=result["smallest_nucleus"])
    frames = counted(rows, options.data, options.out)
    lap("predict")
    figures = score_video(options.data, options.out)
    lap("score")
    errors = count_errors(frames)
    result |= {
        "figures": figures,
        "count_errors": errors,
        "count_errors_without_first": count_errors(frames[1:]),
        "recall_by_contrast": recall_by_contrast(options.data, options.out),
        "targets": TARGETS,
        "reached": {
            kind: error["mean_absolute_error"] < TARGETS["count_error"]
            for kind, error in errors.items()
        }
        | {"pooled_dice": figures["pooled_dice"] >= TARGETS["pooled_dice"]},
        "frames": frames,
        "seconds": seconds,
        "machine": machine("torch"),
    }
    text = json.dumps(result, indent=2)
    (options.out / "cells.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
