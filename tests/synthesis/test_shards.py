from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from small_field import contents, settings_of

from dvos.errors import OutputError
from dvos.synthesis.write import synthesize


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("field")


@pytest.fixture(scope="module")
def whole(field: Path) -> dict[str, bytes]:
    synthesize(settings_of(field, field / "whole", layout="store"))
    return contents(field / "whole")


def without_shard_tables(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if "shard" not in name}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_last_shard_completes_the_set(
    field: Path, whole: dict[str, bytes], tmp_path: Path, order: tuple[int, ...]
) -> None:
    missing = []
    for index in order:
        assert not (tmp_path / "clips.csv").exists()
        result = synthesize(settings_of(field, tmp_path, layout="store", shard=f"{index}/3"))
        assert result.table == tmp_path / f"clips_shard-{index}-of-3.csv"
        missing.append(result.missing)
        assert result.whole == (None if result.missing else tmp_path / "clips.csv")
        assert ("; the clips of all shards are in" in str(result)) == (not result.missing)
    assert missing == sorted(missing, reverse=True)
    assert missing[-1] == 0
    assert without_shard_tables(tmp_path) == whole


def test_shard_tables_share_the_clips_out(field: Path, tmp_path: Path) -> None:
    for index in (1, 2):
        synthesize(settings_of(field, tmp_path, layout="store", shard=f"{index}/2"))
    rows = [
        line
        for index in (1, 2)
        for line in (tmp_path / f"clips_shard-{index}-of-2.csv").read_text().splitlines()[1:]
    ]
    assert sorted(rows) == sorted((tmp_path / "clips.csv").read_text().splitlines()[1:])


def test_a_run_without_shards_makes_only_what_is_missing(
    field: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    synthesize(settings_of(field, tmp_path, layout="store", shard="1/2"))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.dvclip")}
    assert len(times) == 2
    synthesize(settings_of(field, tmp_path, layout="store"))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert without_shard_tables(tmp_path) == whole


def test_a_shard_with_other_settings_is_refused(
    field: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    synthesize(settings_of(field, tmp_path, layout="store"))
    with pytest.raises(OutputError, match="seed: is 8 now, but the clips in this folder have 7"):
        synthesize(settings_of(field, tmp_path, layout="store", seed=8, shard="1/2"))
    assert contents(tmp_path) == whole


def test_a_shard_with_more_clips_withdraws_the_table(field: Path, tmp_path: Path) -> None:
    synthesize(settings_of(field, tmp_path, layout="store"))
    result = synthesize(settings_of(field, tmp_path, layout="store", clips=8, shard="1/2"))
    assert result.missing == 2
    assert not (tmp_path / "clips.csv").exists()


def test_more_shards_than_clips_leave_empty_parts(field: Path, tmp_path: Path) -> None:
    results = [
        synthesize(settings_of(field, tmp_path, layout="store", clips=2, shard=f"{index}/3"))
        for index in (1, 2, 3)
    ]
    assert sorted(result.clips for result in results) == [0, 1, 1]
    assert (tmp_path / "clips.csv").exists()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_bad_shard_is_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(ValidationError, match="1 <= I <= N"):
        settings_of(tmp_path, tmp_path, shard=shard)
