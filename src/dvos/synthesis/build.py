"""From settings and tables to a clip generator, in this process or in many.

A task carries a recipe, not a generator, which holds all cutouts. Each process gets the
generator of a recipe once and keeps the latest; many cutouts are decoded once for all
processes, see :mod:`dvos.synthesis.atlas`.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from dvos.config.scene import SceneSettings
from dvos.config.synthesis import SynthesisSettings
from dvos.errors import DvosError, FaultCollector, RunError, TableError
from dvos.files import composed, digest, file_digest, file_stamp
from dvos.media.intensity import choose_intensity, settled
from dvos.media.mask_values import declared_void
from dvos.synthesis.atlas import build_atlas
from dvos.synthesis.backgrounds import BackgroundStore, group_backgrounds
from dvos.synthesis.clip import ClipGenerator
from dvos.synthesis.population import Casting
from dvos.tables import read_backgrounds, read_images

_LOG = logging.getLogger(__name__)
_building = threading.Lock()


def build_clip_generator(
    scene: SceneSettings,
    *,
    backgrounds: Sequence[Path],  # tables, ``Image`` or, with objects of their own, ``Image,Mask``
    cutouts: Sequence[Path],  # tables of cut-out objects; of both at least one
    distractors: Sequence[Path],  # tables; without any rows neither they nor leaves are drawn
    seed: int,
    intensity: str = "auto",  # of backgrounds of more than 8 bit; ``auto`` measures all of them
) -> ClipGenerator:
    """Make a clip generator from tables of images.

    Raises:
        TableError: If tables cannot be read or are missing; all faults at once.
        MediaError: If images cannot be read.
    """
    with FaultCollector(TableError) as faults:
        for kind, tables, remedy in (
            ("backgrounds", backgrounds, "extract frames of bare background first"),
            ("cutouts", cutouts, "run 'dvos extract objects' first"),
        ):
            if not tables:
                faults.add(kind, "no table is given", f"at least one table of {kind}", remedy)
        frames = [faults.collect(read_backgrounds, table) or [] for table in backgrounds]
        rows = [row for table in cutouts for row in faults.collect(read_images, table) or ()]
        objects = [row.image for row in rows]
        # Objects may be extracted without distractors: clips do without.
        given = [faults.collect(read_images, table, allow_empty=True) for table in distractors]
        fakes = [row.image for rows in given for row in rows or ()]
    if not fakes and (scene.population.distractors[1] or scene.population.foreground[1]):
        _LOG.info("no distractors are given: clips hold objects only")
    atlas = build_atlas([*objects, *fakes])
    images = [row.image for rows in frames for row in rows]
    grouped = group_backgrounds(frames, scene.plates.frames)
    store = BackgroundStore(grouped, scene.plates, seed, settled(intensity, images))
    return ClipGenerator(seed, atlas, store, Casting(atlas, len(objects), scene), scene)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what clip k of a seed looks like."""

    scene: str  # The scene's settings as JSON
    backgrounds: tuple[str, ...]  # Absolute paths of the tables
    cutouts: tuple[str, ...]
    distractors: tuple[str, ...]
    seed: int  # Of all clips
    inputs: str  # digest of the names, sizes and times of change of all that the tables list
    engine: str  # Digest of this room's code, as other code may draw other clips
    intensity: str  # of backgrounds' samples of more than 8 bit, measured once for all processes

    @property
    def fingerprint(self) -> str:
        """Digest of all but the places of the tables."""
        tables = ("backgrounds", "cutouts", "distractors")
        facts = {name: value for name, value in asdict(self).items() if name not in tables}
        return digest([facts, len(self.backgrounds)])


def build_recipe(settings: SynthesisSettings) -> Recipe:
    """Note what the clips of ``settings`` depend on; an intensity other than ``full`` is told."""
    kinds = (settings.backgrounds, settings.cutouts, settings.distractors)
    inputs: list[list[object]] = []
    images: list[Path] = []
    for kind, tables in enumerate(kinds):
        for table in tables:
            inputs.append([kind])
            # What is missing or faulty is told by whoever builds the generator.
            with suppress(DvosError, OSError):
                for row in read_backgrounds(table):
                    paths = [path for path in (row.image, row.mask) if path]
                    inputs[-1] += [[composed(path.name), *file_stamp(path)] for path in paths]
                    void = declared_void(row.mask.parent) if row.mask else None
                    inputs[-1] += [] if void is None else [["void", *void]]
                    images += [row.image] if kind == 0 else []
    # Absolute, as workers on other machines start in other folders.
    backgrounds, cutouts, distractors = (
        tuple(os.path.abspath(table) for table in tables)  # noqa: PTH100 (symlinks stay)
        for tables in kinds
    )
    scene = settings.scene.model_dump_json()
    return Recipe(
        scene=scene,
        backgrounds=backgrounds,
        cutouts=cutouts,
        distractors=distractors,
        seed=settings.seed,
        inputs=digest(inputs),
        engine=_engine(),
        intensity=choose_intensity(settings.intensity, images, "backgrounds"),
    )


def build_generator(recipe: Recipe) -> ClipGenerator:
    """The generator of ``recipe``, made ready once per process.

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
        return _build(recipe)


def forget_generators() -> None:
    """Give the memory of the kept generator back."""
    _build.cache_clear()


@lru_cache(maxsize=1)
def _engine() -> str:
    """Digest of the code of this room, as this process has it."""
    room = Path(__file__).parent
    return digest([file_digest(path) for path in sorted(room.rglob("*.py"))])


@lru_cache(maxsize=1)
def _build(recipe: Recipe) -> ClipGenerator:
    return build_clip_generator(
        SceneSettings.model_validate_json(recipe.scene),
        backgrounds=[Path(table) for table in recipe.backgrounds],
        cutouts=[Path(table) for table in recipe.cutouts],
        distractors=[Path(table) for table in recipe.distractors],
        seed=recipe.seed,
        intensity=recipe.intensity,
    )
