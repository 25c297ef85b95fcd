from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from small_field import contents, settings_of

from dvos import files
from dvos.config.scene import SynthesisSettings
from dvos.errors import DvosError, OutputError, RunError, UsageError
from dvos.files import _digest_at, locked
from dvos.media.clip_store import ClipStore
from dvos.media.frames import open_frames
from dvos.media.image import image_size, read_image, write_image
from dvos.media.mask import mask_size, read_mask
from dvos.synthesis import write
from dvos.synthesis.build import (
    build_clip_generator,
    build_generator,
    build_recipe,
)
from dvos.synthesis.flow import read_flow, write_flow
from dvos.synthesis.write import synthesize
from dvos.tables import read_clips, read_images, split_address


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("field")


@pytest.fixture(scope="module")
def tree(field: Path) -> Path:
    out = field / "tree"
    result = synthesize(settings_of(field, out, instances=True, prefix="a_"))
    assert str(result) == f"4 clips, 12 frames ({out / 'clips.csv'})"
    return out


def test_the_table_is_the_published_one(tree: Path) -> None:
    text = (tree / "clips.csv").read_text()
    lines = text.splitlines()
    assert lines[0] == "BID,VID,FID,Image,Mask,Label"
    assert lines[4] == (
        "Back_001,a_VID_00001,3,VID_00001/Frames/vid-00001_frame-00000.png,"
        "VID_00001/Masks/vid-00001_mask-00000.png,1"
    )
    rows = read_clips(tree / "clips.csv", image_size=image_size, mask_size=mask_size)
    assert [row.fid for row in rows] == list(range(12))
    assert [row.bid for row in rows[::3]] == ["Back_000", "Back_001", "Back_000", "Back_001"]


def test_the_files_hold_what_the_maker_makes(field: Path, tree: Path) -> None:
    settings = settings_of(field, tree)
    generator = build_clip_generator(
        settings.scene,
        backgrounds=settings.backgrounds,
        cutouts=settings.cutouts,
        distractors=settings.distractors,
        seed=7,
    )
    clip = generator.make(3, frames=3, size=(64, 72), background=1)
    folder = tree / "VID_00003"
    for t in range(3):
        mask = read_mask(folder / f"Masks/vid-00003_mask-{t:05d}.png")
        ids = read_mask(folder / f"Instances/vid-00003_instance-{t:05d}.png")
        image = read_image(folder / f"Frames/vid-00003_frame-{t:05d}.png")
        assert np.array_equal(image, clip.frames[t])
        assert np.array_equal(mask, 255 * (clip.instances[t] > 0).astype(np.uint8))
        assert ids.dtype == np.uint16
        assert np.array_equal(ids, clip.instances[t])


def test_the_table_of_instances_counts_the_pixels(tree: Path) -> None:
    with open(tree / "VID_00002/instances.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        t, number = int(row["Frame"]), int(row["Instance"])
        ids = read_mask(tree / f"VID_00002/Instances/vid-00002_instance-{t:05d}.png")
        ys, xs = np.nonzero(ids == number)
        assert len(ys) == int(row["VisibleArea"]) <= int(row["FullArea"])
        if len(ys):
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert [int(row[k]) for k in ("X", "Y", "Width", "Height")] == box


def test_a_clip_rendered_in_parts_is_the_same(
    field: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_PART_PIXELS", 1)
    synthesize(settings_of(field, tmp_path, instances=True, prefix="a_"))
    assert contents(tmp_path) == contents(tree)


@pytest.mark.parametrize("workers", [3])
def test_any_number_of_workers_gives_the_same_bytes(
    field: Path, tree: Path, tmp_path: Path, workers: int
) -> None:
    synthesize(settings_of(field, tmp_path, instances=True, prefix="a_", workers=workers))
    assert contents(tmp_path) == contents(tree)


def test_more_clips_keep_those_that_are_there(field: Path, tmp_path: Path) -> None:
    synthesize(settings_of(field, tmp_path, clips=2))
    before = {name: data for name, data in contents(tmp_path).items() if name != "clips.csv"}
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    synthesize(settings_of(field, tmp_path, clips=3))
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == times
    assert len(read_clips(tmp_path / "clips.csv")) == 9


def test_a_lost_frame_is_made_again(field: Path, tree: Path, tmp_path: Path) -> None:
    settings = settings_of(field, tmp_path, instances=True, prefix="a_")
    synthesize(settings)
    (tmp_path / "VID_00001/Masks/vid-00001_mask-00002.png").unlink()
    kept = (tmp_path / "VID_00000/clip.json").stat().st_mtime_ns
    synthesize(settings)
    assert contents(tmp_path) == contents(tree)
    assert (tmp_path / "VID_00000/clip.json").stat().st_mtime_ns == kept


def test_clips_of_other_settings_are_not_replaced(field: Path, tmp_path: Path) -> None:
    settings = settings_of(field, tmp_path, clips=1, instances=True)
    synthesize(settings)
    made = contents(tmp_path)
    others = settings_of(field, tmp_path, clips=1, frames=2, seed=8)
    with pytest.raises(OutputError) as caught:
        synthesize(others)
    note = tmp_path / "synthesis.yaml"
    assert [str(fault) for fault in caught.value.faults] == [
        f"{note}: {key}: is {new} now, but the clips in this folder have {old}; "
        "choose another --out, or delete the folder"
        for key, new, old in [
            ("frames", 2, 3),
            ("instances", False, True),
            ("seed", 8, 7),
        ]
    ]
    # What each clip was made of is known, also where the note of the settings is lost or spoilt.
    for text in (None, "frames: [", "frames: 2\n"):
        note.unlink()
        if text is not None:
            note.write_text(text)
        with pytest.raises(OutputError, match="holds a clip VID_00000 of other images"):
            synthesize(settings.model_copy(update={"seed": 8}))
        note.touch()
    assert contents(tmp_path) == made


def test_clips_go_by_what_images_hold_whenever_that_was_written(
    field: Path, tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(field, images)
    settings = settings_of(images, out, clips=1)
    synthesize(settings)
    made = contents(out)
    for path in images.rglob("*.png"):
        os.utime(path, (5, 5))
    synthesize(settings)
    assert contents(out) == made
    cutout = read_images(images / "cutouts.csv")[0].image
    data, stamp = bytearray(cutout.read_bytes()), cutout.stat()
    data[-1] ^= 1
    cutout.write_bytes(data)
    os.utime(cutout, (stamp.st_atime, stamp.st_mtime))
    _digest_at.cache_clear()  # as of another process
    with pytest.raises(OutputError, match="holds a clip VID_00000 of other images"):
        synthesize(settings)


def test_clips_of_other_images_are_not_replaced(field: Path, tmp_path: Path) -> None:
    settings = settings_of(field, tmp_path, clips=1)
    synthesize(settings)
    made = contents(tmp_path)
    fewer = settings.model_copy(update={"distractors": []})
    with pytest.raises(OutputError, match="holds a clip VID_00000 of other images"):
        synthesize(fewer)
    assert contents(tmp_path) == made
    for path in tmp_path.glob("VID_*/clip.json"):
        path.unlink()  # a clip that is not there is not replaced
    synthesize(fewer)
    assert contents(tmp_path) != made


def test_files_of_a_clip_are_looked_for_in_its_folder_alone(field: Path, tmp_path: Path) -> None:
    settings = settings_of(field, tmp_path / "clips", clips=1)
    synthesize(settings)
    made = contents(tmp_path / "clips")
    listed = tmp_path / "clips/VID_00000/clip.json"
    (tmp_path / "outside.png").write_bytes(b"12345")
    for name in ("../../outside.png", str(tmp_path / "outside.png")):
        values = json.loads(listed.read_text())
        values["files"] = {name: 5}
        text = json.dumps(values, indent=2) + "\n"
        # Of the size that the ledger knows, so that the list itself is looked at.
        listed.write_text(text + " " * (listed.stat().st_size - len(text)))
        synthesize(settings)
        assert contents(tmp_path / "clips") == made


def test_an_interrupted_run_leaves_no_table_and_goes_on(
    field: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(field, tmp_path, instances=True, prefix="a_")
    original, count = write._render, []

    def breaking(*arguments: object, **options: object) -> object:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "_render", breaking)
    with pytest.raises(KeyboardInterrupt):
        synthesize(settings)
    assert not (tmp_path / "clips.csv").exists()
    assert len(list(tmp_path.glob("VID_*/clip.json"))) == 2
    synthesize(settings)
    assert len(count) == 5  # two before, one broken, two after
    assert contents(tmp_path) == contents(tree)


def test_a_store_holds_the_same_clip(field: Path, tree: Path, tmp_path: Path) -> None:
    settings = settings_of(field, tmp_path, layout="store", instances=True, overlay_video=True)
    result = synthesize(settings)
    clip = ClipStore(tmp_path / "VID_00003.dvclip")
    assert (result.clips, len(clip), clip.size) == (4, 3, (64, 72))
    assert clip.metadata["background"] == "Back_001"
    assert clip.metadata["seed"] == 7
    for t in range(3):
        ids = read_mask(tree / f"VID_00003/Instances/vid-00003_instance-{t:05d}.png")
        image = read_image(tree / f"VID_00003/Frames/vid-00003_frame-{t:05d}.png")
        assert np.array_equal(clip.read_instances([t])[0], ids)
        assert np.abs(clip.read_frames([t])[0].astype(int) - image).mean() < 3
    table = (tmp_path / "VID_00003.instances.csv").read_bytes()
    assert table == (tree / "VID_00003/instances.csv").read_bytes()
    assert open_frames(tmp_path / "VID_00003.mp4").size == (64, 72)
    with open(tmp_path / "clips.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[10]
    assert row["Image"] == row["Mask"] == "VID_00003.dvclip#000001"
    assert split_address(Path(row["Image"])) == (Path("VID_00003.dvclip"), 1)


def test_the_settings_are_noted_and_make_the_same_again(field: Path, tmp_path: Path) -> None:
    synthesize(settings_of(field, tmp_path / "a", clips=1))
    values = yaml.safe_load((tmp_path / "a/synthesis.yaml").read_text())
    assert values["seed"] == 7
    assert "workers" not in values
    again = SynthesisSettings.model_validate({**values, "out": tmp_path / "b"})
    synthesize(again)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_flow_is_written_but_for_the_first_frame(field: Path, tmp_path: Path) -> None:
    synthesize(settings_of(field, tmp_path, clips=1, flow=True))
    folder = tmp_path / "VID_00000/Flow"
    flow = read_flow(folder / "vid-00000_flow-00001.png")
    assert flow.shape == (64, 72, 2)
    assert np.isfinite(flow).mean() > 0.8
    assert np.isnan(read_flow(folder / "vid-00000_flow-00000.png")).all()
    manifest = json.loads((tmp_path / "VID_00000/clip.json").read_text())
    assert "Flow/vid-00000_flow-00002.png" in manifest["files"]


def test_a_flow_file_keeps_a_64th_of_a_pixel(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).uniform(-500, 500, (9, 7, 2)).astype(np.float32)
    flow[0, 0] = (0, 600)  # beyond the encoding
    flow[1, 1] = np.nan
    write_flow(tmp_path / "f.png", flow)
    read = read_flow(tmp_path / "f.png")
    unknown = np.isnan(read)
    assert unknown.sum() == 4
    assert unknown[0, 0].all()
    assert unknown[1, 1].all()
    assert np.abs(read - flow)[~unknown].max() <= 0.5 / 64
    with pytest.raises(DvosError, match="cannot be read"):
        read_flow(tmp_path / "none.png")


def test_the_preview_is_a_sheet_and_nothing_else(field: Path, tmp_path: Path) -> None:
    result = synthesize(settings_of(field, tmp_path, preview=True))
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]
    assert (result.table, result.whole) == (tmp_path / "preview.png", None)
    synthesize(settings_of(field, tmp_path, preview=True, seed=7))  # its own is drawn anew
    height, width = image_size(tmp_path / "preview.png")
    assert height > 4 * 64
    assert width > 4 * 72


def test_a_preview_replaces_no_picture_of_a_user(field: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "preview.png", np.zeros((8, 8, 3), np.uint8))
    before = (tmp_path / "preview.png").read_bytes()
    with pytest.raises(OutputError, match=r"preview\.png: is there, and dvos synthesize \(which"):
        synthesize(settings_of(field, tmp_path, preview=True))
    assert (tmp_path / "preview.png").read_bytes() == before


@pytest.mark.parametrize("clips", [None, 4])
def test_all_faults_of_the_tables_come_at_once(
    field: Path, tmp_path: Path, clips: int | None
) -> None:
    tables = {"backgrounds": [], "cutouts": ["none.csv"], "distractors": ["nor.csv"]}
    settings = settings_of(field, tmp_path / "clips", **tables, clips=clips)
    with pytest.raises(DvosError) as caught:
        synthesize(settings)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert not (tmp_path / "clips").exists()
    assert all(
        word in text for word, text in zip(("background", "none", "nor"), lines, strict=True)
    )


def test_other_code_is_refused(field: Path, tmp_path: Path) -> None:
    recipe = build_recipe(settings_of(field, tmp_path))
    with pytest.raises(RunError, match="another release"):
        build_generator(replace(recipe, engine="0"))


def test_an_unreachable_scheduler_is_told(field: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scheduler nowhere"):
        synthesize(settings_of(field, tmp_path, scheduler="nowhere"))


@pytest.mark.parametrize("name", ["clips.csv", "synthesis.yaml", "VID_00001/Frames/mine.png"])
def test_what_it_did_not_make_is_not_written_over(field: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="is not known to have made it"):
        synthesize(settings_of(field, tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_at_work_is_not_joined_by_another(field: Path, tmp_path: Path) -> None:
    synthesize(settings_of(field, tmp_path))
    made = contents(tmp_path)
    with (
        locked(tmp_path / ".clips.csv.ledger.jsonl"),
        pytest.raises(RunError, match="another run is at work here"),
    ):
        synthesize(settings_of(field, tmp_path, clips=5))
    assert contents(tmp_path) == made


def test_what_a_kill_left_half_written_goes(
    field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(settings_of(field, tmp_path, clips=2, instances=True))
    (tmp_path / "VID_00001/clip.json").unlink()
    for place in (".", "VID_00001", "VID_00001/Frames", "VID_00001/Instances"):
        (tmp_path / place / ".writing-abc.png").write_bytes(b"half")
    monkeypatch.setattr(files, "_swept", set())  # as in another process
    synthesize(settings_of(field, tmp_path, clips=2, instances=True))
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("prefix", ["../", "a/b_", ".hidden_", "a\\b", " a"])
def test_names_of_clips_lead_nowhere(field: Path, tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ValidationError, match="neither begins"):
        settings_of(field, tmp_path, prefix=prefix)
