"""The record of a demo's stages over interrupted and repeated starts."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from dvos.workflow.pipeline import StageManifest


def open_manifest(path: Path, lines: list[str]) -> StageManifest:
    made = StageManifest(path, command="dvos demo", seed=5)
    made.announce = lines.append  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("spoilt", ["NaN", "1e999", "-1", '"x"', "null"])
def test_times_that_make_no_sense_are_not_gone_by(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    path = tmp_path / "stages.json"
    open_manifest(path, []).run("train", lambda: 1, str)
    path.write_text(re.sub(r'"seconds": [0-9.]+', f'"seconds": {spoilt}', path.read_text()))
    again = open_manifest(path, [])
    assert "stages.json: cannot be trusted" in caplog.text
    again.run("train", lambda: 1, str)
    assert 0 <= json.loads(path.read_text())["stages"][0]["seconds"] < 60


def test_times_add_up_over_interrupted_starts(tmp_path: Path) -> None:
    path, lines = tmp_path / "stages.json", []
    manifest = open_manifest(path, lines)

    def break_off() -> None:
        time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manifest.run("train", break_off, str)
    stored = json.loads(path.read_text())
    first = stored["stages"][0]["seconds"]
    assert first >= 0.05
    assert not stored["stages"][0]["finished"]
    assert stored["finished"] is None

    again = open_manifest(path, lines)
    assert again.run("train", lambda: time.sleep(0.05) or 7, lambda n: f"{n} epochs") == 7
    again.finish()
    after = json.loads(path.read_text())
    (stage,) = after["stages"]
    assert stage["seconds"] >= first + 0.05
    assert stage["starts"] == 2
    assert stage["finished"]
    assert stage["note"] == "7 epochs"
    assert after["started"] == stored["started"]
    assert after["finished"] is not None
    assert lines[-1].startswith("train: 7 epochs (")


def test_a_stage_that_finds_its_work_done_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    manifest = open_manifest(path, [])
    manifest.run("extract", lambda: time.sleep(0.05), lambda _: "")
    before = manifest.seconds
    again = open_manifest(path, [])
    again.run("extract", lambda: None, lambda _: "")
    assert again.seconds == before


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"stages": 3}', "[" * 9999])
def test_a_spoilt_record_is_begun_anew(tmp_path: Path, data: str) -> None:
    path = tmp_path / "stages.json"
    path.write_text(data)
    open_manifest(path, []).run("train", lambda: None, "done")
    stored = json.loads(path.read_text())
    assert list(stored) == ["command", "seed", "started", "finished", "stages"]
    assert list(stored["stages"][0]) == ["name", "seconds", "note", "starts", "finished"]
    assert stored["stages"][0]["note"] == "done"
