"""``dvos check`` on tables of stills and of clips in stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dvos.checking import check
from dvos.cli.main import main
from dvos.errors import DvosError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import read_image, write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    write_mask(tmp_path / "m.png", np.ones((20, 30), bool))
    return tmp_path


def write_store(path: Path, frames: int, size: tuple[int, int]) -> None:
    with ClipStoreWriter(path, size=size) as writer:
        for _ in range(frames):
            writer.write(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint16))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Image,Mask\na.png,m.png\n", "stills"), ("Image,Mask,OutDir\na.png,m.png,o\n", "annotated")],
)
def test_tables_of_stills(folder: Path, text: str, kind: str) -> None:
    table = folder / "t.csv"
    table.write_text(text)
    assert check(table) == f"{table}: 1 rows, a table of {kind}"


def test_a_table_with_a_cell_of_any_length(folder: Path) -> None:
    table = folder / "t.csv"
    table.write_text(f"{'x' * 200_000},Image,Mask\n{'1 2 ' * 60_000},a.png,m.png\n")
    assert check(table) == f"{table}: 1 rows, a table of stills"
    table.write_text(f"{'x' * 200_000},Photo\n1,a.png\n")
    with pytest.raises(DvosError) as caught:
        check(table)
    assert len(str(caught.value)) < 1500


def test_a_table_of_stores(folder: Path) -> None:
    write_store(folder / "v.dvclip", 3, (40, 50))
    write_store(folder / "w.dvclip", 1, (40, 50))
    table = folder / "clips.csv"
    head = "VID,FID,Image,Mask,Label\n"
    rows = [f"v,{n},v.dvclip#{n:06d},v.dvclip#{n:06d},1\n" for n in range(3)]
    table.write_text(head + "".join(rows))
    assert check(table) == f"{table}: 3 rows, a table of clips"
    table.write_text(head + "".join(rows) + "v,3,v.dvclip#3,m.png,1\nv,4,a.png,,0\n")
    with pytest.raises(DvosError) as caught:
        check(table)
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 3
    assert "row 5 column Image" in faults[0]
    assert "has no frame 3" in faults[0]
    assert "row 5 column Mask" in faults[1]
    assert "row 6 column Image" in faults[2]
    assert "30 x 20 pixels; expected 50 x 40" in faults[2]


def test_settings_with_tables_of_stills_and_without_distractors(folder: Path) -> None:
    (folder / "stills.csv").write_text("Image,Mask\na.png,m.png\n")
    (folder / "images.csv").write_text("Image\na.png\n")
    (folder / "none.csv").write_text("Image\n")
    config = folder / "train.yaml"

    def write(cutouts: str) -> None:
        config.write_text(
            f"out: {folder}/run\n"
            "data:\n"
            f"  stills: {{tables: [{folder}/stills.csv]}}\n"
            f"  synthetic: {{backgrounds: [{folder}/images.csv], cutouts: [{folder}/{cutouts}],"
            f" distractors: [{folder}/none.csv]}}\n"
            f"  validation: {{stills: {{tables: [{folder}/stills.csv]}}}}\n"
        )

    write("images.csv")
    assert "5 input tables" in check(config, command="train")
    write("none.csv")
    with pytest.raises(DvosError, match=r"none\.csv: has no rows"):
        check(config, command="train")


def test_a_picture_of_the_first_training_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        mask = np.zeros((60, 70), bool)
        mask[20:40, 10 * number : 30] = True
        write_image(
            tmp_path / f"s/images/{number}.png", np.uint8(200 * mask[..., None].repeat(3, 2))
        )
        write_mask(tmp_path / f"s/masks/{number}.png", mask)
    config = tmp_path / "train.yaml"
    config.write_text(
        f"out: run\nseed: 5\nnetwork: {{references: 2}}\n"
        f"data: {{crop: 40, stills: {{folders: [{tmp_path / 's'}]}}, diffusion: {{share: 0.5}}}}\n"
    )
    picture = tmp_path / "batch.png"
    for _ in range(2):  # its own picture is drawn anew
        main(["check", str(config), "--picture", str(picture)])
    shown = read_image(picture)
    assert shown.shape[0] >= 8 * 40
    assert shown.shape[1] >= 4 * 40
    assert not (tmp_path / "run").exists()
    assert main(["check", str(config), str(config), "--picture", str(picture)]) == 2
    assert main(["check", str(tmp_path / "s"), "--picture", str(picture)]) != 0
    photo = tmp_path / "s/images/0.png"
    for mine in (photo, config):
        before = mine.read_bytes()
        capsys.readouterr()
        assert main(["check", str(config), "--picture", str(mine)]) == 1
        told = f"error: {mine}: is there, and dvos check (which notes it in pictures"
        assert capsys.readouterr().err.startswith(told)
        assert mine.read_bytes() == before


def test_what_training_misses_is_told_once(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        "out: run\nnetwork: {weights: no.safetensors}\n"
        "data: {stills: {folders: [none, none]}, validation: {clips: {folders: [gone]}}}\n"
    )
    with pytest.raises(DvosError) as caught:
        check(config, command="train")
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == len(set(faults)) == 3
    for name in ("none", "gone", "no.safetensors"):
        assert sum(fault.startswith(f"{name}: ") for fault in faults) == 1, faults


@pytest.fixture
def twins(folder: Path) -> Path:
    """Two pictures of a video and masks of the same names, but of other frames."""
    for number in (0, 30):
        (folder / f"frames/plot_{number:06d}.png").parent.mkdir(exist_ok=True)
        write_image(folder / f"frames/plot_{number:06d}.png", np.zeros((20, 30, 3), np.uint8))
        write_mask(folder / f"masks/plot_{number:06d}.png", np.ones((20, 30), bool))
    names = [f"{kind}/plot_{n:06d}.png" for n in (0, 30) for kind in ("frames", "masks")]
    (folder / "stills.csv").write_text("Image,Mask\n{},{}\n{},{}\n".format(*names))
    return folder


def list_extracted(table: Path, part: str, frames: tuple[int, int]) -> None:
    rows = [
        f"{part}/plot_{n:06d}.png,plot.mp4,{frame}\n"
        for n, frame in zip((0, 30), frames, strict=True)
    ]
    table.write_text("Image,Video,Frame\n" + "".join(rows))


def test_masks_named_by_order_are_told_from_pictures_named_by_frame(
    twins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "2 rows" in check(twins / "stills.csv")
    list_extracted(twins / "masks.csv", "masks", (0, 900))
    # The pictures' names alone say that they are of frames 0 and 30.
    assert "2 rows" in check(twins / "stills.csv")
    assert "plot_000030.png (frame 900)" in caplog.text
    list_extracted(twins / "frames.csv", "frames", (0, 30))
    with pytest.raises(DvosError) as caught:
        check(twins / "stills.csv")
    (fault,) = map(str, caught.value.faults)
    assert (
        "masks/plot_000030.png: shows frame 900 of a video, and plot_000030.png shows frame 30"
        in fault
    )
    list_extracted(twins / "frames.csv", "frames", (0, 900))
    assert "2 rows" in check(twins / "stills.csv")


def test_masks_of_a_video_are_those_of_its_frames(twins: Path) -> None:
    validation = twins / "data/validation"
    with VideoWriter(validation / "plot.mp4", frame_rate=10, size=(20, 30)) as video:
        for _ in range(2):
            video.write(np.zeros((20, 30, 3), np.uint8))
    (twins / "data/annotated/images").mkdir(parents=True)
    shutil.copy(twins / "a.png", twins / "data/annotated/images/a.png")
    write_mask(twins / "data/annotated/masks/a.png", np.ones((20, 30), bool))
    (validation / "masks").mkdir()
    shutil.copytree(twins / "masks", validation / "masks/plot")
    assert "1 for validation" in check(twins / "data")
    list_extracted(validation / "masks/masks.csv", "plot", (0, 900))
    write_mask(validation / "masks/plot/plot_000000.png", np.ones((40, 60), bool))
    with pytest.raises(DvosError) as caught:
        check(twins / "data")
    named, sized = map(str, caught.value.faults)
    assert "plot_000030.png: shows frame 900 of a video, and its name says frame 30" in named
    assert "plot_000000.png: is 60 x 40 pixels; expected 30 x 20" in sized


@pytest.mark.parametrize(
    "data",
    [
        "stills: {folders: [gone]}",
        "clips: {folders: [gone]}",
        "empty: {folders: [gone]}",
        "pseudo: {stills: [gone]}",
        "validation: {stills: {folders: [gone]}}",
        "validation: {clips: {folders: [gone]}}",
        "validation: {videos: [{video: gone, masks: m.png}]}",
        "synthetic: {backgrounds: [gone], cutouts: [gone]}",
        "sources: [gone]",
    ],
)
def test_a_folder_that_is_not_there_is_told_once(
    folder: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("train.yaml").write_text(f"out: run\ndata: {{{data}}}\n")
    with pytest.raises(DvosError) as caught:
        check(Path("train.yaml"), command="train")
    told = [str(fault) for fault in caught.value.faults if "gone" in fault.where]
    assert len(told) == 1, told


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_command_reads_and_is_not_there_is_told(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if config.stem == "demo":  # it makes what it reads
        assert check(config).startswith(f"{config}: settings of dvos demo")
        return
    with pytest.raises(DvosError) as caught:
        check(config)
    told = [fault.where for fault in caught.value.faults]
    assert len({*told}) == len(told)
    if config.stem == "rounds":  # those of its first training, too
        assert sorted(told) == ["field.mp4", "labelled", "photos", "validation"]
    if config.stem == "evaluate":
        assert sorted(told) == ["runs/first/best.safetensors", "test.csv"]
