"""Names with accents: what was extracted is found again, however a copy writes them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.extraction.frames import extract_frames
from dvos.extraction.objects import extract_objects
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.tables import read_images

COMPOSED, DECOMPOSED = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


def rename_all(folder: Path, form: str) -> None:
    """Write the accents of all names below a folder in another way, tables as they are."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize(form, path.name)))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / COMPOSED
    write_image(folder / f"{COMPOSED}.png", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:15] = 1
    write_mask(folder / "masks" / f"{COMPOSED}.png", mask)
    with VideoWriter(folder / f"{COMPOSED}.mp4", frame_rate=5, size=(40, 40)) as video:
        for _ in range(3):
            video.write(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    (folder / "videos.csv").write_text(
        f"Video,FramesDir,Interval\n{COMPOSED}.mp4,{COMPOSED}_f,1\n", encoding="utf-8"
    )
    (folder / "stills.csv").write_text(
        f"Image,Mask,OutDir\n{COMPOSED}.png,masks/{COMPOSED}.png,{COMPOSED}_o\n",
        encoding="utf-8",
    )
    return folder


def extract(folder: Path, seed: int) -> dict[str, tuple[str, int]]:
    """Extract frames and objects; files by composed name, as they are named, with their times."""
    out = {"workers": 1, "seed": seed}
    frames = FramesSettings(videos=folder / "videos.csv", out=folder / "f.csv", min_side=0, **out)
    extract_frames(frames)
    tables = {"cutouts": folder / "c.csv", "distractors": folder / "d.csv"}
    stills = folder / "stills.csv"
    extract_objects(ObjectsSettings(annotated=stills, min_object_size=50, **tables, **out))
    found = [one.image for name in "fcd" for one in read_images(folder / f"{name}.csv")]
    assert len(found) == 14
    return {
        unicodedata.normalize("NFC", str(path)): (path.name, path.stat().st_mtime_ns)
        for path in found
    }


@pytest.mark.parametrize("given", ["NFC", "NFD"])
def test_what_was_extracted_is_found_however_its_name_is_written(world: Path, given: str) -> None:
    rename_all(world, given)
    before = extract(world, 0)
    files = sorted(unicodedata.normalize("NFC", str(path)) for path in world.rglob("*"))
    for form in ("NFD", "NFC"):
        rename_all(world, form)
        folder = world.with_name(unicodedata.normalize(form, world.name))
        world.rename(folder)
        world = folder
        assert {name: time for name, (_, time) in extract(world, 0).items()} == {
            name: time for name, (_, time) in before.items()
        }
    # With other settings all is made anew, and nothing is left beside it.
    rename_all(world, "NFD")
    after = extract(world, 1)
    assert after.keys() == before.keys()
    assert not {time for _, time in after.values()} & {time for _, time in before.values()}
    assert sorted(unicodedata.normalize("NFC", str(p)) for p in world.rglob("*")) == files
