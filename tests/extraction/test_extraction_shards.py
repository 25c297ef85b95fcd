"""Extraction in shards: in any order the same frames, patches and tables as of one run."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.errors import MediaError, OutputError
from dvos.extraction.frames import extract_frames
from dvos.extraction.objects import ObjectsResult, extract_objects
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter

VIDEOS = 3


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the records, and the tables that list the part of a shard."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_shard-" not in path.name and ".ledger" not in path.name
    }


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and three labelled stills, the second of which shows no object."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    for number in range(VIDEOS):
        with VideoWriter(folder / f"v{number}.mp4", frame_rate=5, size=(32, 48)) as writer:
            for index in range(4):
                writer.write(np.full((32, 48, 3), 40 * number + 20 * index, np.uint8))
        write_image(folder / f"p{number}.png", rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        ids = np.zeros((40, 60), np.uint16)
        if number != 1:
            ids[5:15, 5 : 15 + number] = 1
            ids[20:32, 30:45] = 2
        write_mask(folder / f"p{number}_mask.png", ids)
    return folder


def frames_of(given: Path, out: Path, **options: Any) -> Path:
    rows = [f"{given}/v{number}.mp4,{out}/f{number},2" for number in range(VIDEOS)]
    out.mkdir(exist_ok=True)
    (out / "v.csv").write_text("\n".join(["Video,FramesDir,Interval", *rows]) + "\n")
    values = {"videos": out / "v.csv", "out": out / "frames.csv", "min_side": 0, "workers": 1}
    return extract_frames(FramesSettings.model_validate(values | options))


def objects_of(given: Path, out: Path, **options: Any) -> ObjectsResult:
    rows = [f"{given}/p{n}.png,{given}/p{n}_mask.png,{out}/o" for n in range(VIDEOS)]
    out.mkdir(exist_ok=True)
    (out / "t.csv").write_text("\n".join(["Image,Mask,OutDir", *rows]) + "\n")
    values = {
        "annotated": out / "t.csv",
        "cutouts": out / "cutouts.csv",
        "distractors": out / "distractors.csv",
        "min_object_size": 20,
        "distractors_per_object": 1,
        "workers": 1,
    }
    return extract_objects(ObjectsSettings.model_validate(values | options))


def without_places(folder: Path) -> dict[str, bytes]:
    """The contents, but for the absolute paths in the tables that were given."""
    return {name: data for name, data in contents(folder).items() if name not in ("v.csv", "t.csv")}


@pytest.fixture(scope="module")
def whole(given: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "out"
    frames_of(given, folder)
    objects_of(given, folder)
    return without_places(folder)


@pytest.mark.parametrize("order", list(permutations((1, 2))))
def test_the_last_shard_completes_the_set(
    given: Path, whole: dict[str, bytes], tmp_path: Path, order: tuple[int, ...]
) -> None:
    out = tmp_path / "out"
    for index in order:
        assert not (out / "frames.csv").exists()
        assert not (out / "cutouts.csv").exists()
        table = frames_of(given, out, shard=f"{index}/2")
        result = objects_of(given, out, shard=f"{index}/2")
        if index == order[0]:
            assert table == out / f"frames_shard-{index}-of-2.csv"
            assert result.missing == VIDEOS - result.images > 0
            assert "of other shards are still to be done" in str(result)
    assert (table, result.missing) == (out / "frames.csv", 0)
    assert (result.images, result.object_count, result.cutout_count) == (3, 4, 4)
    assert without_places(out) == whole


def test_more_shards_than_rows_leave_empty_parts(
    given: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for index in (4, 3, 2, 1, 4, 3):  # and may be run again
        frames_of(given, out, shard=f"{index}/4")
        objects_of(given, out, shard=f"{index}/4")
    assert without_places(out) == whole
    for extract in (frames_of, objects_of):
        alone = tmp_path / extract.__name__
        for _ in range(2):
            extract(given, alone, shard="4/4")


def test_a_run_without_shards_does_only_what_is_missing(
    given: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    frames_of(given, out, shard="1/2")
    times = {path: path.stat().st_mtime_ns for path in out.glob("f*/*.png")}
    assert len(times) == 4
    assert frames_of(given, out) == out / "frames.csv"
    assert {path: path.stat().st_mtime_ns for path in times} == times
    objects_of(given, out)
    assert without_places(out) == whole


def test_a_shard_with_other_settings_withdraws_the_table(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    frames_of(given, out)
    assert frames_of(given, out, extension=".jpg", shard="1/2").name == "frames_shard-1-of-2.csv"
    assert not (out / "frames.csv").exists()
    assert frames_of(given, out, extension=".jpg", shard="2/2") == out / "frames.csv"
    assert (out / "frames.csv").read_text().count(".jpg") == 6


def test_a_table_of_the_users_is_not_withdrawn(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "frames.csv").write_text("mine\n")
    with pytest.raises(OutputError, match=r"frames\.csv: is there, and dvos extract is not known"):
        frames_of(given, out, shard="1/2")
    assert (out / "frames.csv").read_text() == "mine\n"
    assert not list(out.glob("f*/*.png"))


def test_the_table_of_a_shard_is_not_written_over_where_it_is_a_users(
    given: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    frames_of(given, out, shard="1/2")
    part = out / "frames_shard-2-of-2.csv"
    part.write_text("mine\n")
    with pytest.raises(OutputError, match=r"frames_shard-2-of-2\.csv: is there, and dvos extract"):
        frames_of(given, out, shard="2/2")
    assert part.read_text() == "mine\n"
    part.unlink()
    assert frames_of(given, out, shard="2/2") == out / "frames.csv"
    assert frames_of(given, out, shard="2/2") == out / "frames.csv"


def test_no_object_in_any_shard_is_told_by_the_last(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    for number in range(VIDEOS):
        (empty / f"p{number}.png").symlink_to(given / f"p{number}.png")
        write_mask(empty / f"p{number}_mask.png", np.zeros((40, 60), np.uint16))
    assert objects_of(empty, out, shard="1/2").object_count == 0
    with pytest.raises(MediaError, match="no mask holds an object"):
        objects_of(empty, out, shard="2/2")
