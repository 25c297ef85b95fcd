"""Tracks of clips: the files that ``dvos predict`` writes, however often it was stopped."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from moving_objects import drawn
from white_predictor import WhitePredictor

from dvos.config.prediction import PredictionSettings
from dvos.errors import MediaError
from dvos.formats.ctc import read_track_table
from dvos.media.image import write_image
from dvos.media.mask import read_label_image, write_label_image
from dvos.media.video import VideoFile
from dvos.prediction.objects import read_objects
from dvos.prediction.predict import predict
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.tracks import clip, followed

FRAMES = 6
PLACES = [(20, 20), (60, 30), (100, 60), (30, 80)]


def _clip(folder: Path) -> Path:
    """White discs on black; the last one moves, the third comes later."""
    for t in range(FRAMES):
        places = [(x + 3 * t * (k == 3), y) for k, (x, y) in enumerate(PLACES) if k != 2 or t > 1]
        picture = (drawn(places, (96, 128), 7) > 0) * np.uint8(255)
        write_image(folder / f"f{t}.png", np.repeat(picture[..., None], 3, axis=2))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file that stands for the network of :class:`WhitePredictor`."""
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"white")
    return path


def _predict(checkpoint: Path, source: Path, out: Path, **options: object) -> None:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "tracks": True, **options}
    predict(PredictionSettings.model_validate(values), WhitePredictor)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts and path.suffix != ".mp4"
    }


@pytest.mark.parametrize("apart", [False, True])
def test_unasked_objects_are_followed_where_the_network_tells_them_apart(
    apart: bool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WhitePredictor, "tells_apart", apart)
    _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", tracks="auto")
    assert (tmp_path / "m/in.tracks.csv").is_file() == apart


def test_images_tables_and_totals_tell_of_the_same_tracks(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    _predict(checkpoint, _clip(tmp_path / "in"), out)
    rows = _rows(out / "in.tracks.csv")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["first_frame"] for row in rows] == ["0", "0", "0", "2"]
    assert {row["last_frame"] for row in rows} == {str(FRAMES - 1)}
    assert {row["parent"] for row in rows} == {"0"}
    assert float(rows[2]["path_length"]) == pytest.approx(15, abs=0.1)
    objects = _rows(out / "in.objects.csv")
    for t in range(FRAMES):
        ids = read_label_image(out / f"in/tracks/f{t}.png")
        numbers = read_label_image(out / f"in/instances/f{t}.png")
        named = {int(o["object"]): int(o["track"]) for o in objects if o["frame"] == f"f{t}"}
        assert {int(n): int(i) for n, i in zip(numbers.flat, ids.flat, strict=True) if n} == named
        assert set(ids.flat) - {0} == set(named.values())
    (total,) = _rows(out / "totals.csv")
    assert [total[name] for name in ("clip", "region", "frames", "area_m2")] == ["in", "", "6", ""]
    # One of four begins inside the picture; as none ends there, it is the rest of no other.
    assert total["distinct"] == "4"
    assert int(total["low"]) <= 4 <= int(total["high"])


def test_few_objects_that_the_camera_comes_back_to_are_counted_once(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One or two in a frame tell no path of the camera: the ground that is seen tells it."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 100, (96, 520, 3), np.uint8), (0, 0), 2)
    ground[drawn([(30, 40), (230, 50), (460, 30)], (96, 520), 9) > 0] = 255
    there = [*range(0, 385, 8)]
    for t, left in enumerate([*there, *there[-2::-1]]):
        write_image(tmp_path / f"in/f{t:03d}.png", ground[:, left : left + 128])
    _predict(checkpoint, tmp_path / "in", tmp_path / "m")
    assert len(_rows(tmp_path / "m/in.tracks.csv")) == 5  # the last is still seen at the turn
    assert [row["distinct"] for row in _rows(tmp_path / "m/totals.csv")] == ["3"]
    assert "2 of 5 tracks are of objects that were counted before" in caplog.text


def test_continued_runs_give_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    source = _clip(tmp_path / "in")
    _predict(checkpoint, source, tmp_path / "whole", format="ctc")
    whole = _content(tmp_path / "whole")
    for lost in (
        "in/f3.png",
        "in/instances/f4.csv",
        "in.tracks.csv",
        "in.objects.csv",
        "in/tracks/f2.png",
    ):
        _predict(checkpoint, source, tmp_path / "m", format="ctc")
        (tmp_path / "m" / lost).unlink()
        _predict(checkpoint, source, tmp_path / "m", format="ctc")
        assert _content(tmp_path / "m") == whole


def test_a_pass_that_was_broken_off_is_done_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _clip(tmp_path / "in")
    _predict(checkpoint, source, tmp_path / "whole")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(clip, "write_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            _predict(checkpoint, source, tmp_path / "m")
    assert not (tmp_path / "m/in.tracks.csv").exists()
    _predict(checkpoint, source, tmp_path / "m")
    assert _content(tmp_path / "m") == _content(tmp_path / "whole")


def test_other_settings_of_linking_make_the_tracks_anew_and_no_mask(
    checkpoint: Path, tmp_path: Path
) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out)
    before = (out / "in/f0.png").stat().st_mtime_ns
    _predict(checkpoint, source, out, linking={"sightings": 5})
    assert len(_rows(out / "in.tracks.csv")) == 3
    assert (out / "in/f0.png").stat().st_mtime_ns == before
    _predict(checkpoint, source, out)
    assert len(_rows(out / "in.tracks.csv")) == 4


def test_totals_of_several_runs_stand_in_one_table(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        _predict(checkpoint, _clip(tmp_path / "in" / name), tmp_path / "m")
    assert [row["clip"] for row in _rows(tmp_path / "m/totals.csv")] == ["b", "a"]


def test_the_challenge_s_layout_is_written(checkpoint: Path, tmp_path: Path) -> None:
    _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", format="ctc")
    table = read_track_table(tmp_path / "m/in_RES/res_track.txt")
    assert [(one.first, one.last) for one in table.values()] == [(0, 5)] * 3 + [(2, 5)]
    assert read_label_image(tmp_path / "m/in_RES/mask003.tif").max() == 4


def test_an_object_keeps_its_colour_in_the_overlay(checkpoint: Path, tmp_path: Path) -> None:
    _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", overlay=True)
    images = [frame.image.astype(int) for frame in VideoFile(tmp_path / "m/in.mp4")]
    first, last = images[0][20, 20], images[-1][20, 20]
    assert np.abs(first - last).max() < 12
    assert np.abs(first - images[0][30, 60]).max() > 30


def test_no_tracks_without_being_asked(checkpoint: Path, tmp_path: Path) -> None:
    for given in ("auto", False):
        _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", tracks=given)
    assert not [path for path in (tmp_path / "m").rglob("*") if "track" in path.name]
    assert not (tmp_path / "m/totals.csv").exists()


def test_totals_stay_as_long_as_the_tracks_that_they_are_of(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    _predict(checkpoint, _clip(tmp_path / "in"), out)
    before = (out / "totals.csv").read_bytes()
    _predict(checkpoint, tmp_path / "in", out, tracks=False)
    assert (out / "in.tracks.csv").is_file()
    assert (out / "totals.csv").read_bytes() == before
    # Of other masks neither is true.
    _predict(checkpoint, tmp_path / "in", out, tracks=False, threshold=0.4)
    assert not (out / "in.tracks.csv").exists()
    assert len((out / "totals.csv").read_text().splitlines()) == 1


def test_a_format_needs_tracks() -> None:
    with pytest.raises(ValueError, match="needs tracks"):
        PredictionSettings(checkpoint=Path("c"), input=Path("i"), format="ctc", tracks=False)


def test_many_tracks_are_written_in_32_bits_and_told(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    monkeypatch.setattr(clip, "LARGEST_16", 3)
    _predict(checkpoint, source, out, overlay=True)
    assert sorted(path.name for path in (out / "in/tracks").iterdir()) == [
        f"f{t}.tif" for t in range(FRAMES)
    ]
    assert read_label_image(out / "in/tracks/f5.tif").max() == 4
    assert "TIFF of 32 bit" in caplog.text


def test_tables_that_do_not_belong_to_their_masks_are_told(tmp_path: Path) -> None:
    write_label_image(tmp_path / "f.png", np.array([[0, 1]]))
    (tmp_path / "f.csv").write_text("object,area\n1,many\n")
    with pytest.raises(MediaError, match="no table of a frame's objects"):
        read_objects(tmp_path, "f")


def test_predictions_are_followed_as_they_come(checkpoint: Path, tmp_path: Path) -> None:
    source = _clip(tmp_path / "in")
    options = PredictionSettings(checkpoint=checkpoint, input=source)
    found = list(followed(WhitePredictor(options).segment(source)))
    assert [one.frame_index for one in found] == list(range(FRAMES))
    last = found[-1].objects
    assert last is not None
    assert sorted(last.tracks.tolist()) == [1, 2, 3, 4]
    _predict(checkpoint, source, tmp_path / "m")
    ids = read_label_image(tmp_path / "m/in/tracks/f5.png")
    assert (np.append(0, last.tracks)[last.labels] == ids).all()


@pytest.mark.parametrize(("hidden", "ids"), [(8, {1}), (40, {1, 2})])
def test_a_gap_is_of_the_video_s_frames_however_few_are_looked_at(
    hidden: int, ids: set[int]
) -> None:
    def seen(every: int) -> Iterator[FramePrediction]:
        for t in range(0, 120, every):
            mask = drawn([] if 60 <= t < 60 + hidden else [(70, 60)]) > 0
            image = np.repeat(mask[..., None] * np.uint8(255), 3, 2)
            yield FramePrediction(t, t / 25, f"f{t}", image, mask * np.float32(0.9), mask)

    for every in (1, 5):
        found = followed(seen(every), every=every)
        assert {int(x) for one in found for x in one.objects.tracks} == ids  # type: ignore[union-attr]


def _regions(folder: Path, **boxes: tuple[float, float, float, float]) -> Path:
    features = []
    for name, (x, y, right, below) in boxes.items():
        ring = [[x, y], [right, y], [right, below], [x, below], [x, y]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": shape, "properties": {"name": name}})
    path = folder / "plots.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _pass(folder: Path) -> Path:
    """White discs on a grid, over which the camera moves 6 pixels a frame to the right."""
    for t in range(12):
        places = [(x - 6 * t, y) for x in range(12, 260, 24) for y in (20, 48, 76)]
        picture = (drawn(places, (96, 128), 7) > 0) * np.uint8(255)
        write_image(folder / f"f{t:02d}.png", np.repeat(picture[..., None], 3, axis=2))
    return folder


def test_regions_of_the_ground_move_with_it_and_those_of_the_picture_stay(
    checkpoint: Path, tmp_path: Path
) -> None:
    source, out = _pass(tmp_path / "in"), tmp_path / "m"
    # Two plots of two columns of plants, one of which is not yet seen, and one that never is.
    plots = _regions(tmp_path, A=(0, 0, 48, 96), B=(144, 0, 192, 96), C=(400, 0, 500, 96))
    chosen = {"regions": plots, "ground_sampling_distance": 10.0}
    _predict(checkpoint, source, out, **chosen)
    totals = {row["region"]: row for row in _rows(out / "totals.csv")}
    assert {name: row["distinct"] for name, row in totals.items()} == {
        "": "12",
        "A": "6",
        "B": "6",
        "C": "0",
    }
    assert float(totals["A"]["area_m2"]) == pytest.approx(0.48 * 0.96, rel=0.02)
    assert float(totals["B"]["area_m2"]) == pytest.approx(0.48 * 0.96, rel=0.02)
    assert (totals["C"]["area_m2"], totals["C"]["per_m2"]) == ("0.0", "")
    objects = _rows(out / "in.objects.csv")
    first = {row["region"] for row in objects if float(row["centre_x"]) < 10 and row["track"]}
    assert first == {"A", ""}
    counts = [row for row in _rows(out / "in.regions.csv") if row["region"] == "B"]
    assert [row["frame_index"] for row in counts] == [str(t) for t in range(3, 12)]
    assert float(counts[0]["shown"]) == pytest.approx(2 / 48, abs=0.003)
    assert counts[-1]["shown"] == "1.0"
    assert (counts[-1]["count"], counts[-1]["frame"]) == ("6", "f11")
    before = (out / "in/f00.png").stat().st_mtime_ns
    _predict(checkpoint, source, out, **chosen, regions_on="picture")
    assert (out / "in/f00.png").stat().st_mtime_ns == before
    row = next(row for row in _rows(out / "totals.csv") if row["region"] == "A")
    # Plants pass through it: the strip is longer by the way of the camera.
    assert int(row["distinct"]) >= 12
    assert float(row["area_m2"]) == pytest.approx((0.48 + 0.66) * 0.96, rel=0.02)


def test_objects_and_ground_that_regions_share_are_the_first_one_s(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plots = _regions(
        tmp_path, A=(0, 0, 48, 96), B=(24, 0, 96, 96), C=(30, 9, 40, 50), D=(900, 0, 990, 9)
    )
    chosen = {"regions": plots, "ground_sampling_distance": 0.1}
    _predict(checkpoint, _pass(tmp_path / "in"), tmp_path / "m", **chosen)
    totals = {row["region"]: row for row in _rows(tmp_path / "m/totals.csv")}
    assert [totals[name]["distinct"] for name in "ABCD"] == ["6", "6", "0", "0"]
    areas = [float(totals[name]["area_m2"]) for name in ("", *"ABCD")]
    assert areas == pytest.approx([96 * 96 * 1e-8, 48 * 96 * 1e-8, 48 * 96 * 1e-8, 0, 0], rel=0.02)
    # A density is that of the whole area, however small.
    for name in ("", "A", "B"):
        row = totals[name]
        density = float(row["distinct"]) / float(row["area_m2"])
        assert float(row["per_m2"]) == pytest.approx(density, rel=1e-4)
    assert "no frame shows D, of 4 regions" in caplog.text
    assert "of what frames show of C all lies in regions before" in caplog.text


def test_a_mask_of_regions_is_as_large_as_the_frames(checkpoint: Path, tmp_path: Path) -> None:
    write_label_image(tmp_path / "plots.png", np.ones((48, 64), np.int32))
    with pytest.raises(MediaError, match=r"plots.png: is 64 x 48 pixels; expected 128 x 96"):
        _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", regions=tmp_path / "plots.png")
    assert not (tmp_path / "m/in/f0.png").exists()


def test_regions_of_photos_and_of_a_standing_camera_need_no_tracks(
    checkpoint: Path, tmp_path: Path
) -> None:
    plots = _regions(tmp_path, left=(0, 0, 50, 96), right=(50, 0, 128, 96))
    chosen = {"regions": plots, "regions_on": "picture", "tracks": False}
    _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", **chosen)
    rows = _rows(tmp_path / "m/in.regions.csv")
    assert [row["count"] for row in rows] == ["2", "1"] * 2 + ["2", "2"] * 4
    assert not (tmp_path / "m/totals.csv").exists()
    _predict(checkpoint, tmp_path / "in", tmp_path / "s", regions=plots, stills=True)
    assert [row["count"] for row in _rows(tmp_path / "s/f0.regions.csv")] == ["2", "1"]
    with pytest.raises(ValueError, match="regions_on=picture"):
        PredictionSettings(checkpoint=Path("c"), input=Path("i"), regions=plots, tracks=False)


def test_regions_of_the_ground_are_refused_where_nothing_tells_how_frames_lie(
    checkpoint: Path, tmp_path: Path
) -> None:
    plots = _regions(tmp_path, A=(0, 0, 48, 96))
    with pytest.raises(MediaError, match="regions-on picture"):
        _predict(checkpoint, _clip(tmp_path / "in"), tmp_path / "m", regions=plots)


def test_a_lost_path_of_the_camera_is_told_and_no_area_given(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng, source = np.random.default_rng(0), _pass(tmp_path / "in")
    # What is seen from the middle on is another field.
    places = np.array([(x, y) for x in range(10, 128, 18) for y in (12, 30, 48, 66, 84)])
    other = (places + rng.uniform(-5, 5, places.shape)).tolist()
    for t in range(6, 12):
        picture = (drawn(other, (96, 128), 4) > 0) * np.uint8(255)
        write_image(source / f"f{t:02d}.png", np.repeat(picture[..., None], 3, axis=2))
    _predict(checkpoint, source, tmp_path / "m", ground_sampling_distance=10.0)
    (total,) = _rows(tmp_path / "m/totals.csv")
    assert (total["area_m2"], total["per_m2"]) == ("", "")
    (said,) = [one.message for one in caplog.records if "path is lost" in one.message]
    assert "in: the camera's path is lost at" in said
    assert "(f06" in said


def test_tracks_that_share_an_object_stand_apart_in_their_images(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The object stays one in what is told of a frame; its tracks are two in their images."""
    source, apart = tmp_path / "in", [22, 19, 16, 12, 8, 6, 6, 8, 12, 16, 19, 22]
    for t, d in enumerate(apart):
        places = [(60 - d / 2, 40, 7), (60 + d / 2, 40, 7), (20, 80, 7), (100, 80, 7)]
        picture = (drawn(places, (96, 128)) > 0) * np.uint8(255)
        write_image(source / f"f{t}.png", np.repeat(picture[..., None], 3, axis=2))
    regions = {"regions": _regions(tmp_path, all=(0, 0, 128, 96)), "regions_on": "picture"}
    _predict(checkpoint, source, tmp_path / "m", **regions)
    counts = [int(row["count"]) for row in _rows(tmp_path / "m/counts.csv")]
    assert min(counts) == 3
    rows = _rows(tmp_path / "m/in.objects.csv")
    of_region = _rows(tmp_path / "m/in.regions.csv")
    for t, count in enumerate(counts):
        of_frame = [row for row in rows if row["frame_index"] == str(t)]
        ids = read_label_image(tmp_path / f"m/in/tracks/f{t}.png")
        assert len(of_frame) == count == int(of_region[t]["count"])
        assert sorted(np.unique(ids).tolist()) == [0, 1, 2, 3, 4]
        assert {int(row["track"]) for row in of_frame} <= {1, 2, 3, 4}
    assert [row["frames"] for row in _rows(tmp_path / "m/in.tracks.csv")] == ["12"] * 4
