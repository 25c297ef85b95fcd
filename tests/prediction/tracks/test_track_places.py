"""Tables of a frame's objects, read back: whole, or told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.errors import MediaError
from dvos.media.mask import write_mask
from dvos.prediction.objects import read_object_table, read_objects
from dvos.prediction.write import OBJECT_COLUMNS, write_objects_table

HEADER = ",".join(OBJECT_COLUMNS[3:])
ROW = "1,4,2.5,2.5,0.0,1.5,1.5,0.9,0"


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"\xff\xfe1",
        HEADER.encode() + b"\n\0\n",
        f"{HEADER}\n{ROW},7\n".encode(),
        f"{HEADER}\n{ROW[:-2]}\n".encode(),
        f"{HEADER}\n{ROW.replace('2.5', 'nan')}\n".encode(),
        f"{HEADER}\n-{ROW}\n".encode(),
        f"{HEADER}\n9999999999{ROW}\n".encode(),
        f"{HEADER.replace('object', 'other')}\n{ROW}\n".encode(),
    ],
)
def test_a_spoilt_table_is_one_clear_line(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / "f.csv").write_bytes(spoilt)
    with pytest.raises(MediaError, match=r"f\.csv: is no table of a frame's objects .*; remove it"):
        read_object_table(tmp_path / "f.csv")


def test_missing_columns_and_those_of_another_network_are_told(tmp_path: Path) -> None:
    instances = tmp_path / "clip/instances"
    for frame, header, row in (("a", HEADER, ROW), ("b", f"{HEADER},motion_x", f"{ROW},1")):
        write_mask(instances / f"{frame}.png", np.eye(4, dtype=np.uint8))
        (instances / f"{frame}.csv").write_text(f"{header}\n{row}\n")
    assert read_objects(instances, "a").count == 1
    rows = [({"frame_index": 0, "time_s": None, "frame": frame}, {}) for frame in "ab"]
    with pytest.raises(MediaError, match=r"b\.csv: has the columns .*motion_x; expected .*remove"):
        write_objects_table(tmp_path / "t.csv", rows, tmp_path / "clip")
    assert not (tmp_path / "t.csv").exists()
    write_objects_table(tmp_path / "t.csv", rows[:1], tmp_path / "clip")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines == [f"frame_index,time_s,frame,{HEADER}", f"0,,a,{ROW}"]
    (instances / "a.csv").write_text("object,area\n1,4\n")
    with pytest.raises(MediaError, match="lacks the column 'length'"):
        read_objects(instances, "a")
