"""What this program does on a GPU: whether it is right, how fast, in how much memory; as JSON.

    python benchmarks/gpu.py --minutes 6 --out gpu.json [--wheels FOLDER] [--data FOLDER]
        [--published PATH --published-xmem PATH] [--checkpoint FILE] [--rows NAME ...]

It runs from a bare source tree, nothing installed, on a machine that reaches nothing and has
Python, numpy, opencv and torch; ``benchmarks/gpu_wheels.py`` (``make gpu-wheels``) gathers the rest
for ``--wheels``. A row whose package is absent, or for which no time is left, is left out by name,
with the reason. Each row has a process and a time limit of its own, and the file is written anew
after each, in order of importance: whatever happens, it ends in time with the figures so far.

Without a GPU, or with ``--tiny``, every row runs on sizes that mean nothing, to show that it works.

- ``machine``: the facts that all figures depend on.
- ``parity``: largest difference from the CPU in float32, TF32 off: every network, whole frames,
  tiles, views, long-term memory, and a step of training.
- ``step``: a training step without data, clips a second by batch and crop.
- ``memory frames``: ``load_predictor`` and ``segment`` on frames in memory, by size.
- ``network alone``: encode and decode, without anything around them.
- ``file``: ``dvos predict`` from an H.264 file to masks and counts, beside decoding alone.
- ``xmem``: frames a second and memory by number of objects, at 480 x 848.
- ``training data``: ``dvos train`` at crop 256: seconds from the command to the end of the first
  step, clips a second after it.
- ``fast default``: masks and counts of the default settings beside those of float32.
- ``tests``: the tests marked ``gpu``.
- ``published``, ``published xmem``: the published code on the same frames.
- ``wheat``, ``wheat long``: with ``--data``, from the command to the finished run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gpu_paths
from gpu_paths import write_atomically

#: Kept back of the whole time, to end in it.
_RESERVE = 4.0


@dataclass(frozen=True)
class Row:
    """Something to measure.

    Attributes:
        where: Module and function, ``module:function``.
        most: Seconds after which it is ended.
        least: With less time left it is not begun.
        needs: Modules without which it is left out.
        given: Arguments without which it is left out.
    """

    where: str
    most: float
    least: float
    needs: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


#: In order of importance.
ROWS: dict[str, Row] = {
    "machine": Row("gpu_bench:machine", 20, 2),
    "parity": Row("gpu_parity:parity", 60, 10),
    "step": Row("gpu_training:step_alone", 90, 15, ("lightning_fabric",)),
    "memory frames": Row("gpu_prediction:frames_in_memory", 75, 10),
    "network alone": Row("gpu_prediction:network_alone", 90, 8),
    "file": Row("gpu_prediction:from_file", 60, 15, ("av", "scipy")),
    "xmem": Row("gpu_xmem:ours", 60, 10),
    "training data": Row("gpu_training:with_data", 80, 25, ("lightning_fabric",)),
    "fast default": Row("gpu_prediction:fast_default", 45, 8),
    "tests": Row("gpu_training:marked_tests", 90, 20, ("pytest",)),
    "published xmem": Row("gpu_xmem:published", 60, 10, given=("published_xmem",)),
    "published": Row("gpu_prediction:published", 45, 8, given=("published",)),
    "wheat": Row("gpu_training:wheat", 180, 60, ("lightning_fabric",), ("data",)),
    "wheat long": Row("gpu_training:wheat_long", 420, 240, ("lightning_fabric",), ("data",)),
}


def measure(row: Row, bench: Any, log: Path) -> None:
    """The process of a row: its figures go to ``bench.file``, what it prints to ``log``."""
    os.setsid()
    stream = open(log, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process ends
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    module, _, function = row.where.partition(":")
    status: dict[str, Any] = {"status": "measured"}
    figures: dict[str, Any] = {}
    try:
        figures = getattr(importlib.import_module(module), function)(bench)
    except ModuleNotFoundError as error:
        status = {"status": "left out", "reason": f"the package {error.name} is absent"}
    except BaseException as error:
        traceback.print_exc()
        told = " ".join(str(error).split()) or type(error).__name__
        place = traceback.extract_tb(error.__traceback__)[-1]
        status = {"status": "failed", "reason": f"{type(error).__name__}: {told[:400]}"}
        status["at"] = f"{Path(place.filename).name}:{place.lineno}"
    if not figures and bench.file.is_file():
        figures = json.loads(bench.file.read_text(encoding="utf-8"))["figures"]
    write_atomically(bench.file, status | {"figures": figures})
    sys.stdout.flush()
    # Threads and servers of whatever was measured must not keep this process.
    os._exit(0)


def run_row(row: Row, bench: Any, log: Path, seconds: float) -> dict[str, Any]:
    """A row in a process of its own, ended with all that it has started."""
    begun = time.monotonic()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=measure, args=(row, replace(bench, seconds=seconds), log))
    process.start()
    process.join(seconds)
    late = process.is_alive()
    process.kill()
    # And what it has started: loaders, servers, commands.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join(5)
    found: dict[str, Any] = {}
    if bench.file.is_file():
        found = json.loads(bench.file.read_text(encoding="utf-8"))
    if "status" not in found:
        reason = f"ended after {seconds:.0f} s" if late else f"its process ended ({_end(process)})"
        found = {"status": "cut off" if late else "failed", "reason": reason, **found}
    if found["status"] == "failed" and log.is_file():
        found["log"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
    return found | {"seconds": round(time.monotonic() - begun, 1)}


def _end(process: Any) -> str:
    code = process.exitcode
    return signal.Signals(-code).name if code and code < 0 else f"code {code}"


def lacks(row: Row, arguments: argparse.Namespace) -> str | None:
    """Why a row cannot be run here; None if it can."""
    missing = [name for name in row.needs if not gpu_paths.is_there(name)]
    if missing:
        return "absent: " + ", ".join(gpu_paths.PACKAGES.get(name, name) for name in missing)
    asked = [f"--{name.replace('_', '-')}" for name in row.given if not getattr(arguments, name)]
    return f"not given: {', '.join(asked)}" if asked else None


def has_gpu() -> bool:
    """Whether torch sees a GPU; asked in another process, as a process that asked cannot fork."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    try:
        return subprocess.run([sys.executable, "-c", code], check=False, timeout=90).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError, should anything but a row, which has its own limit, hang."""

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_rows(
    report: dict[str, Any], arguments: argparse.Namespace, work: Path, begun: float
) -> None:
    """All rows that fit into the time, into a report; its file is written after each."""
    deadline = begun + 60 * arguments.minutes - _RESERVE
    device = arguments.device or ("cuda" if has_gpu() else "cpu")
    report |= {
        "minutes": arguments.minutes,
        "device": device,
        "tiny": arguments.tiny or device == "cpu",
        "command": sys.argv[1:],
    }
    if time.monotonic() > deadline:
        return

    def leave_out(name: str, reason: str) -> None:
        report["rows"][name] = {"status": "left out", "reason": reason}

    try:
        import gpu_bench
        import gpu_targets

        for module in ("gpu_parity", "gpu_training", "gpu_prediction", "gpu_xmem"):
            importlib.import_module(module)
    except ImportError as error:
        for name in arguments.rows:
            leave_out(name, f"the program cannot be imported: {error}")
        return
    bench = gpu_bench.Bench(
        device=device,
        tiny=report["tiny"],
        work=work,
        file=work,
        published=arguments.published,
        published_xmem=arguments.published_xmem,
        data=arguments.data,
        checkpoint=arguments.checkpoint,
    )
    for name in arguments.rows:
        row, left = ROWS[name], deadline - time.monotonic()
        reason = lacks(row, arguments)
        if reason is None and left < (2 if report["tiny"] else row.least):
            reason = f"no time was left: {max(0, left):.0f} s, and it needs {row.least:.0f}"
        if reason is not None:
            leave_out(name, reason)
        else:
            stem = name.replace(" ", "-")
            file, log = work / f"row-{stem}.json", work / f"row-{stem}.log"
            of_row = replace(bench, file=file)
            # Of a tiny run the machine may be a slow one.
            most = 4 * row.most if report["tiny"] else row.most
            report["rows"][name] = run_row(row, of_row, log, max(1.0, min(most, left)))
        report["targets"] = gpu_targets.targets(report)
        report["seconds"] = round(time.monotonic() - begun, 1)
        tell(name, report["rows"][name])
        if arguments.out:
            write_atomically(arguments.out, report)


def tell(name: str, found: dict[str, Any]) -> None:
    """A line on standard error."""
    reason = found.get("reason", "")
    text = f"{name}: {found['status']}{', ' + reason if reason else ''}"
    figures = json.dumps(found.get("figures", {}), default=str) if found.get("figures") else ""
    sys.stderr.write(f"{text} {figures[:600]}\n")
    sys.stderr.flush()


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6, help="for everything together")
    parser.add_argument("--out", type=Path, help="file for the JSON; standard output if left out")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is not installed")
    parser.add_argument("--published", type=Path, help="checkout of the published DVOS")
    parser.add_argument("--published-xmem", type=Path, help="checkout of the published XMem")
    parser.add_argument("--data", type=Path, help="folder with annotated/ and validation/")
    parser.add_argument("--checkpoint", type=Path, help="trained network, to compare masks with")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the GPU if there is one")
    parser.add_argument("--tiny", action="store_true", help="show that every row works")
    arguments = parser.parse_args()
    for name in ("out", "wheels", "published", "published_xmem", "data", "checkpoint"):
        if getattr(arguments, name) is not None:
            setattr(arguments, name, getattr(arguments, name).absolute())
    if arguments.wheels is not None and not arguments.wheels.is_dir():
        parser.error(f"{arguments.wheels}: no such folder; make gpu-wheels fills one")
    with tempfile.TemporaryDirectory(prefix="dvos-gpu-", ignore_cleanup_errors=True) as name:
        unpacked = Path(name) / "packages"
        unpacked.mkdir()
        gpu_paths.prepare(arguments.wheels, unpacked)
        report: dict[str, Any] = {"rows": {}}
        with contextlib.suppress(TimeoutError), in_time(60 * arguments.minutes):
            run_rows(report, arguments, Path(name), begun)
    for row in arguments.rows:
        reason = lacks(ROWS[row], arguments) or "no time was left"
        report["rows"].setdefault(row, {"status": "left out", "reason": reason})
    if arguments.out is None:
        print(json.dumps(report, indent=1, default=str))
    else:
        sys.stderr.write(f"{arguments.out}: {report.get('seconds')} s\n")
        write_atomically(arguments.out, report)


if __name__ == "__main__":
    main()
