"""Settings kept in the folder that a long run writes, so that it goes on with the same ones."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dvos.config.base import Settings, plain_values
from dvos.config.load import load_settings
from dvos.config.show import settings_yaml
from dvos.errors import Fault, UsageError
from dvos.files import write_text

__all__ = ["claim_folder"]


def claim_folder(path: Path, settings: Settings, *, free: Collection[str]) -> None:
    """Write a run's settings, unless a run with other ones was begun there.

    Args:
        path: YAML file in the run's folder.
        settings: Of the run.
        free: Settings that may change, as they do not change what comes out.

    Raises:
        UsageError: If the file holds other settings, a fault for each.
    """
    if path.exists():
        old = plain_values(load_settings(type(settings), config=path))
        new = plain_values(settings)
        changed = [key for key in new if old[key] != new[key] and key not in free]
        if changed:
            raise UsageError(
                Fault(
                    f"{path}: {key}",
                    f"the run in this folder has {old[key]}",
                    f"{new[key]}",
                    "choose another --out, or delete the folder",
                )
                for key in changed
            )
    write_text(path, settings_yaml(type(settings), settings))
