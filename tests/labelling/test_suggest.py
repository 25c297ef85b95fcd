"""Which frames are suggested: unlike those labelled, uncertain ones first, always the same."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dvos.config.labelling import SuggestSettings
from dvos.errors import UsageError
from dvos.labelling.features import FeatureExtractor
from dvos.labelling.suggest import farthest, suggest
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.prediction.features import Piece

#: Grey levels of the photos; two groups and one apart.
LEVELS = {"a": 10, "b": 12, "c": 120, "d": 124, "e": 250}


class _Grey:
    """Reads a frame's grey as its only feature."""

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        values = np.full((1, 2, 2), image.mean(), np.float32)
        yield Piece(slice(0, 2), slice(0, 2), values)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(FeatureExtractor, "open", classmethod(lambda cls, *_: cls(_Grey())))
    folder = tmp_path / "field"
    for name, level in LEVELS.items():
        place = folder / ("annotated/images" if name == "a" else "unlabelled")
        place.mkdir(parents=True, exist_ok=True)
        write_image(place / f"{name}.png", np.full((16, 16, 3), level, np.uint8))
    return folder


def _label(folder: Path, name: str) -> None:
    masks = folder / "annotated" / "masks"
    masks.mkdir(exist_ok=True)
    write_mask(masks / f"{name}.png", np.zeros((16, 16), np.uint8))


def test_frames_unlike_the_labelled_ones_come_first(photos: Path, tmp_path: Path) -> None:
    _label(photos, "a")
    result = suggest(SuggestSettings(input=photos, out=tmp_path / "next.csv", count=3))
    assert [one.frame for one in result.suggestions] == ["e", "d", "c"]
    assert (result.looked_at, result.labelled) == (5, 1)
    with (tmp_path / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["e", "d", "c"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["uncertainty"] == ""
    assert float(rows[0]["distance"]) > float(rows[1]["distance"]) > float(rows[2]["distance"]) > 0
    assert "5 frames looked at, 1 of them labelled" in str(result)


def test_without_labels_the_most_usual_frame_is_the_first(photos: Path, tmp_path: Path) -> None:
    settings = SuggestSettings(input=photos, out=tmp_path / "next.csv")
    result = suggest(settings)
    # The mean is 103.2; all frames are listed where fewer are there than asked for.
    assert [one.frame for one in result.suggestions] == ["c", "e", "a", "d", "b"]
    assert result.suggestions[0].distance == 0
    assert suggest(settings) == result


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse such names")
def test_what_cannot_be_labelled_is_left_out_before_it_is_looked_at(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad\udcff", "x" * 250):
        (photos / "unlabelled" / f"{name}.png").write_bytes(b"is never read")
    result = suggest(SuggestSettings(input=photos, out=tmp_path / "next.csv"))
    assert [one.frame for one in result.suggestions] == ["c", "e", "a", "d", "b"]
    (line,) = caplog.messages
    assert line.startswith(f"{photos}: left out: bad\udcff.png, xxx")


def test_nothing_is_left_to_label(photos: Path, tmp_path: Path) -> None:
    for name in LEVELS:
        _label(photos, name)
    with pytest.raises(UsageError, match="all 5 frames are labelled"):
        suggest(SuggestSettings(input=photos, out=tmp_path / "next.csv"))
    assert not (tmp_path / "next.csv").exists()


def test_the_uncertain_one_of_two_equally_far_comes_first() -> None:
    features = np.array([[0], [-1], [1]], np.float32)
    labelled = np.array([True, False, False])
    assert [index for index, _ in farthest(features, labelled, None, 1)] == [1]
    unsure = np.array([0.0, 0.1, 0.2])
    assert [index for index, _ in farthest(features, labelled, unsure, 2)] == [2, 1]
    # Nothing labelled: the most uncertain one.
    assert [index for index, _ in farthest(features, ~labelled & False, unsure, 1)] == [2]


def test_equal_frames_are_all_listed_once() -> None:
    features = np.zeros((3, 2), np.float32)
    chosen = farthest(features, np.zeros(3, np.bool_), None, 5)
    assert [index for index, _ in chosen] == [0, 1, 2]
