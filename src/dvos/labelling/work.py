"""Training, prediction and export from the page: commands of this program, each its own process."""

import csv
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dvos.errors import DvosError, MediaError, RunError, UsageError, shortened
from dvos.files import make_folder
from dvos.labelling.documents import Document, PredictedClip, find_predictions
from dvos.tables import ImageRow, write_images

#: How this program is called. It ends with what started it, whose end closes its standard input.
_PROGRAM = (
    sys.executable,
    "-c",
    """
import os, runpy, signal, sys, threading
def follow():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
runpy.run_module("dvos", run_name="__main__", alter_sys=True)
""",
)
_TAIL = 4000  # characters of what a command says that the page is shown
_MOST_SUGGESTED = 200
_PREDICTIONS = "page"  # predictions in the folder of a training, of all that the page shows
_WEIGHTS = "best.safetensors"  # what a training ends with, in its folder


class Layer(NamedTuple):
    """Predictions to be seen beside the labels, by the name that the page calls them."""

    name: str
    clips: tuple[PredictedClip, ...]

    def mask(self, frame: str) -> Path:
        """The mask of a frame; a MediaError if it was not predicted."""
        for clip in self.clips:
            for _, name in clip.frames:
                if frame in (name, f"{clip.name}_{name}"):
                    return clip.mask(name)
        raise MediaError.at(frame, f"is not among the predictions {self.name}")


class Workshop:
    """Runs one thing at a time and tells how it gets on; a training begins from the checkpoint."""

    def __init__(self, document: Document, checkpoint: Path | None) -> None:
        self._runs = document.root / "runs"
        # What it was before the page was closed, or its server ended.
        made = sorted(self._runs.glob(f"[0-9]*/{_WEIGHTS}"))[-1:]
        self.document, self.checkpoint = document, checkpoint or next(iter(made), None)
        self._suggestions = document.root / ".labelling" / "suggestions.csv"
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._place: Path | None = None  # what was started last is written there
        self._kind = self._error = ""
        self._started = 0.0
        self._stopped = False

    def train(self, minutes: int) -> None:
        """Start a training on what is labelled, then predict everything with its result."""
        words = ["fit", self.document.root, "--minutes", minutes]
        self._start("train", _numbered(self._runs, ""), words, "--start")

    def export(self, format_name: str) -> Path:
        """Write the labels in another program's format; gives the folder."""
        document = self.document
        # Tracks are corrected where they lie, in the run; all else in the data folder.
        runs = sorted({one.parents[1] for one in document.tracked.values()})
        labels = [one.mask for one in document.frames if one.label is None]
        sources = [*runs, *([document.root] if any(one.exists() for one in labels) else [])]
        if len(sources) > 1:
            found = f"what is labelled lies in {shortened([str(one) for one in sources])}"
            remedy = f"export each: dvos export PLACE --format {format_name} --out FOLDER"
            raise UsageError.at(document.path, found, remedy=remedy)
        source = sources[0] if sources else document.root
        out = _numbered(document.root / "exports", f"{format_name}-")
        self._start("export", out, ["export", source, "--format", format_name])
        return out

    def suggest(self) -> None:
        """Look at all frames, and note which are worth labelling first."""
        words = ["suggest", self.document.path, "--count", _MOST_SUGGESTED]
        self._start("suggest", self._suggestions, words, "--checkpoint")

    def suggested(self) -> list[int]:
        """Indices of the frames worth labelling first, the best first; none if none are noted."""
        numbers = {frame.name: index for index, frame in enumerate(self.document.frames)}
        names = (row.get("frame") for row in _rows(self._suggestions))
        return [numbers[name] for name in names if name in numbers]

    def stop(self) -> None:
        """End what runs; what it has done stays."""
        with self._guard:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """End what runs and wait for it."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def status(self) -> dict[str, Any]:
        """What runs, the end of what it says, and the curves of a training."""
        running, place = self._is_running(), self._place
        return {
            "kind": self._kind,
            "running": running,
            "error": self._error,
            "stopped": self._stopped,
            "seconds": round(time.monotonic() - self._started) if running else 0,
            "said": _said(place) if place else "",
            "run": str(place or ""),
            "curves": _curves(place) if place and self._kind == "train" else {},
        }

    def layers(self) -> list[Layer]:
        """Predictions that can be seen, the oldest first: of the run opened, and made here."""
        opened, made = self.document.path, sorted(self._runs.glob(f"*/{_PREDICTIONS}"))
        places = [(opened.name, opened)] if opened.is_dir() else []
        places += [(f"training {folder.parent.name}", folder) for folder in made]
        found = ((name, find_predictions(folder)) for name, folder in places)
        return [Layer(name, tuple(clips)) for name, clips in found if clips]

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(
        self, kind: str, place: Path, words: Sequence[object], weights: str | None = None
    ) -> None:
        """Start a command: its name, what it reads and options, among them one for the weights."""
        with self._guard:
            if self._is_running():
                raise UsageError.at(kind, f"{self._kind} is at work", "one thing at a time")
            make_folder(place.parent)
            told = [*words[:2], "--out", place, *words[2:]]
            told += [weights, self.checkpoint] if weights and self.checkpoint else []
            self._place, self._kind, self._error = place, kind, ""
            self._started, self._stopped = time.monotonic(), False
            self._thread = threading.Thread(target=self._work, args=(place, list(map(str, told))))
            self._thread.start()

    def _work(self, place: Path, words: Sequence[str]) -> None:
        try:
            if self._run(place, words) and self._kind == "train":
                self.checkpoint = place / _WEIGHTS
                for prediction in self._predictions(place):
                    self._run(place, prediction)
        except (DvosError, OSError) as error:
            self._error = str(error)

    def _predictions(self, place: Path) -> list[list[str]]:
        """The commands that predict all that is open, with the weights of a training."""
        inputs: dict[Path, list[str]] = {}
        photos = []
        for frame in self.document.frames:
            path, video = frame.picture.path, frame.picture.video
            if frame.clip:
                inputs[path if video else path.parent] = []
            else:
                photos.append(ImageRow(path.resolve()))
        out = str(place / _PREDICTIONS)
        if photos:  # not by their folders, in two of which a labelled one lies
            table = place / f"{_PREDICTIONS}.csv"
            write_images(table, photos)
            inputs[table] = ["--stills"]
        shared = ["--checkpoint", str(place / _WEIGHTS), "--out", out, "--instances"]
        return [["predict", str(path), *shared, *words] for path, words in inputs.items()]

    def _run(self, place: Path, words: Sequence[str]) -> bool:
        """Run a command to its end; False if it was stopped."""
        with open(_log(place), "ab") as log:
            with self._guard:
                if self._stopped:
                    return False
                self._process = subprocess.Popen(
                    [*_PROGRAM, *words], stdin=subprocess.PIPE, stdout=log, stderr=log
                )
            with self._process as process:
                code = process.wait()
        if code and not self._stopped:
            last = _said(place).strip().splitlines()[-1:] or [f"ended with code {code}"]
            raise RunError(last[0].removeprefix("error: "))
        return code == 0


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


def _said(place: Path) -> str:
    """The end of what the commands have said that write to a place."""
    with suppress(OSError), open(_log(place), "rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(0, end - 4 * _TAIL))  # a character has at most four bytes
        return log.read().decode(errors="replace")[-_TAIL:]
    return ""


def _numbered(folder: Path, prefix: str) -> Path:
    """A place in a folder that nothing stands at: ``prefix`` and a number of three digits."""
    there = folder.glob(f"{prefix}[0-9][0-9][0-9]*")
    taken = (path.name.removeprefix(prefix)[:3] for path in there)
    return folder / f"{prefix}{max(map(int, taken), default=0) + 1:03d}"


def _rows(path: Path) -> list[dict[str, str | None]]:
    with suppress(OSError), open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
    return []


def _curves(run: Path) -> dict[str, list[float | None]]:
    """Columns of the ``records.csv`` of a training so far; None where a cell is empty."""
    curves: dict[str, list[float | None]] = {}
    rows = (row for path in sorted(run.rglob("records.csv"))[:1] for row in _rows(path))
    for name, text in (cell for row in rows for cell in row.items()):
        known = curves.setdefault(name, [])
        known.append(None)
        with suppress(ValueError, TypeError):
            known[-1] = float(text or "")
    return curves
