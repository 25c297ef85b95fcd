from __future__ import annotations

import csv
import json
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_predictor import DOUBT, SIZE, SOIL, Brightness, scene, write_frames

from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import CheckpointError, ConfigError, MediaError, OutputError, UsageError
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.media.video_write import VideoWriter
from dvos.prediction.predictor import Predictor
from dvos.selftraining import labeller
from dvos.selftraining.label import PseudoLabelResult, pseudo_label
from dvos.tables import read_clips, read_stills

THRESHOLDS = {"object_threshold": 0.8, "background_threshold": 0.2}


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> list[Predictor]:
    """Replace the network by one whose probability is the brightness."""
    loaded: list[Predictor] = []

    def load(checkpoint: Path, options: PredictorOptions) -> Predictor:
        # A larger view is less sure of what is red.
        loaded.append(Brightness(shift=-0.6))
        return loaded[-1]

    monkeypatch.setattr(labeller, "predictor_of", load)
    return loaded


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    return path


def run(weights: Path, source: Path, out: Path, **options: Any) -> PseudoLabelResult:
    values = {"input": source, "checkpoint": weights, "out": out, "device": "cpu"}
    values |= {"filter": THRESHOLDS, "scales": [1.0], "flips": "horizontal"}
    values |= {"probe": False} | options
    return pseudo_label(PseudoLabelSettings.model_validate(values))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_frames_of_a_folder_become_masks_and_a_table(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 3)
    result = run(weights, clip, tmp_path / "out", pictures=2)
    mask = read_mask(tmp_path / "out/masks/clip/f1.png")
    assert mask.dtype == np.uint8
    assert (mask[:, :20] == 255).all()
    assert (mask[:, 20:40] == 128).all()
    assert (mask[:, 40:] == 0).all()
    assert (result.frames, result.judged, result.accepted) == (3, 3, 3)
    assert (result.object_share, result.background_share) == (0.25, 0.5)
    rows = read_clips(result.table)
    assert [(row.vid, row.fid, row.image, row.label) for row in rows] == [
        ("clip", k, clip / f"f{k}.png", 1) for k in range(3)
    ]
    assert list(rows_of(result.table)[0]) == ["VID", "FID", "Image", "Mask", "Label"]
    assert rows_of(result.table)[0]["Mask"] == "masks/clip/f0.png"
    assert "3 of 3 frames accepted, 75.0% of their pixels known, 25.0% object" in str(result)


def test_labels_are_found_however_the_accents_of_their_names_are_written(
    brightness, weights, tmp_path
) -> None:
    clip, out = write_frames(tmp_path / "Gr\u00f6\u00dfe", 3), tmp_path / "out"
    run(weights, clip, out)
    masks = {path: path.stat().st_mtime_ns for path in out.glob("masks/*/*.png")}
    for path in sorted(out.rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    run(weights, write_frames(tmp_path / "other", 2), out)
    result = run(weights, clip, out)
    assert {path: path.stat().st_mtime_ns for path in out.glob("masks/Gr*/*.png")} == masks
    assert len(masks) == 3
    assert len(read_clips(result.table)) == 5


def test_pictures_tint_objects_and_the_unknown(brightness, weights, tmp_path) -> None:
    result = run(weights, write_frames(tmp_path / "clip", 3), tmp_path / "out", pictures=2)
    assert [path.name for path in result.pictures] == ["f0.jpg", "f2.jpg"]
    picture = read_image(result.pictures[0]).astype(int)
    plain = read_image(tmp_path / "clip/f0.png").astype(int)
    change = np.abs(picture - plain).mean((0, 2))
    assert change[3:17].min() > 10  # objects
    assert change[23:37].min() > 10  # unknown
    assert change[44:].max() < 8
    assert len(run(weights, tmp_path / "clip", tmp_path / "out").pictures) == 0
    assert not (tmp_path / "out/overlays").exists()


def test_provenance_tells_how_and_why(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 2)
    write_image(clip / "f2.png", np.full((*SIZE, 3), SOIL, np.uint8))
    write_image(clip / "f3.png", np.full((*SIZE, 3), DOUBT, np.uint8))
    result = run(weights, clip, tmp_path / "out", round=2, neighbours=[])
    facts = json.loads(result.provenance.read_text())
    assert facts["round"] == 2
    assert facts["checkpoint"]["path"] == str(weights)
    assert len(facts["checkpoint"]["digest"]) == 32
    assert facts["settings"]["filter"]["object_threshold"] == 0.8
    assert facts["settings"]["scales"] == [1.0]
    assert {"python", "dvos", "torch"} <= facts["versions"].keys()
    assert facts["summary"] == {
        "frames": 4, "judged": 4, "accepted": 2,
        "object": 0.25, "background": 0.5, "unknown": 0.25,
    }  # fmt: skip
    (of_clip,) = facts["clips"]
    assert of_clip["unreadable"] == []
    reasons = [(row["frame"], row["accepted"], row["reason"]) for row in of_clip["frames"]]
    assert reasons == [
        ("f0", True, ""),
        ("f1", True, ""),
        ("f2", False, "no object was accepted"),
        ("f3", False, "no object was accepted"),
    ]
    rows = read_clips(result.table)
    assert [row.label for row in rows] == [1, 1, 0, 0]
    assert [row.mask is None for row in rows] == [False, False, True, True]
    assert not (tmp_path / "out/masks/clip/f2.png").exists()


def test_views_that_disagree_are_not_accepted(brightness, weights, tmp_path) -> None:
    image = scene()
    image[:32, :20, 0] = 255  # the larger view doubts the upper half of the object
    write_image(tmp_path / "clip/f0.png", image)
    run(
        weights,
        tmp_path / "clip",
        tmp_path / "out",
        scales=[1.0, 1.33],
        filter=THRESHOLDS | {"max_std": 0.25},
    )
    mask = read_mask(tmp_path / "out/masks/clip/f0.png")
    assert (mask[:32, :20] == 128).all()
    assert (mask[32:, :20] == 255).all()


def test_what_the_neighbours_contradict_is_not_accepted(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 3)
    flicker = scene()
    flicker[:32, :20, 2] = SOIL
    write_image(clip / "f1.png", flicker)
    run(weights, clip, tmp_path / "out")
    first, middle = (read_mask(tmp_path / f"out/masks/clip/f{k}.png") for k in (0, 1))
    assert np.mean(first[4:28, 4:16] == 128) > 0.9
    assert np.mean(middle[4:28, 4:16] == 128) > 0.9
    assert np.mean(first[36:, 4:16] == 255) > 0.9
    alone = run(weights, clip, tmp_path / "alone", neighbours=[])
    assert alone.object_share == pytest.approx((0.25 + 0.125 + 0.25) / 3, abs=1e-5)


def test_an_interval_leaves_frames_as_references(brightness, weights, tmp_path) -> None:
    result = run(weights, write_frames(tmp_path / "clip", 5), tmp_path / "out", interval=2)
    assert (result.frames, result.judged, result.accepted) == (5, 3, 3)
    assert [row.label for row in read_clips(result.table)] == [1, 0, 1, 0, 1]


def test_frames_of_a_video_are_kept_for_training(brightness, weights, tmp_path) -> None:
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=SIZE) as video:
        for _ in range(3):
            video.write(scene())
    result = run(weights, tmp_path / "field.mp4", tmp_path / "out", frame_format="png")
    rows = read_clips(result.table)
    names = [f"field_{k:06d}" for k in range(3)]
    assert [row.image for row in rows] == [tmp_path / f"out/frames/field/{n}.png" for n in names]
    assert rows_of(result.table)[1]["Image"] == "frames/field/field_000001.png"
    assert [read_image(row.image).shape for row in rows] == [(*SIZE, 3)] * 3
    assert result.accepted == 3
    run(weights, tmp_path / "field.mp4", tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out/frames/field").iterdir()} == {".jpg"}


def test_photos_are_labelled_one_by_one(brightness, weights, tmp_path) -> None:
    photos = write_frames(tmp_path / "photos", 2)
    write_image(photos / "bare.png", np.full((*SIZE, 3), SOIL, np.uint8))
    result = run(weights, photos, tmp_path / "out", stills=True)
    assert result.table.name == "pseudo_stills.csv"
    assert (result.frames, result.accepted) == (3, 2)
    rows = read_stills(result.table)
    assert [row.image for row in rows] == [photos / "f0.png", photos / "f1.png"]
    mask = read_mask(rows[0].mask)
    assert rows[0].mask == tmp_path / "out/masks/f0/f0.png"
    # Where the picture moves, the doubtful border grows by some pixels at most.
    assert np.mean(mask[8:-8, 4:16] == 255) > 0.9
    assert np.mean(mask[8:-8, 44:70] == 0) > 0.9
    # The photo, and the pan frame before it that it is compared with.
    assert sorted(set(brightness[0].segmented)) == [2, 3]


def test_nothing_accepted_is_told_and_leaves_a_table(brightness, weights, tmp_path, caplog) -> None:
    write_image(tmp_path / "clip/f0.png", np.full((*SIZE, 3), SOIL, np.uint8))
    result = run(weights, tmp_path / "clip", tmp_path / "out")
    assert result.accepted == 0
    assert result.known_share is None
    assert "none of 1 frames was accepted" in caplog.text
    assert str(result).startswith("0 of 1 frames accepted: ")


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_killed_run_goes_on_with_the_same_result(
    brightness, weights, tmp_path, monkeypatch, after: int
) -> None:
    clips = tmp_path / "clips"
    for name in ("a", "b"):
        write_frames(clips / name, 3)
    run(weights, clips, tmp_path / "whole", pictures=2)
    real, count = labeller.filter_frame, 0

    def killed(*arrays: Any, **rule: Any) -> Any:
        nonlocal count
        if count == after:
            raise _KilledError
        count += 1
        return real(*arrays, **rule)

    with monkeypatch.context() as patch:
        patch.setattr(labeller, "filter_frame", killed)
        with pytest.raises(_KilledError):
            run(weights, clips, tmp_path / "out", pictures=2)
    assert not (tmp_path / "out/pseudo_labels.csv").exists()
    brightness.clear()
    run(weights, clips, tmp_path / "out", pictures=2)
    whole, out = contents(tmp_path / "whole"), contents(tmp_path / "out")
    assert out == whole
    if after == 5:  # the last frame, and the one it is compared with
        assert brightness[0].segmented == [1, 2]


def test_a_finished_run_is_not_done_again(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 2)
    first = run(weights, clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    brightness.clear()
    assert run(weights, clip, tmp_path / "out") == first
    assert brightness[0].segmented == []
    assert contents(tmp_path / "out") == before


def test_other_settings_replace_all_of_an_earlier_run(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 3)
    run(weights, clip, tmp_path / "out")
    run(weights, clip, tmp_path / "out", interval=2, neighbours=[])
    run(weights, clip, tmp_path / "fresh", interval=2, neighbours=[])
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_one_bad_clip_does_not_cost_the_others(brightness, weights, tmp_path) -> None:
    clips = tmp_path / "clips"
    write_frames(clips / "a", 2)
    write_image(clips / "a/x.png", np.zeros((30, 30, 3), np.uint8))
    write_frames(clips / "b", 2)
    with pytest.raises(MediaError, match=r"x\.png"):
        run(weights, clips, tmp_path / "out")
    assert len(list((tmp_path / "out/masks/b").iterdir())) == 2
    assert not (tmp_path / "out/pseudo_labels.csv").exists()
    (clips / "a/x.png").unlink()
    assert run(weights, clips, tmp_path / "out").accepted == 4


def test_a_frame_that_cannot_be_decoded_leaves_a_gap(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 4)
    data = (clip / "f2.png").read_bytes()
    (clip / "f2.png").write_bytes(data[: len(data) // 2])
    result = run(weights, clip, tmp_path / "out")
    assert [row.fid for row in read_clips(result.table)] == [0, 1, 3]
    facts = json.loads(result.provenance.read_text())
    assert facts["clips"][0]["unreadable"] == ["f2.png"]


def test_a_record_that_names_files_elsewhere_removes_none(brightness, weights, tmp_path) -> None:
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=SIZE) as video:
        for _ in range(3):
            video.write(scene())
    out = tmp_path / "out"
    run(weights, tmp_path / "field.mp4", out)
    victims = [tmp_path / "victim/notes.txt", out / "notes.txt", tmp_path / "victim/f.png"]
    for victim in victims:
        victim.parent.mkdir(exist_ok=True)
        victim.write_text("mine")
    record = out / ".progress/field.jsonl"
    lines = ['{"fingerprint": "another"}']
    for name in ("../../victim/f", "../../notes.txt", str(tmp_path / "victim/f"), "mine"):
        files = [str(victim) for victim in victims] + ["../victim/notes.txt", "notes.txt"]
        row = {"frame": name, "frame_index": 0, "accepted": True, "files": files}
        lines.append(json.dumps(row))
    for signed in (False, True):
        text = [
            f'{line[:-1]}, "crc": {zlib.crc32(line.encode())}}}' if signed else line
            for line in lines
        ]
        record.write_text("\n".join(text) + "\n")
        assert run(weights, tmp_path / "field.mp4", out).accepted == 3
        assert all(victim.read_text() == "mine" for victim in victims)


@pytest.mark.parametrize("lost", [["object"], ["reason"], ["accepted", "object"], ["background"]])
def test_sound_rows_that_lack_something_are_work_undone(
    brightness, weights, tmp_path, lost
) -> None:
    clip = write_frames(tmp_path / "clip", 3)
    out = tmp_path / "out"
    run(weights, clip, out)
    before = contents(out)
    record = out / ".progress/clip.jsonl"
    lines = []
    for line in record.read_text().splitlines():
        entry = json.loads(line)
        del entry["crc"]
        text = json.dumps({key: entry[key] for key in entry if key not in lost})
        lines.append(f'{text[:-1]}, "crc": {zlib.crc32(text.encode())}}}\n')
    record.write_text("".join(lines))
    run(weights, clip, out)
    assert contents(out) == before


def test_own_files_beside_the_pictures_stay(brightness, weights, tmp_path) -> None:
    clip = write_frames(tmp_path / "clip", 2)
    run(weights, clip, tmp_path / "out", pictures=2)
    (tmp_path / "out/overlays/mine.jpg").write_text("mine")
    run(weights, clip, tmp_path / "out")
    names = [
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "out/overlays").rglob("*")
    ]
    assert names == ["out/overlays/mine.jpg"]


@pytest.mark.parametrize("name", ["masks/clip/f0.png", "frames/clip/f0.jpg"])
def test_images_that_no_run_made_are_not_written_over(brightness, weights, tmp_path, name) -> None:
    source = tmp_path / "clip"
    if "frames" in name:
        source = tmp_path / "clip.mp4"
        with VideoWriter(source, frame_rate=10, size=SIZE) as video:
            video.write(scene(doubt=False))
    else:
        write_frames(source, 2)
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="is there, and this command is not known to have made"):
        run(weights, source, tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*.*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_a_user_s_own_file_of_that_name_is_refused(brightness, weights, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "pseudo_labels.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"pseudo_labels\.json: is there, and dvos pseudo-label"):
        run(weights, write_frames(tmp_path / "clip", 2), out)
    assert contents(out) == {"pseudo_labels.json": b'{"mine": 1}'}


def test_results_never_replace_the_input(brightness, weights, tmp_path) -> None:
    write_frames(tmp_path / "out/masks/clip", 2)
    with pytest.raises(UsageError, match="would replace its frames"):
        run(weights, tmp_path / "out/masks/clip", tmp_path / "out")


def test_a_missing_checkpoint_and_input_are_told(weights, checkpoint, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        run(tmp_path / "none", tmp_path, tmp_path / "out")
    with pytest.raises(CheckpointError):
        run(weights, tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="no such file or folder"):
        run(checkpoint, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("scales=[]", "scales"),
        ("scales=[1.0, 9.0]", "scales holds 9.0"),
        ("neighbours=[0]", "neighbours holds 0"),
        ("neighbours=[40]", "too far"),
        ("filter.object_threshold=0.1", "above background_threshold"),
        ("filter.probe_object=0.2", "above probe_background"),
        ("filter.object_treshold=0.9", "did you mean filter.object_threshold?"),
    ],
)
def test_bad_settings_are_told(weights, tmp_path, override: str, told: str) -> None:
    import dvos

    with pytest.raises(ConfigError) as caught:
        dvos.pseudo_label(input=tmp_path, checkpoint=weights, overrides=[override])
    assert told in str(caught.value)


@pytest.mark.parametrize("tile", [0, 64])
def test_a_real_network_labels_and_goes_on(checkpoint, tmp_path, tile) -> None:
    clip = write_frames(tmp_path / "clip", 3)
    rule = {"background_threshold": 0.45, "min_known": 0.0, "min_consistency": 0.0}
    options: dict[str, Any] = {"filter": rule, "scales": [0.75, 1.0], "flips": "all", "tile": tile}
    options["probe"] = True
    result = run(checkpoint, clip, tmp_path / "out", **options)
    assert (result.frames, result.judged) == (3, 3)
    again = run(checkpoint, clip, tmp_path / "again", **options)
    assert contents(again.out) == contents(result.out)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"clips": [{"clip": "a"}]},
        {"clips": [{"clip": "a", "frames": [{"frame": "../../f0", "frame_index": 0}]}]},
        {"clips": {"a": 1}},
        [],
        None,
    ],
)
def test_spoilt_provenance_is_written_anew(brightness, weights, tmp_path, caplog, spoilt) -> None:
    for name in ("a", "b"):
        run(weights, write_frames(tmp_path / "clips" / name, 2), tmp_path / "out")
    victim = tmp_path / "f0.jpg"
    victim.write_bytes(b"of a user")
    (tmp_path / "out/pseudo_labels.json").write_text(json.dumps(spoilt) if spoilt else "\0")
    result = run(weights, tmp_path / "clips/b", tmp_path / "out")
    assert "pseudo_labels.json: cannot be trusted" in caplog.text
    (clip,) = json.loads(result.provenance.read_text())["clips"]
    assert clip["clip"] == "b"
    assert [row.vid for row in read_clips(result.table)] == list("aabb")
    assert victim.is_file()


def test_further_runs_add_their_clips(brightness, weights, tmp_path) -> None:
    clips = tmp_path / "clips"
    for name in ("a", "b"):
        write_frames(clips / name, 2)
    run(weights, clips, tmp_path / "together")
    for name in ("a", "b"):
        result = run(weights, clips / name, tmp_path / "out")
        assert (result.frames, result.accepted) == (2, 2)
    expected = contents(tmp_path / "together")
    found = contents(tmp_path / "out")
    assert found["pseudo_labels.csv"] == expected["pseudo_labels.csv"]
    whole, merged = (json.loads(each["pseudo_labels.json"]) for each in (expected, found))
    # Of a run with other settings it is told which.
    assert merged["clips"][0].pop("made_with")["settings"]["input"] == str(clips / "a")
    assert (merged["clips"], merged["summary"]) == (whole["clips"], whole["summary"])
    run(weights, clips / "b", tmp_path / "out", interval=2)
    clip, again = json.loads((tmp_path / "out/pseudo_labels.json").read_text())["clips"]
    assert clip["made_with"]["settings"]["interval"] == 1
    assert "made_with" not in again
    assert [row.vid for row in read_clips(tmp_path / "out/pseudo_labels.csv")] == list("aabb")
    other = write_frames(tmp_path / "card2/a", 2)
    with pytest.raises(UsageError, match="holds the results of a clip 'a'"):
        run(weights, other, tmp_path / "out", interval=2)
    assert [row.vid for row in read_clips(tmp_path / "out/pseudo_labels.csv")] == list("aabb")


def test_stills_of_further_runs_are_added(brightness, weights, tmp_path) -> None:
    for name in ("x", "y"):
        write_image(tmp_path / f"{name}.png", scene(0))
        run(weights, tmp_path / f"{name}.png", tmp_path / "out", stills=True)
    table = tmp_path / "out/pseudo_stills.csv"
    assert [row.mask.stem for row in read_stills(table)] == ["x", "y"]
