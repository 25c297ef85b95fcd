"""What a clip depends on, small enough to send with every task.

A task carries a recipe, not a maker: a maker holds all cutouts. Each process
gets the maker of a recipe once and keeps the latest.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from dvos.config.scene import SceneSettings
from dvos.config.synthesis import SynthesisSettings
from dvos.errors import DvosError, RunError
from dvos.files import digest, file_digest
from dvos.synthesis.build import build_clip_maker
from dvos.synthesis.clip import ClipMaker
from dvos.synthesis.maker_file import read_maker
from dvos.tables import read_backgrounds

__all__ = ["Recipe", "build_maker", "build_recipe", "forget_makers"]

_building = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what clip k of a seed looks like.

    Attributes:
        scene: The scene's settings as JSON.
        backgrounds, cutouts, distractors: Absolute paths of the tables.
        seed: Of all clips.
        inputs: Digest of what the tables list, by name, size and time of
            change of each image and mask.
        engine: Digest of this room's code, as other code may draw other clips.
    """

    scene: str
    backgrounds: tuple[str, ...]
    cutouts: tuple[str, ...]
    distractors: tuple[str, ...]
    seed: int
    inputs: str
    engine: str

    @property
    def fingerprint(self) -> str:
        """Digest of all but the places of the tables."""
        tables = ("backgrounds", "cutouts", "distractors")
        facts = {name: value for name, value in asdict(self).items() if name not in tables}
        return digest([facts, len(self.backgrounds)])


def build_recipe(settings: SynthesisSettings) -> Recipe:
    """Note what the clips of ``settings`` depend on."""
    kinds = (settings.backgrounds, settings.cutouts, settings.distractors)
    # Absolute, as workers on other machines start in other folders.
    backgrounds, cutouts, distractors = (
        tuple(os.path.abspath(table) for table in tables)  # noqa: PTH100 (symlinks stay)
        for tables in kinds
    )
    return Recipe(
        scene=settings.scene.model_dump_json(),
        backgrounds=backgrounds,
        cutouts=cutouts,
        distractors=distractors,
        seed=settings.seed,
        inputs=digest([[_stamps(table) for table in tables] for tables in kinds]),
        engine=_engine(),
    )


def build_maker(recipe: Recipe, built: str | None = None) -> ClipMaker:
    """The maker of ``recipe``, made ready once per process.

    Args:
        recipe: What it is made from.
        built: File that holds it, for processes on one machine.

    Raises:
        TableError: If tables are missing or faulty, all faults at once.
        MediaError: If images cannot be read.
        RunError: If the recipe is from other code than this process runs.
    """
    if recipe.engine != _engine():
        raise RunError.at(
            platform.node(),
            "a worker runs another release of dvos than the one that gave it work",
            "the same release everywhere, as another may draw other clips",
            "install the same release on all machines and start the workers anew",
        )
    # Threads of one cluster worker would otherwise build it several times.
    with _building:
        return _build(recipe, built)


def forget_makers() -> None:
    """Give the memory of the kept maker back."""
    _build.cache_clear()


@lru_cache(maxsize=1)
def _engine() -> str:
    """Digest of the code of this room, as this process has it."""
    room = Path(__file__).parent
    return digest([file_digest(path) for path in sorted(room.rglob("*.py"))])


@lru_cache(maxsize=1)
def _build(recipe: Recipe, built: str | None) -> ClipMaker:
    if built is not None:
        return read_maker(Path(built))
    return build_clip_maker(
        SceneSettings.model_validate_json(recipe.scene),
        backgrounds=[Path(table) for table in recipe.backgrounds],
        cutouts=[Path(table) for table in recipe.cutouts],
        distractors=[Path(table) for table in recipe.distractors],
        seed=recipe.seed,
    )


def _stamps(table: Path) -> Sequence[object]:
    """Name, size and time of change of each image and mask; what is missing the maker reports."""
    try:
        rows = read_backgrounds(table)
        paths = [path for row in rows for path in (row.image, row.mask) if path]
        states = [path.stat() for path in paths]
    except (DvosError, OSError):
        return []
    return [
        (path.name, state.st_size, state.st_mtime_ns)
        for path, state in zip(paths, states, strict=True)
    ]
