"""The folder of a run: what is written where, and whether a run in it can go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dvos.errors import Fault, RunError
from dvos.files import make_folder, write_json, write_text
from dvos.training.checkpoint import read_state, write_state
from dvos.training.records import Record, draw_losses, write_records

__all__ = ["RunFolder"]

#: Settings that may differ between the start and the resumption of a run, as
#: they do not change what is learnt. Devices change the order of sums only.
_FREE = frozenset(
    {
        "out",
        "resume",
        "device",
        "devices",
        "nodes",
        "threads",
        "workers",
        "save_steps",
        "pictures",
        "keep_epochs",
        "trackers",
        "data.memory_mb",
    }
)
_ABSENT = "absent"


class RunFolder:
    """Names of a run's files, and how each is written.

    Args:
        path: The folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.facts = path / "run.json"
        self.records = path / "records.csv"
        self.losses = path / "losses.png"
        self.pictures = path / "predictions"
        self.best = path / "best.safetensors"
        self.weights = path / "weights"
        self.state = path / "last.ckpt"
        self.trackers = path / "trackers.json"
        self.tensorboard = path / "tensorboard"

    def earlier(self, config: str, digests: Mapping[str, str]) -> dict[str, Any] | None:
        """The state of an earlier run in the folder, to go on from; nothing is changed.

        Args:
            config: The settings of now, as YAML.
            digests: Fingerprints of the data of now, by path.

        Returns:
            The state, or None where no run got far enough to have one.

        Raises:
            RunError: If the earlier run had other settings or data.
            CheckpointError: If its state is damaged.
        """
        if not self.state.is_file():
            return None
        self._check_same(config, digests)
        return read_state(self.state)

    def begin(self, config: str) -> None:
        """Remove what an earlier run left and write config.yaml.

        Raises:
            OutputError: If the folder cannot be written.
        """
        make_folder(self.path)
        # The state first: without it nothing of the rest can be taken for a run.
        for file in (
            self.state,
            self.facts,
            self.records,
            self.losses,
            self.best,
            self.config,
            self.trackers,
        ):
            file.unlink(missing_ok=True)
        for subfolder in (self.pictures, self.weights, self.tensorboard):
            shutil.rmtree(subfolder, ignore_errors=True)
        write_text(self.config, config)

    def read_facts(self) -> dict[str, Any]:
        """run.json, or nothing where there is none yet."""
        if not self.facts.is_file():
            return {}
        facts: dict[str, Any] = json.loads(self.facts.read_text(encoding="utf-8"))
        return facts

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        write_json(self.facts, dict(facts))

    def write_records(self, records: list[Record], losses: Sequence[str]) -> None:
        """Write records.csv and losses.png; ``losses`` are the total and the parts."""
        write_records(self.records, records, losses)
        draw_losses(self.losses, records, losses)

    def write_state(self, state: dict[str, Any]) -> None:
        """Write last.ckpt."""
        write_state(self.state, state)

    def picture(self, epoch: int, number: int) -> Path:
        """Where the picture of a validation clip at an epoch goes."""
        return self.pictures / f"epoch_{epoch:03d}_clip_{number:02d}.jpg"

    def kept(self, epoch: int) -> Path:
        """Where the weights of an epoch go that are kept beside the best."""
        return self.weights / f"epoch_{epoch:03d}.safetensors"

    def _check_same(self, config: str, digests: Mapping[str, str]) -> None:
        remedy = "give another --out, the earlier value, or start over with resume off"
        faults = []
        earlier = _flat(yaml.safe_load(self.config.read_text(encoding="utf-8")))
        now = _flat(yaml.safe_load(config))
        for key in sorted(earlier.keys() | now.keys()):
            before, after = earlier.get(key, _ABSENT), now.get(key, _ABSENT)
            if before != after and key not in _FREE:
                found = f"is {after} now, but the run in this folder has {before}"
                faults.append(Fault(f"{self.config}: {key}", found, "", remedy))
        known = self.read_facts().get("data", {})
        faults += [
            Fault(path, "changed since the run in this folder began", "", remedy)
            for path, value in digests.items()
            if known.get(path, value) != value
        ]
        if faults:
            raise RunError(faults)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    if not isinstance(values, dict):
        return {prefix.removesuffix("."): values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
