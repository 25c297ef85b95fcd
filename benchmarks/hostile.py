"""Spoiled files through every command: each must end in clear lines, in time and in memory.

    python benchmarks/hostile.py --cases 2000 --seed 1 --out hostile.json
    python benchmarks/hostile.py --command predict --command score --cases 500

A small world of sound inputs is made (photos, masks, a video, tables, settings, a checkpoint, a
run, predictions, pseudo-labels). Each case copies it, spoils one file by a drawn mutation (bytes:
flipped, cut, repeated, filled with zeros; text: odd values, missing and doubled parts, other
encodings; structure: other types, deep nesting, missing keys; the file system: gone, a folder, a
link in a circle) and runs one command that reads the file, in a process of its own. Wrong are: a
traceback, an "unforeseen" error, an exit by a signal or with another code than 0, 1 or 2, more
than 20 s or 1 GB over what the sound case takes, and a file written outside the case's
folder. Cases are numbered: ``--seed S --only K`` repeats one and keeps its folder.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

# Children are forked: no thread may run in the parent.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import yaml

from dvos.cli.main import main as run_dvos

SECONDS = 20
GIGABYTE = 2**30

NETWORK = (
    "{name: paper, references: 1, "
    "paper: {base: 4, multipliers: [1, 1, 1, 1], latent: 4, hidden: 8}}"
)


@dataclass(frozen=True)
class Task:
    """A command line, and the files of the world that it reads, as patterns."""

    command: str
    words: tuple[str, ...]
    reads: tuple[str, ...]


TASKS = (
    Task("check", ("check", "train.yaml"), ("train.yaml", "*.csv")),
    Task("check", ("check", "data"), ("data/**/*",)),
    Task("check", ("check", "clips.csv"), ("clips.csv",)),
    Task("config", ("config", "show", "train", "--config", "train.yaml"), ("train.yaml",)),
    Task("config", ("config", "import", "published.yaml"), ("published.yaml",)),
    Task(
        "extract",
        ("extract", "frames", "--videos", "videos.csv", "--out", "new/f.csv", "--workers", "1"),
        ("videos.csv", "field.mp4"),
    ),
    Task(
        "extract",
        (
            *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "new/c.csv"),
            *("--distractors", "new/d.csv", "--workers", "1", "--min-object-size", "50"),
        ),
        ("annotated.csv", "data/annotated/**/*"),
    ),
    Task(
        "synthesize",
        ("synthesize", "--config", "synthesize.yaml", "--workers", "1"),
        ("synthesize.yaml", "frames.csv", "cutouts.csv", "plot/*", "cutouts/*"),
    ),
    Task("train", ("train", "--config", "train.yaml"), ("train.yaml", "data/annotated/**/*")),
    Task("train", ("train", "--config", "again.yaml"), ("run/*",)),
    Task(
        "predict",
        ("predict", "field.mp4", "--checkpoint", "run/best.safetensors", "--out", "new"),
        ("field.mp4", "run/best.safetensors"),
    ),
    Task(
        "predict",
        ("predict", "photos", "--checkpoint", "run/best.safetensors", "--out", "new", "--stills"),
        ("photos/*",),
    ),
    Task(
        "predict",
        ("predict", "clips.csv", "--checkpoint", "run/best.safetensors", "--out", "masks"),
        ("clips.csv", "plot/*", "masks/**/*", "masks/.progress/*"),
    ),
    Task(
        "pseudo-label",
        (
            *("pseudo-label", "plot", "--checkpoint", "run/best.safetensors", "--out", "pseudo"),
            *("--set", "scales=[1.0]", "--set", "flips=none", "--set", "probe=false"),
        ),
        ("pseudo/**/*", "pseudo/.*", "plot/*"),
    ),
    Task(
        "evaluate",
        (
            *("evaluate", "--truth", "clips.csv", "--checkpoint", "run/best.safetensors"),
            *("--out", "new"),
        ),
        ("clips.csv", "truth/**/*"),
    ),
    Task(
        "score",
        ("score", "--truth", "truth", "--predictions", "masks", "--out", "new"),
        ("truth/**/*", "masks/**/*", "masks/counts.csv"),
    ),
    Task("report", ("report", "run"), ("run/*",)),
    Task("report", ("report", "scores"), ("scores/*",)),
    Task(
        "convert", ("convert", "run/best.safetensors", "--out", "new.safetensors"), ("run/best*",)
    ),
)


def build_world(folder: Path) -> None:
    """Write sound inputs for every task into ``folder``, the current one."""
    rng = np.random.default_rng(5)
    for part in (
        "data/annotated/images",
        "data/annotated/masks",
        "photos",
        "data/backgrounds",
        "plot",
        "truth/plot",
    ):
        (folder / part).mkdir(parents=True)
    rows = []
    for number in range(6):
        image = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        ids = np.zeros((64, 64), np.uint8)
        for each, (row, column) in enumerate(((10, 12), (30, 34), (46, 14)), start=1):
            centre = (column + 2 * number, row)
            cv2.ellipse(image, centre, (9, 6), 20, 0, 360, (40, 200, 220), -1)
            cv2.ellipse(mask, centre, (9, 6), 20, 0, 360, 255, -1)
            cv2.ellipse(ids, centre, (9, 6), 20, 0, 360, each, -1)
        cv2.imwrite(f"plot/f{number}.png", image)
        cv2.imwrite(f"truth/plot/f{number}.png", mask)
        rows.append(f"plot,{number},plot/f{number}.png,truth/plot/f{number}.png,{number % 2}")
        if number < 2:
            cv2.imwrite(f"data/annotated/images/s{number}.png", image)
            cv2.imwrite(f"data/annotated/masks/s{number}.png", ids)
            cv2.imwrite(f"photos/p{number}.jpg", image)
            cv2.imwrite(f"data/backgrounds/b{number}.png", image[:, ::-1] // 2)
    Path("clips.csv").write_text("\n".join(["VID,FID,Image,Mask,Label", *rows]) + "\n")
    stills = [
        f"data/annotated/images/s{n}.png,data/annotated/masks/s{n}.png,cutouts" for n in range(2)
    ]
    Path("annotated.csv").write_text("\n".join(["Image,Mask,OutDir", *stills]) + "\n")
    frames = "\n".join(f"plot/f{number}.png" for number in range(6))
    Path("frames.csv").write_text(f"Image\n{frames}\n")
    Path("videos.csv").write_text("Video,FramesDir,Interval\nfield.mp4,taken,2\n")
    writer = cv2.VideoWriter("field.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for number in range(6):
        writer.write(cv2.imread(f"plot/f{number}.png"))
    writer.release()
    Path("synthesize.yaml").write_text(
        "backgrounds: [frames.csv]\ncutouts: [cutouts.csv]\nout: new\nclips: 1\nframes: 2\n"
        "height: 64\nwidth: 64\nscene: {preset: generic}\n"
    )
    train = (
        f"network: {NETWORK}\nepochs: 1\nclips_per_epoch: 2\nbatch: 2\nthreads: 1\ndevices: 1\n"
        "workers: 1\ndata: {crop: 32, stills: {folders: [data/annotated]}}\n"
    )
    Path("train.yaml").write_text(f"out: new\n{train}")
    Path("again.yaml").write_text(f"out: run\n{train}")
    Path("published.yaml").write_text(
        "videos_meta_csv_path: videos.csv\noutput_metadata_path: frames.csv\n"
        "frame_extension: png\nswap_color: null\ntransformer: {height: 64, width: 64}\n"
    )
    for words in (
        (
            *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "cutouts.csv"),
            *("--distractors", "distractors.csv", "--workers", "1", "--min-object-size", "50"),
        ),
        ("train", "--config", "again.yaml"),
        ("predict", "plot", "--checkpoint", "run/best.safetensors", "--out", "masks"),
        ("score", "--truth", "truth", "--predictions", "masks", "--out", "scores"),
    ):
        run_quietly(words, "build.log")
    shutil.rmtree("masks")
    for task in TASKS:
        if "masks" in task.words[-1:] or task.command == "pseudo-label":
            run_quietly(task.words, "build.log")


def run_quietly(words: tuple[str, ...], log: str) -> None:
    """Run a command of the world's making in a child, so that nothing of it stays."""
    status, _, _ = run_child(lambda: run_dvos(list(words)), Path(log), seconds=300)
    if status != 0:
        sys.exit(f"dvos {' '.join(words)} failed: {Path(log).read_text()[-2000:]}")


# Mutations of a file: (rng, content) -> content.

ODD = (
    *("", "-1", "0", "nan", "inf", "1e400", "99999999999999999999", "true", "null", "[]", "{}"),
    *("../../../escaped", "/etc/passwd", "a\x00b", "ä→\u202e", "'", '"', "x" * 200_000, "\t", "\r"),
)


def _bytes(rng: random.Random, content: bytes) -> bytes:
    size = max(1, len(content))
    start, length = rng.randrange(size), rng.choice((1, 4, 64, 1024))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return (
            content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]
        )
    if kind == 2:
        return content[:start] + rng.randbytes(length) + content[start:]
    if kind == 3:
        return content[:start] + content[start : start + length] * 3 + content[start + length :]
    if kind == 4:
        return b"" if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 100, 5000)))
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        if flipped:
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _text(rng: random.Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    tokens = list(re.finditer(r"[^\s,:\[\]{}]+", text))
    kind = rng.randrange(6)
    if kind == 0 and tokens:
        token = rng.choice(tokens)
        text = text[: token.start()] + rng.choice(ODD) + text[token.end() :]
    elif kind == 1:
        lines = text.splitlines(keepends=True)
        if lines:
            del lines[rng.randrange(len(lines))]
        text = "".join(lines)
    elif kind == 2:
        lines = text.splitlines(keepends=True)
        text = "".join(line for each in lines for line in [each] * rng.choice((1, 1, 2)))
    elif kind == 3 and tokens:
        token = rng.choice(tokens)
        text = text[: token.start()] + text[token.end() :]
    elif kind == 4:
        return text.encode(rng.choice(("utf-16", "latin-1", "utf-8-sig")), "replace")
    else:
        place = rng.randrange(len(text) + 1)
        text = (
            text[:place]
            + rng.choice(("\x00", "\x07", ",,,,", "\n\n", "{", "]", "&a [*a]"))
            + text[place:]
        )
    return text.encode("utf-8", "replace")


def _structure(rng: random.Random, content: bytes) -> bytes:
    lines = content.decode("utf-8", "replace").splitlines()
    by_line = len(lines) > 1 and all(line.startswith("{") for line in lines if line)
    try:
        values: Any = [json.loads(line) for line in lines] if by_line else yaml.safe_load(content)
    except (ValueError, yaml.YAMLError, RecursionError):
        return _text(rng, content)
    places = list(_places(values))
    if not places:
        return _text(rng, content)
    place, key = rng.choice(places)
    kind = rng.randrange(4)
    deep = rng.choice((60, 3000))
    if kind == 0:
        del place[key]
    elif kind == 1:
        place[key] = rng.choice((None, -1, 10**30, "x", [], {}, [[1]], {"a": 1}, 1.5, True, "\x00"))
    elif kind == 2:
        place[key] = "@deep@"
    else:
        place[key] = [place[key]] * 3
    if by_line:
        text = "\n".join(json.dumps(value) for value in values) + "\n"
    else:
        text = json.dumps(values)
    return text.replace('"@deep@"', "[" * deep + "]" * deep).encode()


def _places(values: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(values, dict):
        found = [(values, key) for key in values]
    elif isinstance(values, list):
        found = [(values, index) for index in range(len(values))]
    return found + [inner for place, key in found for inner in _places(place[key])]


def spoil(rng: random.Random, path: Path) -> str:
    """Spoil one file; say how."""
    textual = path.suffix in {".csv", ".yaml", ".json", ".jsonl", ".html"}
    kind = rng.choice(("bytes", "text", "structure", "system") if textual else ("bytes", "system"))
    if kind == "system":
        how = rng.choice(("gone", "folder", "circle", "empty"))
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "circle":
            path.symlink_to(path.name)
        elif how == "empty":
            path.write_bytes(b"")
        return how
    mutate = {"bytes": _bytes, "text": _text, "structure": _structure}[kind]
    path.write_bytes(mutate(rng, path.read_bytes()))
    return kind


def run_child(work: Callable[[], int], log: Path, *, seconds: float) -> tuple[int, float, int]:
    """Run ``work`` in a forked process: its wait status (-1: no end), seconds and peak bytes."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        code = 99
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while time.monotonic() - start < seconds:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, time.monotonic() - start, usage.ru_maxrss * 1024
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.wait4(child, 0)
    return -1, seconds, 0


def judge(status: int, log: str, peak: int, usual: int, escaped: bool) -> str:
    """What is wrong with how a case ended; nothing if it ended well."""
    if status == -1:
        return f"no end within {SECONDS} s"
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)}"
    unforeseen = re.search(r"unforeseen (\w+): (.{0,60})", log)
    if unforeseen:
        return f"unforeseen {unforeseen[1]}: {re.sub(r'[0-9]+|/.*', '#', unforeseen[2])}"
    if "Traceback" in log:
        return "traceback: " + log.strip().splitlines()[-1][:80]
    if os.WEXITSTATUS(status) not in (0, 1, 2):
        return f"exit code {os.WEXITSTATUS(status)}"
    if os.WEXITSTATUS(status) and "error: " not in log:
        return "fails without a line"
    if peak > usual + GIGABYTE:
        return "more than 1 GB over the sound case"
    return "wrote outside its folder" if escaped else ""


def run_case(world: Path, number: int, seed: int, tasks: list[Task], keep: bool) -> dict[str, Any]:
    """Spoil and run case ``number``."""
    rng = random.Random(f"{seed}/{number}")
    task = rng.choice(tasks)
    outer = Path(tempfile.mkdtemp(prefix="case-"))
    folder = outer / "a" / "b" / "c" / "world"
    shutil.copytree(world, folder, symlinks=True)
    files = sorted({p for pattern in task.reads for p in folder.glob(pattern) if p.is_file()})
    path = rng.choice(files)
    how = spoil(rng, path)
    before = {p for p in outer.rglob("*") if folder not in p.parents}

    def work() -> int:
        os.chdir(folder)
        return run_dvos(list(task.words))

    usual, sound = USUAL[task]
    status, seconds, peak = run_child(work, outer / "log", seconds=SECONDS + sound)
    after = {p for p in outer.rglob("*") if folder not in p.parents} - {outer / "log"}
    log = (outer / "log").read_text(errors="replace")
    result = {
        "case": number,
        "command": " ".join(task.words),
        "file": str(path.relative_to(folder)),
        "how": how,
        "seconds": round(seconds, 2),
        "peak": peak,
        "wrong": judge(status, log, peak, usual, bool(after - before)),
        "log": log[-400:],
    }
    if keep:
        print(f"kept in {folder}\n{log}")
    else:
        shutil.rmtree(outer)
    return result


#: Peak bytes and seconds of each task on sound files.
USUAL: dict[Task, tuple[int, float]] = {}


def measure_sound(world: Path, tasks: list[Task]) -> None:
    """Run every task on sound files: it must succeed, and its peak memory is noted."""
    for task in tasks:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "world"
            shutil.copytree(world, folder)

            def work(folder: Path = folder, task: Task = task) -> int:
                os.chdir(folder)
                return run_dvos(list(task.words))

            status, seconds, peak = run_child(work, Path(place) / "log", seconds=300)
            # No published checkpoint lies here: its refusal is what conversion is held to.
            if status and task.command != "convert":
                sys.exit(f"dvos {' '.join(task.words)}: {(Path(place) / 'log').read_text()}")
            USUAL[task] = peak, seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", action="append", help="one command; may be repeated")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many")
    parser.add_argument("--only", type=int, help="one case; its folder is kept")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    options = parse()
    tasks = [task for task in TASKS if not options.command or task.command in options.command]
    if not tasks:
        sys.exit(f"no such command; one of {', '.join(sorted({t.command for t in TASKS}))}")
    # Imported once, in the parent: a case then takes a fraction of a second.
    import torch

    for module in ("dvos.prediction.predict", "dvos.training.run", "dvos.scoring.score"):
        import_module(module)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    home = Path.cwd()
    world = Path(tempfile.mkdtemp(prefix="world-"))
    os.chdir(world)
    build_world(world)
    measure_sound(world, tasks)
    end = time.monotonic() + 60 * options.minutes
    numbers = range(options.cases) if options.only is None else [options.only]
    wrong: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    done = 0
    for number in numbers:
        if time.monotonic() > end:
            break
        result = run_case(world, number, options.seed, tasks, options.only is not None)
        done += 1
        if result["wrong"]:
            wrong[result["wrong"]].append(result)
    os.chdir(home)
    shutil.rmtree(world)
    for kind, results in sorted(wrong.items(), key=lambda item: -len(item[1])):
        first = results[0]
        print(f"{len(results):5}  {kind}")
        print(
            f"       case {first['case']}: {first['how']} {first['file']}; dvos {first['command']}"
        )
    print(f"{done} cases, {sum(map(len, wrong.values()))} wrong, seed {options.seed}")
    if options.out is not None:
        facts = {"python": platform.python_version(), "machine": platform.machine()}
        summary = {"cases": done, "seed": options.seed, "facts": facts, "wrong": dict(wrong)}
        options.out.write_text(json.dumps(summary, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
