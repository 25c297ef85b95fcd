"""What a fit chooses by the data and the time given, without training anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dvos import registry
from dvos.config.training import TrainingSettings, load_training
from dvos.config.workflow import DemoSettings, FitSettings, MethodSettings
from dvos.errors import CheckpointError, ConfigError, DvosError, UsageError
from dvos.media.clip_store import ClipStoreWriter, read_image_at, read_mask_at
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask
from dvos.media.video_write import VideoWriter
from dvos.networks.weights import save_network
from dvos.runner.manifest import ClipManifest
from dvos.tables import StillRow, frame_address
from dvos.workflow import starting
from dvos.workflow.data_folder import DataFolder, read_data_folder
from dvos.workflow.demo import demo
from dvos.workflow.fit import fit, read_data
from dvos.workflow.folds import part
from dvos.workflow.planning import (
    Plan,
    Speed,
    Survey,
    fitted,
    look_at,
    make_plan,
    with_larger_clips,
)
from dvos.workflow.starting import Start, check_start, check_training, choose_start
from dvos.workflow.steps import (
    MethodFolder,
    build_objects,
    build_scoring,
    build_synthesis,
    training_options,
    with_data_mix,
)

SPEED = Speed(clip=0.1, megapixel=0.2, start=5.0, frames=1, batch=8, crop=160, device="cpu")


def put_still(folder: Path, name: str, *, radius: int, count: int = 4, side: int = 200) -> StillRow:
    """A still with discs in a row of each quarter, numbered."""
    rows, columns = np.mgrid[:side, :side]
    ids = np.zeros((side, side), np.uint16)
    for number in range(count):
        down, across = divmod(number, 2)
        centre = side // 4 + down * side // 2, side // 4 + across * side // 2
        ids[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2] = number + 1
    row = StillRow(folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png")
    row.image.parent.mkdir(parents=True, exist_ok=True)
    row.mask.parent.mkdir(parents=True, exist_ok=True)
    write_image(row.image, np.full((side, side, 3), 60, np.uint8))
    write_mask(row.mask, ids)
    return row


def settings(**values: Any) -> FitSettings:
    return FitSettings(folder=Path("data"), out=Path("run"), **values)


def plan(data: DataFolder, speed: Speed = SPEED, **values: Any) -> Plan:
    chosen = with_data_mix(settings(**values), data)
    start = Start(None, "as asked for")
    return make_plan(chosen, data, look_at(data.labelled), speed, start, spent=10.0)


@pytest.fixture
def stills(tmp_path: Path) -> tuple[StillRow, ...]:
    return tuple(put_still(tmp_path / "annotated", f"s{n}", radius=20) for n in range(3))


def test_labels_are_measured(stills: tuple[StillRow, ...]) -> None:
    found = look_at(stills)
    assert (found.pictures, found.size, found.objects, found.apart) == (3, (200, 200), 4, True)
    assert found.length == pytest.approx(41, abs=2)
    assert found.density == pytest.approx(100)
    assert found.touching == 0


@pytest.mark.parametrize(
    ("radius", "side", "scale"), [(20, 200, 1.0), (4, 60, 2.4), (80, 400, 0.4)]
)
def test_objects_far_from_what_is_seen_well_are_resized(
    tmp_path: Path, radius: int, side: int, scale: float
) -> None:
    found = look_at([put_still(tmp_path, "a", radius=radius, side=side)])
    assert found.scale == pytest.approx(scale, rel=0.06)
    chosen = fitted(settings(train={"batch": 4}), found)
    assert chosen.train["batch"] == 4
    assert chosen.train.get("data", {"scale": 1.0}) == {"scale": found.scale}
    assert chosen.min_object_size == (9 if radius == 4 else 64)


def test_what_the_user_gives_is_kept(stills: tuple[StillRow, ...]) -> None:
    given = {"network": "paper", "data": {"scale": 0.5}}
    small = replace(look_at(stills), length=200.0)
    chosen = fitted(settings(train=given, min_object_size=70), small)
    assert chosen.train == given
    assert chosen.min_object_size == 70


@pytest.mark.parametrize(
    ("inside", "outside", "cells"),
    [
        (180, 60, True),
        (300, 90, True),  # in 16 bit, of which it takes a small part
        (60, 180, False),
        ((180, 150, 90), 60, False),
    ],
)
def test_what_glows_in_grey_pictures_is_taken_for_cells(
    tmp_path: Path, inside: Any, outside: int, cells: bool
) -> None:
    """They have neither shadows nor wind, and are of any brightness; the user's choice stands."""
    row = put_still(tmp_path, "a", radius=20)
    ids = read_mask(row.mask)
    kind = np.uint8 if np.max(inside) < 256 else np.uint16
    pixels = np.where((ids > 0)[..., None], inside, outside).astype(kind)
    write_image(row.image, pixels if pixels.shape[2] == 3 else pixels[..., 0])
    found = look_at([row])
    assert found.glowing is cells
    chosen = fitted(settings(), found)
    assert chosen.scene.preset == ("cells" if cells else "generic")
    assert chosen.train == ({"data": {"colour": {"strength": 1.5}}} if cells else {})
    own = {"data": {"colour": "none"}}
    assert fitted(settings(train=own), found).train == own
    assert fitted(settings(scene={"preset": "wheat_ripe"}), found).scene.preset == "wheat_ripe"


def test_the_time_given_is_parted(stills: tuple[StillRow, ...]) -> None:
    """Two minutes, of which 10 s are gone: 98 s; 5 for starting, 10 for the report."""
    data = DataFolder(Path("data"), annotated=stills, validation_stills=stills[:1])
    found = plan(data, minutes=2)
    assert (found.folds, found.rounds, found.targets, found.interval) == (0, 0, "flips", 1)
    assert found.epochs == 12
    # A validation takes 0.2 s x 0.04 megapixels; its prediction is of four mirror images in sizes.
    views = 4 * sum(scale**2 for scale in (1.0, 0.45, 0.6, 0.75, 1.33))
    assert found.held_out == "flips_and_scales"
    assert found.clips == int((98 - 5 - 10 - (1 + views) * 0.008 - 12 * 0.008) / 0.1)
    assert len(found.lines) == 5
    assert plan(data, minutes=2, clips=80).clips == 80
    slow = replace(SPEED, megapixel=100.0)
    assert plan(data, slow, minutes=2).held_out == "none"
    assert plan(data, slow, minutes=2, augment="flips").held_out == "flips"


def test_clips_of_a_long_plan_are_made_larger(stills: tuple[StillRow, ...]) -> None:
    data = DataFolder(Path("data"), annotated=stills, validation_stills=stills[:1])
    long, survey = plan(data, minutes=30), replace(look_at(stills), size=(400, 224))
    assert long.clips >= 8_000

    def crop(found: Plan, seen: Survey = survey, **given: Any) -> int | None:
        chosen = with_larger_clips(settings(**given), seen, found).train
        side: int | None = chosen.get("data", {}).get("crop")
        return side

    assert crop(long) == 224
    assert crop(long, train={"data": {"scale": 1.0}}) == 224
    # Those of a short plan, what the user gives, and pictures that hold none so large stay.
    assert crop(replace(long, clips=7_999)) is None
    assert crop(long, train={"data": {"crop": 96}}) == 96
    assert crop(long, clips=20_000) is None
    assert crop(long, replace(survey, size=(400, 223))) is None
    assert crop(long, replace(survey, length=128.0)) is None  # seen at half of their size


def test_cross_validation_keeps_its_smaller_clips(stills: tuple[StillRow, ...]) -> None:
    data = DataFolder(Path("data"), annotated=stills)
    small, large = plan(data, minutes=10), replace(SPEED, clip=0.2, crop=224)
    found = plan(data, replace(large, fold_clip=0.1), minutes=10)
    assert found.crop == 224
    assert found.clips == pytest.approx(small.clips / 2, rel=0.01)  # a validation is larger, too
    assert (found.folds, found.fold_clips) == (small.folds, small.fold_clips)
    told = f"{found.folds} folds of {found.fold_clips}"
    assert f"{told} clips," in small.lines[-1]
    assert f"{told} smaller clips," in found.lines[-1]


def test_folds_take_their_part_where_nothing_is_labelled_for_validation(
    stills: tuple[StillRow, ...],
) -> None:
    data = DataFolder(Path("data"), annotated=stills)
    found, without = plan(data, minutes=10), plan(data, minutes=10, folds=0)
    assert found.folds == 3
    assert without.folds == 0
    assert found.clips == pytest.approx(0.65 * without.clips, rel=0.02)
    assert found.folds * found.fold_clips * 0.1 < 0.35 * (0.9 * 600 - 10)
    assert plan(data, minutes=10, folds=2).folds == 2
    assert plan(data, minutes=0.2).clips == 4 * SPEED.batch


def test_pseudo_labels_are_laid_on_as_many_frames_as_there_is_time_for(
    tmp_path: Path, stills: tuple[StillRow, ...]
) -> None:
    video = tmp_path / "a.mp4"
    with VideoWriter(video, frame_rate=25, size=(64, 64)) as writer:
        for _ in range(30):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    data = DataFolder(Path("data"), annotated=stills, unlabelled=(video,), targets=(video,))
    found = plan(data, minutes=10, folds=0)
    assert (found.rounds, found.interval) == (1, 1)
    assert found.round_clips > 500
    few = plan(data, replace(SPEED, megapixel=300.0), minutes=3, folds=0)
    assert few.interval > 1
    assert few.targets == "later"
    assert plan(data, minutes=10, rounds=0).rounds == 0


def test_stills_are_parted_by_their_names(stills: tuple[StillRow, ...], tmp_path: Path) -> None:
    parts = part(DataFolder(Path(), annotated=stills), 2, tmp_path, MethodSettings())
    assert sorted(row.image.stem for one in parts for row in one) == ["s0", "s1", "s2"]
    assert parts == part(DataFolder(Path(), annotated=stills[::-1]), 2, tmp_path, MethodSettings())
    frames = part(DataFolder(Path(), clip_frames=stills * 2), 2, tmp_path, MethodSettings())
    assert frames == [list(stills), list(stills)]


def test_a_single_still_is_cut_into_the_quarters_with_objects(tmp_path: Path) -> None:
    still = put_still(tmp_path, "a", radius=10, count=3)
    (tmp_path / "parts").mkdir()
    parts = part(DataFolder(Path(), annotated=(still,)), 2, tmp_path / "parts", MethodSettings())
    assert [row.image.name for one in parts for row in one] == ["a_0.png", "a_2.png", "a_1.png"]


def test_frames_of_clips_that_share_names_are_told_apart(tmp_path: Path) -> None:
    """A photo's name is all that tells what was predicted of it."""
    rows = []
    for clip in "ab":
        still = put_still(tmp_path / clip, "000000", radius=10)
        rows.append(still)
    store = tmp_path / "c.dvclip"
    ids = read_mask(rows[0].mask).astype(np.uint16)
    with ClipStoreWriter(store, size=(200, 200)) as writer:
        writer.write(np.full((200, 200, 3), 60, np.uint8), ids)
    for more in ([], [StillRow(frame_address(store, 0), frame_address(store, 0))]):
        given, place = tuple(rows + more), tmp_path / f"parts{len(more)}"
        parts = part(DataFolder(Path(), clip_frames=given), 2, place, MethodSettings())
        found = [row for one in parts for row in one]
        assert len({row.image.stem for row in found}) == len(given)
        for row, source in zip(found, given, strict=True):
            assert np.array_equal(read_image_at(row.image), read_image_at(source.image))
            assert np.array_equal(read_mask(row.mask), read_mask_at(source.mask))


@pytest.mark.parametrize(("count", "folds"), [(1, 0), (2, 2)])
def test_a_single_still_is_parted_where_its_objects_allow_it(
    tmp_path: Path, count: int, folds: int
) -> None:
    data = DataFolder(Path("data"), annotated=(put_still(tmp_path, "a", radius=10, count=count),))
    found = plan(data, minutes=10)
    assert found.folds == folds
    told = "synthetic clips alone, as a single picture has objects in one corner only: label valid"
    assert (told in found.lines[-1]) is not folds


@pytest.mark.parametrize(
    ("labelled", "told"),
    [
        ("annotated", "synthetic clips alone: label validation/"),
        ("clip_frames", "frames held back from training alone: label validation/"),
        ("validation_stills", "validation/"),
        ("", "nothing, as nothing is labelled: label validation/"),
    ],
)
def test_the_plan_says_what_the_network_is_judged_by(
    stills: tuple[StillRow, ...], labelled: str, told: str
) -> None:
    data = DataFolder(Path("data"), **({labelled: stills} if labelled else {}))  # type: ignore[arg-type]
    survey = look_at(stills) if data.labelled else None
    chosen = with_data_mix(settings(minutes=10, folds=0), data)
    start = Start(None, "as asked for")
    found = make_plan(chosen, data, survey, SPEED, start, spent=10.0)
    assert found.lines[-1].endswith(f"; judged by {told}")


@pytest.mark.parametrize("is_labelled", [True, False])
def test_the_plan_tells_the_clips_of_its_rounds(
    stills: tuple[StillRow, ...], is_labelled: bool
) -> None:
    """Where nothing is labelled there are no others."""
    data = DataFolder(
        Path("data"), annotated=stills if is_labelled else (), unlabelled=(Path("v.mp4"),)
    )
    chosen = with_data_mix(settings(minutes=10, folds=0), data)
    survey, start = look_at(stills) if is_labelled else None, Start(None, "as asked for")
    found = make_plan(chosen, data, survey, SPEED, start, spent=10.0)
    assert (found.rounds, bool(found.clips)) == (1, is_labelled)
    first = f"{found.clips} clips in {found.epochs} epochs, then " if is_labelled else ""
    told = f"time: {first}{found.round_clips} clips in a round, at 10 a second on cpu, "
    assert found.lines[-1].startswith(told)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_epochs_that_are_set_stay(stills: tuple[StillRow, ...], epochs: int) -> None:
    assert (
        plan(DataFolder(Path("data"), annotated=stills), minutes=10, epochs=epochs).epochs == epochs
    )


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"nonsense": 1}, r"train\.nonsense: unknown key"),
        ({"epoch": 1}, r"train\.epoch: unknown key; did you mean train\.epochs\?"),
        ({"data": {"crop": 1}}, r"train\.data\.crop: found 1"),
        ({"out": "x"}, r"train\.out: is chosen by the run; leave it out"),
        ({"resume": False}, r"train\.resume: is chosen by the run; leave it out"),
        ({"network": "other"}, r"train\.network"),
        ({"network": "xmem"}, r"train\.network: starts from a first mask"),
    ],
)
@pytest.mark.parametrize("run", ["fit", "demo"])
def test_faults_of_the_training_are_told_before_anything_is_done(
    tmp_path: Path, train: dict[str, Any], told: str, run: str
) -> None:
    put_still(tmp_path / "annotated", "a", radius=10)
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=told) as caught:
        if run == "fit":
            fit(FitSettings(folder=tmp_path, out=out, train=train))
        else:
            demo(DemoSettings(data=tmp_path, out=out, train=train))
    assert len(caught.value.faults) == 1
    assert not out.exists()


def test_what_the_start_allows_is_no_fault(tmp_path: Path) -> None:
    """A share of the start needs one, which a fit may choose itself."""
    check_training(settings(train={"start_share": 0.5}))
    with pytest.raises(ConfigError, match=r"train: start_share needs network\.weights"):
        check_training(settings(train={"start_share": 0.5}, start="imagenet"))
    path = tmp_path / "xmem.safetensors"
    save_network(path, torch.nn.Linear(1, 1), name="xmem", arguments={})
    with pytest.raises(CheckpointError, match=r"xmem\.safetensors: starts from a first mask"):
        check_training(settings(start=path))


@pytest.mark.parametrize("minutes", [float("inf"), 1e300, float("nan")])
def test_minutes_without_end_are_refused(minutes: float) -> None:
    with pytest.raises(ValidationError):
        settings(minutes=minutes)
    with pytest.raises(ValidationError):
        TrainingSettings(out=Path("run"), minutes=minutes)


def test_what_masks_mean_by_unknown_is_told_to_every_stage(tmp_path: Path) -> None:
    """The one setting reaches whatever reads a true mask."""
    still = put_still(tmp_path, "a", radius=10, count=3)
    ids = read_mask(still.mask)
    write_mask(still.mask, np.where(ids == 3, 9, ids).astype(np.uint8))
    settings = MethodSettings(void="9", clips=4)
    quarters = [
        row
        for one in part(DataFolder(Path(), annotated=(still,)), 2, tmp_path / "parts", settings)
        for row in one
    ]
    found = {int(one) for row in quarters for one in np.unique(read_mask(row.mask))}
    assert found == {0, 1, 2}
    assert len(quarters) == 2  # what holds only "unknown" holds no object
    data = DataFolder(
        tmp_path,
        annotated=(still,),
        clips=tmp_path / "clips.csv",
        clip_frames=(still,),
        validation_stills=(still,),
    )
    folder, tables = MethodFolder(tmp_path / "run", "fit"), [tmp_path / "b.csv"]
    train = training_options(settings, folder, data, tables)["data"]
    told = [train[name]["void"] for name in ("stills", "synthetic", "clips")]
    told += [
        train["validation"]["stills"]["void"],
        build_objects(settings, folder).void,
        build_synthesis(settings, folder, tables).void,
        build_scoring(settings, folder, data).void,
    ]
    assert told == 7 * ["9"]
    assert look_at([still], "9").objects == look_at([still], "auto").objects - 1


@pytest.mark.parametrize("given", [{}, {"preset": "cells"}])
@pytest.mark.parametrize("stills", [0, 1])
def test_training_is_told_the_scene_with_stills_or_without(
    tmp_path: Path, given: dict[str, str], stills: int
) -> None:
    still = put_still(tmp_path, "a", radius=10)
    frames = {"clips": tmp_path / "clips.csv", "clip_frames": (still,)}
    data = DataFolder(tmp_path, annotated=(still,) * stills, **frames)
    folder = MethodFolder(tmp_path / "run", "fit")
    options = training_options(settings(clips=4, scene=given), folder, data, [])
    train = load_training({"out": tmp_path / "out", **options}, "train")
    assert train.data.synthetic.scene.preset == given.get("preset", "generic")
    assert bool(train.data.synthetic.cutouts) == bool(stills)


def test_a_data_folder_is_read_by_what_its_masks_mean(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "annotated" / name).mkdir(parents=True)
    write_image(tmp_path / "annotated/images/a.png", np.zeros((40, 50, 3), np.uint8))
    write_mask(tmp_path / "annotated/masks/a.png", np.full((40, 50), 3, np.uint8))
    assert read_data_folder(tmp_path).annotated
    with pytest.raises(UsageError, match="no mask holds an object"):
        read_data_folder(tmp_path, void="3")


def test_labels_of_another_program_are_imported(tmp_path: Path) -> None:
    source = tmp_path / "coco"
    source.mkdir()
    write_image(source / "a.png", np.zeros((40, 50, 3), np.uint8))
    polygon = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[5, 5, 20, 5, 20, 30, 5, 30]],
    }
    other = {**polygon, "id": 2, "category_id": 2}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "categories": [{"id": 1, "name": "ear"}, {"id": 2, "name": "weed"}],
        "annotations": [polygon, other],
    }
    (source / "labels.json").write_text(json.dumps(document))
    given = FitSettings(folder=source, out=tmp_path / "run")
    with pytest.raises(DvosError, match="ear"):
        read_data(given)
    data = read_data(given.model_copy(update={"classes": "ear"}))
    assert data.folder == tmp_path / "run" / "imported"
    assert [row.image.name for row in data.annotated] == ["a.png"]
    assert int(np.count_nonzero(read_mask(data.annotated[0].mask))) == pytest.approx(375, abs=45)


def test_unlabelled_data_are_found_wherever_they_lie(tmp_path: Path) -> None:
    video, photo = tmp_path / "v.mp4", tmp_path / "unlabelled" / "p.png"
    with VideoWriter(video, frame_rate=25, size=(64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    photo.parent.mkdir()
    write_image(photo, np.zeros((8, 8, 3), np.uint8))
    data = read_data_folder(tmp_path)
    assert (data.unlabelled, data.photos, data.labelled) == ((video,), (photo,), ())
    assert read_data_folder(video).unlabelled == (video,)
    put_still(tmp_path / "annotated", "s", radius=5)
    labelled = read_data_folder(tmp_path)
    assert (labelled.unlabelled, labelled.photos) == ((), (photo,))


@pytest.mark.parametrize("place", ["", "unlabelled", "target", "backgrounds"])
def test_results_of_a_prediction_are_no_videos_to_learn_from(tmp_path: Path, place: str) -> None:
    results = tmp_path / place
    results.mkdir(exist_ok=True)
    record = results / ".progress/v.jsonl"
    ClipManifest(record, fingerprint="x", source=tmp_path / "in/v.mp4", complete=bool).begin()
    (results / "v.mp4").write_bytes(b"the overlay")
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    (fault,) = caught.value.faults
    assert fault.where == str(results)
    assert fault.found == "holds results of dvos predict, such as v.mp4"
    # A video that results lie beside is none of them.
    record.unlink()
    ClipManifest(record, fingerprint="x", source=results / "v.mp4", complete=bool).begin()
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    assert not any("results of" in fault.found for fault in caught.value.faults)
    # Beside labels the videos of the folder itself are not looked at.
    put_still(tmp_path / "annotated", "s", radius=5)
    if not place:
        assert read_data_folder(tmp_path).unlabelled == ()


def test_a_fit_starts_from_what_knows_its_objects(
    stills: tuple[StillRow, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = tmp_path / "start.json"
    weights = tmp_path / "wheat.safetensors"
    weights.write_bytes(b"weights")
    found = {"dice": 0.49}
    monkeypatch.setattr(starting, "_tried", lambda *_: (found["dice"], True))
    monkeypatch.setattr(starting, "named_weights", lambda path: weights)
    chosen = choose_start(settings(), stills, 1.0, kept)
    assert chosen.weights is None
    assert "Dice 0.49 before any training, too few" in chosen.reason
    # A fit that goes on starts from the same, whatever is found now.
    found["dice"] = 0.7
    assert choose_start(settings(), stills, 1.0, kept) == chosen
    kept.unlink()
    assert choose_start(settings(), stills, 1.0, kept).path == weights
    assert choose_start(settings(start="imagenet"), stills, 1.0, kept).path is None
    assert choose_start(settings(start=weights), stills, 1.0, kept).path == weights
    own = settings(train={"network": {"name": "paper"}})
    assert choose_start(own, stills, 1.0, kept).path is None
    with pytest.raises(DvosError, match="nothing in it is labelled"):
        check_start(settings(start="imagenet"), labelled=False)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such file"):
        fit(FitSettings(folder=tmp_path, out=tmp_path / "run", start=tmp_path / "gone.safetensors"))
    check_start(settings(), labelled=False)
    assert "the starter weights wheat label it" in caplog.text


def test_the_fewer_the_stills_the_more_is_kept_of_the_start(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    arguments = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8], "references": 0}
    save_network(path, torch.nn.Linear(1, 1), name="dvos", arguments=arguments)
    start = Start(str(path), "")
    shares = [start.training(labelled).get("start_share") for labelled in (0, 1, 2, 18)]
    assert shares == [None, 0.75, 0.6, 0.143]
    network = start.training(2)["network"]
    assert network["weights"] == path
    assert network["references"] == 0
    assert network["dvos"] == {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}
    assert Start(None, "").training(2) == {}
    assert "start_share" not in Start(str(path), "", alike=False).training(2)


def test_a_networks_masks_of_labelled_pictures_are_compared(
    stills: tuple[StillRow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half:
        def segment(self, images: list[np.ndarray]) -> list[Any]:
            (image,) = images
            mask = read_mask(stills[0].mask) != 0
            mask[: image.shape[0] // 2] = False
            return [SimpleNamespace(mask=mask)]

    class Knowing(Half):
        def __init__(self, told: list[float | None]) -> None:
            self.told = told

        def novelty(self, image: np.ndarray) -> float | None:
            return self.told.pop()

        def at_scale(self, scale: float) -> Half:
            return self

    count = len(stills)
    for predictor, alike in (
        (Half(), True),
        (Knowing([None] * count), True),
        (Knowing([0.9] * count), True),
        (Knowing([0.9] + [1.1] * (count - 1)), False),
    ):
        monkeypatch.setattr(registry, "predictor_of", lambda *_, it=predictor: it)
        dice, known = starting._tried(Path("w"), stills, 1.0, settings())
        assert dice == pytest.approx(2 / 3)
        assert known is alike


class _Finds:
    """A network that finds the same objects in each picture."""

    def __init__(self, *areas: int) -> None:
        self.areas, self.shapes = np.array(areas), list[tuple[int, ...]]()

    def segment(self, images: list[np.ndarray]) -> list[SimpleNamespace]:
        self.shapes += [image.shape for image in images]
        cut = np.zeros(len(self.areas), np.bool_)
        cut[-1:] = True
        return [SimpleNamespace(objects=SimpleNamespace(area=self.areas, touches_border=cut))]


@pytest.mark.parametrize(
    ("areas", "size", "larger"),
    [
        ([900] * 20 + [9999], (60, 80), 2.0),
        ([1000] * 20 + [9999], (60, 80), 2.0),
        ([1600] * 20 + [1], (60, 80), 1.25),
        ([3000] * 20 + [1], (60, 80), 1.0),
        # Of four of the pictures that are looked at come as many, whole ones.
        ([900] * 4 + [1], (60, 80), 1.0),
        ([900] * 5 + [1], (60, 80), 2.0),
        # What is large already is not made larger than memory holds.
        ([900] * 20 + [1], (20, 2731), 1.5),
        ([900] * 20 + [1], (20, 5000), 1.0),
    ],
)
def test_small_objects_are_labelled_in_larger_pictures(
    areas: list[int],
    size: tuple[int, int],
    larger: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = [tmp_path / f"p{number:02}.png" for number in range(9)]
    for photo in photos[:8]:
        write_image(photo, np.zeros((*size, 3), np.uint8))
    photos[8].write_bytes(b"no picture")  # told of when its turn comes
    finds = _Finds(*areas)
    monkeypatch.setattr(registry, "predictor_of", lambda *_: finds)
    monkeypatch.setattr(starting, "named_weights", lambda path: path)
    start = choose_start(settings(), (), 1.0, tmp_path / "start.json", photos)
    assert start.larger == larger
    assert set(finds.shapes) == {(size[0], min(size[1], 1024), 3)}
    assert len(finds.shapes) <= 8
    # A fit that goes on does not look again.
    finds.areas = np.array([50] * 99)
    assert choose_start(settings(), (), 1.0, tmp_path / "start.json", photos) == start


def test_what_is_labelled_in_larger_pictures_takes_longer(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    write_image(photo, np.zeros((512, 512, 3), np.uint8))
    data = DataFolder(Path("data"), photos=(photo,) * 50)

    def planned(larger: float) -> Plan:
        start = Start("wheat", "it finds them", larger=larger)
        return make_plan(settings(minutes=2), data, None, SPEED, start, spent=10.0)

    plain, fourfold = planned(1.0), planned(2.0)
    assert fourfold.interval > plain.interval
    assert plain.lines[1] == "size: as the network to start from saw them"
    assert fourfold.lines[1].endswith("labelled 2 times as large, as what is found is small")
