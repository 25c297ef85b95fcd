"""The tables and the clip generators that the synthesis tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_material import Material, ellipse_cutout, texture, write_table

from dvos.config.scene import SceneSettings
from dvos.media.image import write_image
from dvos.synthesis.build import ClipGenerator, build_clip_generator


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(5)
    lists: dict[str, list[Path]] = {"cutouts": [], "distractors": [], "stills": [], "video": []}
    for n in range(12):
        height, width = int(rng.integers(20, 34)), int(rng.integers(12, 20))
        for kind, mean, suffix in (("cutouts", 190, ""), ("distractors", 80, "_fkobj0000")):
            path = folder / kind / f"still{n % 3}_rlobj{n:04d}{suffix}.png"
            path.parent.mkdir(exist_ok=True)
            write_image(path, ellipse_cutout(rng, height, width, mean))
            lists[kind].append(path)
    for n in range(2):
        path = folder / f"bare{n}.png"
        write_image(path, texture(rng, (120, 150)))
        lists["stills"].append(path)
    wide = texture(rng, (140, 200))
    for n in range(7):
        path = folder / f"film_{n:06d}.png"
        write_image(path, np.ascontiguousarray(wide[:, 2 * n : 2 * n + 170]))
        lists["video"].append(path)
    tables = {name: write_table(folder / f"{name}.csv", paths) for name, paths in lists.items()}
    return Material(folder, **tables)


MakeGenerator = Callable[..., ClipGenerator]


@pytest.fixture(scope="session")
def generator_of(material: Material) -> MakeGenerator:
    """Builds a clip generator; keyword arguments are scene settings or tables."""

    def build(
        *,
        backgrounds: list[Path] | None = None,
        cutouts: list[Path] | None = None,
        distractors: list[Path] | None = None,
        seed: int = 7,
        **scene: Any,
    ) -> ClipGenerator:
        return build_clip_generator(
            SceneSettings.model_validate(scene),
            backgrounds=[material.stills] if backgrounds is None else backgrounds,
            cutouts=[material.cutouts] if cutouts is None else cutouts,
            distractors=[material.distractors] if distractors is None else distractors,
            seed=seed,
        )

    return build
