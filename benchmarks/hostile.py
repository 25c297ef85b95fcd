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

import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import yaml

from campaign import (
    CONVERT,
    GIGABYTE,
    PREDICT,
    PSEUDO_LABEL,
    Child,
    Findings,
    Task,
    built_world,
    chosen,
    judge,
    parser_of,
)

SECONDS = 20

EXTRACT_FRAMES = (
    "extract",
    "frames",
    "--videos",
    "videos.csv",
    "--out",
    "new/f.csv",
    "--workers",
    "1",
)
EXTRACT_OBJECTS = (
    *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "new/c.csv"),
    *("--distractors", "new/d.csv", "--workers", "1", "--min-object-size", "50"),
)
SYNTHESIZE = ("synthesize", "--config", "synthesize.yaml", "--workers", "1")
EVALUATE = (
    *("evaluate", "--truth", "clips.csv", "--checkpoint", "run/best.safetensors"),
    *("--out", "new"),
)
SCORE = ("score", "--truth", "truth", "--predictions", "masks", "--out", "new")
TRACK = (*PREDICT[:-1], "new", "--tracks", "true")


def again(command: str, words: tuple[str, ...], *reads: str) -> Task:
    """A command on what it has made itself."""
    return Task(command, words, reads, before=(words,))


TASKS = (
    Task("check", ("check", "train.yaml"), ("train.yaml", "*.csv")),
    Task("check", ("check", "data"), ("data/**/*",)),
    Task("check", ("check", "clips.csv"), ("clips.csv",)),
    Task("config", ("config", "show", "train", "--config", "train.yaml"), ("train.yaml",)),
    Task("config", ("config", "import", "published.yaml"), ("published.yaml",)),
    Task(
        "extract",
        EXTRACT_FRAMES,
        ("videos.csv", "field.mp4"),
    ),
    Task(
        "extract",
        EXTRACT_OBJECTS,
        ("annotated.csv", "data/annotated/**/*"),
    ),
    Task(
        "synthesize",
        SYNTHESIZE,
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
        PREDICT,
        ("clips.csv", "plot/*", "masks/**/*", "masks/.progress/*"),
    ),
    Task(
        "pseudo-label",
        PSEUDO_LABEL,
        ("pseudo/**/*", "pseudo/.*", "plot/*"),
    ),
    Task(
        "evaluate",
        EVALUATE,
        ("clips.csv", "truth/**/*"),
    ),
    Task(
        "score",
        SCORE,
        ("truth/**/*", "masks/**/*", "masks/counts.csv"),
    ),
    Task("report", ("report", "run"), ("run/*",)),
    Task("report", ("report", "scores"), ("scores/*",)),
    Task("convert", CONVERT, ("run/best*",)),
    again("extract", EXTRACT_FRAMES, "new/f.csv", "new/.*", "taken/*"),
    again("extract", EXTRACT_OBJECTS, "new/*.csv", "new/.*"),
    again("synthesize", SYNTHESIZE, "new/*.csv", "new/*.yaml", "new/.*", "new/**/clip.json"),
    again("predict", TRACK, "new/*.csv", "new/.progress/*", "new/plot/**/*"),
    again("evaluate", EVALUATE, "new/*", "new/predictions/**/*", "new/predictions/.progress/*"),
    again("score", SCORE, "new/*"),
    again("rounds", ("rounds", "--config", "rounds.yaml"), "new/*", "new/round_1/**/*"),
    again("demo", ("demo", "--config", "demo.yaml"), "new/*", "new/.*", "new/*/*", "new/*/.*"),
    Task(
        "score",
        ("score", "--predictions", "new", "--counts", "hand.csv", "--out", "again"),
        ("new/*.csv", "hand.csv"),
        before=(TRACK,),
    ),
    Task(
        "pseudo-label",
        ("pseudo-label", "photos", *PSEUDO_LABEL[2:]),
        ("pseudo/*.csv", "pseudo/*.json", "pseudo/.progress/*"),
    ),
)


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


class Server:
    """The process that forks the workers of all cases, which would take seconds to start in each.

    Args:
        log: File that takes what the workers print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        stderr = os.dup(2)
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 2)
        forkserver.set_forkserver_preload(["dvos.training.loading"])
        forkserver.ensure_running()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(stream)
        self._read = 0

    def adopt(self) -> None:
        """Make it that of a case's process, which is not its parent."""
        forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None

    def printed(self) -> str:
        """What workers printed since it was asked last."""
        data = self._log.read_bytes()
        new, self._read = data[self._read :], len(data)
        return new.decode(errors="replace")


class Campaign:
    """A world, what each task takes on sound files, and a server of workers.

    Args:
        world: Folder.
        seed: Of all cases.
        tasks: Drawn from.
    """

    def __init__(self, world: Path, seed: int, tasks: list[Task]) -> None:
        self.world = world
        self.seed = seed
        self.tasks = tasks
        self.server = Server(world.parent / "workers.log")
        self.worlds = {task: self._prepared(task, number) for number, task in enumerate(tasks)}
        self.usual = {task: self._measured(task) for task in tasks}

    @contextmanager
    def _place(self) -> Iterator[tuple[Path, Path]]:
        """A folder for a case, and its world deep inside, whose place is always the same.

        Tables name files outside their own folder by their whole paths.
        """
        outer = self.world.parent / "place"
        yield outer, outer / "a" / "b" / "c" / "world"
        shutil.rmtree(outer)

    def _prepared(self, task: Task, number: int) -> Path:
        """The world that a task finds."""
        if not task.before:
            return self.world
        world = self.world.parent / f"before-{number}"
        with self._place() as (_, folder):
            shutil.copytree(self.world, folder)
            for words in task.before:
                self._sound(words, folder)
            shutil.copytree(folder, world, symlinks=True)
        return world

    def _sound(self, words: tuple[str, ...], folder: Path) -> Child:
        """Run a command on sound files, where it must succeed."""
        log = folder.parent / "sound.log"
        child = Child(words, folder, log, self.server.adopt)
        if child.wait(300):
            sys.exit(f"dvos {' '.join(words)}: {log.read_text()}")
        return child

    def _measured(self, task: Task) -> tuple[int, float]:
        """Peak bytes and seconds on sound files."""
        with self._place() as (_, folder):
            shutil.copytree(self.worlds[task], folder)
            child = self._sound(task.words, folder)
            return child.peak, time.monotonic() - child.begun

    def run(self, number: int, *, keep: bool) -> tuple[str, dict[str, Any]]:
        """Spoil and run a case: what is wrong, and what it was."""
        rng = random.Random(f"{self.seed}/{number}")
        task = rng.choice(self.tasks)
        with self._place() as (outer, folder):
            log = outer / "log"
            shutil.copytree(self.worlds[task], folder, symlinks=True)
            files = sorted(
                {p for pattern in task.reads for p in folder.glob(pattern) if p.is_file()}
            )
            path = rng.choice(files)
            how = spoil(rng, path)
            before = {p for p in outer.rglob("*") if folder not in p.parents}
            usual, sound = self.usual[task]
            child = Child(task.words, folder, log, self.server.adopt)
            status = child.wait(SECONDS + sound)
            seconds = time.monotonic() - child.begun
            escaped = {p for p in outer.rglob("*") if folder not in p.parents} - before - {log}
            text = log.read_text(errors="replace") + self.server.printed()
            wrong = judge(status, text)
            if child.peak > usual + GIGABYTE:
                wrong = wrong or "more than 1 GB over the sound case"
            # Where frames and cutouts go is for these tables to say.
            if escaped and path.name not in ("videos.csv", "annotated.csv"):
                wrong = wrong or "wrote outside its folder"
            if keep:
                kept = tempfile.mkdtemp(prefix="case-")
                shutil.copytree(outer, kept, symlinks=True, dirs_exist_ok=True)
                print(f"kept in {kept}\n{text}")
        return wrong, {
            "case": number,
            "command": " ".join(task.words),
            "file": str(path.relative_to(folder)),
            "how": how,
            "seconds": round(seconds, 2),
            "peak": child.peak,
            "log": text[-400:],
        }


def main() -> int:
    parser = parser_of(__doc__.splitlines()[0], TASKS)
    parser.add_argument("--cases", type=int, default=500)
    options = parser.parse_args()
    findings = Findings()
    with built_world() as world:
        campaign = Campaign(world, options.seed, chosen(options, TASKS))
        end = time.monotonic() + 60 * options.minutes
        for number in range(options.cases) if options.only is None else [options.only]:
            if time.monotonic() > end:
                break
            findings.add(*campaign.run(number, keep=options.only is not None))
    return findings.report(options, "cases")


if __name__ == "__main__":
    sys.exit(main())
