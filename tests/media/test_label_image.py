from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from dvos.errors import MediaError
from dvos.media.mask import read_label_image, write_label_image


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("a.png", [0, 1, 255, 10_000, 65_535]),
        ("a.tif", [0, 1, 255, 10_000, 65_535]),
        ("a.tif", [0, 1, 65_536, 2**31 - 1]),
    ],
)
def test_numbers_come_back_as_they_are(tmp_path: Path, name: str, ids: list[int]) -> None:
    labels = np.array([ids, ids])
    write_label_image(tmp_path / name, labels)
    found = read_label_image(tmp_path / name)
    assert found.dtype == np.int32
    assert (found == labels).all()


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        write_label_image(tmp_path / name, np.array([[0, 70_000]]))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_background_of_minus_one_is_background(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-1, 3]], np.int32))
    assert read_label_image(tmp_path / "a.tif").tolist() == [[0, 3]]


def test_what_cannot_be_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="70000"):
        write_label_image(tmp_path / "a.png", np.array([[70_000]]))
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-7, 3]], np.int32))
    with pytest.raises(MediaError, match="from -7 to 3"):
        read_label_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.array([[0.5, 3]], np.float32))
    with pytest.raises(MediaError, match="float32"):
        read_label_image(tmp_path / "b.tif")
