"""The starter weights ``wheat``: rendered fields, a training on them alone, and its figures.

python benchmarks/starter.py --out FOLDER --make --train --pack FILE --score PHOTOS

--make renders labelled stills of fields of every kind (``dvos.sample.variety``), --train trains
on them, and keeps the weights that are best on other rendered fields, --pack writes these to FILE
with kernels in half precision (--checkpoint: another file's), --score predicts the photos
of PHOTOS/annotated and PHOTOS/validation (images/, and head_mask/ or masks/), none of which has
any part in the training or in the choice of the weights. Each goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dvos
from dvos.config.base import named_weights
from dvos.config.training import TrainingSettings
from dvos.files import digest, write_json
from dvos.media.image import write_image
from dvos.media.mask import label_components, object_pixels, read_mask, write_mask
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import load_network, read_checkpoint, save_network
from dvos.registry import training_spec
from dvos.runner.manifest import Task
from dvos.runner.tasks import run_tasks
from dvos.training.calibration import NOVELTY, learn_novelty
from dvos.training.data import learn_objects
from dvos.training.run import build_clips

#: Raised with every change of the pictures.
_LOOK = 1
#: Training clips by which pictures unlike the fields are told, as many as of any training.
CLIPS = 96


@dataclass(frozen=True)
class Job:
    """One field to render."""

    folder: str
    seed: int
    number: int
    side: int


@dataclass(frozen=True)
class Made:
    """What is noted of a field."""

    heads: int


def render_field(job: Job) -> dict[str, Any]:
    """Write a picture of a field and the ids of its heads."""
    from dvos.sample.render import Renderer
    from dvos.sample.variety import any_scene

    size = (job.side, job.side)
    frame = Renderer(any_scene(job.seed, job.number, size=size), frame_rate=1, size=size).frame(0)
    name = f"field_{job.number:05d}"
    image = Path(job.folder) / f"images/{name}.jpg"
    mask = Path(job.folder) / f"masks/{name}.png"
    write_mask(mask, frame.instances)
    write_image(image, frame.image)
    heads = int(np.count_nonzero(np.unique(frame.instances)))
    return {"files": [str(image), str(mask)], "heads": heads}


def make(options: argparse.Namespace) -> None:
    """Fields to train on, and others to choose the weights by."""
    for part, first, count in (("fields", 0, options.fields), ("check", 10**6, options.checks)):
        folder = options.out / part
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [Job(str(folder), options.seed, first + n, options.side) for n in range(count)]
        tasks = [Task(f"{job.number}", job, digest([asdict(job), _LOOK]), Made) for job in jobs]
        run_tasks(
            render_field,
            tasks,
            manifest=folder / "fields.jsonl",
            description=part,
            workers=options.workers,
        )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of a training on the fields alone, from the encoder's weights of ImageNet."""
    data = {
        "stills": {"folders": [options.out / "fields"]},
        "validation": {"stills": {"folders": [options.out / "check"]}},
        "crop": options.crop,
        "spatial": {"scale": (0.5, 1.5)},
        "colour": {"strength": 1.0},
        "degradation": {"strength": 1.0},
    }
    return {
        "out": options.out / "train",
        "seed": options.seed,
        "network": {"references": 0, "dvos": {"objects": True}},
        "data": data,
        "losses": {"objects": 2.0},
        "epochs": options.epochs,
        "clips_per_epoch": options.clips // options.epochs,
        "threads": options.threads,
        "pictures": 4,
    }


def best_of(options: argparse.Namespace) -> Path:
    """The weights that were best on other rendered fields."""
    return Path(options.out / "train/best.safetensors")


def pack(options: argparse.Namespace) -> None:
    """Write the best weights with their kernels, which are nearly all of them, in half precision.

    Statistics and biases stay as they are: the smallest variances are beyond half precision. In
    place of the usual width and area of an object, which fields of every kind have none of, stands
    between which median areas 90 of 100 fields lie, by every tenth field. Tensors that are packed
    already stay as they are. What its encoder sees in the fields, by which pictures unlike them are
    told, is learnt anew from some training clips.
    """
    source = named_weights(options.checkpoint or best_of(options))
    info, state = read_checkpoint(source)
    packed = {
        key: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for key, tensor in state.items()
    }
    lost = [key for key, tensor in packed.items() if not torch.isfinite(tensor).all()]
    if lost:
        sys.exit(f"weights beyond half precision: {', '.join(lost)}")
    masks = (read_mask(path) for path in sorted((options.out / "fields/masks").glob("*0.png")))
    areas = [found["area"] for mask in masks if (found := learn_objects([mask]))]
    smallest, largest = np.percentile(areas, (5, 95)).round().tolist()
    error = info.extra["objects"]["error"]
    objects = {"error": error, "smallest": smallest, "largest": largest}
    settings = TrainingSettings.model_validate(settings_of(options))
    clips = build_clips(settings, training_spec(settings.network), options.out)
    network, _ = load_network(source, DvosNetwork)
    assert isinstance(network, DvosNetwork)
    queries = (clips[number]["frames"][-1] for number in range(CLIPS))
    novelty = learn_novelty(network.features, queries, pictures=clips.pictures)
    extra = {**info.extra, "objects": objects, NOVELTY: novelty}
    save_network(options.pack, packed, name=info.name, arguments=info.arguments, extra=extra)
    print(f"{options.pack}: {options.pack.stat().st_size / 1e6:.1f} MB")


def score(options: argparse.Namespace) -> dict[str, Any]:
    """Dice and counts of the photos, by the first part of their names."""
    rows: dict[str, dict[str, float]] = {}
    for part in ("annotated", "validation"):
        folder = options.score / part
        masks = next(m for m in ("masks", "head_mask") if (folder / m).is_dir())
        out = options.out / "scores" / part
        shutil.rmtree(out, ignore_errors=True)
        found = dvos.evaluate(
            checkpoint=options.checkpoint or options.pack or best_of(options),
            truth=folder / masks,
            input=folder / "images",
            stills=True,
            frames="all",
            out=out,
            overlay_interval=1,
            augment=options.augment,
            scale=options.scale,
        )
        for mask in found.scores.masks:
            counts = mask.counts
            rows[mask.pair.name] = {
                "both": counts.intersection,
                "found": counts.predicted,
                "true": counts.truth,
                "dice": 2 * counts.intersection / max(counts.predicted + counts.truth, 1),
            }
        for path in sorted((folder / masks).iterdir()):
            areas = np.bincount(label_components(object_pixels(read_mask(path))).ravel())[1:]
            mine = next(row for name, row in rows.items() if path.stem in name)
            mine["heads"] = int(np.count_nonzero(areas >= 30))
        with open(out / "predictions/counts.csv", encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                name = f"{line['clip']}/{line['frame']}"
                mine = next(row for stem, row in rows.items() if Path(stem).stem in name)
                mine["counted"] = float(line["count"])
    return summary(rows)


def summary(rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Pooled Dice, mean Dice and error of the count, of each institution and of all."""
    groups: dict[str, list[dict[str, float]]] = {"all": list(rows.values())}
    for name, row in rows.items():
        institution = re.match(r"[a-z]+\d+", Path(name).name)
        groups.setdefault(institution[0] if institution else "other", []).append(row)
    table = {}
    for group, mine in groups.items():
        both, found, true = (sum(row[key] for row in mine) for key in ("both", "found", "true"))
        heads, counted = (sum(row.get(key, 0) for row in mine) for key in ("heads", "counted"))
        table[group] = {
            "photos": len(mine),
            "pooled_dice": 2 * both / max(found + true, 1),
            "mean_dice": float(np.mean([row["dice"] for row in mine])),
            "precision": both / max(found, 1),
            "recall": both / max(true, 1),
            "heads": heads,
            "counted": counted,
            "count_error": float(
                np.mean([abs(r.get("counted", 0) - r["heads"]) / max(r["heads"], 1) for r in mine])
            ),
        }
    return {"groups": table, "photos": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--pack", type=Path, help="file for the weights in half precision")
    parser.add_argument("--score", type=Path, help="folder of photos, which only measure")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--fields", type=int, default=1_920, help="stills to train on")
    parser.add_argument("--checks", type=int, default=24, help="stills to choose the weights by")
    parser.add_argument("--side", type=int, default=512, help="of a still, pixels")
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--clips", type=int, default=36_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that render")
    parser.add_argument("--checkpoint", type=Path, help="to pack or score; else what was trained")
    parser.add_argument("--augment", default="none", help="as of dvos predict")
    parser.add_argument("--scale", type=float, default=1.0, help="as of dvos predict")
    parser.add_argument("--set", action="append", default=[], help="further settings of training")
    options = parser.parse_args()
    if options.make:
        make(options)
    if options.train:
        started = time.process_time()
        dvos.train(overrides=options.set, **settings_of(options))
        print(f"trained, {time.process_time() - started:.0f} s of this process")
    if options.pack is not None:
        pack(options)
    if options.score is not None:
        if not options.score.is_dir():
            sys.exit(f"skipped: {options.score} is not there")
        figures = score(options)
        write_json(options.out / "scores.json", figures)
        for group, row in figures["groups"].items():
            print(group, json.dumps({key: round(value, 3) for key, value in row.items()}))


if __name__ == "__main__":
    main()
