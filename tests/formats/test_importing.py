"""``dvos import``: the data folder that labels become, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_labels import SIZE, hard_labels, made_source, write_photo

import dvos
from dvos.cli.main import main
from dvos.config.data import DataSettings
from dvos.errors import MediaError, OutputError, UsageError
from dvos.files import make_folder
from dvos.formats.importing import take_sources, write_data_folder
from dvos.formats.known import FORMATS, open_source
from dvos.formats.sheets import plain_names
from dvos.media.mask import IGNORE, read_mask, write_mask
from dvos.tables import read_clips
from dvos.training.labels import find_labels


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """A COCO file of two photos, wheat on the first and weed on both."""
    square = [[5, 5, 15, 5, 15, 15, 5, 15]]
    images = []
    for number, name in enumerate(("a.png", "b.png"), 1):
        write_photo(tmp_path / "in" / name)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
    annotations = [
        {"id": n, "image_id": image, "category_id": kind, "segmentation": square}
        for n, (image, kind) in enumerate([(1, 1), (1, 2), (2, 2)], 1)
    ]
    kinds = [{"id": 1, "name": "wheat"}, {"id": 2, "name": "weed"}]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    path = tmp_path / "in/all.json"
    path.write_text(json.dumps(content))
    return path


def test_several_classes_are_asked_for(
    two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["import", str(two_classes), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {two_classes}: holds objects of several classes: weed (2), ")
    assert len(told.splitlines()) == 1
    assert not out.exists()
    assert main(["import", str(two_classes), "--out", str(out), "--classes", "wheat"]) == 0
    told = capsys.readouterr().out
    assert told == (
        f"{two_classes}: COCO, 2 pictures, 1 without objects; objects: 1 of wheat;"
        f" written to {out}\n"
    )
    with pytest.raises(UsageError, match="has no objects of class rye"):
        dvos.import_labels(two_classes, out=out, classes="rye")


def test_a_dry_run_writes_nothing_and_tells_all_faults(two_classes: Path, tmp_path: Path) -> None:
    result = dvos.import_labels(
        two_classes, out=tmp_path / "out", classes=["weed", "wheat"], dry_run=True
    )
    assert (result.out, result.pictures, result.objects) == (None, 2, {"weed": 2, "wheat": 1})
    for name in ("a.png", "b.png"):
        (two_classes.parent / name).unlink()
    with pytest.raises(MediaError) as caught:
        dvos.import_labels(two_classes, out=tmp_path / "out", classes="weed", dry_run=True)
    assert [fault.found for fault in caught.value.faults] == [
        "the picture a.png was not found",
        "the picture b.png was not found",
    ]
    assert not (tmp_path / "out").exists()


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    labels = hard_labels()
    unknown = np.where(labels == 3, -1, labels)
    source = made_source(tmp_path / "in", {"a.png": unknown, "b.png": np.zeros_like(labels)})
    out = tmp_path / "out"
    result = write_data_folder(source, out)
    assert (result.stills, result.clips, result.empty) == (out / "annotated", None, 1)
    mask = read_mask(out / "annotated/masks/a.png")
    assert (mask == np.where(unknown < 0, IGNORE, unknown)).all()
    settings = DataSettings(stills={"folders": [out / "annotated"]})
    found = find_labels(settings)
    assert len(found.stills) + len(found.held_stills) == 2
    # The photo is the very same file.
    assert (out / "annotated/images/a.png").samefile(tmp_path / "in/a.png")


def test_frames_become_a_clip(tmp_path: Path) -> None:
    labels = hard_labels()
    frames = {f"{n:05d}.png": np.where(labels == n, 0, labels) for n in range(1, 4)}
    source = made_source(tmp_path / "plot 1", frames, video="plot 1")
    object.__setattr__(source.pictures[1], "labelled", False)
    out = tmp_path / "out"
    result = write_data_folder(source, out)
    assert (result.stills, result.clips, result.videos) == (None, out / "clips.csv", 1)
    rows = read_clips(out / "clips.csv")
    assert [(row.vid, row.fid, row.label) for row in rows] == [
        ("plot 1", 0, 1),
        ("plot 1", 1, 0),
        ("plot 1", 2, 1),
    ]
    assert (read_mask(rows[2].mask) == frames["00003.png"]).all()
    assert rows[1].mask is None
    settings = DataSettings(clips={"tables": [out / "clips.csv"]})
    assert [len(clip.masks) for clip in find_labels(settings).clips] == [2]


def test_a_table_of_clips_is_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {f"{n:05d}.png": hard_labels() for n in range(2)}
    source = made_source(tmp_path / "plot 1", frames, video="plot 1")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for out in (Path("out"), Path("../in/out"), tmp_path / "in/out"):
        write_data_folder(source, out)
    before = (tmp_path / "in/out/clips.csv").read_bytes()
    monkeypatch.chdir(tmp_path)
    write_data_folder(source, Path("in/./out"))
    assert (tmp_path / "in/out/clips.csv").read_bytes() == before


def test_an_import_goes_on_and_replaces_nothing(two_classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"out": out, "classes": "weed"}
    dvos.import_labels(two_classes, **options)
    (out / "annotated/masks/a.png").unlink()
    before = (out / "annotated/masks/b.png").stat().st_mtime_ns
    dvos.import_labels(two_classes, **options)
    assert (out / "annotated/masks/b.png").stat().st_mtime_ns == before
    assert (out / "annotated/masks/a.png").is_file()
    with pytest.raises(OutputError, match=r"b\.png: is there with other content"):
        dvos.import_labels(two_classes, out=out, classes="wheat")


def test_commands_take_sources_as_they_are(two_classes: Path, tmp_path: Path) -> None:
    stills, clips = take_sources([two_classes], "weed", tmp_path / "taken")
    assert (stills, clips) == ([tmp_path / "taken/all/annotated"], [])
    assert len(list((stills[0] / "images").iterdir())) == 2
    with pytest.raises(UsageError, match="is of no format"):
        write_photo(tmp_path / "x.png")
        open_source(tmp_path / "x.png", name="coco")


def test_pictures_below_a_folder_that_is_a_link_are_found(
    two_classes: Path, tmp_path: Path
) -> None:
    source = two_classes.parent
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.png", "b.png"):
        (source / name).rename(tmp_path / "elsewhere" / name)
    for name in ("images", "images again"):
        (source / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere/round").symlink_to(source, target_is_directory=True)
    result = dvos.import_labels(two_classes, out=tmp_path / "out", classes="weed")
    assert result.pictures == 2
    # Those that lie in the folder itself come first.
    other = write_photo(source / "b.png")
    assert [one.path for one in open_source(two_classes).pictures][1] == other


def test_a_mask_of_another_size_than_its_frame_is_told(tmp_path: Path) -> None:
    labels = hard_labels()
    source = made_source(tmp_path / "in", {f"{n}.png": labels for n in range(3)}, video="v")
    write_data_folder(source, tmp_path / "out")
    masks = sorted((tmp_path / "out/clips/v/masks").glob("*.png"))
    for path in masks[1:]:
        write_mask(path, np.repeat(labels, 2, axis=0).astype(np.uint16))
    with pytest.raises(MediaError) as caught:
        open_source(tmp_path / "out/clips.csv")
    assert [fault.found for fault in caught.value.faults] == ["is 60 x 80 pixels"] * 2
    assert [fault.where for fault in caught.value.faults] == [str(one) for one in masks[1:]]


LONG = "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 83


def test_long_names_are_cut_to_what_file_systems_hold(tmp_path: Path) -> None:
    names = plain_names([f"a/{LONG}.png", f"b/{LONG}.png", f"{'n' * 300}.png", f"x.{'y' * 200}"])
    assert len({*names}) == 4
    assert all(0 < len(name.encode()) < 200 for name in names)
    assert plain_names([f"{LONG}.png"]) == [LONG[:50]]
    assert plain_names([f"{'a' * 60}.{'b' * 149}.png"]) == ["b" * 149]
    assert plain_names([f"a{'.' * 200}b"], whole=True) == ["b"]
    assert plain_names([f"a{'.' * 200}"], whole=True) == ["picture"]
    source = made_source(tmp_path / "in", {"a.png": hard_labels()})
    long = replace(source, pictures=[replace(source.pictures[0], name=f"{LONG}.png")])
    for name in ("labels", "geojson", "labelme", "yolo", "ctc", "imagej"):
        write = FORMATS[name].write
        assert write is not None
        write(long, tmp_path / name)
    assert len(list((tmp_path / "labels").iterdir())) == 1


@pytest.mark.parametrize("odd", ["\x01", "\x1f", "\udcff", "\uffff"])
def test_xml_replaces_what_it_cannot_hold(odd: str, tmp_path: Path) -> None:
    source = made_source(tmp_path / "in", {"a.png": hard_labels()}, label=f"wheat{odd}")
    named = replace(source.pictures[0], name=f"n\u00e4me\n{odd}.png")
    write = FORMATS["cvat"].write
    assert write is not None
    for video in ("", f"v{odd}"):
        pictures = [replace(named, video=video)]
        out = make_folder(tmp_path / (video and "video"))
        source.notes.clear()
        write(replace(source, pictures=pictures), out)
        (path,) = out.glob("*.xml")
        back = open_source(path, images=out)
        assert set(back.classes()) == {"wheat\ufffd"}
        if not video:
            assert back.pictures[0].name == "n\u00e4me\n\ufffd.png"
        note = "names with characters that XML cannot hold, replaced"
        assert note in source.notes
        path.unlink()


def test_a_name_that_is_no_unicode_becomes_one_that_is() -> None:
    assert plain_names(["bad\udcff.png", "v\udcfe/a.png"]) == ["bad_", "a"]
    assert plain_names(["v\udcfe"], whole=True) == ["v_"]
