from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from pydantic import ValidationError
from report_page import Page

from dvos.cli.main import main
from dvos.config.scoring import ReportSettings
from dvos.errors import TableError, UsageError
from dvos.files import write_text
from dvos.reporting.comparison import Matched, match_frames, name_runs, paired_difference
from dvos.reporting.contents import ScoredMask
from dvos.reporting.gather import RunContents
from dvos.reporting.html import write_report

SECTIONS = [
    "main",
    "runs",
    "figures",
    "frame-by-frame",
    "curves",
    "frames",
    "counts",
    "settings",
    "times",
    "environment",
]
Report = Callable[..., Page]


def dices(folder: Path) -> dict[str, float]:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row["Mask"]).stem: float(row["Dice"]) for row in rows if row["Mask"]}


def test_two_whole_runs_have_every_section(
    finished_run: Path, second_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, compare=[second_run], out=tmp_path / "page.html")
    assert page.ids == SECTIONS
    assert "Not in this report" not in page.words
    assert "Not shown" not in page.words
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert len(page.source) < 5_000_000
    assert page.headings[0] == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(following <= heading + 1 for heading, following in steps)
    alts = [image["alt"] for image in page.images]
    assert all(alts)
    assert len(set(alts)) == len(alts) == 6 * 3


def test_figures_stand_side_by_side_with_the_best_marked_in_words(
    finished_run: Path, second_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, compare=[second_run], out=tmp_path / "page.html")
    ours, theirs = (
        json.loads((folder / "scores.json").read_text()) for folder in (finished_run, second_run)
    )
    step = theirs["pooled_dice"] - ours["pooled_dice"]
    row = page.row("Dice, pooled")
    assert row[0].startswith(f"{ours['pooled_dice']:.3f} best")
    low, high = (ours["pooled_dice_interval"][end] for end in ("low", "high"))
    assert f"{low:.3f} to {high:.3f}" in row[0]
    assert f"{theirs['pooled_dice']:.3f}" in row[1]
    assert f"−{-step:.3f} to A" in row[1]
    assert "best" not in row[1]
    # Of errors the lower is best; of equal figures neither.
    assert "best" in page.row("Count error")[0]
    assert "+1.25 to A" in page.row("Count error")[1]
    assert "best" not in "".join(page.row("Boundary F"))
    assert "Intervals of A, B: 95 % over 6 images." in page.words


def test_paired_difference_is_that_of_the_tables(
    finished_run: Path, second_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, compare=[second_run], out=tmp_path / "page.html")
    ours, theirs = dices(finished_run), dices(second_run)
    mean = fmean(theirs[name] - ours[name] for name in ours)
    row = page.row("B other-run")
    assert row[0] == f"−{-mean:.3f}"
    # One frame was not moved in either run, so it is neither above nor below.
    assert row[2:] == ["6 frames", "6", "0", "5"]
    assert "The mean Dice of B is below that of A." in page.words


def test_frames_come_by_falling_difference(
    finished_run: Path, second_run: Path, tmp_path: Path, report: Report
) -> None:
    out = tmp_path / "page.html"
    page = report(finished_run, compare=[second_run], out=out, compared_frames=3)
    ours, theirs = dices(finished_run), dices(second_run)
    ranked = sorted(ours, key=lambda name: theirs[name] - ours[name])[:3]
    places = [page.words.index(f"heldout/{name}: Dice differs by") for name in ranked]
    assert places == sorted(places)
    assert len(page.images) == 3 * 3
    assert f"B: Dice {theirs[ranked[0]]:.3f}, other-run" in page.words


def test_only_settings_that_differ_are_told(
    finished_run: Path, second_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, compare=[second_run], out=tmp_path / "page.html")
    assert page.row("optimiser.rate") == ["0.001", "0.002"]
    assert "optimiser.clip" not in page.words
    assert "3 settings are the same." in page.words
    assert page.row("train") == ["5 min 41 s", "2 min 50 s"]
    assert page.row("numpy") == ["2.3.1", "2.3.2"]
    # Data are known by their file's name: each run has them in a folder of its own.
    assert page.row("cutouts.csv") == ["3d2f9c7ab1c04e51", "3d2f9c7ab1c04e52"]
    assert page.row("frames.csv") == ["90ab77e1c2d3f4a5"]


def test_runs_that_agree_cannot_be_told_apart(run: Path, tmp_path: Path, report: Report) -> None:
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    page = report(run, compare=[twin])
    assert "B cannot be told from A: the interval holds 0." in page.words
    assert page.row("B twin")[0] == "±0.000"
    assert "No setting differs; 4 settings are the same." in page.words
    assert ">best<" not in page.source


def test_page_of_one_run_stays_and_the_same_runs_give_the_same_bytes(
    run: Path, other: Path
) -> None:
    single = write_report(ReportSettings(run=run))
    before = single.read_bytes()
    page = write_report(ReportSettings(run=run, compare=[other]))
    assert page == run / "comparison.html"
    bytes_once = page.read_bytes()
    assert write_report(ReportSettings(run=run, compare=[other])).read_bytes() == bytes_once
    assert single.read_bytes() == before


def test_command_line_takes_several_runs(
    finished_run: Path, second_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["report", str(finished_run), str(second_run), "--out", str(tmp_path)])
    assert code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "comparison.html")


def test_training_runs_alone(run: Path, other: Path, report: Report) -> None:
    page = report(run / "train", compare=[other / "train"])
    assert page.ids == [
        *("main", "runs", "curves", "settings", "times", "environment"),
        "left-out",
    ]
    # Folders of the same name are told apart by the one above.
    assert "DVOS runs demo-run/train, other-run/train" in page.words
    assert page.row("optimiser.rate") == ["0.001", "0.002"]
    assert page.row("Validation Dice, best") == ["0.861", "0.802"]
    assert "A demo-run/train" in page.words
    assert "B other-run/tra…" in page.words


def test_three_runs(run: Path, other: Path, second_run: Path, report: Report) -> None:
    shutil.rmtree(other / "train")
    page = report(run, compare=[second_run, other / "predict"])
    assert page.row("Dice, pooled")[2] == "–"
    assert "C has no scores.json." in page.words
    assert "C predict" in page.words


@pytest.mark.parametrize("place", [0, 2])
def test_a_run_without_scores_hides_nothing_of_the_others(
    place: int, run: Path, second_run: Path, other: Path, report: Report
) -> None:
    folders = [run, second_run]
    folders.insert(place, other / "predict")
    page = report(folders[0], compare=folders[1:])
    first, second, alone = ("BCA", "ABC")[place > 0]
    assert f"Mean Dice against {first} on the same frames" in page.source
    assert page.row(f"{second} other-run")[2:] == ["6 frames", "6", "0", "5"]
    assert f"in that of {first}: {alone}." in page.words
    assert len(page.images) == 6 * 3
    assert page.source.count('"best">best<') > 3
    # The clip is counted in all three.
    assert "Count, target" in page.source


def move_frames(run: Path, kept: int) -> None:
    """Have a run scored on other frames, but for the first ``kept``, which it shares."""
    table = run / "scores.csv"
    lines = table.read_text().splitlines()
    lines[1 + kept :] = [line.replace("/heldout/", "/elsewhere/") for line in lines[1 + kept :]]
    write_text(table, "\n".join(lines) + "\n")


def test_figures_of_other_frames_are_not_compared(run: Path, other: Path, report: Report) -> None:
    move_frames(other, 0)
    page = report(run, compare=[other])
    assert ">best<" not in page.source
    assert " to A" not in " ".join(page.row("Dice, pooled"))
    assert "the figures of B do not compare with those of A, and none is marked" in page.words
    assert "in the next section" not in page.words
    assert "no frame with a Dice is in the scores.csv of two runs" in page.words


def test_frames_that_are_not_known_are_not_compared(run: Path, other: Path, report: Report) -> None:
    (run / "scores.csv").unlink()
    (other / "scores.csv").unlink()
    page = report(run, compare=[other])
    assert ">best<" not in page.source
    assert "the figures of B do not compare with those of A" in page.words


def test_runs_are_compared_on_the_frames_that_they_share(
    run: Path, second_run: Path, other: Path, report: Report
) -> None:
    move_frames(other, 2)
    foreign = Path(shutil.copytree(other, other.parent / "foreign"))
    move_frames(foreign, 0)
    table = foreign / "scores.csv"
    write_text(table, table.read_text().replace("/elsewhere/", "/away/"))
    page = report(run, compare=[second_run, other, foreign])
    assert page.row(f"B {second_run.parent.name}/other-run")[2] == "6 frames"
    assert page.row(f"C {other.parent.name}/other-run")[2:] == ["2 frames", "2", "0", "1"]
    assert "in that of A: D." in page.words
    assert "the figures of C, D do not compare with those of A" in page.words
    assert ">best<" not in page.source
    pooled = page.row("Dice, pooled")
    assert ["to A" in cell for cell in pooled] == [False, True, False, False]


def test_counts_are_compared_where_the_first_run_has_none(
    run: Path, other: Path, second_run: Path, report: Report
) -> None:
    (run / "predict/counts.csv").unlink()
    page = report(run, compare=[other, second_run])
    assert "Count, target" in page.source


def test_missing_prediction_and_damaged_picture_are_named(
    run: Path, other: Path, report: Report
) -> None:
    table = other / "scores.csv"
    write_text(table, table.read_text().replace("heldout/heldout/heldout_000002.png", ""))
    (other / "heldout/heldout/heldout_000003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (run / "sample/validation/frames/heldout_000004.png").unlink()
    page = report(run, compare=[other])
    assert "B other-run: has no prediction of heldout/heldout_000002" in page.words
    assert page.words.count("Not shown:") == 3
    assert len(page.images) == 6 * 3 - 3


def test_another_truth_is_told(run: Path, other: Path, report: Report) -> None:
    truth = other / "sample/validation/masks/heldout"
    shutil.copy(truth / "heldout_000001.png", truth / "heldout_000000.png")
    page = report(run, compare=[other])
    assert "The truth of 1 of 6 frames is not the same in all runs" in page.words
    assert "the figures of B do not compare with those of A" in page.words
    assert ">best<" not in page.source


def test_faults_of_all_runs_are_told_at_once(run: Path, other: Path, tmp_path: Path) -> None:
    write_text(run / "scores.json", "{")
    write_text(other / "train/records.csv", "loss\n1\n")
    with pytest.raises(TableError) as caught:
        write_report(ReportSettings(run=run, compare=[other]))
    assert len(caught.value.faults) == 2
    with pytest.raises(UsageError) as usage:
        write_report(ReportSettings(run=other, compare=[tmp_path / "absent", other]))
    told = str(usage.value)
    assert "no such folder" in told
    assert "is named twice" in told
    assert not (run / "comparison.html").exists()


def test_settings_that_are_no_yaml_are_a_fault(run: Path, other: Path) -> None:
    write_text(other / "train/config.yaml", "a: [1\n")
    with pytest.raises(TableError, match=r"config\.yaml: no YAML"):
        write_report(ReportSettings(run=run, compare=[other]))


def test_more_than_six_runs_are_refused(run: Path) -> None:
    with pytest.raises(ValidationError, match="at most 5"):
        ReportSettings(run=run, compare=[run / str(k) for k in range(6)])


def test_hostile_names_are_shown_not_run(run: Path, other: Path, report: Report) -> None:
    evil = "<script>alert(1)<!--"
    moved = other.rename(other.parent / evil.replace("/", ""))
    write_text(moved / "train/config.yaml", f"'{evil}': '{evil}'\n")
    page = report(run, compare=[moved])
    assert "script" not in page.tags
    assert page.words.count(evil) >= 3


def test_frames_are_matched_by_as_much_of_the_path_as_is_needed(run: Path, other: Path) -> None:
    for folder in (run, other):
        table = folder / "scores.csv"
        lines = table.read_text().splitlines()
        twice = [
            line.replace("masks/heldout/heldout_000000", f"{clip}/masks/heldout/000000")
            for line, clip in zip(lines[1:3], ("one", "two"), strict=True)
            for line in [line.replace("heldout_000001", "heldout_000000")]
        ]
        write_text(table, "\n".join([lines[0], *twice]) + "\n")
    matched = match_frames(name_runs([RunContents(run), RunContents(other)]))
    assert [one.name for one in matched] == [
        f"{clip}/masks/heldout/000000" for clip in ("one", "two")
    ]


def scored(values: list[tuple[str, float, float]]) -> list[Matched]:
    def row(dice: float) -> ScoredMask:
        return ScoredMask(None, Path("mask.png"), None, dice, dice)

    return [Matched("frame", clip, (row(a), row(b))) for clip, a, b in values]


def test_whole_clips_are_drawn_where_there_are_several() -> None:
    rng = np.random.default_rng(2)
    clips = [(f"clip{k // 30}", 0.8, 0.8 + (k // 30 - 1) * 0.1) for k in range(90)]
    by_clip = paired_difference(scored(clips), 1)
    assert (by_clip.unit, by_clip.units, by_clip.frames) == ("clip", 3, 90)
    # Three clips that differ tell far less than ninety frames would.
    assert by_clip.low is not None
    assert by_clip.low < -0.05
    steps = rng.normal(0.01, 0.02, 200)
    single = paired_difference(scored([("a", 0.5, 0.5 + step) for step in steps]), 1)
    assert single.unit == "frame"
    assert single.mean == pytest.approx(steps.mean())
    error = steps.std() / np.sqrt(len(steps))
    assert single.low == pytest.approx(steps.mean() - 1.96 * error, abs=0.3 * error)
    assert single.high == pytest.approx(steps.mean() + 1.96 * error, abs=0.3 * error)


def test_one_frame_has_no_interval() -> None:
    alone = paired_difference(scored([("a", 0.5, 0.75)]), 1)
    assert (alone.mean, alone.low, alone.high) == (0.25, None, None)
