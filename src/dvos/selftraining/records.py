"""The rounds so far: their figures, which is best, and the files that tell of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvos.files import file_digest, write_bytes, write_json
from dvos.selftraining.label import PseudoLabelResult
from dvos.tables import write_rows

__all__ = ["RoundBook", "RoundRecord"]

_FORMAT = 1
_COLUMNS = (
    "round",
    "judged",
    "accepted",
    "known_share",
    "object_share",
    "val_dice",
    "checkpoint",
)


@dataclass(frozen=True)
class RoundRecord:
    """One round.

    Attributes:
        round: From 0, the one before any pseudo-label.
        judged: Unlabelled frames that were looked at.
        accepted: Of these, accepted as queries.
        known_share: Of the accepted frames' pixels, those with a label; None
            where no frame was accepted.
        object_share: Likewise, object.
        val_dice: Pooled validation Dice of the network; None where none was trained.
        checkpoint: The network; None where none was trained.
    """

    round: int
    judged: int
    accepted: int
    known_share: float | None
    object_share: float | None
    val_dice: float | None
    checkpoint: Path | None

    @classmethod
    def of_labels(
        cls,
        number: int,
        labels: Sequence[PseudoLabelResult],
        *,
        val_dice: float | None = None,
        checkpoint: Path | None = None,
    ) -> RoundRecord:
        """A round with the pseudo-labels of all inputs together."""
        accepted = sum(one.accepted for one in labels)

        def mean(name: str) -> float | None:
            parts = [(getattr(one, name), one.accepted) for one in labels if one.accepted]
            return round(sum(s * n for s, n in parts) / accepted, 6) if accepted else None

        return cls(
            number,
            sum(one.judged for one in labels),
            accepted,
            mean("known_share"),
            mean("object_share"),
            val_dice,
            checkpoint,
        )


class RoundBook:
    """Keeps the rounds, and writes ``rounds.json``, ``rounds.csv`` and ``best.safetensors``.

    Rounds that an earlier start has written are not written again while they
    are gone through, so that the files never tell less than they did.

    Args:
        out: The folder of the rounds.
        facts: Begins ``rounds.json``.
        tolerance: Validation Dice by which a later round may lie below the
            highest and still be preferred: labelled validation data seldom
            show what a network gains on data of another kind.

    Attributes:
        earlier: The rounds that an earlier start has written, as in the file.
        records: The rounds of this start.
        stopped: Why there are no more.
    """

    def __init__(self, out: Path, facts: dict[str, Any], *, tolerance: float) -> None:
        self.json = out / "rounds.json"
        self.csv = out / "rounds.csv"
        self.best_checkpoint = out / "best.safetensors"
        self.records: list[RoundRecord] = []
        self.stopped = ""
        self._out = out
        self._facts = facts
        self._tolerance = tolerance
        self.earlier = _earlier(self.json)

    @property
    def best(self) -> RoundRecord:
        """The latest round whose validation Dice has not fallen."""
        lowest = self._highest() - self._tolerance
        return next(record for record in reversed(self.records) if _dice(record) >= lowest)

    def add(self, record: RoundRecord) -> None:
        """Note a finished round."""
        self.records.append(record)
        if len(self.records) > len(self.earlier):
            self._write()

    def stop(self, reason: str) -> None:
        """Note why there are no more rounds."""
        self.stopped = reason
        self._write()

    def fall(self) -> float:
        """By how much the latest round lies below the highest of all."""
        return self._highest() - _dice(self.records[-1])

    def _highest(self) -> float:
        return max(map(_dice, self.records))

    def _keep_best(self) -> None:
        best = self.best.checkpoint
        if best is None:
            return
        kept = self.best_checkpoint
        if not kept.is_file() or file_digest(kept) != file_digest(best):
            write_bytes(kept, best.read_bytes())

    def _write(self) -> None:
        # The network before the files that name it.
        self._keep_best()
        rows = [asdict(record) for record in self.records]
        write_rows(self.csv, _COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])
        write_json(
            self.json,
            {
                "format": _FORMAT,
                **self._facts,
                "rounds": [row | {"checkpoint": self._name(row["checkpoint"])} for row in rows],
                "best": {"round": self.best.round, "val_dice": self.best.val_dice},
                "stopped": self.stopped or None,
            },
        )

    def _name(self, checkpoint: Path | None) -> str | None:
        if checkpoint is None:
            return None
        inside = checkpoint.is_relative_to(self._out)
        return (checkpoint.relative_to(self._out) if inside else checkpoint).as_posix()


def _earlier(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rounds: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rounds"]
    return rounds


def _dice(record: RoundRecord) -> float:
    return -1.0 if record.val_dice is None else record.val_dice
