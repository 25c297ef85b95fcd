from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_run import SIZE
from PIL import Image
from report_page import Page

from dvos.config.scoring import ReportSettings
from dvos.errors import OutputError, TableError, UsageError
from dvos.files import write_text
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import read_image
from dvos.media.mask import read_mask
from dvos.media.video_write import VideoWriter
from dvos.reporting.html import write_report

SECTIONS = [
    "main",
    "results",
    "run",
    "stills",
    "cutouts",
    "clips",
    "data-mix",
    "curves",
    "scores",
    "best-to-worst",
    "counts",
    "followed",
    "film",
    "environment",
    "files",
    "reproduce",
]
Report = Callable[..., Page]


def test_a_whole_run_has_every_section(finished_run: Path, tmp_path: Path, report: Report) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    assert page.ids == SECTIONS
    assert "Not in this report" not in page.words
    assert "Not shown" not in page.words


def test_page_is_self_contained(finished_run: Path, tmp_path: Path, report: Report) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    kinds = ("data:image/webp;base64,", "data:,", "#")
    assert all(link.startswith(kinds) for link in page.links)
    assert not {"script", "iframe", "object"} & set(page.tags)
    assert page.tags.count("link") == 1  # the empty icon, which keeps browsers from asking for one
    assert "@import" not in page.source
    assert "url(" not in page.source
    assert len(page.source) < 6_000_000


def test_beside_the_run_files_are_linked_by_relative_names(run: Path, report: Report) -> None:
    page = report(run)
    relative = [link for link in page.links if not link.startswith(("data:", "#"))]
    assert "./train/best.safetensors" in relative
    assert all(link.startswith("./") for link in relative)
    assert all((run / link).exists() for link in relative)


def test_page_can_be_read_aloud(finished_run: Path, tmp_path: Path, report: Report) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(following <= heading + 1 for heading, following in steps)
    alts = [image["alt"] for image in page.images]
    assert all(alts)
    assert len(set(alts)) == len(alts)
    assert page.source.count('role="img" aria-label="') == page.source.count('class="plot"')
    assert '<html lang="en">' in page.source


def test_pictures_decode_and_state_their_size(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, out=tmp_path / "page.html", picture_width=120)
    assert len(page.images) == 1 + 3 + 2 + 2 * 5 * 2 + 3 * 2 + 1 + 8
    for image in page.images[1:]:
        data = base64.b64decode((image["src"] or "").split(",")[1])
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == (int(image["height"] or 0), int(image["width"] or 0))
        assert pixels.shape[1] <= 120


def test_figures_are_those_of_the_files(finished_run: Path, tmp_path: Path, report: Report) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    scores = json.loads((finished_run / "scores.json").read_text(encoding="utf-8"))
    assert f"{scores['pooled_dice']:.3f}" in page.words
    low, high = (scores["pooled_dice_interval"][end] for end in ("low", "high"))
    assert f"95 % interval {low:.2f} to {high:.2f} over 6 images" in page.words
    assert "5 min 41 s" in page.words  # the longest stage
    assert "in 2 starts" in page.words
    assert "Started 2026-03-02 10:14 UTC" in page.words
    assert "50 %" in page.words  # 700 of 1400 clips from stills
    assert "1\u202f400 clips in all" in page.words
    assert "highest validation Dice 0.861, at epoch 12" in page.words
    assert "dvos demo --out demo-run" in page.words
    assert "torch" in page.words
    assert "2.13.0" in page.words


def test_it_opens_with_the_moving_overlay_and_three_figures(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    data = base64.b64decode((page.images[0]["src"] or "").split(",")[1])
    moving = Image.open(io.BytesIO(data))
    assert moving.format == "WEBP"
    assert 10 < moving.n_frames <= 20
    assert 'media="(prefers-reduced-motion: reduce), print"' in page.source
    opening = page.source.split('<section id="run">')[0]
    assert re.findall(r"<dt>([^<]*)</dt>", opening) == [
        *("Objects in all", "Dice, pooled", "Count error"),
    ]
    assert "in the whole of target, each counted once; 95 % interval 15 to 20; by plot" in opening
    assert "Rendered data." in opening
    assert f"--checkpoint {finished_run}/train/best.safetensors --overlay" in opening
    assert "arXiv:2406.05131" in page.words
    # Each picture of a gallery can be enlarged, by keyboard too, without a script.
    assert page.tags.count("input") == len(page.images) - 1


def test_a_run_on_a_users_own_data_is_not_called_rendered(run: Path, report: Report) -> None:
    shutil.rmtree(run / "sample")
    assert "Rendered data" not in report(run).words


def test_counts_are_shown_with_their_interval(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    assert "smoothed with its interval, and found in each frame" in page.words
    assert page.source.count('class="band s0"') == 1
    assert 'class="line raw"' in page.source
    cells = page.row("target")
    assert cells[6].startswith("14.4 (13.2 to 15.9)")
    assert cells[7] == "28.8"
    assert "28.8objects a square metre, 27.9 to 29.4 over 40 frames" in page.words


def test_counts_of_an_earlier_version_are_drawn_as_they_are(run: Path, report: Report) -> None:
    table = run / "predict/counts.csv"
    rows = [line.split(",")[:5] for line in table.read_text().splitlines()]
    write_text(table, "\n".join(map(",".join, rows)) + "\n")
    page = report(run)
    assert "band" not in page.source.split("</style>")[1]
    assert "per m²" not in page.words
    assert len(page.row("target")) == 6


def test_figures_of_scores_json_are_all_shown(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    page = report(finished_run, out=tmp_path / "page.html")
    assert page.row("Region J")[:2] == ["0.759", "–"]
    assert page.row("Temporal stability")[0] == "0.883"
    assert page.row("Count error")[0] == "1.25"
    assert page.row("f1") == ["0.801"]
    domains = [row[0] for row in page.rows]
    assert (
        domains.index("wet") + 1 == domains.index("dry") == domains.index("Mean over domains") - 1
    )
    assert page.row("wet") == ["1", "2", "0.713", "0.66 to 0.75", "–", "–"]


def test_objects_that_were_followed_are_shown_with_their_totals(run: Path, report: Report) -> None:
    page = report(run)
    found = next(row for row in page.rows if "plot A" in row)
    assert found[:4] == ["target", "plot A", "6", "5 to 8"]
    assert "15 to 20" in page.words
    assert "with the way of each object before it" in page.source
    assert "Tracks seen in so many frames or more, target" in page.source
    (run / "predict/target.objects.csv").write_text("frame_index,track\n1,2\n")
    with pytest.raises(TableError, match="centre_x"):
        report(run)


def test_same_run_gives_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    first = write_report(ReportSettings(run=finished_run, out=tmp_path / "a.html"))
    second = write_report(ReportSettings(run=finished_run, out=tmp_path / "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_report_of_a_run_that_has_a_report_is_the_same(run: Path) -> None:
    settings = ReportSettings(run=run)
    before = write_report(settings).read_bytes()
    assert write_report(settings).read_bytes() == before


def test_a_page_that_is_no_report_is_not_replaced(run: Path) -> None:
    (run / "report.html").write_text("<p>of a user</p>")
    with pytest.raises(OutputError, match=r"report\.html: is there, and dvos report is not known"):
        write_report(ReportSettings(run=run))
    assert (run / "report.html").read_text() == "<p>of a user</p>"


def test_page_goes_into_a_folder_given_as_out(finished_run: Path, tmp_path: Path) -> None:
    page = write_report(ReportSettings(run=finished_run, out=tmp_path))
    assert page == tmp_path / "report.html"


@pytest.mark.parametrize(
    ("part", "sections"),
    [
        ("train", ["main", "run", "data-mix", "curves", "environment", "files", "left-out"]),
        ("predict", ["main", "results", "counts", "followed", "film", "files", "left-out"]),
    ],
)
def test_folder_of_one_command_has_only_its_parts(
    run: Path, report: Report, part: str, sections: list[str]
) -> None:
    page = report(run / part)
    assert page.ids == sections
    assert "Labelled stills: there is no annotated.csv" in page.words


def test_scores_alone_without_frames(run: Path, tmp_path: Path, report: Report) -> None:
    alone = tmp_path / "scored"
    alone.mkdir()
    shutil.copy(run / "scores.json", alone)
    lines = (run / "scores.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:-1]]
    named = [f"heldout,{run / mask},{run / said},{iou},{dice}" for _, mask, said, iou, dice in rows]
    write_text(alone / "scores.csv", "\n".join([lines[0], *named]) + "\n")
    page = report(alone)
    assert page.ids == ["main", "results", "scores", "best-to-worst", "files", "left-out"]
    assert len(page.images) == 3


def test_frames_are_taken_from_the_held_out_video(run: Path, report: Report) -> None:
    table = run / "scores.csv"
    text = table.read_text(encoding="utf-8").replace(
        "sample/validation/frames/heldout_", "heldout_"
    )
    write_text(table, text.replace(".png,sample", ",sample"))
    grey = report(run)
    assert sum("as it is" in (image["alt"] or "") for image in grey.images) == 0
    folder = run / "sample/validation"
    with VideoWriter(folder / "heldout.mp4", frame_rate=10, size=SIZE) as video:
        for path in sorted((folder / "frames").iterdir()):
            video.write(read_image(path))
    for page in (report(run), report(run, frames=folder / "heldout.mp4")):
        assert sum("as it is" in (image["alt"] or "") for image in page.images) == 3
        assert "Best frame, heldout_000000, as it is" in page.source
    by_images = report(run, frames=folder / "frames")
    assert sum("as it is" in (image["alt"] or "") for image in by_images.images) == 3


def test_held_out_photos_are_counted_where_there_is_no_target(run: Path, report: Report) -> None:
    shutil.rmtree(run / "predict")
    rows = ["clip,frame_index,time_s,coverage,count", "a,0,,0.2,31", "b,0,,0.3,47"]
    write_text(run / "heldout/counts.csv", "\n".join(rows) + "\n")
    (run / "heldout/overlays").mkdir()
    shutil.copy(run / "sample/annotated/images/still_0.png", run / "heldout/overlays/a.png")
    page = report(run)
    assert "Frames of the held-out data" in page.words
    assert "Photo a with predicted objects coloured" in page.source
    assert "Counts and coverage over time" not in page.words
    assert page.source.count('class="plot"') == 5  # four curves and the histogram


def test_missing_prediction_is_told_and_counted(run: Path, report: Report) -> None:
    table = run / "scores.csv"
    text = table.read_text(encoding="utf-8").replace("heldout/heldout/heldout_000002.png", "")
    write_text(table, text)
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    write_text(run / "scores.json", json.dumps({**scores, "missing": 1}))
    page = report(run)
    assert "1 of 6 masks had no prediction" in page.words
    assert "missing" in page.words


def test_deleted_or_damaged_pictures_are_named_not_fatal(run: Path, report: Report) -> None:
    shutil.rmtree(run / "clips" / "VID_00000")
    (run / "sample/annotated/images/still_1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (run / "predict/target.mp4").write_bytes(b"no video")
    page = report(run)
    assert page.ids == SECTIONS
    assert page.words.count("Not shown:") == 4
    assert "still_1.png" in page.words
    assert "target.mp4" in page.words
    assert len(page.images) == 2 + 2 + 10 + 6


def test_clips_in_stores_are_shown(
    finished_run: Path, run: Path, tmp_path: Path, report: Report
) -> None:
    clips = run / "clips"
    for name in ("VID_00000", "VID_00001"):
        with ClipStoreWriter(clips / f"{name}.dvclip", size=SIZE) as writer:
            for fid in range(8):
                image = read_image(clips / name / "Frames" / f"{fid:05d}.png")
                ids = read_mask(clips / name / "Masks" / f"{fid:05d}.png")
                writer.write(image, ids.astype(np.uint16))
        shutil.rmtree(clips / name)
    table = (clips / "clips.csv").read_text()
    table = re.sub(r"(VID_\d+)/(?:Frames|Masks)/(\d+)\.png", r"\1.dvclip#0\2", table)
    assert ",VID_00001.dvclip#000007," in table
    (clips / "clips.csv").write_text(table)
    page = report(run, out=tmp_path)
    assert len(page.images) == len(report(finished_run, out=tmp_path).images)
    assert "cannot be read" not in page.words
    (clips / "VID_00001.dvclip").write_bytes(b"damaged")
    assert "is no clip store" in report(run, out=tmp_path).words


def test_without_overlay_video_the_film_shows_masks(run: Path, report: Report) -> None:
    (run / "predict/target.mp4").unlink()
    page = report(run)
    assert "objects in white" in page.words
    assert sum("Predicted mask" in (image["alt"] or "") for image in page.images) == 3


def test_hostile_names_are_shown_not_run(run: Path, report: Report) -> None:
    evil = "<script>alert(1)</script>&\"'"
    table = run / "predict/counts.csv"
    quoted = '"' + evil.replace('"', '""') + '"'
    text = table.read_text(encoding="utf-8").replace("\ntarget,", f"\n{quoted},")
    write_text(table, text)
    history = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    write_text(run / "stages.json", json.dumps({**history, "command": f"dvos {evil}"}))
    write_text(run / "train" / "config.yaml", f"name: '{evil}'\n")
    page = report(run, title=evil)
    assert "script" not in page.tags
    assert page.words.count(evil) >= 4


def test_clip_name_cannot_lead_out_of_the_run(run: Path, report: Report) -> None:
    shutil.copy(run / "predict/target.mp4", run.parent / "outside.mp4")
    table = run / "predict/counts.csv"
    text = table.read_text(encoding="utf-8").replace("\ntarget,", "\n../../outside,")
    write_text(table, text)
    page = report(run)
    assert "film" not in page.ids


def test_damaged_tables_are_all_told_at_once_and_nothing_is_written(run: Path) -> None:
    write_text(run / "scores.csv", "Image,Mask,Pred,IoU,Dice\na.png,b.png,c.png,0.5,high\n")
    write_text(run / "stages.json", '{"stages": [')
    write_text(run / "predict/counts.csv", "clip,frame_index\na,0\n")
    (run / "train/records.csv").write_bytes(b"epoch,\xff\xfe\n")
    with pytest.raises(TableError) as caught:
        write_report(ReportSettings(run=run))
    told = str(caught.value)
    assert len(caught.value.faults) == 4
    assert "scores.csv row 2 column Dice: 'high'; expected a number" in told
    assert "stages.json line 1: no JSON" in told
    assert "counts.csv row 1: misses the column coverage, count" in told
    assert "records.csv: is not UTF-8 text" in told
    assert not (run / "report.html").exists()


def test_row_cut_short_is_a_fault(run: Path) -> None:
    table = run / "scores.csv"
    write_text(table, table.read_text(encoding="utf-8").rsplit(",", 3)[0] + "\n")
    with pytest.raises(TableError, match=r"scores\.csv row 8: has 2 values; expected 5"):
        write_report(ReportSettings(run=run))


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        write_report(ReportSettings(run=tmp_path / "absent"))
    with pytest.raises(UsageError, match="holds nothing to report"):
        write_report(ReportSettings(run=tmp_path))


def test_nothing_is_shown_where_none_is_asked_for(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    none = dict.fromkeys(("stills", "clips", "sprites", "film_frames"), 0)
    page = report(finished_run, out=tmp_path / "page.html", **none)
    assert {"stills", "clips", "cutouts", "film"}.isdisjoint(page.ids)
    assert len(page.images) == 1 + 6


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("train/run.json", '{"a":' * 900 + "1" + "}" * 900, "run.json: nested more than 50 deep"),
        ("train/run.json", "[" * 100_000, "run.json: no JSON"),
        ("train/run.json", '{"seed":' + "9" * 5000 + "}", "run.json: no JSON"),
        ("train/run.json", '{"versions": {"a\\ud800": "\\u0007"}, "hardware": [[1], {}]}', None),
        ("scores.json", '{"pooled_dice":' + "9" * 400 + ', "clips": [1], "domains": 3}', None),
        ("scores.csv", "Image,Mask,Pred,IoU,Dice\n,m\0.png,,1,1\n", "Mask: holds a zero byte"),
        ("scores.csv", "Image,Mask,Pred,IoU,Dice\n," + "m" * 999 + ",n,1,1\n", None),
        ("predict/counts.csv", "clip,frame_index,coverage,count\n" + "n" * 999 + ",0,1,1\n", None),
        ("stages.json", '{"stages": {"name": "a"}, "seed": NaN, "started": [5]}', None),
        ("train/config.yaml", "a: \a\n", None),
    ],
)
def test_spoiled_files_of_a_run_are_told_or_shown(
    run: Path, report: Report, name: str, text: str, told: str | None
) -> None:
    write_text(run / name, text)
    if told is None:
        assert report(run, stills=0, sprites=0, clips=0, film_frames=0).words
        return
    with pytest.raises(TableError, match=told) as caught:
        report(run)
    assert len(caught.value.faults) == 1


def test_intervals_of_a_single_video_are_said_to_be_its_own(
    finished_run: Path, tmp_path: Path, report: Report
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    one = scores["clips"][next(iter(scores["clips"]))]
    for clips, said in (({"a": one}, True), ({"a": one, "b": one}, False)):
        write_text(run / "scores.json", json.dumps({**scores, "masks": 4, "clips": clips}))
        words = report(run, out=tmp_path / "page.html").words
        assert ("frames of one video" in words) == said
