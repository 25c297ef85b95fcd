from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dvos.runner.manifest import ClipManifest


def _row(index: int) -> dict[str, object]:
    return {"frame_index": index, "frame": f"f{index}", "count": index}


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in range(4):
        (folder / f"f{index}.png").touch()
    return folder


def _open(masks: Path, fingerprint: str = "a", **more: Any) -> ClipManifest:
    return ClipManifest(
        masks.parent / "p/clip.jsonl",
        fingerprint=fingerprint,
        source=masks.parent / "field.mp4",
        complete=lambda row: (masks / f"{row['frame']}.png").is_file(),
        **more,
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


WRONG = [
    b'{"frame": "f1"}',
    b'{"frame_index": 1, "frame": "../f1"}',
    b'{"frame_index": 1, "frame": ".."}',
    b'{"frame_index": 1, "frame": "/etc/f1"}',
    b'{"frame_index": "1", "frame": "f1"}',
    b'{"frame_index": 1, "frame": ["f1"]}',
    b'{"frames": "2", "damage": []}',
    b'{"frames": 2, "damage": null}',
    b'["frame"]',
    b"null",
    b"12",
    b"nonsense",
    b"\xff\xfe",
    b"[" * 20_000,
    b'{"a": ' * 20_000,
]


def _signed(line: bytes) -> bytes:
    """A line with the checksum that a line of this program has, if it can have one."""
    body = line.rstrip(b"}")
    return body + b', "crc": %d}' % zlib.crc32(line) if body != line else line


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("line", WRONG)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_line_of_another_form_is_work_undone(
    masks: Path, caplog: pytest.LogCaptureFixture, place: int, line: bytes, signed: bool
) -> None:
    _fill(masks, 2, finish=True)
    path = masks.parent / "p/clip.jsonl"
    lines = path.read_bytes().splitlines()
    lines[place] = _signed(line) if signed else line
    path.write_bytes(b"\n".join(lines) + b"\n")
    manifest = _open(masks)
    assert not manifest.finished
    assert manifest.rows == [_row(0), _row(1)][: max(0, place - 1)]
    assert all(row in ([_row(0), _row(1)]) for row in manifest.stale)
    assert "clip.jsonl: 1 lines cannot be trusted: that work is done again" in caplog.text
    _fill(masks, 2, finish=True)
    assert _open(masks).finished


@pytest.mark.parametrize("change", [(b'"count": 1', b'"count": 2'), (b', "count": 1', b"")])
def test_a_changed_line_is_not_trusted(masks: Path, change: tuple[bytes, bytes]) -> None:
    _fill(masks, 2, finish=True)
    path = masks.parent / "p/clip.jsonl"
    assert path.read_bytes().count(change[0]) == 1
    path.write_bytes(path.read_bytes().replace(*change))
    assert _open(masks).rows == [_row(0)]
    assert not _open(masks).finished


def test_a_row_that_names_a_file_elsewhere_is_not_among_the_stale(masks: Path) -> None:
    _fill(masks, 2)
    path = masks.parent / "p/clip.jsonl"
    path.write_text(path.read_text().replace('"f1"', '"../f1"'))
    assert _open(masks, "b").stale == [_row(0)]


@dataclass
class Measured:
    frame: str
    frame_index: int
    count: int
    density: float


def test_a_sound_row_of_another_release_is_work_undone(
    masks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(masks, 3, finish=True)
    assert _open(masks, row=dict).finished
    assert not caplog.text
    manifest = _open(masks, row=Measured)
    assert manifest.rows == []
    assert not manifest.finished
    assert "clip.jsonl: rows lack what this release needs: those frames are done" in caplog.text
    manifest.begin()
    manifest.append({**_row(0), "density": 0.5})
    assert _open(masks, row=Measured).rows == [{**_row(0), "density": 0.5}]


def test_other_files_at_the_same_place_are_known(masks: Path) -> None:
    manifest = _open(masks, files="card 1")
    manifest.begin()
    assert not _open(masks, "b", files="card 2").replaced  # of which nothing was done
    manifest.append(_row(0))
    assert not _open(masks, files="card 1").replaced
    assert not _open(masks, "other settings", files="card 1").replaced
    replaced = _open(masks, "b", files="card 2")
    assert replaced.replaced
    assert replaced.stale == [_row(0)]
    assert replaced.other is None


def test_a_finished_clip_tells_its_intensity(masks: Path) -> None:
    manifest = _open(masks)
    manifest.begin()
    manifest.append(_row(0))
    manifest.finish([], "74,262")
    assert _open(masks).intensity == "74,262"


def test_what_could_not_be_decoded_is_kept_by_a_run_that_was_killed(masks: Path) -> None:
    """The next one, which begins later in the clip, may meet only some of it, or others."""
    manifest = _open(masks)
    manifest.begin()
    manifest.note_damage([])
    manifest.append(_row(0))
    manifest.note_damage(["frame 1 lost"])
    manifest.note_damage(["frame 1 lost", "frame 3 lost"])
    manifest.append(_row(2))
    again = _open(masks)
    assert again.rows == [_row(0), _row(2)]
    assert (again.damage, again.finished) == (["frame 1 lost", "frame 3 lost"], False)
    again.begin()  # as where more is asked for: written anew
    again.note_damage(["frame 3 lost"])
    again.append(_row(3))
    again.finish(["frame 3 lost", "no time stamps"])
    last = _open(masks)
    assert last.finished
    assert last.damage == ["frame 1 lost", "frame 3 lost", "no time stamps"]
    assert last.rows == [_row(0), _row(2), _row(3)]
    (masks / "f3.png").unlink()
    assert _open(masks).damage == ["frame 1 lost", "frame 3 lost"]
