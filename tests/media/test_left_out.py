"""What lies in a folder and is not used is told, whoever reads the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.labelling.documents import open_document
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.workflow.data_folder import read_data_folder


def fill(root: Path, *names: str) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[4:9, 4:9] = 1
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_mask = "mask" in name
        (write_mask if is_mask else write_image)(
            path, mask if is_mask else np.zeros((32, 32, 3), np.uint8)
        )


STILLS = ("annotated/images/a.png", "annotated/masks/a.png")


def test_a_data_folder_tells_what_no_part_of_the_method_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(
        tmp_path, *STILLS, "backgrounds/b.png", "validation/images/v.png", "validation/masks/v.png"
    )
    fill(tmp_path, "unlabelled/clip/f0.png", "frames/f0.png", "frames/f1.png", "masks/f0.png")
    (tmp_path / "clips.csv").write_text(
        "VID,FID,Image,Mask,Label\nc,0,frames/f0.png,masks/f0.png,1\nc,1,frames/f1.png,,0\n"
    )
    fill(tmp_path, "run/report.png")
    (tmp_path / "run" / "stages.json").touch()
    read_data_folder(tmp_path)
    assert caplog.messages == []
    fill(tmp_path, "top.png", "target/p.png", "unlabeled/p.png", "unlabelled/clip/deep/f.png")
    read_data_folder(tmp_path)
    told = "top.png, target, unlabeled"
    assert caplog.messages == [f"{tmp_path}: left out: {told}; see docs/how-to/fit.md"]


def test_the_label_page_tells_folders_that_it_does_not_show(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, *STILLS, "unlabelled/a.png", "b.png", "backgrounds/c.png", "walk/f.png")
    assert [frame.name for frame in open_document(tmp_path).frames] == ["a", "b"]
    remedy = "name such a folder itself to label it"
    assert caplog.messages == [f"{tmp_path}: left out: walk; {remedy}"]
