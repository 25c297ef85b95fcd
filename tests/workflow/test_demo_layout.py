"""The data folder of a demo: what is found, and what is missing, all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.config.workflow import DemoSettings
from dvos.errors import UsageError
from dvos.files import make_folder
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.workflow import pipeline
from dvos.workflow.data_folder import read_data_folder
from dvos.workflow.pipeline import Pipeline, StageManifest
from dvos.workflow.steps import MethodFolder

NAMES = ("one.mp4", "two.mp4")


def put_image(path: Path, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))


def put_mask(path: Path, size: tuple[int, int] = (20, 30), value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, np.full(size, value, np.uint8))


def put_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name("made.mp4")
    with VideoWriter(made, frame_rate=5, size=(20, 30)) as writer:
        writer.write(np.zeros((20, 30, 3), np.uint8))
    made.rename(path)


@pytest.mark.parametrize("masks", ["head_mask", "masks"])
def test_everything_is_found(tmp_path: Path, masks: str, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b", "a"):
        put_image(tmp_path / "annotated" / "images" / f"{name}.jpg")
        put_mask(tmp_path / "annotated" / masks / f"{name}.nrrd")
    put_image(tmp_path / "backgrounds" / "soil.png")
    put_video(tmp_path / "backgrounds" / "walk.MP4")
    put_mask(tmp_path / "validation" / "masks" / "held out" / "held out_000000.png")
    put_video(tmp_path / "validation" / "held out.mp4")
    (tmp_path / "annotated" / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "annotated" / "images" / "notes.txt").write_text("")
    data = read_data_folder(tmp_path)
    assert [still.image.name for still in data.annotated] == ["a.jpg", "b.jpg"]
    assert [still.mask.name for still in data.annotated] == ["a.nrrd", "b.nrrd"]
    assert [path.name for path in data.background_stills] == ["soil.png"]
    assert [path.name for path in data.background_videos] == ["walk.MP4"]
    assert [item.masks.name for item in data.validation_videos] == ["held out"]
    assert data.targets == ()
    put_image(tmp_path / "validation" / "images" / "v.png")
    put_mask(tmp_path / "validation" / masks / "v.png")
    data = read_data_folder(tmp_path)
    assert [still.image.name for still in data.validation_stills] == ["v.png"]
    assert data.validation_videos == ()
    told = "scored are the photos in images/ alone, and not held out.mp4; give these to dvos"
    assert told in caplog.text


@pytest.mark.parametrize("folder", ["target", "validation"])
def test_videos_of_one_name_are_told_before_the_training(tmp_path: Path, folder: str) -> None:
    put_image(tmp_path / "annotated/images/a.png")
    put_mask(tmp_path / "annotated/masks/a.png")
    for name in ("v.mp4", "v.avi", "w.mp4"):
        put_video(tmp_path / folder / name)
        if folder == "validation":
            put_mask(tmp_path / f"validation/masks/{name[0]}/{name[0]}_000000.png")
    with pytest.raises(UsageError, match=rf"{folder}: 2 videos are named 'v'") as caught:
        read_data_folder(tmp_path)
    assert len(caught.value.faults) == 1


def test_what_lies_beside_videos_is_left_out_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A photo there neither ends a run after its training, nor is a folder predicted with them."""
    put_image(tmp_path / "annotated/images/a.png")
    put_mask(tmp_path / "annotated/masks/a.png")
    videos = [tmp_path / where / name for where in ("target", "validation") for name in NAMES]
    for video in videos:
        put_video(video)
        put_mask(tmp_path / f"validation/masks/{video.stem}/{video.stem}_000000.png")
        put_image(video.with_name("photo.png"))
        put_image(video.parent / "of another/f_000000.png")
    data = read_data_folder(tmp_path)
    for left in ("target/photo.png", "validation/photo.png"):
        assert left in caplog.text
    predicted: list[Path] = []
    monkeypatch.setattr(pipeline, "predict", lambda plan, _: predicted.append(plan.input))
    monkeypatch.setattr(Pipeline, "score", lambda *_: None)
    folder = MethodFolder(make_folder(tmp_path / "out"), "demo")
    stages = StageManifest(folder.stages, command="dvos demo", seed=1)
    run = Pipeline(DemoSettings(out=folder.root), folder, data, stages)
    run.predict_targets(tmp_path / "best.safetensors", "none")
    run.validate(tmp_path / "best.safetensors", "none")
    assert predicted == videos


def test_validation_may_be_absent(tmp_path: Path) -> None:
    put_image(tmp_path / "annotated" / "images" / "a.png")
    put_mask(tmp_path / "annotated" / "masks" / "a.png")
    put_image(tmp_path / "backgrounds" / "soil.png")
    data = read_data_folder(tmp_path)
    assert data.validation_stills == data.validation_videos == ()


def test_a_photo_without_objects_is_sound_but_not_when_all_are(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 0)):
        put_image(tmp_path / "annotated" / "images" / f"{name}.png")
        put_mask(tmp_path / "annotated" / "masks" / f"{name}.png", value=value)
    put_image(tmp_path / "backgrounds" / "soil.png")
    assert len(read_data_folder(tmp_path).annotated) == 2
    put_mask(tmp_path / "annotated" / "masks" / "a.png", value=0)
    with pytest.raises(UsageError, match="no mask holds an object"):
        read_data_folder(tmp_path)


def test_all_faults_at_once(tmp_path: Path) -> None:
    put_image(tmp_path / "annotated" / "images" / "lonely.png")
    put_image(tmp_path / "annotated" / "images" / "odd.png")
    put_mask(tmp_path / "annotated" / "masks" / "odd.png", size=(9, 9))
    put_image(tmp_path / "annotated" / "images" / "torn.png")
    put_mask(tmp_path / "annotated" / "masks" / "torn.png")
    (tmp_path / "annotated" / "images" / "torn.png").write_bytes(b"\x89PNG")
    (tmp_path / "validation").mkdir()
    put_video(tmp_path / "validation" / "v.mp4")
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    lines = [str(fault) for fault in caught.value.faults]
    assert len(lines) == 4
    text = "\n".join(lines)
    assert "lonely.png: no mask of that name" in text
    assert "odd.png: is 9 x 9 pixels; expected 30 x 20, as odd.png" in text
    assert "torn.png" in text
    assert "masks/v: no masks" in text


@pytest.mark.parametrize("labelled", [True, False])
def test_whatever_cannot_be_read_is_told_before_anything_is_done(
    tmp_path: Path, labelled: bool
) -> None:
    """Also what is looked at last: targets, what is scored, and what pseudo-labels are made of."""
    if labelled:
        put_image(tmp_path / "annotated" / "images" / "a.png")
        put_mask(tmp_path / "annotated" / "masks" / "a.png")
    put_mask(tmp_path / "validation" / "masks" / "v" / "v_000000.png")
    broken = ["target/t.mp4", "validation/v.mp4", "unlabelled/u.mp4", "backgrounds/b.mp4"]
    broken += ["unlabelled/p.png", "unlabelled/frames/f.png"]
    for name in broken:
        put_image(tmp_path / Path(name).with_suffix(".png"))
        path = tmp_path / name
        data = path.with_suffix(".png").read_bytes()
        path.with_suffix(".png").unlink()
        path.write_bytes(data[:-20] if path.suffix == ".png" else b"no video")
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    told = {str(fault).removeprefix(f"{tmp_path}/").split(":")[0] for fault in caught.value.faults}
    assert told == {*broken[:-1], "unlabelled/frames"}
    with pytest.raises(UsageError, match=r"t\.mp4: cannot be opened"):
        read_data_folder(tmp_path / "target" / "t.mp4")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_data_folder(tmp_path / "none")


@pytest.mark.parametrize("name", ["photo.png", "tab.csv"])
def test_a_file_that_is_no_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Image")
    with pytest.raises(UsageError, match=rf"{name}: is a file, and no video.*give the folder"):
        read_data_folder(tmp_path / name, "FOLDER")


def test_stills_without_a_mask_folder(tmp_path: Path) -> None:
    put_image(tmp_path / "annotated" / "images" / "a.png")
    put_image(tmp_path / "backgrounds" / "soil.png")
    with pytest.raises(
        UsageError,
        match="has no folder head_mask or masks; expected a folder",
    ):
        read_data_folder(tmp_path)


def test_stills_cut_short_are_found_before_anything_is_done(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("annotated", "validation"):
        path = tmp_path / folder / "images" / "a.png"
        put_image(path)
        put_mask(tmp_path / folder / "masks" / "a.png")
        write_image(path, rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    put_image(tmp_path / "backgrounds" / "soil.png")
    for path in (tmp_path / "validation" / "images" / "a.png", tmp_path / "backgrounds/soil.png"):
        path.write_bytes(path.read_bytes()[:-20])  # the header is whole
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    text = "\n".join(str(fault) for fault in caught.value.faults)
    assert len(caught.value.faults) == 2
    assert "soil.png" in text
    assert "validation/images/a.png" in text


def test_what_has_lost_its_partner_or_its_file_is_a_fault(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put_image(tmp_path / "annotated" / "images" / f"{name}.png")
        put_mask(tmp_path / "annotated" / "masks" / f"{name}.png")
    (tmp_path / "annotated/images/b.png").rename(tmp_path / "annotated/images/b.nef")
    put_image(tmp_path / "backgrounds" / "soil.png")
    (tmp_path / "backgrounds" / "walk.mp4").symlink_to("/nowhere/walk.mp4")
    put_mask(tmp_path / "validation" / "masks" / "s.png")
    put_mask(tmp_path / "validation" / "masks" / "v" / "v_000000.png")
    with pytest.raises(UsageError) as caught:
        read_data_folder(tmp_path)
    lines = [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults]
    assert [line.split(";")[0].replace(f"{tmp_path}/", "") for line in lines] == [
        "backgrounds/walk.mp4: is a link to /nowhere/walk.mp4, which is not there",
        "annotated/masks/b.png: no photo of that name in annotated/images, "
        "b.nef is of a kind that is not read",
        "validation/masks/v: no video of that name in validation",
        "validation/images: no such folder",
    ]
