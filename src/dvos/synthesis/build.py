"""From settings and tables to a clip maker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dvos.config.scene import SceneSettings
from dvos.errors import DvosError, FaultCollector, TableError
from dvos.synthesis.atlas import build_atlas
from dvos.synthesis.camera import Camera
from dvos.synthesis.clip import ClipMaker
from dvos.synthesis.effects import Light, Photography, Shadows
from dvos.synthesis.motion import Elastic, Walk, Wind
from dvos.synthesis.placement import Placement
from dvos.synthesis.plate_store import PlateStore, group_plates
from dvos.synthesis.plates import Plates
from dvos.synthesis.population import Appearance, Casting
from dvos.tables import BackgroundRow, read_backgrounds, read_images

__all__ = ["build_clip_maker"]

_LOG = logging.getLogger(__name__)

_OFF = (0.0, 0.0)


def build_clip_maker(
    scene: SceneSettings,
    *,
    backgrounds: Sequence[Path],
    cutouts: Sequence[Path],
    distractors: Sequence[Path],
    seed: int,
) -> ClipMaker:
    """Make a clip maker from tables of images.

    Args:
        scene: What scenes may look like.
        backgrounds: Tables of background frames or stills, ``Image`` or, where they show
            objects of their own, ``Image,Mask``; at least one.
        cutouts: Tables of cut-out objects; at least one.
        distractors: Tables of distractors, with or without rows; with none,
            no distractors and no leaves are drawn, whatever the scene asks for.
        seed: Of all clips.

    Raises:
        TableError: If tables cannot be read or are missing; all faults at once.
        MediaError: If images cannot be read.
    """
    plates, objects, fakes = _read_tables(backgrounds, cutouts, distractors)
    if not fakes and (scene.population.distractors[1] or scene.population.foreground[1]):
        _LOG.info("no distractors are given: clips hold objects only")
    atlas = build_atlas([*objects, *fakes])
    values = scene.population.model_dump()
    wind = Wind(**scene.wind.model_dump())
    casting = Casting(
        atlas=atlas,
        cutouts=len(objects),
        appearance=Appearance(**scene.appearance.model_dump()),
        wind=wind,
        elastic=Elastic(**scene.elastic.model_dump()),
        **{name: values[name] for name in _CASTING},
    )
    placement = Placement(
        casting=casting,
        walk=Walk(**scene.walk.model_dump()),
        **{name: values[name] for name in _PLACEMENT},
    )
    store = PlateStore(group_plates(plates, scene.plates.frames), scene.plates.cache_mb * 2**20)
    return ClipMaker(
        seed=seed,
        atlas=atlas,
        plates=Plates(store=store, seed=seed, **scene.plates.model_dump(exclude={"frames"})),
        placement=placement,
        camera=Camera(**scene.camera.model_dump()),
        wind=wind,
        shadows=Shadows(**scene.shadow.model_dump()),
        light=Light(**scene.light.model_dump()),
        photography=_photography(scene),
        order=scene.population.order,
    )


_CASTING = (
    "objects",
    "distractors",
    "foreground",
    "foreground_scale",
    "foreground_stretch",
    "per",
    "sources",
)
_PLACEMENT = (
    "avoid",
    "tries",
    "overlap",
    "clump",
    "clump_radius",
    "refill",
    "recovery_variance",
    "recovery_expansion",
)


def _photography(scene: SceneSettings) -> Photography:
    """The lens, with the effects that are switched off drawn as nothing."""
    noise = scene.noise
    return Photography(
        shutter=scene.motion_blur.shutter if scene.motion_blur.enabled else _OFF,
        defocus_probability=scene.defocus.probability if scene.defocus.enabled else 0.0,
        sigma=scene.defocus.sigma,
        read=noise.read if noise.enabled else _OFF,
        shot=noise.shot if noise.enabled else _OFF,
        compression_probability=(
            scene.compression.probability if scene.compression.enabled else 0.0
        ),
        quality=scene.compression.quality,
    )


def _read_tables(
    backgrounds: Sequence[Path], cutouts: Sequence[Path], distractors: Sequence[Path]
) -> tuple[list[list[BackgroundRow]], list[Path], list[Path]]:
    """Rows of the backgrounds, images of the others; every fault of every table at once."""
    plates: list[list[BackgroundRow]] = []
    images: dict[str, list[Path]] = {"cutouts": [], "distractors": []}
    with FaultCollector(TableError) as faults:
        for kind, tables, remedy in (
            ("backgrounds", backgrounds, "extract frames of bare background first"),
            ("cutouts", cutouts, "run 'dvos extract objects' first"),
            ("distractors", distractors, ""),
        ):
            for table in tables:
                try:
                    if kind == "backgrounds":
                        plates.append(read_backgrounds(table))
                        continue
                    # Objects may be extracted without distractors: clips do without.
                    rows = read_images(table, allow_empty=kind == "distractors")
                    images[kind] += [row.image for row in rows]
                except DvosError as error:
                    faults.extend(error.faults)
            if not tables and remedy:
                faults.add(kind, "no table is given", f"at least one table of {kind}", remedy)
    return plates, images["cutouts"], images["distractors"]
