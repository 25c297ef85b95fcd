"""What an earlier run has made of a clip, and what it has not, when the clip is predicted again."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from white_predictor import WhitePredictor

from dvos.config.prediction import PredictionSettings
from dvos.errors import OutputError, UsageError
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask
from dvos.prediction.predict import predict

EVERYTHING = {"tracks": True, "format": "ctc", "overlay": True, "run_lengths": True}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file that stands for the network of :class:`WhitePredictor`."""
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"white")
    return path


def _clip(folder: Path, frames: int = 4, left: int = 0) -> Path:
    for path in folder.glob("*.png"):
        path.unlink()
    for t in range(frames):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[10:20, left + 5 + t : left + 17 + t] = picture[30:40, 30:42] = 255
        write_image(folder / f"f{t}.png", picture)
    return folder


def _predict(checkpoint: Path, source: Path, out: Path, **options: object) -> None:
    values = {"checkpoint": checkpoint, "input": source, "out": out, **options}
    predict(PredictionSettings.model_validate(values), WhitePredictor)


def _files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


def _correct(out: Path) -> None:
    """What a person's correction of a track leaves: a changed mask, and the original beside."""
    track = out / "in" / "tracks" / "f1.png"
    kept = out / "in" / "tracks_before_editing" / "f1.png"
    kept.parent.mkdir()
    kept.write_bytes(track.read_bytes())
    write_mask(track, (read_mask(track) > 0) * np.uint16(7))


@pytest.mark.parametrize(
    "options",
    [
        {"tracks": True, "linking": {"gap": 2}},
        {"tracks": True, "threshold": 0.6},
        {"tracks": False, "threshold": 0.6},
        {"tracks": True, "format": "ctc"},
    ],
    ids=["linking", "masks", "masks, no tracks", "another layout"],
)
def test_corrected_tracks_are_not_made_anew(
    checkpoint: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, tracks=True)
    _correct(out)
    before = _files(out)
    with pytest.raises(UsageError, match=r"corrected by hand.*choose another --out") as refused:
        _predict(checkpoint, source, out, **options)
    assert str(out / "in" / "tracks") in str(refused.value)
    assert _files(out) == before


def test_corrected_tracks_stay_where_nothing_is_made_anew(checkpoint: Path, tmp_path: Path) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, tracks=True)
    _correct(out)
    before = _files(out)
    _predict(checkpoint, source, out, tracks=True)
    assert _files(out) == before
    _predict(checkpoint, source, out, tracks=False)
    _predict(checkpoint, source, out, tracks=True, overlay=True)
    after = _files(out)
    assert after.pop("in.mp4")
    assert after == before


def test_nothing_stays_that_was_made_of_other_frames(checkpoint: Path, tmp_path: Path) -> None:
    source, out = _clip(tmp_path / "in", 5), tmp_path / "m"
    _predict(checkpoint, source, out, **EVERYTHING)
    assert {*_files(out)} >= {"in.mp4", "in.json", "in.tracks.csv", "in_RES/mask004.tif"}
    _clip(source, 3, left=20)
    _predict(checkpoint, source, out, tracks=False)
    _predict(checkpoint, source, tmp_path / "fresh", tracks=False)
    found = _files(out)
    assert len(found.pop("totals.csv").splitlines()) == 1  # its header
    assert found == _files(tmp_path / "fresh")


def test_what_was_made_is_known_however_often_the_frames_change(
    checkpoint: Path, tmp_path: Path
) -> None:
    source, out = _clip(tmp_path / "in", 5), tmp_path / "m"
    for left in (0, 3):
        _predict(checkpoint, _clip(source, 5, left), out, **EVERYTHING)
    _clip(source, 3, left=9)
    _predict(checkpoint, source, out, tracks=False)
    assert not {"in.mp4", "in.json", "in.tracks.csv", "in_RES/mask004.tif"} & {*_files(out)}
    own = out / "in_RES/mask099.tif"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"my own")
    for left in (9, 12):
        with pytest.raises(OutputError, match="is not known to have made it"):
            _predict(checkpoint, _clip(source, 3, left), out, **EVERYTHING)
    assert own.read_bytes() == b"my own"


def test_what_an_earlier_release_made_is_replaced_but_no_folder_of_others(
    checkpoint: Path, tmp_path: Path
) -> None:
    """It told nothing of what it made but the frames."""
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, **EVERYTHING)
    lines = (out / ".progress/in.jsonl").read_bytes().splitlines()
    first = json.loads(lines[0])
    del first["made"], first["crc"]
    text = json.dumps(first)
    lines[0] = f'{text[:-1]}, "crc": {zlib.crc32(text.encode())}}}'.encode()
    (out / ".progress/in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (out / "in.mp4").unlink()
    _predict(checkpoint, source, out, **EVERYTHING)
    assert (out / "in.mp4").is_file()
    (out / "in_RES/res_track.txt").unlink()
    with pytest.raises(OutputError, match="in_RES: is there"):
        _predict(checkpoint, source, out, **EVERYTHING)


def test_all_that_is_missing_is_made_again(checkpoint: Path, tmp_path: Path) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, **EVERYTHING)
    before = _files(out)
    assert "in_RES/mask002.tif" in before
    for name in before:
        (out / name).unlink()
        _predict(checkpoint, source, out, **EVERYTHING)
        assert _files(out) == before, name


def test_what_is_asked_for_later_is_added(checkpoint: Path, tmp_path: Path) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, tracks=False)
    mask = (out / "in/f0.png").stat().st_mtime_ns
    _predict(checkpoint, source, out, **EVERYTHING)
    assert (out / "in/f0.png").stat().st_mtime_ns >= mask
    _predict(checkpoint, source, tmp_path / "once", **EVERYTHING)
    assert _files(out) == _files(tmp_path / "once")
    # What was once asked for stays, and may be asked for again.
    _predict(checkpoint, source, out, tracks=False)
    _predict(checkpoint, source, out, **EVERYTHING)
    assert _files(out) == _files(tmp_path / "once")


@pytest.mark.parametrize(
    "name",
    [
        "in_RES/mask000.tif",
        "in.mp4",
        "in.json",
        "in.objects.csv",
        "in.tracks.csv",
        "in/tracks/a.tif",
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_user_s_own_files_are_not_written_over(
    name: str, begun: bool, checkpoint: Path, tmp_path: Path
) -> None:
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    if begun:
        _predict(checkpoint, source, out, tracks=False)
    own = out / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(b"my own")
    before = _files(out)
    with pytest.raises(OutputError, match="is not known to have made it"):
        _predict(checkpoint, source, out, **EVERYTHING)
    assert _files(out) == before
    # Nor do they go when the clip has changed.
    _clip(source, 3, left=20)
    _predict(checkpoint, source, out, tracks=False)
    assert own.read_bytes() == b"my own"


def test_tracks_are_not_made_of_photos() -> None:
    with pytest.raises(ValueError, match="stills are single frames"):
        PredictionSettings(checkpoint=Path("c"), input=Path("i"), format="ctc", stills=True)


def test_tracks_made_anew_leave_none_of_the_challenge_s_layout(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The masks are the same: what no longer fits is the result of other linking."""
    source, out = _clip(tmp_path / "in"), tmp_path / "m"
    _predict(checkpoint, source, out, tracks=True, format="ctc")
    masks = {name: data for name, data in _files(out).items() if name.startswith("in/f")}
    assert "in_RES/res_track.txt" in _files(out)
    _predict(checkpoint, source, out, tracks=True)
    assert "in_RES/res_track.txt" in _files(out)  # it fits
    _predict(checkpoint, source, out, tracks=True, linking={"gap": 2})
    found = _files(out)
    assert not [name for name in found if "_RES" in name]
    assert {name: found[name] for name in masks} == masks
    _predict(checkpoint, source, tmp_path / "fresh", tracks=True, linking={"gap": 2})
    assert found == _files(tmp_path / "fresh")
