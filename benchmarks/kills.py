"""Commands stopped at drawn moments and started again: results as of an unbroken run.

    python benchmarks/kills.py --moments 100 --seed 1 --out kills.json
    python benchmarks/kills.py --command train --way SIGKILL --moments 10

Each command runs once unbroken in a world of small sound inputs. Then, for each moment, a fresh
copy of the world is made, the command is stopped at a drawn moment, and started again. Ways to
stop it: SIGKILL or SIGTERM to the process; SIGINT to its group, as Ctrl-C does; SIGKILL to one of
the processes that it started; and a full disk: a small tmpfs around the world where mounting is
allowed, else RLIMIT_FSIZE. The server of ``label`` is stopped while a user edits, who goes on when
it is back; what it acknowledged is not sent again. Wrong are: a stop that ends in a traceback or an
"unforeseen" error; a full disk that is not told in error lines; processes left over; a second start
that fails; a file that is missing, left over or has other bytes than the unbroken run's. What tells
times (seconds, dates, rates) is not compared; of checkpoints the tensors are.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
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

from campaign import (
    CONVERT,
    Child,
    Findings,
    Task,
    built_world,
    chosen,
    fork_servers,
    judge,
    parser_of,
)
from label_user import Served, tell_unsaved

#: Seconds that a command gets, stopped or not.
SECONDS = 180
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "worker", "disk")
#: Keys of JSON and columns of tables that tell a time or a rate.
TIMES = re.compile(
    r"second|started|lines|starts|updated|created|duration|date|clips_per|_per_second|rate|path|note|finished"
)
NUMBER = re.compile(r"; in \d+ starts|[\d.:+T-]*\d( ?(s|min|ms)\b)? ?")

#: Commands whose worker processes come from a forked server, as loading it again would take most of
#: their time; how one that loads is stopped, the others show.
FORKED = {"demo", "evaluate", "fit", "pseudo-label", "rounds"}
REFUSED = "is not empty; expected a new folder"
WORKERS = ("--workers", "2")
PAGE = ("--no-browser", "--port", "0")
CHECKPOINT = ("--checkpoint", "run/best.safetensors")
TASKS = (
    Task(
        "extract",
        ("extract", "frames", "--videos", "videos.csv", "--out", "new/f.csv", *WORKERS),
    ),
    Task(
        "extract",
        (
            *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "new/c.csv"),
            *("--distractors", "new/d.csv", *WORKERS, "--min-object-size", "50"),
        ),
    ),
    Task("synthesize", ("synthesize", "--config", "synthesize.yaml", "--clips", "4", *WORKERS)),
    Task(
        "synthesize",
        ("synthesize", "--config", "synthesize.yaml", "--set", "overlay_video=true", *WORKERS),
    ),
    Task(
        "train",
        (
            *("train", "--config", "train.yaml", "--set", "epochs=3", "--set", "save_steps=1"),
            *("--set", "clips_per_epoch=4", "--set", "keep_epochs=2"),
        ),
    ),
    Task("train", ("train", "--config", "train.yaml", "--set", "devices=2")),
    Task("predict", ("predict", "field.mp4", *CHECKPOINT, "--out", "new", "--overlay")),
    Task(
        "predict",
        ("predict", "field.mp4", *CHECKPOINT, "--out", "new", "--overlay", "--tracks", "true"),
    ),
    Task("predict", ("predict", "photos", *CHECKPOINT, "--out", "new", "--stills")),
    Task("predict", ("predict", "clips.csv", *CHECKPOINT, "--out", "new")),
    Task(
        "pseudo-label",
        (
            *("pseudo-label", "plot", *CHECKPOINT, "--out", "new"),
            *("--set", "scales=[1.0]", "--set", "flips=none", "--set", "probe=false"),
        ),
    ),
    Task("evaluate", ("evaluate", "--truth", "clips.csv", *CHECKPOINT, "--out", "new")),
    Task("score", ("score", "--truth", "truth", "--predictions", "masks", "--out", "new")),
    Task("report", ("report", "run", "--out", "new.html")),
    Task("convert", CONVERT),
    Task("export", ("export", "data", "--format", "labelme", "--out", "new")),
    Task("import", ("import", "coco", "--out", "new", "--images", "data/annotated/images")),
    Task("fit", ("fit", "--config", "fit.yaml")),
    Task("demo", ("demo", "--config", "demo.yaml")),
    Task("rounds", ("rounds", "--config", "rounds.yaml")),
    Task("label", ("label", "data", *PAGE)),
    Task("label", ("label", "photos", *PAGE)),
    Task("label", ("label", "field.mp4", "--out", "new", *PAGE)),
)


def started(
    task: Task, folder: Path, log: Path, limit: int = 0, make_room: Callable[[], object] = int
) -> Child:
    """A command that has begun, perhaps with a limit of the size of files, or a full disk."""

    def prepare() -> None:
        if task.command in FORKED:
            fork_servers()
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    if task.command == "label":
        return Served(task.words, folder, log, prepare, make_room)
    return Child(task.words, folder, log, prepare)


def descendants(child: Child) -> list[int]:
    """Processes that a command started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {child.pid}
    for _ in range(8):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(pid for pid in found - {child.pid} if not _keeps_house(pid))


def _keeps_house(pid: int) -> bool:
    """Whether a process is Python's own tracker of shared resources, which does no work."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def content(path: Path) -> Any:
    """What is compared of a file: its bytes' digest, without what tells times."""
    data = path.read_bytes()
    if path.suffix == ".jsonl" or path.name == "token":
        # A record of finished work: its lines come as work ends, with the times of files.
        return None
    if path.suffix == ".json":
        return timeless(json.loads(data))
    if path.suffix == ".csv":
        rows = [line.split(",") for line in data.decode().splitlines()]
        kept = [n for n, name in enumerate(rows[0]) if not TIMES.search(name.lower())]
        return [[row[n] for n in kept if n < len(row)] for row in rows]
    if path.suffix == ".html":
        # Its figures stand in tables, too; many of them tell times.
        return NUMBER.sub("", data.decode())
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
            if isinstance(found[name], str):
                print(parting(expected[name], found[name]), file=sys.stderr)
            return f"other content: {kind}"
    return ""


def parting(one: str, other: str) -> str:
    """Where two texts part."""
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return f"{one[max(0, at - 60) : at + 60]!r} or {other[max(0, at - 60) : at + 60]!r}"


def taken(folder: Path) -> int:
    """Bytes that the files below a folder take of a tmpfs, whole pages each."""
    sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return sum(-(-size // 4096) * 4096 for size in sizes)


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[], object]]:
    """A tmpfs of a size at ``place``; gives what makes it large."""
    options = f"size={size // 1024 + 4}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        grow = ["mount", "-o", "remount,size=4g", str(place)]
        yield lambda: subprocess.run(grow, check=True)
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
        self.size = taken(world)

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
            if started(task, folder, log).wait(SECONDS):
                sys.exit(f"dvos {' '.join(task.words)}: {log.read_text()}")
            seconds = time.monotonic() - begun
            self.unbroken[task] = (contents(folder), seconds, taken(folder) - self.size)

    def run(self, task: Task, way: str, number: int) -> tuple[str, dict[str, Any]]:
        """Stop a task once, in one way; go on; compare: what is wrong, and what it was."""
        rng = random.Random(f"{self.seed}/{number}/{way}/{task.words}")
        share = rng.random()
        with self.place() as place, contextlib.ExitStack() as stack:
            (place / "disk").mkdir()
            grow: Callable[[], object] = int
            if way == "disk" and self.mounts:
                room = self.size + int(share * self.unbroken[task][2])
                grow = stack.enter_context(small_disk(place / "disk", room))
            folder, log = place / "disk" / "world", place / "log"
            shutil.copytree(self.world, folder)
            wrong = self._stop(task, way, share, log, grow)
            grow()
            first = log.read_text(errors="replace")
            log.unlink()
            if not wrong:
                status = started(task, folder, log).wait(SECONDS)
                text = log.read_text(errors="replace")
                wrong = judge(status, text)
                # What was finished, and is written but once, tells so.
                if status and REFUSED not in text:
                    wrong = f"started again: {wrong or 'fails'}"
                else:
                    wrong = wrong or differences(self.unbroken[task][0], contents(folder))
            again = log.read_text(errors="replace") if log.exists() else ""
            parts = (text[max(0, text.find("Traceback") - 300) :] for text in (first, again))
            told = "\n--- started again:\n".join(part[-3000:] for part in parts)
        return wrong, {
            "command": " ".join(task.words),
            "way": way,
            "moment": number,
            "share": round(share, 4),
            "log": told,
        }

    def _stop(
        self, task: Task, way: str, share: float, log: Path, make_room: Callable[[], object]
    ) -> str:
        """Start and stop; say what is wrong with how it ended."""
        _, seconds, written = self.unbroken[task]
        folder = log.parent / "disk" / "world"
        limit = 0 if way != "disk" or self.mounts else int(share * max(65536, written)) + 1
        child = started(task, folder, log, limit, make_room)
        # A full disk stops it by itself.
        status = None if way == "disk" else child.ended(child.begun + share * seconds)
        if status is None:
            stop(child, way, share)
            status = child.wait(SECONDS)
        text = log.read_text(errors="replace") if log.exists() else ""
        if task.command == "label" and way in ("SIGTERM", "SIGINT"):
            look = Child(task.words, folder, log, work=lambda: tell_unsaved(task.words))
            if look.wait(SECONDS):
                return "ended gently, but not all was saved"
        stopped = status > 0 and os.WIFSIGNALED(status)
        if way.startswith("SIG") and (stopped or os.WEXITSTATUS(status) in (130, 143)):
            if way == "SIGINT" and "error: interrupted" not in text:
                return "interrupted without a line"
            return "traceback" if "Traceback" in text and way != "SIGKILL" else ""
        return judge(status, text)


def stop(child: Child, way: str, share: float) -> None:
    """Stop a command in one of the ways that are told to a process."""
    if way == "worker":
        others = descendants(child)
        if others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(others[int(share * len(others) * 0.999)], signal.SIGKILL)
    elif way == "SIGINT":
        os.killpg(child.pid, signal.SIGINT)
    elif way != "disk":
        os.kill(child.pid, signal.Signals[way])


def main() -> int:
    parser = parser_of(__doc__.splitlines()[0], TASKS)
    parser.add_argument("--moments", type=int, default=20, help="of each command and way")
    parser.add_argument("--way", action="append", choices=WAYS, help="one way; may be repeated")
    options = parser.parse_args()
    findings = Findings()
    end = time.monotonic() + 60 * options.minutes
    with built_world(options.world) as world:
        campaign = Campaign(world, options.seed)
        tasks = chosen(options, TASKS)
        for task in tasks:
            campaign.measure(task)
        numbers = range(options.moments) if options.only is None else [options.only]
        for number, way, task in itertools.product(numbers, options.way or WAYS, tasks):
            if way == "disk" and task.command == "label" and not campaign.mounts:
                continue  # a limit cannot be lifted while the server runs
            if time.monotonic() > end:
                break
            wrong, result = campaign.run(task, way, number)
            told = wrong or "as unbroken"
            print(f"{task.command} {way} {number}: {told}", file=sys.stderr, flush=True)
            if wrong or options.only is not None:
                print(json.dumps(result, indent=1), file=sys.stderr)
            findings.add(wrong and f"{task.command}, {way}: {wrong}", result)
    return findings.report(options, "stops", mounts=campaign.mounts)


if __name__ == "__main__":
    sys.exit(main())
