"""Clip stores as truth: their masks are instance masks, their frames the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.mask import write_mask
from dvos.scoring.score import score
from dvos.tables import ClipRow, frame_address, write_clips

SIZE = (40, 48)


def made(folder: Path, *, rows: int) -> Path:
    ids = np.zeros(SIZE, np.uint16)
    ids[4:14, 4:14], ids[20:34, 20:40] = 3, 900
    with ClipStoreWriter(folder / "VID_00000.dvclip", size=SIZE) as writer:
        for shift in range(2):
            writer.write(np.full((*SIZE, 3), 90, np.uint8), np.roll(ids, shift, 1))
    for index in range(2):
        write_mask(folder / f"predictions/a/VID_00000_{index:06d}.png", np.roll(ids, index, 1) > 0)
    table = folder / "clips.csv"
    addresses = [frame_address(folder / "VID_00000.dvclip", index) for index in range(rows)]
    write_clips(table, [ClipRow("", "a", n, path, path, 1) for n, path in enumerate(addresses)])
    return table


def scored(folder: Path, table: Path) -> dict[str, object]:
    settings = ScoringSettings(
        truth=table, predictions=folder / "predictions", out=folder / "out", workers=1
    )
    return score(settings).as_json()


def test_a_store_s_masks_are_scored_as_files_are(tmp_path):
    found = scored(tmp_path, made(tmp_path, rows=2))
    assert found["pooled_dice"] == 1
    assert found["masks"] == 2
    assert found["missing"] == 0
    assert found["temporal_stability"] is not None
    assert (tmp_path / "out" / "best.png").is_file()


def test_a_frame_that_the_store_lacks_is_named(tmp_path):
    table = made(tmp_path, rows=3)
    write_mask(tmp_path / "predictions/a/VID_00000_000002.png", np.zeros(SIZE, bool))
    with pytest.raises(MediaError, match="has no frame 2"):
        scored(tmp_path, table)
