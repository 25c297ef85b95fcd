"""``dvos check`` on tables of stills and of clips in stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.checking import check
from dvos.cli.main import main
from dvos.errors import DvosError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import read_image, write_image
from dvos.media.mask import write_mask


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


def test_a_picture_of_the_first_training_clips(tmp_path: Path) -> None:
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
    main(["check", str(config), "--picture", str(picture)])
    shown = read_image(picture)
    assert shown.shape[0] >= 8 * 40
    assert shown.shape[1] >= 4 * 40
    assert not (tmp_path / "run").exists()
    assert main(["check", str(config), str(config), "--picture", str(picture)]) == 2
    assert main(["check", str(tmp_path / "s"), "--picture", str(picture)]) != 0


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
