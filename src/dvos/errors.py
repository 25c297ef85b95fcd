"""Every foreseen error of the package, and how it is worded.

The tree, with the exit code the command line gives each branch::

    DvosError                      1  anything foreseen
    ├── UsageError                 2  the command was called wrongly
    ├── ConfigError                2  a setting is unknown, of a wrong type or out of range
    ├── TableError                 1  a CSV table or one of its rows
    ├── MediaError                 1  an image, mask or video that cannot be read or written
    ├── OutputError                1  a place that cannot be written, a full disk
    ├── CheckpointError            1  weights that are missing, damaged or of another kind
    └── RunError                   1  a run that cannot go on (NaN loss, no memory, changed inputs)

An error carries one :class:`Fault` for each thing that is wrong: all are reported at once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

#: What is told of Ctrl-C, and the exit code.
INTERRUPTED = ("interrupted; run the same command again to go on from here", 130)
#: Most characters of each part of a line that may hold what a file or a user gave.
_LONGEST = 400
#: Characters of names and cells that would steer a terminal, and how they are shown.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
#: Faults that are told in full, so that a table of a million bad rows stays readable.
_TOLD = 50


def _bounded(text: str) -> str:
    """The text, its middle left out where it is long."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Many things in a message: the first of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, told so that the reader can mend it; what is obvious stays empty."""

    where: str  # ``clips.csv row 3 column Mask``, ``train.yaml: optimizer.lr``
    found: str
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where, found = _bounded(self.where), _bounded(self.found)
        text = f"{where}: {found}" if where else found
        if self.expected:
            text += f"; expected {self.expected}"
        if self.remedy:
            text += f"; {self.remedy}"
        return " ".join(text.split()).translate(_CONTROLS)


class DvosError(Exception):
    """Base of all foreseen errors; its ``faults`` are never empty, a line each."""

    #: What the command line exits with.
    exit_code = 1

    def __init__(self, faults: Fault | str | Iterable[Fault]) -> None:
        if isinstance(faults, str):
            faults = Fault("", faults)
        if isinstance(faults, Fault):
            faults = [faults]
        self.faults: tuple[Fault, ...] = tuple(faults)
        if not self.faults:
            raise ValueError("an error needs at least one fault")
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Fault, ...]]]:
        # Pickle's default would rebuild it from its joined text and lose the faults.
        return type(self), (self.faults,)

    @classmethod
    def at(cls, where: str | Path, found: str, expected: str = "", remedy: str = "") -> Self:
        """Make an error with a single fault."""
        return cls(Fault(str(where), found, expected, remedy))


class UsageError(DvosError):
    """A command was called with arguments that do not fit together."""

    exit_code = 2


class ConfigError(DvosError):
    """A setting is unknown, of a wrong type or out of range."""

    exit_code = 2


class TableError(DvosError):
    """A CSV table, or rows of it, cannot be used."""


class MediaError(DvosError):
    """An image, mask or video cannot be read or written."""

    @classmethod
    def damaged(cls, where: str | Path, kind: str, detail: object) -> Self:
        """Make the error of a file that is cut off or corrupt, of whatever kind."""
        remedy = "copy the file again from its source or export it again"
        return cls.at(where, f"truncated or corrupt {kind} file ({detail})", "a whole file", remedy)


def check_size(
    path: str | Path,
    found: tuple[int, ...],
    expected: tuple[int, ...],
    of: object,
    remedy: str = "",
) -> None:
    """Raise a MediaError if (height, width) is another than that ``of`` what an image goes with."""
    size, other = found[:2], expected[:2]
    if size == other[::-1]:
        remedy = (
            "one of the two lies on its side: photo and mask are turned against each other, as by "
            "a program that passes over a photo's orientation; turn the mask, or save the photo "
            "upright"
        )
    if size != other:
        wanted = f"{other[1]} x {other[0]}, as {of}"
        raise MediaError.at(path, f"is {size[1]} x {size[0]} pixels", wanted, remedy)


class OutputError(DvosError):
    """An output cannot be written: no permission, no space, in the way."""


class CheckpointError(DvosError):
    """Weights are missing, damaged or of another kind."""


class RunError(DvosError):
    """A run cannot go on: NaN loss, memory exhausted, inputs changed."""


class FaultCollector:
    """Gathers faults and raises them together when its block ends.

    Raised is ``error``, or without one the class of the first error collected. Steps that raise
    errors of their own are run by :meth:`collect`, so that no step's faults hide those of the next.
    """

    def __init__(self, error: type[DvosError] | None = None) -> None:
        self._error = error
        self._faults: list[Fault] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, where: str | Path, found: str, expected: str = "", remedy: str = "") -> None:
        """Note one fault."""
        self.extend([Fault(str(where), found, expected, remedy)])

    def extend(self, faults: Iterable[Fault]) -> None:
        """Note faults that another step already worded; each once."""
        for fault in faults:
            if fault not in self._faults:
                self._count += 1
                self._faults += [fault] if self._count <= _TOLD else []

    def collect(
        self, step: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs
    ) -> Result | None:
        """What a step gives; None where it failed: its faults are kept, and raised at the end."""
        try:
            return step(*args, **kwargs)
        except DvosError as error:
            self._error = self._error or type(error)
            self.extend(error.faults)
            return None

    def raise_if_any(self) -> None:
        """Raise what was gathered, if anything was."""
        if not self._count:
            return
        more = self._count - len(self._faults)
        last = [Fault("", f"and {more} more faults of this kind")] if more else []
        raise (self._error or DvosError)([*self._faults, *last])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.raise_if_any()
