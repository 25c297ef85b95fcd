"""Spoiled files through every command: each must end in clear lines, in time and in memory.

    python benchmarks/hostile.py --cases 2000 --seed 1 --out hostile.json
    python benchmarks/hostile.py --command predict --command score --cases 500

A small world of sound inputs is made (photos, masks, a video, tables, settings, a checkpoint, a
run, predictions, pseudo-labels). Each case spoils one file of it by a drawn mutation (bytes:
flipped, cut, repeated, filled with zeros; text: odd values, missing and doubled parts, other
encodings; structure: other types, deep nesting, missing keys; the file system: gone, a folder, a
link in a circle) and runs one command, or call of the library, that reads the file. A process runs
some tens of cases of a command, as a program that calls the library does, and makes the world whole
after each; what ends it is told of the case it was at, and the rest go on in another. Wrong are: a
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
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import calls
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
from spoil import spoil

SECONDS = 20
#: Cases that one process runs at most.
_TOGETHER = 40
#: Commands of which a case takes some seconds; they are drawn less often.
SLOW = ("train", "evaluate", "rounds", "demo", "fit", "pseudo-label")

#: What is wrong, and what the case was.
Result = tuple[str, dict[str, Any]]

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
IMAGES = ("--images", "data/annotated/images")
#: Formats of other programs that labels are written in and read from.
FORMATS: tuple[str, ...] = (
    *("coco", "yolo", "cvat", "labelme", "imagej", "label-studio", "voc", "davis", "ctc"),
    *("mots", "youtube-vis", "labels"),
)
EXPORTS = tuple(
    ("export", "data", "--format", name, "--out", name) for name in FORMATS if name != "coco"
)
TRACKED = ("--tracks", "--out", "again")
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
    *(
        Task("import", ("import", name, "--out", "new", *IMAGES), (f"{name}/**/*",), before=EXPORTS)
        for name in FORMATS
        # These tell frames by their numbers: photos do not come back.
        if name not in ("ctc", "mots")
    ),
    Task(
        "export", ("export", "data", "--format", "coco", "--out", "new"), ("data/annotated/**/*",)
    ),
    Task(
        "export",
        ("export", "masks", "--format", "mots", "--out", "new"),
        ("masks/**/*", "masks/.progress/*", "masks/*.csv"),
    ),
    Task("suggest", ("suggest", "photos", "--out", "new.csv"), ("photos/*",)),
    Task(
        "predict",
        (*PREDICT[:-1], "new", "--set", "regions=regions.geojson", "--set", "regions_on=picture"),
        ("regions.geojson",),
    ),
    Task("call", ("call", "label"), ("requests.jsonl", "photos/*")),
    Task("call", ("call", "store"), ("store/*.dvclip",)),
    Task("call", ("call", "tables"), ("*.csv", "masks/*.csv", "masks/.progress/*", "**/*.json")),
    Task("call", ("call", "load"), ("run/best.safetensors",)),
    again("extract", EXTRACT_FRAMES, "new/f.csv", "new/.*", "taken/*"),
    again("extract", EXTRACT_OBJECTS, "new/*.csv", "new/.*"),
    again("synthesize", SYNTHESIZE, "new/*.csv", "new/*.yaml", "new/.*", "new/**/clip.json"),
    again("predict", TRACK, "new/*.csv", "new/.progress/*", "new/plot/**/*"),
    again("evaluate", EVALUATE, "new/*", "new/predictions/**/*", "new/predictions/.progress/*"),
    again("score", SCORE, "new/*"),
    again("rounds", ("rounds", "--config", "rounds.yaml"), "new/*", "new/round_1/**/*"),
    again(
        "fit", ("fit", "--config", "fit.yaml"), "new/*", "new/.*", "new/*/*", "data/annotated/*/*"
    ),
    again("demo", ("demo", "--config", "demo.yaml"), "new/*", "new/.*", "new/*/*", "new/*/.*"),
    Task(
        "score",
        ("score", "--predictions", "new", "--counts", "hand.csv", "--out", "again"),
        ("new/*.csv", "hand.csv"),
        before=(TRACK,),
    ),
    Task(
        "score",
        (
            "score",
            "--truth",
            "ids",
            "--predictions",
            "new",
            "--tracks",
            "--out",
            "again",
        ),
        ("new/*.tracks.csv", "new/plot/tracks/*", "new/plot/instances/*", "ids/**/*"),
        before=(TRACK,),
    ),
    Task(
        "pseudo-label",
        ("pseudo-label", "photos", *PSEUDO_LABEL[2:]),
        ("pseudo/*.csv", "pseudo/*.json", "pseudo/.progress/*"),
    ),
)


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
        forkserver.set_forkserver_preload(["dvos.training.datasets"])
        forkserver.ensure_running()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(stream)
        self._read = 0

    def adopt(self) -> None:
        """Make it that of a case's process, which is not its parent."""
        server: Any = forkserver._forkserver
        server.ensure_running = forkserver.ensure_running = lambda: None

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
        made: dict[tuple[tuple[str, ...], ...], Path] = {}
        for task in tasks:
            if task.before not in made:
                made[task.before] = self._prepared(task, len(made))
        self.worlds = {task: made[task.before] for task in tasks}
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

    def drawn(self, number: int) -> tuple[random.Random, Task]:
        """What a case is drawn from, and its task."""
        rng = random.Random(f"{self.seed}/{number}")
        weights = [1 if task.command in SLOW else 4 for task in self.tasks]
        return rng, rng.choices(self.tasks, weights)[0]

    def run(self, task: Task, numbers: list[int], *, keep: bool = False) -> Iterator[Result]:
        """Spoil and run cases of a task in one process, or in a new one after each that ends it.

        Gives what is wrong with each, and what it was.
        """
        left = list(numbers)
        while left:
            with self._place() as (outer, folder):
                shutil.copytree(self.worlds[task], folder, symlinks=True)
                log, told = outer.with_name("log"), outer.with_name("told")
                for file in (log, told):
                    file.unlink(missing_ok=True)
                    file.touch()
                cases = partial(self._cases, task, left, folder, told)
                child = Child((), folder, log, self.server.adopt, cases)
                ended = self._watch(child, told, self.usual[task][1])
                found = [json.loads(line) for line in told.read_text().splitlines()]
                if not found:
                    sys.exit(f"dvos {' '.join(task.words)}: {log.read_text()}")
                text = log.read_text(errors="replace")
                if keep:
                    print(f"kept in {shutil.copytree(outer, tempfile.mkdtemp() + '/case')}")
                    print(text)
            for one in found:
                if "log" not in one:
                    one |= {"status": ended, "peak": 0, "escaped": False, "log": text}
                one["log"] += self.server.printed()
                yield self._judged(one, task)
            left = left[len(found) :]
            if ended == -2:
                yield "processes are left over", {"case": numbers[0], "command": task.command}

    def _cases(self, task: Task, numbers: list[int], folder: Path, told: Path) -> int:
        """In a process of their own: run cases, and make the world whole after each."""
        outer, world = folder.parents[3], self.worlds[task]
        log = outer.with_name("log")
        known = seen(outer)
        for number in numbers:
            rng, _ = self.drawn(number)
            files = {p for pattern in task.reads for p in folder.glob(pattern) if p.is_file()}
            path = rng.choice(sorted(files))
            case = {"case": number, "command": " ".join(task.words)}
            case |= {"file": str(path.relative_to(folder)), "how": spoil(rng, path)}
            begun, line = told.stat().st_size, json.dumps(case)
            told.open("a").write(f"{line}\n")
            os.truncate(log, 0)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            try:
                code = calls.run(task.words)
            except BaseException:
                traceback.print_exc()
                code = 99
            sys.stdout.flush()
            sys.stderr.flush()
            status = Path("/proc/self/status").read_text()
            highest = re.search(r"VmHWM:\s+([0-9]+)", status)
            assert highest is not None
            peak = int(highest[1]) * 1024
            text = log.read_text(errors="replace")
            now = seen(outer)
            escaped = any(folder not in one.parents for one in now.keys() - known.keys())
            case |= {"status": code << 8, "peak": peak, "log": text, "escaped": escaped}
            os.truncate(told, begun)
            told.open("a").write(f"{json.dumps(case)}\n")
            os.chdir(outer)
            restore(known, now, folder, world)
            known = seen(outer)
            os.chdir(folder)
        return 0

    def _watch(self, child: Child, told: Path, usual: float) -> int:
        """The wait status of a process that runs cases; -1 and dead if one takes too long."""
        known, since, used = -1, time.monotonic(), 0.0
        limit = SECONDS + usual
        while (status := child.ended(time.monotonic() + 0.5)) is None:
            now = told.stat().st_size
            if now != known:
                known, since, used = now, time.monotonic(), child.processor_seconds()
            clock = time.monotonic() - since
            # Other work on the machine is no fault of a case.
            if clock > 6 * limit or (clock > limit and child.processor_seconds() - used > limit):
                return child.kill()
        return child.alone(status, SECONDS)

    def _judged(self, one: dict[str, Any], task: Task) -> Result:
        wrong = judge(one.pop("status"), one["log"])
        if one["peak"] > self.usual[task][0] + GIGABYTE:
            wrong = wrong or "more than 1 GB over the sound case"
        # Where frames and cutouts go is for these tables to say.
        if one.pop("escaped") and Path(one["file"]).name not in ("videos.csv", "annotated.csv"):
            wrong = wrong or "wrote outside its folder"
        return wrong, one | {"log": one["log"][-400:]}


def seen(place: Path) -> dict[Path, tuple[int, ...]]:
    """What lies below a place: of files their kind, size, time and number."""
    found: dict[Path, tuple[int, ...]] = {}
    for path in place.rglob("*"):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        exact = (status.st_size, status.st_mtime_ns, status.st_ino)
        found[path] = (kind, *(() if kind == stat.S_IFDIR else exact))
    return found


def restore(
    known: dict[Path, tuple[int, ...]], now: dict[Path, tuple[int, ...]], folder: Path, world: Path
) -> None:
    """Make a folder as it was ``known``, by the files of a ``world``, from what it is ``now``."""
    for path in sorted(now, key=lambda one: len(one.parts)):
        if now[path] == known.get(path) or not os.path.lexists(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path, facts in sorted(known.items(), key=lambda item: len(item[0].parts)):
        if os.path.lexists(path):
            continue
        if facts[0] == stat.S_IFDIR:
            path.mkdir()
        else:
            shutil.copy2(world / path.relative_to(folder), path, follow_symlinks=False)


def main() -> int:
    parser = parser_of(__doc__.splitlines()[0], TASKS)
    parser.add_argument("--cases", type=int, default=500)
    options = parser.parse_args()
    findings = Findings()
    with built_world(options.world) as world:
        campaign = Campaign(world, options.seed, chosen(options, TASKS))
        end = time.monotonic() + 60 * options.minutes
        numbers = range(options.cases) if options.only is None else [options.only]
        groups: dict[Task, list[int]] = {}
        for number in numbers:
            groups.setdefault(campaign.drawn(number)[1], []).append(number)
        # By turns, so that every task has its part where the time ends early.
        parts = [
            [(task, cases[at : at + _TOGETHER]) for at in range(0, len(cases), _TOGETHER)]
            for task, cases in groups.items()
        ]
        for task, cases in (one for turn in zip_longest(*parts) for one in turn if one):
            if time.monotonic() > end:
                break
            for found in campaign.run(task, cases, keep=options.only is not None):
                findings.add(*found)
    return findings.report(options, "cases")


if __name__ == "__main__":
    sys.exit(main())
