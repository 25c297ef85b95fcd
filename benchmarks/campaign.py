"""What campaigns against the commands share: a world, processes, the judgement, the summary.

A world is a folder of small sound inputs: photos, masks, a video, tables, settings, a checkpoint, a
run, predictions and pseudo-labels. A command runs in a forked child of a process that has loaded
everything, so that a start takes a fraction of a second.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import util
from pathlib import Path
from typing import Any

# Children are forked: no thread may run in the parent.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

import calls

GIGABYTE = 2**30

NETWORK = (
    "{name: paper, references: 1, "
    "paper: {base: 4, multipliers: [1, 1, 1, 1], latent: 4, hidden: 8}}"
)
#: Of every training in a world, but its length.
TRAINING = (
    f"network: {NETWORK}\nbatch: 2\nthreads: 1\ndevices: 1\nworkers: 1\n"
    "data: {crop: 32, stills: {folders: [data/annotated]}}\n"
)
#: What commands load as they need it.
LOADED = (
    *("dvos.extraction.objects", "dvos.labelling.server", "dvos.prediction.predict"),
    "dvos.prediction.xmem",
    *("dvos.reporting.html", "dvos.sample.field", "dvos.scoring.score", "dvos.selftraining.rounds"),
    *("dvos.synthesis.write", "dvos.training.run", "dvos.workflow.demo", "dvos.workflow.fit"),
    *("av", "lightning_fabric", "matplotlib.pyplot", "torch._dynamo", "uvicorn"),
)
#: Files of settings of a world.
SETTINGS = {
    "demo.yaml": f"""
out: new
sample: {{size: [64, 96], stills: 2, background_videos: 1, background_frames: 2,
         target_frames: 2, heldout_frames: 2}}
clips: 2
epochs: 1
preview_clips: 1
min_object_size: 12
augment: none
workers: 1
train: {{network: {NETWORK}, batch: 2, pictures: 1, threads: 1, devices: 1, workers: 1,
        data: {{crop: 32}}}}
""",
    "fit.yaml": f"""
folder: data
out: new
minutes: 1
clips: 2
epochs: 1
folds: 0
preview_clips: 1
min_object_size: 20
augment: none
workers: 1
train: {{network: {NETWORK}, batch: 2, pictures: 1, threads: 1, devices: 1, workers: 1,
        data: {{crop: 32}}}}
""",
    "rounds.yaml": f"""
out: new
unlabelled: [{{input: plot}}]
rounds: 1
train: {{epochs: 1, clips_per_epoch: 2, {", ".join(TRAINING.splitlines())}}}
pseudo_label:
  scales: [1.0]
  flips: none
  probe: false
  filter: {{object_threshold: 0.01, background_threshold: 0.0, min_consistency: 0, min_known: 0}}
""",
}
#: Command lines of several campaigns; two of them make a part of the world.
PREDICT = ("predict", "clips.csv", "--checkpoint", "run/best.safetensors", "--out", "masks")
CONVERT = (
    *("convert", "run/best.safetensors", "--out", "new.safetensors"),
    *("--set", "mean=[0.4, 0.5, 0.6]"),
)
PSEUDO_LABEL = (
    *("pseudo-label", "plot", "--checkpoint", "run/best.safetensors", "--out", "pseudo"),
    *("--set", "scales=[1.0]", "--set", "flips=none", "--set", "probe=false"),
)


@dataclass(frozen=True)
class Task:
    """A command line, and the files of the world that it reads, as patterns.

    ``before`` are command lines that make such files first.
    """

    command: str
    words: tuple[str, ...]
    reads: tuple[str, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()


class Child:
    """A command in a forked process, at the head of a session of its own.

    Args:
        words: Of its command line.
        folder: It runs in.
        log: File that takes what it prints.
        prepare: Called in the process before the command.
        work: Called instead of it; gives the exit code.

    Attributes:
        pid: Of the process.
        begun: When, by the monotonic clock.
        peak: Bytes of memory at most, once it has ended.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        log: Path,
        prepare: Callable[[], object] = lambda: None,
        work: Callable[[], int] | None = None,
    ) -> None:
        self.peak = 0
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(told)
            os.read(ready, 1)  # it is at the command
            os.close(ready)
            self.begun = time.monotonic()
            return
        code = 99
        try:
            os.close(ready)
            os.setsid()
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(folder)
            prepare()
            os.close(told)
            code = work() if work else calls.run(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, until: float) -> int | None:
        """Its wait status, once it has ended; None if it has not by this time of the clock."""
        end = os.pidfd_open(self.pid)
        select.select([end], [], [], max(0.0, until - time.monotonic()))
        os.close(end)
        done, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not done:
            return None
        self.peak = usage.ru_maxrss * 1024
        return status

    def wait(self, seconds: float) -> int:
        """Its wait status; -1 and dead if it does not end in time, -2 if it leaves processes.

        Other work on the machine is no fault of its: it gets these seconds of a processor's time,
        or six times as many by the clock.
        """
        status = self.ended(self.begun + seconds)
        while status is None and time.monotonic() < self.begun + 6 * seconds:
            if self.processor_seconds() > seconds:
                break
            status = self.ended(time.monotonic() + 1)
        return self.kill() if status is None else self.alone(status, seconds)

    def alone(self, status: int, seconds: float) -> int:
        """Its wait status, once nothing is left of its session; -2 if something stays."""
        # It goes with it: what it started ends by itself, once it has loaded.
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return status
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return -2

    def kill(self) -> int:
        """End it and what it started; gives -1."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return -1

    def processor_seconds(self) -> float:
        """Time that it, and the processes that it has waited for, took of a processor."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return 0.0


def fork_servers() -> None:
    """Let the server that worker processes come from be forked, with everything loaded."""
    spawn = util.spawnv_passfds

    def start(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        if "forkserver" not in args[-1]:
            return spawn(path, args, passfds)
        if pid := os.fork():
            return pid
        edges = [2, *sorted(passfds), os.sysconf("SC_OPEN_MAX")]
        for low, high in itertools.pairwise(edges):
            os.closerange(low + 1, high)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            exec(args[-1], {})
        finally:  # it ends by SystemExit, which must not unwind the command that it was forked from
            os._exit(0)

    util.spawnv_passfds = start


@contextlib.contextmanager
def built_world(kept: Path | None) -> Iterator[Path]:
    """A world in a folder removed at the end, made there or copied from where it is kept."""
    # Imported once, in the parent of all children.
    import torch

    for module in LOADED:
        import_module(module)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="campaign-") as root:
        world = Path(kept or root).absolute() / "world"
        if not (world / "done").exists():
            shutil.rmtree(world, ignore_errors=True)
            world.mkdir(parents=True)
            os.chdir(world)
            try:
                build_world(world)
            finally:
                os.chdir(home)
            (world / "done").touch()
        copy = Path(root) / "world"
        yield world if world == copy else shutil.copytree(world, copy)


def build_world(folder: Path) -> None:
    """Write sound inputs for every task into ``folder``, the current one."""

    def make(words: tuple[str, ...]) -> None:
        child = Child(words, folder, folder / "build.log")
        if child.wait(300):
            sys.exit(f"dvos {' '.join(words)} failed: {(folder / 'build.log').read_text()[-2000:]}")

    rng = np.random.default_rng(5)
    for part in (
        "data/annotated/images",
        "data/annotated/masks",
        "photos",
        "data/backgrounds",
        "plot",
        "truth/plot",
        "ids/plot",
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
        cv2.imwrite(f"ids/plot/f{number}.png", ids)
        rows.append(f"plot,{number},plot/f{number}.png,truth/plot/f{number}.png,{number % 2}")
        if number < 2:
            cv2.imwrite(f"data/annotated/images/s{number}.png", image)
            cv2.imwrite(f"data/annotated/masks/s{number}.png", ids)
            cv2.imwrite(f"photos/p{number}.jpg", image)
            cv2.imwrite(f"data/backgrounds/b{number}.png", image[:, ::-1] // 2)
    write_tables(rows)
    writer = cv2.VideoWriter("field.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for number in range(6):
        frame = cv2.imread(f"plot/f{number}.png")
        assert frame is not None
        writer.write(frame)
    writer.release()
    write_settings()
    for words in (
        (
            *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "cutouts.csv"),
            *("--distractors", "distractors.csv", "--workers", "1", "--min-object-size", "50"),
        ),
        ("train", "--config", "again.yaml"),
        ("predict", "plot", "--checkpoint", "run/best.safetensors", "--out", "masks"),
        ("score", "--truth", "truth", "--predictions", "masks", "--out", "scores"),
        ("export", "data", "--format", "coco", "--out", "coco"),
        (
            *("synthesize", "--config", "synthesize.yaml", "--workers", "1"),
            *("--set", "layout=store", "--set", "out=store"),
        ),
    ):
        make(words)
    shutil.rmtree("masks")
    for words in (PREDICT, PSEUDO_LABEL):
        make(words)
    # Commands that extract anew write beside what was made here.
    table = folder / "annotated.csv"
    table.write_text(table.read_text().replace(",cutouts", ",anew"))


def write_tables(rows: list[str]) -> None:
    """Write the tables of a world, of clips with these rows."""
    Path("clips.csv").write_text("\n".join(["VID,FID,Image,Mask,Label", *rows]) + "\n")
    stills = [
        f"data/annotated/images/s{n}.png,data/annotated/masks/s{n}.png,cutouts" for n in range(2)
    ]
    Path("annotated.csv").write_text("\n".join(["Image,Mask,OutDir", *stills]) + "\n")
    frames = "\n".join(f"plot/f{number}.png" for number in range(6))
    Path("frames.csv").write_text(f"Image\n{frames}\n")
    Path("videos.csv").write_text("Video,FramesDir,Interval\nfield.mp4,taken,2\n")
    Path("hand.csv").write_text("clip,count\nplot,3\n")
    region = {"type": "Polygon", "coordinates": [[[4, 4], [40, 4], [40, 40], [4, 40], [4, 4]]]}
    feature = {"type": "Feature", "properties": {"name": "a"}, "geometry": region}
    collection = {"type": "FeatureCollection", "features": [feature]}
    Path("regions.geojson").write_text(json.dumps(collection))
    calls.write_requests(Path("requests.jsonl"))


def write_settings() -> None:
    """Write the settings of a world."""
    Path("synthesize.yaml").write_text(
        "backgrounds: [frames.csv]\ncutouts: [cutouts.csv]\nout: new\nclips: 1\nframes: 2\n"
        "height: 64\nwidth: 64\nscene: {preset: generic}\n"
    )
    train = f"epochs: 1\nclips_per_epoch: 2\n{TRAINING}"
    Path("train.yaml").write_text(f"out: new\n{train}")
    # A run is gone on with only with the very data it began with, wherever the copy lies.
    own = train.replace("[data/annotated]", f"[{Path.cwd() / 'data/annotated'}]")
    assert own != train
    Path("again.yaml").write_text(f"out: run\n{own}")
    for name, text in SETTINGS.items():
        Path(name).write_text(text)
    Path("published.yaml").write_text(
        "videos_meta_csv_path: videos.csv\noutput_metadata_path: frames.csv\n"
        "frame_extension: png\nswap_color: null\ntransformer: {height: 64, width: 64}\n"
    )


def judge(status: int, log: str) -> str:
    """What is wrong with how a command ended; nothing if it ended well.

    Args:
        status: As :meth:`Child.wait` gives it.
        log: What was printed.
    """
    if status == -1:
        return "no end in time"
    if status == -2:
        return "processes are left over"
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)}"
    unforeseen = re.search(r"unforeseen (\w+): (.{0,60})", log)
    if unforeseen:
        return f"unforeseen {unforeseen[1]}: {re.sub(r'[0-9]+|/.*', '#', unforeseen[2])}"
    if "Traceback" in log:
        return "traceback: " + log.strip().splitlines()[-1][:80]
    if os.WEXITSTATUS(status) not in (0, 1, 2):
        return f"exit code {os.WEXITSTATUS(status)}"
    return "fails without a line" if os.WEXITSTATUS(status) and "error: " not in log else ""


class Findings:
    """What a campaign found wrong, by kind."""

    def __init__(self) -> None:
        self.count = 0
        self.wrong: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)

    def add(self, kind: str, result: dict[str, Any]) -> None:
        """Count a case, which is wrong if its kind says how."""
        self.count += 1
        if kind:
            self.wrong[kind].append(result)

    def report(self, options: argparse.Namespace, what: str, **facts: Any) -> int:
        """Print the kinds, the most frequent first, with an example each; give the exit code."""
        for kind, results in sorted(self.wrong.items(), key=lambda item: -len(item[1])):
            first = {name: value for name, value in results[0].items() if name != "log"}
            print(f"{len(results):5}  {kind}\n       {json.dumps(first)}")
        total = sum(map(len, self.wrong.values()))
        print(f"{self.count} {what}, {total} wrong, seed {options.seed}")
        if options.out is not None:
            facts |= {"python": platform.python_version(), "machine": platform.machine()}
            facts |= {"system": sys.platform, "cores": os.cpu_count()}
            summary = {what: self.count, "seed": options.seed, "facts": facts}
            options.out.write_text(json.dumps(summary | {"wrong": dict(self.wrong)}, indent=1))
        return 1 if self.wrong else 0


def parser_of(description: str, tasks: Sequence[Task]) -> argparse.ArgumentParser:
    """Options that every campaign has."""
    parser = argparse.ArgumentParser(description=description)
    names = sorted({task.command for task in tasks})
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", action="append", choices=names, help="may be repeated")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so many")
    parser.add_argument("--only", type=int, help="one case")
    parser.add_argument("--world", type=Path, help="folder to keep the world in for the next one")
    parser.add_argument("--out", type=Path, help="file for a summary in JSON")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return parser


def chosen(options: argparse.Namespace, tasks: Sequence[Task]) -> list[Task]:
    """The tasks of the commands that are asked for, or all."""
    return [task for task in tasks if not options.command or task.command in options.command]
