"""How what is labelled is parted for cross-validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dvos.config.workflow import FitSettings
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.tables import StillRow
from dvos.workflow.data_folder import DataFolder
from dvos.workflow.folds import most_folds, part


def labelled(folder: Path, shown: str) -> DataFolder:
    """A still for each sign of a text, with an object where it is x."""
    rows = []
    for number, sign in enumerate(shown):
        row = StillRow(folder / f"{number}.png", folder / f"{number}_mask.png")
        mask = np.zeros((16, 24), np.uint8)
        mask[4:9, 5:12] = sign == "x"
        write_image(row.image, np.zeros((16, 24, 3), np.uint8))
        write_mask(row.mask, mask)
        rows.append(row)
    return DataFolder(folder, annotated=tuple(rows))


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize(
    ("shown", "most"), [("xxxx", 4), (".x.x.", 2), ("..x.", 1), ("x....xx", 3), ("xx" + 9 * ".", 2)]
)
def test_each_part_has_objects_and_none_is_lost(
    tmp_path: Path, shown: str, most: int, frames: bool
) -> None:
    data = labelled(tmp_path / "in", shown)
    if frames:
        data = replace(data, annotated=(), clip_frames=data.annotated)
    assert most_folds(data, "auto") == most
    for folds in range(2, most + 1):
        settings = FitSettings(folder=tmp_path, out=tmp_path / "out")
        parts = part(data, folds, tmp_path / "parts", settings)
        assert len(parts) == folds
        assert sorted(int(row.image.stem) for rows in parts for row in rows) == [*range(len(shown))]
        assert all(any(shown[int(row.image.stem)] == "x" for row in rows) for rows in parts)
