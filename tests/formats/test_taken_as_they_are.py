"""``check``, ``score`` and ``train`` take labels of other programs as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_labels import hard_labels, made_source

import dvos
from dvos.checking import check
from dvos.config.data import DataSettings
from dvos.errors import UsageError
from dvos.formats.known import FORMATS, is_foreign
from dvos.media.mask import write_mask
from dvos.training.labels import find_labels, take_labels


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    photos = {"a.png": hard_labels(), "b.png": np.fliplr(hard_labels()).copy()}
    source = made_source(tmp_path / "in", photos)
    write = FORMATS["coco"].write
    assert write is not None
    write(source, tmp_path / "in")
    return tmp_path / "in"


def test_check_names_what_it_recognised(coco: Path) -> None:
    for path in (coco, coco / "annotations.json"):
        told = f"{path}: COCO, 2 pictures, 0 without objects; objects: 16 of wheat"
        assert check(path) == told
    (coco / "a.png").unlink()
    with pytest.raises(Exception, match=r"the picture a\.png was not found"):
        check(coco)


def test_score_takes_the_truth_from_it(coco: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        truth = hard_labels() if name == "a" else np.fliplr(hard_labels())
        write_mask(tmp_path / f"masks/{name}.png", truth > 0)
        (coco / f"{name}.png").unlink()  # is not needed
    scores = dvos.score(truth=coco, predictions=tmp_path / "masks", out=tmp_path / "scores")
    assert (len(scores.masks), scores.mean_dice) == (2, 1.0)
    assert (tmp_path / "scores/truth/annotated/masks/a.png").is_file()
    assert not is_foreign(tmp_path / "masks")


def test_training_takes_its_stills_from_it(coco: Path, tmp_path: Path) -> None:
    data = take_labels(DataSettings(sources=[coco]), tmp_path / "run/sources")
    labels = find_labels(data)
    assert len(labels.stills) + len(labels.held_stills) == 2
    # Again, as a run that goes on does.
    assert take_labels(DataSettings(sources=[coco]), tmp_path / "run/sources") == data
    with pytest.raises(UsageError, match="has no objects of class rye"):
        take_labels(DataSettings(sources=[coco], classes="rye"), tmp_path / "other")


def test_a_stray_document_makes_no_folder_foreign(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.ones((4, 5), bool))
    (tmp_path / "notes.json").write_text("{broken")
    (tmp_path / "readme.txt").write_text("nothing\n")
    assert not is_foreign(tmp_path)
