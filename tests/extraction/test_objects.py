"""Objects from stills: names, tables, seeds, and every fault."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvos.config.extraction import ObjectsSettings
from dvos.errors import MediaError, OutputError, TableError
from dvos.extraction.objects import extract_objects
from dvos.media.image import read_image, read_rgba, write_image
from dvos.media.mask import write_mask
from dvos.tables import read_images


def photo(seed: int = 0, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def instances() -> np.ndarray:
    """Five objects: a large one, two that touch, one at the border, a small one."""
    ids = np.zeros((90, 120), np.uint16)
    ids[10:40, 10:30] = 2
    ids[10:40, 50:65] = 7
    ids[10:40, 65:80] = 12345
    ids[70:90, 5:45] = 9
    ids[60:63, 100:103] = 11
    return ids


@pytest.fixture
def field(tmp_path: Path) -> Path:
    write_image(tmp_path / "in/a.png", photo(1))
    write_image(tmp_path / "in/b.c.jpg", photo(2))
    write_mask(tmp_path / "in/a.nrrd", instances())
    write_mask(tmp_path / "in/b.png", instances())
    (tmp_path / "t.csv").write_text(
        "Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\nin/b.c.jpg,in/b.png,o\n"
    )
    return tmp_path


def extract(folder: Path, **options: Any):
    settings = {
        "annotated": folder / "t.csv",
        "cutouts": folder / "cutouts.csv",
        "distractors": folder / "distractors.csv",
        "min_object_size": 100,
        "distractors_per_object": 2,
        "workers": 1,
    }
    return extract_objects(ObjectsSettings(**{**settings, **options}))


def names(table: Path) -> list[str]:
    return [row.image.name for row in read_images(table)]


@pytest.mark.parametrize(("unknown", "kind"), [(65535, np.uint16), (128, np.uint8)])
def test_pixels_of_unknown_label_are_in_no_cutout(field: Path, unknown: int, kind: type) -> None:
    mask = np.zeros((90, 120), kind)
    mask[10:40, 10:30] = 255
    mask[10:40, 50:80] = unknown
    (field / "in/a.nrrd").unlink()
    write_mask(field / "in/a.nrrd", mask)
    (field / "t.csv").write_text("Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\n")
    assert extract(field).object_count == 1


@pytest.mark.parametrize(
    ("void", "ids"), [("auto", "1 2 255"), ("255", "1 2"), ([2, 255], "1"), ("none", "1 2 255")]
)
def test_void_says_which_values_are_no_object(field: Path, void: object, ids: str) -> None:
    mask = np.zeros((90, 120), np.uint8)
    # As ids reach up to 255 in the other mask, it is one of them unless it is told.
    for column, value in enumerate((1, 2, 255)):
        mask[10:40, 30 * column : 30 * column + 20] = value
    (field / "in/a.nrrd").unlink()
    write_mask(field / "in/a.nrrd", mask)
    write_mask(field / "in/b.png", np.where(mask == 1, 254, mask).astype(np.uint8))
    (field / "t.csv").write_text("Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\n")
    result = extract(field, void=void)
    with open(result.objects, newline="") as stream:
        assert " ".join(row["Id"] for row in csv.DictReader(stream)) == ids
    assert extract(field, void=void).object_count == len(ids.split())


def test_cutouts_distractors_and_tables(field: Path) -> None:
    result = extract(field)
    stems = ["a_rlobj0002", "a_rlobj0007", "a_rlobj0009", "a_rlobj12345"]
    stems += [stem.replace("a_", "b.c_") for stem in stems]
    assert names(result.cutouts) == [f"{stem}.png" for stem in stems]
    assert names(result.distractors) == [f"{s}_fkobj{k:04d}.png" for s in stems for k in (0, 1)]
    patch = read_rgba(field / "o/real/a_rlobj0002.png")
    assert np.array_equal(patch[..., :3], photo(1)[10:40, 10:30])
    assert (patch[..., 3] == 255).all()
    fake = read_rgba(field / "o/fake/a_rlobj0002_fkobj0001.png")
    assert fake.shape == patch.shape
    assert not np.array_equal(fake, patch)
    counts = (result.object_count, result.cutout_count, result.distractor_count, result.too_small)
    assert counts == (10, 8, 16, 2)
    assert (result.touching, result.at_border, result.images) == (4, 2, 2)
    assert "8 cutouts" in str(result)


def test_the_table_of_objects(field: Path) -> None:
    result = extract(field)
    assert result.objects == field / "objects.csv"
    with open(result.objects, newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = "Image,Mask,Id,Cutout,X,Y,Width,Height,Area,Touching,AtBorder,Distractors"
    values = "in/a.png,in/a.nrrd,7,o/real/a_rlobj0007.png,50,10,15,30,450,1,0,2"
    assert rows[1] == dict(zip(columns.split(","), values.split(","), strict=True))
    assert rows[2]["AtBorder"] == "1"
    small = rows[3]
    assert (small["Id"], small["Cutout"], small["Distractors"]) == ("11", "", "0")


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "o").rglob("*.png"))
    }


def test_same_bytes_for_any_workers_and_any_order(field: Path, tmp_path_factory) -> None:
    transform = {"name": "flip_rotate_elastic", "p": 1.0, "elastic_p": 1.0}
    extract(field, transform=transform)
    one = all_bytes(field)
    assert one
    other = tmp_path_factory.mktemp("other")
    (field / "in").rename(other / "in")
    header, *lines = (field / "t.csv").read_text().splitlines()
    (other / "t.csv").write_text("\n".join([header, *reversed(lines)]))
    extract(other, transform=transform, workers=2)
    assert all_bytes(other) == one


def test_another_seed_takes_other_distractors_and_the_same_cutouts(field: Path) -> None:
    extract(field)
    first = all_bytes(field)
    extract(field, seed=5)
    second = all_bytes(field)
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] == second[name]) == name.startswith("o/real")


def test_finished_stills_are_not_done_again(field: Path) -> None:
    first = extract(field)
    kept = field / "o/real/a_rlobj0002.png"
    gone = field / "o/real/b.c_rlobj0002.png"
    stamp = kept.stat().st_mtime_ns
    gone.unlink()
    assert extract(field) == first
    assert kept.stat().st_mtime_ns == stamp
    assert gone.is_file()
    ids = instances()
    ids[50:80, 60:90] = 30
    write_mask(field / "in/a.nrrd", ids)
    assert extract(field).object_count == 11


def test_a_still_gives_at_most_so_many_distractors_shared_by_its_cutouts(field: Path) -> None:
    extract(field, max_distractors=3)
    patches = [path.name for path in sorted(field.glob("o/**/*_fkobj*.png"))]
    for still in ("a", "b.c"):
        own = [name for name in patches if name.startswith(f"{still}_rlobj")]
        assert len(own) == 3
        # Four cutouts: three of them give one each, none gives two.
        assert len({name.split("_fkobj")[0] for name in own}) == 3


def test_hue_swap_and_other_types(field: Path) -> None:
    image = np.zeros((90, 120, 3), np.uint8)
    image[..., 1] = 200  # pure green, hue 60
    write_image(field / "in/a.png", image)
    swap = {"source": (50, 70), "destin": (20, 40)}
    extract(field, hue_swap=swap, extension=".tif")
    patch = read_rgba(field / "o/real/a_rlobj0002.tif")
    assert tuple(patch[0, 0]) == (200, 200, 0, 255)


def semantic(folder: Path, mask: np.ndarray) -> None:
    write_mask(folder / "in/s.png", mask)
    write_image(folder / "in/s.jpg", photo(3))
    (folder / "t.csv").write_text("Image,Mask,OutDir\nin/s.jpg,in/s.png,o\n")


def test_semantic_masks_only_on_request(tmp_path: Path) -> None:
    semantic(tmp_path, instances() > 0)
    with pytest.raises(MediaError, match=r"255 in 4 separate pieces.*instances: components"):
        extract(tmp_path)
    for choice in ("components", "auto"):
        assert extract(tmp_path, instances=choice).cutout_count == 3
    semantic(tmp_path, instances())
    assert extract(tmp_path, instances="auto").cutout_count == 4
    # In touching instances the components see one object.
    assert extract(tmp_path, instances="components").cutout_count == 3


def test_a_single_instance_is_no_semantic_mask(tmp_path: Path) -> None:
    semantic(tmp_path, (instances() == 2).astype(np.uint8))
    assert extract(tmp_path).cutout_count == 1


def test_all_bad_stills_are_told_and_good_ones_done(field: Path) -> None:
    write_mask(field / "in/small.png", np.ones((80, 120), bool))
    whole = (field / "in/a.png").read_bytes()
    (field / "in/torn.png").write_bytes(whole[: len(whole) // 2])
    write_image(field / "in/e.png", photo())
    (field / "t.csv").write_text(
        "Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\nin/e.png,in/small.png,o\nin/torn.png,in/b.png,o\n"
    )
    with pytest.raises(MediaError) as caught:
        extract(field)
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 2
    assert "small.png: is 120 x 80 pixels; expected 120 x 90, as its image" in faults[0]
    assert "torn.png" in faults[1]
    assert (field / "o/real/a_rlobj0002.png").is_file()
    assert not (field / "cutouts.csv").exists()


def test_a_still_without_objects_gives_none(field: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mask(field / "in/empty.png", np.zeros((90, 120), bool))
    write_image(field / "in/d.png", photo())
    (field / "t.csv").write_text("Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\n")
    alone = extract(field)
    (field / "t.csv").write_text(
        "Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\nin/d.png,in/empty.png,o\n"
    )
    both = extract(field)
    assert (both.object_count, both.images) == (alone.object_count, 2)
    assert "empty.png: no object in it" in caplog.text


def test_stills_all_without_objects_are_refused(field: Path) -> None:
    write_mask(field / "in/empty.png", np.zeros((90, 120), bool))
    (field / "t.csv").write_text("Image,Mask,OutDir\nin/a.png,in/empty.png,o\n")
    with pytest.raises(MediaError, match="no mask holds an object"):
        extract(field)


def test_two_stills_of_one_name_in_one_folder(field: Path) -> None:
    write_image(field / "in2/a.png", photo())
    (field / "t.csv").write_text(
        "Image,Mask,OutDir\nin/a.png,in/a.nrrd,o\nin2/a.png,in/a.nrrd,o/../o\n"
    )
    with pytest.raises(TableError, match="OutDir"):
        extract(field)


def test_objects_at_the_border_may_be_left_out(field: Path) -> None:
    result = extract(field, cut_at_border=False)
    assert result.cutout_count == 6
    # Of each still one is small.
    assert (result.at_border, result.too_small) == (2, 2)
    assert not [name for name in names(result.cutouts) if "0009" in name]


def test_a_still_whose_objects_are_at_the_border_is_warned_of(field: Path, caplog) -> None:
    ids = np.zeros((90, 120), np.uint16)
    ids[:30, :30], ids[60:90, 80:120], ids[40:43, 40:43] = 1, 2, 3
    write_mask(field / "in/a.nrrd", ids)
    with caplog.at_level(logging.WARNING):
        result = extract(field, cut_at_border=False)
    assert (result.too_small, result.at_border, result.cutout_count) == (2, 3, 3)
    assert "2 objects are cut by the photo's border and 1 others smaller than 100" in caplog.text


def test_only_small_objects_and_no_room_are_warned_of(field: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert extract(field, min_object_size=10_000).cutout_count == 0
    assert "all 5 objects are smaller than 10000" in caplog.text
    caplog.clear()
    ids = np.ones((90, 120), np.uint16)
    ids[:45] = 2
    write_mask(field / "in/a.nrrd", ids)
    with caplog.at_level(logging.WARNING):
        assert extract(field).distractor_count == 8
    assert "4 of 4 distractors found no place" in caplog.text


def test_16_bit_photos_are_read(field: Path) -> None:
    write_image(field / "in/a.png", photo(1).astype(np.uint16) * 257)
    extract(field)
    assert np.array_equal(read_image(field / "o/real/a_rlobj0002.png"), photo(1)[10:40, 10:30])


def test_tables_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="four different files"):
        ObjectsSettings(
            annotated=tmp_path / "t", cutouts=tmp_path / "c", distractors=tmp_path / "c"
        )


@pytest.mark.parametrize("name", ["cutouts", "distractors", "objects"])
def test_a_table_bears_no_name_of_a_folder(field: Path, name: str) -> None:
    before = sorted(field.rglob("*"))
    with pytest.raises(OutputError, match=r"mine: is the name of a folder; .*give mine\.csv"):
        extract(field, **{name: field / "mine"})
    assert sorted(field.rglob("*")) == before


def test_cutouts_that_it_did_not_make_are_not_written_over(field: Path) -> None:
    extract(field)
    cutout = next(iter(sorted(field.rglob("a_rlobj*.png"))))
    cutout.write_bytes(b"mine")
    (field / ".cutouts.csv.ledger.jsonl").unlink()
    with pytest.raises(OutputError, match="is not known to have made it"):
        extract(field)
    assert cutout.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["cutouts.csv", "distractors.csv", "objects.csv"])
@pytest.mark.parametrize("text", ["Image\nmine.png\n", "Image\n", "\xe9,\n"])
def test_tables_that_it_did_not_make_are_not_written_over(
    field: Path, name: str, text: str
) -> None:
    (field / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputError, match=f"{name}: is there, and dvos extract is not known"):
        extract(field)
    assert (field / name).read_bytes() == text.encode("latin-1")
    assert not list(field.rglob("*_rlobj*.png"))


def test_extractions_into_one_folder_share_a_table_that_one_of_them_made(field: Path) -> None:
    others = {"annotated": field / "u.csv", "cutouts": field / "other.csv"}
    (field / "u.csv").write_text((field / "t.csv").read_text().replace(",o\n", ",p\n"))
    extract(field)
    extract(field, **others)
    rows = read_images(field / "distractors.csv")
    assert {row.image.parent.parent.name for row in rows} == {"p"}
    (field / "mine.csv").write_text("Image\nmine.png\n")
    with pytest.raises(OutputError, match=r"mine\.csv: is there, and dvos extract"):
        extract(field, distractors=field / "mine.csv")
    (field / "w.csv").write_text((field / "t.csv").read_text().replace(",o\n", ",q\n"))
    (field / "objects.csv").write_text("Image,Note\nmine.png,\n")
    with pytest.raises(OutputError, match=r"objects\.csv: is there, and dvos extract"):
        extract(field, annotated=field / "w.csv", cutouts=field / "third.csv")
    assert (field / "objects.csv").read_text() == "Image,Note\nmine.png,\n"
