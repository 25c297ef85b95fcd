"""last.ckpt: everything an interrupted run needs to go on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dvos.errors import CheckpointError
from dvos.files import atomic_path

__all__ = ["read_state", "write_state"]

_KIND = "dvos training state"
_FORMAT = 1


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state atomically.

    Args:
        path: Replaced only when the new file is complete.
        state: Tensors, numbers, text, and lists and dicts of these.

    Raises:
        OutputError: If it cannot be written.
    """
    with atomic_path(path) as temporary:
        torch.save({"kind": _KIND, "format": _FORMAT, **state}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; tensors come to the CPU.

    Raises:
        CheckpointError: If the file is damaged or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise CheckpointError.at(
            path, "damaged, so the run cannot go on", remedy="start over with resume off"
        ) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND or state.get("format") != _FORMAT:
        raise CheckpointError.at(
            path,
            "not the state of a training run of this version",
            remedy="give another --out, or start over with resume off",
        )
    return state
