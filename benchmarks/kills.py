"""Commands stopped at drawn moments and started again: results as of an unbroken run.

    python benchmarks/kills.py --moments 100 --seed 1 --out kills.json
    python benchmarks/kills.py --command train --way SIGKILL --moments 10

Each command runs once unbroken in a world of small sound inputs. Then, for each moment, a fresh
copy of the world is made, the command is stopped at a drawn moment, and started again. Ways to
stop it: SIGKILL or SIGTERM to the process; SIGINT to its group, as Ctrl-C does; SIGKILL to one of
the processes that it started; and a full disk: a small tmpfs around the world where mounting is
allowed, else RLIMIT_FSIZE. Wrong are: a stop that ends in a traceback or an "unforeseen" error; a
full disk that is not told in error lines; processes left over; a second start that fails; a file
that is missing, left over or has other bytes than the unbroken run's. What tells times (seconds,
dates, rates) is left out of the comparison; of checkpoints the tensors are compared.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2

from hostile import Task, build_world, judge, run_dvos

#: Seconds that a command gets, stopped or not.
SECONDS = 180
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "worker", "disk")
#: Keys of JSON, columns of tables and words of text that tell a time or a rate.
TIMES = re.compile(r"second|started|updated|created|duration|date|clips_per|_per_second|rate|path")
STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([+.]\S+)?|\d+(\.\d+)? s\b|[\d.]+ clips/s")

WORKERS = ("--workers", "2")
CHECKPOINT = ("--checkpoint", "run/best.safetensors")
TASKS = (
    Task(
        "extract",
        ("extract", "frames", "--videos", "videos.csv", "--out", "new/f.csv", *WORKERS),
        (),
    ),
    Task(
        "extract",
        (
            *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "new/c.csv"),
            *("--distractors", "new/d.csv", *WORKERS, "--min-object-size", "50"),
        ),
        (),
    ),
    Task("synthesize", ("synthesize", "--config", "synthesize.yaml", "--clips", "4", *WORKERS), ()),
    Task(
        "synthesize",
        ("synthesize", "--config", "synthesize.yaml", "--set", "video=true", *WORKERS),
        (),
    ),
    Task(
        "train",
        (
            *("train", "--config", "train.yaml", "--set", "epochs=3", "--set", "save_steps=1"),
            *("--set", "clips_per_epoch=4", "--set", "keep_epochs=2"),
        ),
        (),
    ),
    Task("train", ("train", "--config", "train.yaml", "--set", "devices=2"), ()),
    Task("predict", ("predict", "field.mp4", *CHECKPOINT, "--out", "new", "--overlay"), ()),
    Task("predict", ("predict", "photos", *CHECKPOINT, "--out", "new", "--stills"), ()),
    Task("predict", ("predict", "clips.csv", *CHECKPOINT, "--out", "new"), ()),
    Task(
        "pseudo-label",
        (
            *("pseudo-label", "plot", *CHECKPOINT, "--out", "new"),
            *("--set", "scales=[1.0]", "--set", "flips=none", "--set", "probe=false"),
        ),
        (),
    ),
    Task("evaluate", ("evaluate", "--truth", "clips.csv", *CHECKPOINT, "--out", "new"), ()),
    Task("score", ("score", "--truth", "truth", "--predictions", "masks", "--out", "new"), ()),
    Task("report", ("report", "run", "--out", "new.html"), ()),
    Task("convert", ("convert", "run/best.safetensors", "--out", "new.safetensors"), ()),
)


class Running:
    """A command in a forked process, at the head of a session of its own."""

    def __init__(self, task: Task, folder: Path, log: Path, limit: int = 0) -> None:
        self.log = log
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            return
        code = 99
        try:
            os.setsid()
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            os.chdir(folder)
            code = run_dvos(list(task.words))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, until: float) -> int | None:
        """Its wait status, once it has ended; None if it has not by this time of the clock."""
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return status
            if time.monotonic() > until:
                return None
            time.sleep(0.002)

    def descendants(self) -> list[int]:
        """Processes that it started, and theirs."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = {self.pid}
        for _ in range(8):
            found |= {pid for pid, parent in parents.items() if parent in found}
        return sorted(pid for pid in found - {self.pid} if not _keeps_house(pid))

    def wait(self) -> int:
        """Its wait status; -1 and dead if it does not end in time."""
        status = self.ended(time.monotonic() + SECONDS)
        # Its session is gone with it: what a killed command started ends by itself, within seconds.
        until = time.monotonic() + 15
        while status is not None and time.monotonic() < until:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return status
            time.sleep(0.02)
        left = status is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if not left:
            os.waitpid(self.pid, 0)
        return -2 if left else -1


def _keeps_house(pid: int) -> bool:
    """Whether a process is Python's own tracker of shared resources, which does no work."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def content(path: Path) -> Any:
    """What is compared of a file: its bytes' digest, without what tells times."""
    data = path.read_bytes()
    if path.suffix == ".jsonl":
        # A record of finished work: its lines come as work ends, with the times of files.
        return None
    if path.suffix == ".json":
        return timeless(json.loads(data))
    if path.suffix == ".csv":
        rows = [line.split(",") for line in data.decode().splitlines()]
        kept = [n for n, name in enumerate(rows[0]) if not TIMES.search(name.lower())]
        return [[row[n] for n in kept if n < len(row)] for row in rows]
    if path.suffix == ".html":
        return digest(STAMP.sub("", data.decode()).encode())
    if path.suffix == ".ckpt":
        import torch

        return timeless(tensors_digested(torch.load(path, weights_only=True)))
    return digest(data)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def tensors_digested(value: Any) -> Any:
    """A tree with every tensor replaced by the digest of its bytes."""
    import torch

    if isinstance(value, torch.Tensor):
        return digest(value.contiguous().numpy().tobytes())
    if isinstance(value, dict):
        return {str(key): tensors_digested(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [tensors_digested(each) for each in value]
    return value


def timeless(value: Any) -> Any:
    """A tree without entries whose keys tell of times."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not TIMES.search(str(k).lower())}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Each file below a folder by its path there."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() or p.is_symlink())
    return {str(p.relative_to(folder)): content(p) for p in files}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """The first way in which a folder differs from the unbroken run's; nothing if in none."""
    for name in sorted(expected.keys() | found.keys()):
        kind = re.sub(r"[0-9]+|-[a-z0-9_]{8}\b", "#", name)
        if name not in found:
            return f"missing: {kind}"
        if name not in expected:
            return f"left over: {kind}"
        if expected[name] != found[name]:
            return f"other content: {kind}"
    return ""


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[], None]]:
    """A tmpfs of a size at ``place``; gives what makes it large."""
    options = f"size={size // 1024 + 4}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        grow = ["mount", "-o", "remount,size=4g", str(place)]
        yield lambda: subprocess.run(grow, check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        try:
            with small_disk(Path(place), 1 << 20):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


class Campaign:
    """One world, and for each task what an unbroken run makes of it."""

    def __init__(self, world: Path, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.mounts = can_mount()
        self.unbroken: dict[Task, tuple[dict[str, Any], float, int]] = {}
        self.size = sum(file.stat().st_size for file in world.rglob("*") if file.is_file())

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A folder of always the same name, as tables hold names of files outside their own."""
        place = self.world.parent / "place"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def measure(self, task: Task) -> None:
        """Run a task unbroken."""
        with self.place() as place:
            folder, log = place / "disk" / "world", place / "log"
            shutil.copytree(self.world, folder)
            begun = time.monotonic()
            if Running(task, folder, log).wait():
                sys.exit(f"dvos {' '.join(task.words)}: {log.read_text()}")
            seconds = time.monotonic() - begun
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            self.unbroken[task] = (contents(folder), seconds, size - self.size)

    def run(self, task: Task, way: str, number: int) -> dict[str, Any]:
        """Stop a task once, in one way; go on; compare."""
        rng = random.Random(f"{self.seed}/{number}/{way}/{task.words}")
        share = rng.random()
        with self.place() as place, contextlib.ExitStack() as stack:
            (place / "disk").mkdir()
            grow = None
            if way == "disk" and self.mounts:
                # Files and folders take whole pages there.
                pages = 4096 * sum(1 for _ in self.world.rglob("*"))
                room = self.size + pages + int(share * (self.unbroken[task][2] + 65536))
                grow = stack.enter_context(small_disk(place / "disk", room))
            folder, log = place / "disk" / "world", place / "log"
            shutil.copytree(self.world, folder)
            wrong = self._stop(task, way, share, folder, log)
            if grow:
                grow()
            first = log.read_text(errors="replace")
            log.unlink()
            if not wrong:
                status = Running(task, folder, log).wait()
                wrong = judge(status, log.read_text(errors="replace"), 0, 0, False)
                if status:
                    wrong = f"started again: {wrong or 'fails'}"
                else:
                    wrong = wrong or differences(self.unbroken[task][0], contents(folder))
            again = log.read_text(errors="replace") if log.exists() else ""
            told = f"{first[-500:]}\n--- started again:\n{again[-500:]}"
        return {
            "command": " ".join(task.words),
            "way": way,
            "moment": number,
            "share": round(share, 4),
            "wrong": wrong,
            "log": told,
        }

    def _stop(self, task: Task, way: str, share: float, folder: Path, log: Path) -> str:
        """Start and stop; say what is wrong with how it ended."""
        largest = max(65536, self.unbroken[task][2])
        limit = int(share * largest) + 1 if way == "disk" and not self.mounts else 0
        running = Running(task, folder, log, limit)
        if way == "disk":
            status: int | None = running.wait()
        else:
            status = running.ended(running.begun + share * self.unbroken[task][1])
            if status is None:
                if way == "worker":
                    others = running.descendants()
                    if others:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(others[int(share * len(others) * 0.999)], signal.SIGKILL)
                elif way == "SIGINT":
                    os.killpg(running.pid, signal.SIGINT)
                else:
                    os.kill(running.pid, signal.Signals[way])
            status = running.wait() if status is None else status
        text = log.read_text(errors="replace") if log.exists() else ""
        if status == -2:
            return "processes are left over"
        stopped = os.WIFSIGNALED(status) and status != -1
        if stopped and way in ("SIGKILL", "SIGTERM", "SIGINT"):
            return "traceback" if "Traceback" in text and way != "SIGKILL" else ""
        if not stopped and os.WEXITSTATUS(status) in (130, 143) and way.startswith("SIG"):
            return "traceback" if "Traceback" in text else ""
        return judge(status, text, 0, 0, False)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20, help="of each command and way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", action="append", help="one command; may be repeated")
    parser.add_argument("--way", action="append", choices=WAYS, help="one way; may be repeated")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so many")
    parser.add_argument("--only", type=int, help="one moment")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    options = parse()
    tasks = [task for task in TASKS if not options.command or task.command in options.command]
    if not tasks:
        sys.exit(f"no such command; one of {', '.join(sorted({t.command for t in TASKS}))}")
    # Imported once, in the parent: a start then takes a fraction of a second.
    import torch

    import dvos.prediction.predict
    import dvos.scoring.score
    import dvos.training.run  # noqa: F401

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    home = Path.cwd()
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    world = root / "world"
    world.mkdir()
    os.chdir(world)
    build_world(world)
    os.chdir(home)
    campaign = Campaign(world, options.seed)
    end = time.monotonic() + 60 * options.minutes
    wrong: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    done = 0
    for task in tasks:
        campaign.measure(task)
        for way in options.way or WAYS:
            numbers = range(options.moments) if options.only is None else [options.only]
            for number in numbers:
                if time.monotonic() > end:
                    break
                result = campaign.run(task, way, number)
                done += 1
                told = result["wrong"] or "as unbroken"
                print(f"{task.command} {way} {number}: {told}", file=sys.stderr, flush=True)
                if options.only is not None:
                    print(json.dumps(result, indent=1))
                if result["wrong"]:
                    wrong[f"{task.command}, {way}: {result['wrong']}"].append(result)
    shutil.rmtree(root)
    for kind, results in sorted(wrong.items(), key=lambda item: -len(item[1])):
        first = results[0]
        print(f"{len(results):5}  {kind}\n       moment {first['moment']}: dvos {first['command']}")
    print(f"{done} stops, {sum(map(len, wrong.values()))} wrong, seed {options.seed}")
    if options.out is not None:
        facts = {"system": sys.platform, "cores": os.cpu_count(), "mounts": campaign.mounts}
        kinds = {
            kind: {"count": len(results), "example": results[0]} for kind, results in wrong.items()
        }
        summary = {"stops": done, "seed": options.seed, "facts": facts, "wrong": kinds}
        options.out.write_text(json.dumps(summary, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
