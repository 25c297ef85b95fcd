from __future__ import annotations

from pathlib import Path

import pytest

from dvos.runner import ClipManifest


def _row(index: int) -> dict[str, object]:
    return {"frame_index": index, "frame": f"f{index}", "count": index}


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in range(4):
        (folder / f"f{index}.png").touch()
    return folder


def _open(masks: Path, fingerprint: str = "a") -> ClipManifest:
    return ClipManifest(
        masks.parent / "p/clip.jsonl",
        fingerprint=fingerprint,
        complete=lambda row: (masks / f"{row['frame']}.png").is_file(),
    )


def _fill(masks: Path, frames: int, *, finish: bool = False) -> None:
    manifest = _open(masks)
    manifest.begin()
    for index in range(len(manifest.rows), frames):
        manifest.append(_row(index))
    if finish:
        manifest.finish(["frame 2 lost"])


def test_rows_come_back_and_grow(masks: Path) -> None:
    _fill(masks, 2)
    assert _open(masks).rows == [_row(0), _row(1)]
    _fill(masks, 3, finish=True)
    manifest = _open(masks)
    assert manifest.rows == [_row(0), _row(1), _row(2)]
    assert manifest.finished
    assert manifest.damage == ["frame 2 lost"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_end_costs_the_frames_it_tore(masks: Path, cut: int) -> None:
    _fill(masks, 3)
    path = masks.parent / "p/clip.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    rows = _open(masks).rows
    assert rows == [_row(index) for index in range(len(rows))]
    assert len(rows) < 3
    _fill(masks, 3)
    assert _open(masks).rows == [_row(0), _row(1), _row(2)]


def test_a_missing_mask_voids_its_row_and_those_after_it(masks: Path) -> None:
    _fill(masks, 4, finish=True)
    (masks / "f1.png").unlink()
    manifest = _open(masks)
    assert manifest.rows == [_row(0)]
    assert not manifest.finished


def test_another_fingerprint_begins_anew_and_tells_what_is_stale(masks: Path) -> None:
    _fill(masks, 2, finish=True)
    manifest = _open(masks, "b")
    assert manifest.rows == []
    assert not manifest.finished
    assert manifest.stale == [_row(0), _row(1)]


def test_a_row_that_names_a_file_elsewhere_ends_the_reading(masks: Path) -> None:
    _fill(masks, 2)
    path = masks.parent / "p/clip.jsonl"
    path.write_text(path.read_text().replace('"f1"', '"../f1"'))
    assert _open(masks, "b").stale == [_row(0)]
