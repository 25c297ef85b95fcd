"""A tiny field to synthesise from: two backgrounds, a few cutouts, a few distractors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvos.config.scene import SynthesisSettings
from dvos.media.image import write_image
from dvos.tables import ImageRow, write_images


def write_tables(folder: Path) -> dict[str, list[Path]]:
    """Write images and their tables; give the settings' table keys."""
    rng = np.random.default_rng(5)
    tables: dict[str, list[Path]] = {"backgrounds": [], "cutouts": [], "distractors": []}
    for number in range(2):
        table = folder / f"background{number}.csv"
        image = rng.integers(20 + 40 * number, 90 + 40 * number, (80, 100, 3)).astype(np.uint8)
        write_image(folder / f"background{number}.png", cv2.blur(image, (3, 3)))
        write_images(table, [ImageRow(folder / f"background{number}.png")])
        tables["backgrounds"].append(table)
    for kind, colour in (("cutouts", (220, 200, 60)), ("distractors", (40, 160, 60))):
        rows = []
        for number in range(3):
            patch = np.zeros((14, 24, 4), np.uint8)
            patch[..., :3] = rng.integers(-20, 20, (14, 24, 3)) + np.array(colour)
            shape = np.zeros((14, 24), np.uint8)
            cv2.ellipse(shape, (12, 7), (10 - number, 5), 0, 0, 360, 255, -1)
            patch[..., 3] = shape
            rows.append(ImageRow(folder / f"{kind}{number}.png"))
            write_image(rows[-1].image, patch)
        write_images(folder / f"{kind}.csv", rows)
        tables[kind].append(folder / f"{kind}.csv")
    return tables


def settings_of(folder: Path, out: Path, **others: Any) -> SynthesisSettings:
    """Settings of four small clips of ``write_tables``' field."""
    if not (folder / "cutouts.csv").exists():
        write_tables(folder)
    values: dict[str, Any] = {
        "backgrounds": [folder / "background0.csv", folder / "background1.csv"],
        "cutouts": [folder / "cutouts.csv"],
        "distractors": [folder / "distractors.csv"],
        "out": out,
        "clips": 4,
        "frames": 3,
        "height": 64,
        "width": 72,
        "seed": 7,
        "workers": 1,
    }
    return SynthesisSettings.model_validate({**values, **others})


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all that a run made, by name; not the note of its settings and its ledgers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name != "synthesis.yaml"
    }
