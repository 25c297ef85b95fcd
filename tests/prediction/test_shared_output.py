"""One output folder for several runs: nothing of any of them is lost, or it is told."""

from __future__ import annotations

import csv
import json
import multiprocessing
import re
import shutil
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvos.config.prediction import PredictionSettings
from dvos.errors import MediaError, OutputError, RunError, TableError, UsageError
from dvos.media.image import write_image
from dvos.prediction.inputs import find_clips
from dvos.prediction.predict import predict
from dvos.registry import predictor_for
from dvos.runner.shards import taken_folder
from dvos.tables import COUNT_COLUMNS


def _clip(folder: Path, frames: int = 2, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for index in range(frames):
        write_image(folder / f"f{index}.png", rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return folder


def _predict(checkpoint: Path, source: Path, out: Path, **options: object) -> None:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "device": "cpu", **options}
    predict(PredictionSettings.model_validate(values), predictor_for)


def _counts(out: Path) -> list[tuple[str, ...]]:
    with open(out / "counts.csv", newline="") as stream:
        return [tuple(row) for row in csv.reader(stream)][1:]


def test_a_second_clip_keeps_the_rows_of_the_first(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    clips = tmp_path / "clips"
    for seed, name in enumerate(("a", "b")):
        _clip(clips / name, 2 + seed, seed)
    _predict(checkpoint, clips, tmp_path / "together")
    for name in ("b", "a", "b"):
        _predict(checkpoint, clips / name, out)
    assert (out / "counts.csv").read_bytes() == (tmp_path / "together/counts.csv").read_bytes()
    # A clip whose masks were removed is no result any more.
    shutil.rmtree(out / "a")
    _predict(checkpoint, clips / "b", out)
    assert Counter(row[0] for row in _counts(out)) == {"b": 3}


def test_work_goes_on_however_the_accents_of_its_input_are_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    composed, decomposed = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    out, clip = tmp_path / "m", _clip(tmp_path / "in" / composed, 3)
    for path in sorted(clip.iterdir()):
        path.rename(clip / f"{composed}_{path.name}")
    _predict(checkpoint, tmp_path / "in", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(before) == 3
    for path in sorted(clip.iterdir()):
        path.rename(clip / path.name.replace(composed, decomposed))
    clip.rename(tmp_path / "in" / decomposed)
    _predict(checkpoint, tmp_path / "in", out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert {row[0] for row in _counts(out)} == {composed}
    # And the output, as a copy by way of a Mac brings it back.
    whole = sorted(path.relative_to(out) for path in out.rglob("*"))
    for path in sorted(out.rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    (out / f"{decomposed}.txt").write_text("of a user")
    _predict(checkpoint, _clip(tmp_path / "other"), out)
    assert {row[0] for row in _counts(out)} == {composed, "other"}
    _predict(checkpoint, tmp_path / "in", out)
    assert {path: path.stat().st_mtime_ns for path in out.glob(f"{composed}/*.png")} == before
    (out / f"{decomposed}.txt").unlink()
    shutil.rmtree(out / "other")
    (out / ".progress/other.jsonl").unlink()
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == whole


def test_processes_that_write_at_once_lose_no_rows(checkpoint: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    sources = [_clip(tmp_path / f"c{number}", 3, number) for number in range(3)]
    out = tmp_path / "m"
    running = [
        context.Process(target=_predict, args=(checkpoint, source, out)) for source in sources
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert Counter(row[0] for row in _counts(out)) == {"c0": 3, "c1": 3, "c2": 3}


def test_a_clip_is_predicted_by_one_run_at_a_time(checkpoint: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "m", _clip(tmp_path / "a")
    with (
        taken_folder(out / "a"),
        ThreadPoolExecutor() as other,
        pytest.raises(RunError, match="m/a: another run is at work here"),
    ):
        other.submit(_predict, checkpoint, source, out).result()
    assert not (out / "a").exists()
    _predict(checkpoint, source, out)
    assert len(_counts(out)) == 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("counts.csv", "clip,frame_index,by_hand\nplot1,0,57\n", "misses the column time_s"),
        ("counts.csv", f"{','.join(COUNT_COLUMNS)},Note\n", "has the column Note, which"),
        ("counts.csv", f"{','.join(COUNT_COLUMNS[:5])},\n", "has the column (without a name)"),
        ("totals.csv", "clip,region\na,north\n", "misses the column distinct, low, high"),
        ("totals.csv", "clip,region,distinct,low,high,by_hand\n", "has the column by_hand"),
    ],
)
def test_a_table_with_columns_of_a_user_is_kept(
    checkpoint: Path, tmp_path: Path, name: str, text: str, told: str
) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / name).write_text(text)
    with pytest.raises(TableError, match=rf"{name} row 1: {re.escape(told)}.*; move the table, or"):
        _predict(checkpoint, _clip(tmp_path / "a"), out)
    assert (out / name).read_text() == text
    assert not (out / "a").exists()


def test_a_table_of_an_earlier_release_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    (out / "old").mkdir(parents=True)
    (out / "counts.csv").write_text(f"{','.join(COUNT_COLUMNS[:6])}\nold,0,,0.5,3,old_0\n")
    _predict(checkpoint, _clip(tmp_path / "a"), out)
    assert (out / "counts.csv").read_text().startswith(",".join(COUNT_COLUMNS))
    assert [row[0] for row in _counts(out)] == ["old", "a", "a"]


def test_a_table_that_is_not_ours_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / "counts.csv").write_text("plot,plants\n1,12\n")
    with pytest.raises(TableError, match=r"counts\.csv row 1: misses the column clip"):
        _predict(checkpoint, _clip(tmp_path / "a"), out)
    assert (out / "counts.csv").read_text() == "plot,plants\n1,12\n"
    assert not (out / "a").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("a/f0.png", "a/other.jpg", "a/instances/f0.png", "a/probabilities/f0.png"),
        *("a.mp4", "a.json", "a.objects.csv", "a.tracks.csv", "a/tracks/f0.png"),
    ],
)
def test_images_that_no_run_made_are_not_written_over(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    """The folder of the true masks given by mistake, or one that holds other videos."""
    mine = tmp_path / "m" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="is there, and this command is not known to have made"):
        options = {"overlay": True, "run_lengths": True, "tracks": True}
        _predict(checkpoint, _clip(tmp_path / "a"), tmp_path / "m", **options)
    assert [path for path in (tmp_path / "m").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_own_files_beside_the_masks_stay(checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "m/a/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for threshold in (0.5, 0.4):
        _predict(checkpoint, _clip(tmp_path / "a"), tmp_path / "m", threshold=threshold)
    assert mine.read_text() == "mine"


def test_a_clip_of_the_same_name_from_elsewhere_is_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    _predict(checkpoint, _clip(tmp_path / "card1/a"), out)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    rows = _counts(out)
    other = _clip(tmp_path / "card2/a", seed=1)
    with pytest.raises(UsageError, match=r"card2/a: the output folder holds .*card1/a.*--out"):
        _predict(checkpoint, other, out)
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert _counts(out) == rows
    # The same clip with other settings is the same clip.
    _predict(checkpoint, tmp_path / "card1/a", out, threshold=0.4)


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        (["counts.csv"], {}, ["counts.csv: a result of clip 'counts.csv' would take the place"]),
        (["run.json"], {}, ["run.json: a result of clip 'run.json'"]),
        (["v", "v_RES"], {"format": "ctc", "tracks": True}, ["v_RES: a result of clip 'v_RES' "]),
        (["v", "v.mp4"], {"overlay": True}, ["v.mp4: a result of clip 'v.mp4' .* that of 'v'"]),
        (["v", "v.objects.csv"], {"instances": True}, ["v.objects.csv: "]),
        (["v", "v.json"], {"run_lengths": True}, ["v.json: "]),
    ],
)
def test_clips_whose_results_bear_one_name_are_refused(
    names: list[str],
    options: dict[str, object],
    told: list[str],
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    clips = tmp_path / "clips"
    for name in (*names, "w"):
        _clip(clips / name)
    with pytest.raises(UsageError) as caught:
        _predict(checkpoint, clips, tmp_path / "m", **options)
    assert len(caught.value.faults) == len(told)
    for line, expected in zip(map(str, caught.value.faults), told, strict=True):
        assert re.search(expected, line), line
    assert [*(tmp_path / "m").rglob("*.png")] == []


def test_a_folder_of_results_may_move_with_its_input(checkpoint: Path, tmp_path: Path) -> None:
    _predict(checkpoint, _clip(tmp_path / "run/clips/a"), tmp_path / "run/m")
    (tmp_path / "run").rename(tmp_path / "moved")
    _predict(checkpoint, tmp_path / "moved/clips/a", tmp_path / "moved/m", threshold=0.4)


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (["f0.png", "deeper/f0.png"], "deeper"),
        (["f0.png", "deeper/a/f0.png"], "deeper"),
        (["v.mp4", "v/f0.png"], "v"),
        (["frames/a/f0.png", "raw/v.mp4"], "raw"),
        (["a/f0.png", "a/v.mp4"], "a/v.mp4"),
        (["a/frames/f0.png", "a/deeper/f0.png"], "a/deeper/f0.png"),
        (["a/f0.png", "b/x.mp4", "b/deeper/y.mp4"], "b/deeper/y.mp4"),
    ],
)
def test_what_is_of_another_kind_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, places: list[str], told: str
) -> None:
    for place in places:
        path = tmp_path / "in" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    find_clips(tmp_path / "in")
    assert f"in: left out: {told}; give what is of another kind as another input" in caplog.text


def test_frames_here_and_a_video_there_are_all_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("a/f0.png", "b/v.mp4", "w.mp4"):
        path = tmp_path / "in" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert [clip.name for clip in find_clips(tmp_path / "in")] == ["a", "v", "w"]
    assert not caplog.text
    (tmp_path / "in/b/a.mp4").write_bytes(b"x")
    with pytest.raises(MediaError, match="2 clips are named 'a'"):
        find_clips(tmp_path / "in")


def test_masks_and_files_of_the_system_are_left_out_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("a/frames/f0.png", "a/masks/f0.png", "masks/f0.png", ".ipynb_checkpoints/x.png"):
        write_image(tmp_path / "in" / place, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "in/Thumbs.db").write_bytes(b"x")
    find_clips(tmp_path / "in")
    assert not caplog.text


def test_another_card_at_the_same_place_is_told(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "m"
    clips = tmp_path / "card"
    for seed, name in enumerate(("a", "b")):
        _clip(clips / name, 2, seed)
    _predict(checkpoint, clips, out)
    _predict(checkpoint, clips, out, threshold=0.4)
    assert not caplog.text
    shutil.rmtree(clips)
    for seed, name in enumerate(("a", "b")):
        _clip(clips / name, 3, 7 + seed)
    _predict(checkpoint, clips, out)
    (told,) = caplog.messages
    assert f"{clips / 'a'}, {clips / 'b'}: not the files that the output folder holds" in told
    assert "choose another --out" in told
    assert Counter(row[0] for row in _counts(out)) == {"a": 3, "b": 3}


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the rows of a record, with checksums as a sound one has them."""
    lines = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        del entry["crc"]
        if "frame" in entry:
            change(entry)
        text = json.dumps(entry)
        lines.append(f'{text[:-1]}, "crc": {zlib.crc32(text.encode())}}}\n')
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.pop("count_sd"),
        lambda row: row.update(mean_area="3"),
        lambda row: row.update(expected_count=None),
        lambda row: row.update(accepted=True, reason=""),
        lambda row: [row.pop(key) for key in list(row) if key not in ("frame", "frame_index")],
    ],
)
def test_sound_rows_of_another_release_or_command_are_work_undone(
    checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], None],
) -> None:
    out, clip = tmp_path / "m", _clip(tmp_path / "a", 2)
    _predict(checkpoint, clip, out)
    counts = (out / "counts.csv").read_bytes()
    masks = {path: path.read_bytes() for path in out.rglob("*.png")}
    _rewrite(out / ".progress/a.jsonl", change)
    _predict(checkpoint, clip, out)
    assert "a.jsonl: rows lack what this release needs" in caplog.text
    assert (out / "counts.csv").read_bytes() == counts
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == masks
