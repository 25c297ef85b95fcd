"""Makes the folder of a plausible ``dvos demo`` run, with tiny generated pictures.

Also a command, to look at the report while working on its design::

    python tests/reporting/fake_run.py FOLDER && dvos report FOLDER
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import cv2
import numpy as np

from dvos.files import write_json, write_text
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.overlay import overlay
from dvos.media.video_write import VideoWriter

SIZE = (144, 192)
EPOCHS = 12
FRAMES = 40


def scene(rng: np.random.Generator, heads: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """A field of ellipses on soil: uint8 (H, W, 3) and instance ids uint16 (H, W)."""
    height, width = SIZE
    coarse = rng.normal(0, 1, (height // 8, width // 8)).astype(np.float32)
    soil = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.array([112, 104, 62], np.float32) + 16 * soil[..., None]
    ids = np.zeros(SIZE, np.uint16)
    for index in range(1, heads + 1):
        centre = (int(rng.integers(12, width - 12)), int(rng.integers(12, height - 12)))
        axes = (int(rng.integers(5, 8)), int(rng.integers(11, 18)))
        shape = np.zeros(SIZE, np.uint8)
        cv2.ellipse(shape, centre, axes, float(rng.uniform(-40, 40)), 0, 360, 1, -1)
        inside = shape > 0
        ids[inside] = index
        image[inside] = np.array([198, 178, 104], np.float32) + 10 * soil[inside][:, None]
    noise = rng.normal(0, 7, (*SIZE, 1)).astype(np.float32)
    return np.clip(image + noise, 0, 255).astype(np.uint8), ids


def make_run(folder: Path, *, seed: int = 5, blur: int = 1) -> Path:
    """Write every part of a demo run to ``folder`` and return it.

    Args:
        folder: Where to.
        seed: Of the scenes: runs of one seed have the same truth.
        blur: How far predictions are off; 1 or more. It changes the training's
            settings, curves and times, too.
    """
    rng = np.random.default_rng(seed)
    _history(folder, blur)
    _stills_and_cutouts(folder, rng)
    _clips(folder, rng)
    _training(folder / "train", blur)
    _target(folder / "predict", rng, blur)
    _heldout(folder, rng, blur)
    return folder


def _history(folder: Path, blur: int) -> None:
    stages = [
        ("make sample field", 31.4, "4 backgrounds, 5 stills, 2 videos", 2),
        ("extract frames", 12.3, "120 frames", 1),
        ("extract objects", 3.91, "70 cutouts, 140 distractors", 1),
        ("synthesize", 8.2, "2 clips", 1),
        ("train", 341.0 / blur, "1400 clips", 1),
        ("predict target video", 41.7, "40 frames", 1),
        ("score held-out clip", 9.04, "6 masks", 1),
    ]
    named = [
        {"name": name, "seconds": seconds, "note": note, "starts": starts, "finished": True}
        for name, seconds, note, starts in stages
    ]
    history = {
        "stages": named,
        "started": "2026-03-02T10:14:07+00:00",
        "finished": "2026-03-02T10:21:35+00:00",
        "command": "dvos demo --out demo-run",
        "seed": 123,
    }
    write_json(folder / "stages.json", history)


def _stills_and_cutouts(folder: Path, rng: np.random.Generator) -> None:
    objects = folder / "objects"
    annotated, cutouts, distractors = ["Image,Mask,OutDir"], ["Image"], ["Image"]
    for index in range(3):
        image, ids = scene(rng)
        name = f"still_{index}"
        write_image(folder / f"sample/annotated/images/{name}.png", image)
        write_mask(folder / f"sample/annotated/masks/{name}.nrrd", ids)
        annotated.append(
            f"../sample/annotated/images/{name}.png,../sample/annotated/masks/{name}.nrrd,."
        )
        for number in np.unique(ids[ids > 0])[:6]:
            alpha = np.uint8(255) * (ids == number).astype(np.uint8)
            rows, columns = np.nonzero(alpha)
            box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            moved = np.roll(image, (31, 47), axis=(0, 1))
            for kind, source, table in (
                ("real", image, cutouts),
                ("fake", moved, distractors),
            ):
                file = f"{kind}/{name}_{number:04d}.png"
                write_image(objects / file, np.dstack([source, alpha])[box])
                table.append(file)
    write_text(objects / "annotated.csv", "\n".join(annotated) + "\n")
    write_text(objects / "cutouts.csv", "\n".join(cutouts) + "\n")
    write_text(objects / "distractors.csv", "\n".join(distractors) + "\n")


def _clips(folder: Path, rng: np.random.Generator) -> None:
    rows = ["BID,VID,FID,Image,Mask,Label"]
    for clip in range(2):
        image, ids = scene(rng)
        for fid in range(8):
            frame, mask = (f"VID_{clip:05d}/{kind}/{fid:05d}.png" for kind in ("Frames", "Masks"))
            write_image(folder / "clips" / frame, np.roll(image, 3 * fid, axis=1))
            write_mask(folder / "clips" / mask, np.roll(ids, 3 * fid, axis=1))
            rows.append(f"Back_000,VID_{clip:05d},{fid},{frame},{mask},1")
    write_text(folder / "clips" / "clips.csv", "\n".join(rows) + "\n")


def _training(train: Path, blur: int) -> None:
    facts = {
        "started": "2026-03-02T10:15:03+00:00",
        "seed": 123,
        "device": "cpu",
        "precision": "32-true",
        "parameters": 3412873,
        "seconds": 341.02,
        "clips_per_second": 4.1055,
        "clips_by_source": {"stills": 700, "synthetic": 690, "pseudo_labelled": 10},
        "versions": {
            "dvos": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "numpy": f"2.3.{blur}",
        },
        "hardware": {"processor": "x86_64", "cores": 2, "memory_gb": 15.6, "gpu": None},
        "data": {
            str(train / "cutouts.csv"): f"3d2f9c7ab1c04e5{blur}",
            str(train / "frames.csv"): "90ab77e1c2d3f4a5",
        },
    }
    write_json(train / "run.json", facts)
    rate = f"optimiser:\n  rate: {0.001 * blur:g}\n  clip: null\n"
    write_text(train / "config.yaml", f"out: {train}\nnetwork: dvos\nseed: 123\n{rate}")
    header = "epoch,train_loss,train_dice,train_bce,train_reconstruction,"
    rows = [header + "val_loss,dice,iou,lr,seconds"]
    for epoch in range(1, EPOCHS + 1):
        fall = math.exp(-epoch / 3 / blur)
        dice = 0.87 - 0.5 * fall
        parts = (0.12 + 0.6 * fall, 0.08 + 0.4 * fall, 0.05 + 0.2 * fall)
        rate = 1e-3 * (0.5 + 0.5 * math.cos(math.pi * epoch / EPOCHS))
        values = (sum(parts), *parts, sum(parts) * 1.1 + 0.03 * math.sin(epoch))
        numbers = ",".join(f"{v:.5f}" for v in (*values, dice, dice / (2 - dice)))
        rows.append(f"{epoch},{numbers},{rate:.6g},28.4")
    write_text(train / "records.csv", "\n".join(rows) + "\n")
    write_text(train / "best.safetensors", "weights" * 1000)


def _target(predict: Path, rng: np.random.Generator, blur: int) -> None:
    image, ids = scene(rng)
    columns = "clip,frame_index,time_s,coverage,count,count_smooth,count_low,count_high,density"
    rows = [columns]
    with VideoWriter(predict / "target.mp4", frame_rate=10, size=SIZE) as video:
        for index in range(FRAMES):
            shift = round(8 * math.sin(index / 6))
            mask = np.roll(ids, shift, axis=1) > 0
            video.write(overlay(np.roll(image, shift, axis=1), mask))
            count = 14 + round(1.5 * math.sin(index / 4)) - 2 * (blur - 1)
            smooth = 14.3 - 2 * (blur - 1) + 0.4 * math.sin(index / 9)
            found = f"{index / 10},{mask.mean() * (1 + shift / 90):.5f},{count}"
            known = f"{smooth:.3f},{smooth - 1.2:.3f},{smooth + 1.5:.3f},{smooth / 0.5:.3f}"
            rows.append(f"target,{index},{found},{known}")
            if index < 3:
                write_mask(predict / "target" / f"target_{index:06d}.png", mask)
    write_text(predict / "counts.csv", "\n".join(rows) + "\n")
    write_text(
        predict / "totals.csv",
        "clip,region,distinct,low,high,area_m2,per_m2,frames\n"
        f"target,,17,15,20,1.5,11.3333,{FRAMES}\ntarget,plot A,6,5,8,,,{FRAMES}\n",
    )
    write_text(predict / "target.tracks.csv", "id,frames\n1,9\n2,3\n")
    seen = [
        f"{t},{k},{20 * k + t},{30 + t},{'plot A' if k == 1 else ''}"
        for t in range(FRAMES)
        for k in (1, 2)
    ]
    columns = "frame_index,track,centre_x,centre_y,region"
    write_text(predict / "target.objects.csv", "\n".join([columns, *seen]) + "\n")


def _heldout(folder: Path, rng: np.random.Generator, blur: int) -> None:
    rows, dices = ["Image,Mask,Pred,IoU,Dice"], []
    for index in range(6):
        image, ids = scene(rng)
        truth = ids > 0
        predicted = np.roll(truth, index * blur, axis=1)
        name = f"heldout_{index:06d}.png"
        write_image(folder / "sample/validation/frames" / name, image)
        write_mask(folder / "sample/validation/masks/heldout" / name, truth)
        write_mask(folder / "heldout/heldout" / name, predicted)
        both, either = (truth & predicted).sum(), (truth | predicted).sum()
        iou = (both + 1) / (either + 1)
        dices.append((2 * both + 1) / (truth.sum() + predicted.sum() + 1))
        rows.append(
            f"sample/validation/frames/{name},sample/validation/masks/heldout/{name},"
            f"heldout/heldout/{name},{iou:.6f},{dices[-1]:.6f}"
        )
    mean = float(np.mean(dices))
    rows.append(f"Mean,,,{mean / (2 - mean):.6f},{mean:.6f}")
    write_text(folder / "scores.csv", "\n".join(rows) + "\n")
    scores = {
        "mean_dice": mean,
        "mean_iou": mean / (2 - mean),
        "pooled_dice": mean - 0.004,
        "pooled_iou": 0.7613,
        "masks": 6,
        "missing": 0,
        "precision": 0.8712,
        "recall": 0.8533,
        "boundary_f": 0.912,
        "region_j": 0.7588,
        "temporal_stability": 0.883,
        "temporal_stability_interval": None,
        "average_precision": 0.412 / blur,
        "count_mae": 1.25 * blur,
        "pooled_dice_interval": {
            "low": mean - 0.05,
            "high": mean + 0.04,
            "level": 0.95,
            "unit": "image",
            "units": 6,
        },
        "counts": None,
        "instances": {"f1": 0.801, "ranked_by": "area", "true": 84},
        "clips": {"heldout": {"masks": 6, "mean_dice": mean, "pooled_dice": 0.86}},
        "domains": {
            "dry": {"clips": 1, "masks": 4, "pooled_dice": 0.842, "mean_dice": 0.851},
            "wet": {
                "clips": 1,
                "masks": 2,
                "pooled_dice": 0.713,
                "pooled_dice_interval": {"low": 0.66, "high": 0.75, "level": 0.95},
            },
        },
        "domain_mean": {"domains": 2, "pooled_dice": 0.7775},
    }
    write_json(folder / "scores.json", scores)


if __name__ == "__main__":
    make_run(Path(sys.argv[1]))
