"""Videos as cameras make them: uneven times, turned, portrait, odd, large; and clip stores."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dvos.config.prediction import PredictionSettings
from dvos.files import TEMPORARY_PREFIX
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import read_mask
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.prediction.inputs import find_clips
from dvos.prediction.predict import predict
from dvos.registry import predictor_for
from dvos.tables import ClipRow, frame_address, write_clips

SIZE = (40, 48)


def _frame(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-size[0] // 4), -(-size[1] // 4), 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]])


def _predict(checkpoint: Path, source: Path, out: Path, **options: Any) -> None:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "device": "cpu", **options}
    predict(PredictionSettings.model_validate(values), predictor_for)


def _masks(folder: Path) -> list[np.ndarray]:
    return [read_mask(path) for path in sorted(folder.glob("[!.]*.png"))]


def _counts(out: Path) -> list[dict[str, str]]:
    with open(out / "counts.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts and path.name[0] != "."
    }


def test_uneven_times_are_kept_in_counts_and_overlay(checkpoint: Path, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.21, 1.0]
    with VideoWriter(tmp_path / "vfr.mp4", frame_rate=10, size=SIZE, timed=True) as video:
        for index, time_s in enumerate(times):
            video.write(_frame(index), time_s)
    _predict(checkpoint, tmp_path / "vfr.mp4", tmp_path / "out", overlay=True)
    found = [float(row["time_s"]) for row in _counts(tmp_path / "out")]
    np.testing.assert_allclose(found, times, atol=1e-4)
    drawn = [frame.time_s for frame in VideoFile(tmp_path / "out/vfr.mp4")]
    np.testing.assert_allclose(drawn, times, atol=1e-4)


def test_frames_without_times_follow_each_other_in_the_overlay(
    checkpoint: Path, tmp_path: Path
) -> None:
    for index in range(3):
        write_image(tmp_path / f"clip/{index}.png", _frame(index))
    _predict(checkpoint, tmp_path / "clip", tmp_path / "out", overlay=True)
    assert [row["time_s"] for row in _counts(tmp_path / "out")] == ["", "", ""]
    drawn = [frame.time_s for frame in VideoFile(tmp_path / "out/clip.mp4")]
    np.testing.assert_allclose(drawn, [0, 0.04, 0.08], atol=1e-4)


def test_a_turned_video_is_predicted_upright(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with VideoWriter(path, frame_rate=10, size=SIZE) as video:
        for index in range(3):
            video.write(_frame(index))
    plain = [frame.image for frame in VideoFile(path)]
    # The display matrix in the track header: a quarter turn to the right.
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    matrix = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    path.write_bytes(data[:at] + matrix + data[at + 36 :])
    for index, image in enumerate(plain):
        write_image(tmp_path / f"upright/{index}.png", np.ascontiguousarray(np.rot90(image, -1)))
    for source in (path, tmp_path / "upright"):
        _predict(checkpoint, source, tmp_path / "out" / source.stem, overlay=True)
    turned = _masks(tmp_path / "out/turned/turned")
    assert [mask.shape for mask in turned] == [(48, 40)] * 3
    for one, other in zip(turned, _masks(tmp_path / "out/upright/upright"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert VideoFile(tmp_path / "out/turned/turned.mp4").size == (48, 40)


@pytest.mark.parametrize("size", [(641, 359), (33, 200), (7, 5)])
def test_portrait_and_odd_sizes_with_and_without_tiles(
    checkpoint: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    for index in range(2):
        write_image(tmp_path / f"clip/{index}.png", _frame(index, size))
    _predict(checkpoint, tmp_path / "clip", tmp_path / "whole")
    _predict(checkpoint, tmp_path / "clip", tmp_path / "tiled", tile=128)
    for one, other in zip(
        _masks(tmp_path / "whole/clip"), _masks(tmp_path / "tiled/clip"), strict=True
    ):
        assert one.shape == size
        assert (one != other).mean() < 1e-4


def test_a_4k_frame_in_tiles(checkpoint: Path, tmp_path: Path) -> None:
    coarse = _frame(0, (136, 240))[:135]
    write_image(tmp_path / "clip/0.jpg", np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1)))
    _predict(checkpoint, tmp_path / "clip", tmp_path / "out", tile=512, scale=0.25)
    assert _masks(tmp_path / "out/clip")[0].shape == (2160, 3840)


def _store(path: Path, frames: int) -> list[np.ndarray]:
    with ClipStoreWriter(path, size=SIZE) as store:
        for index in range(frames):
            store.write(_frame(index), np.zeros(SIZE, np.uint16))
    from dvos.media.clip_store import ClipStore

    with ClipStore(path) as opened:
        return list(opened.read_frames())


def test_clip_stores_alone_in_a_folder_and_by_a_table(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "stores/a.dvclip"
    path.parent.mkdir()
    images = _store(path, 3)
    rows = [ClipRow("", "v", k, frame_address(path, 2 - k), None, 0) for k in range(3)]
    write_clips(tmp_path / "clips.csv", rows)
    names = [f"a_{index:06d}" for index in range(3)]
    for source, name, order in (
        (path, "a", [0, 1, 2]),
        (path.parent, "a", [0, 1, 2]),
        (tmp_path / "clips.csv", "v", [2, 1, 0]),
    ):
        (clip,) = find_clips(source, frame_rate=10)
        frames = list(clip.open())
        assert clip.name == name
        assert clip.frame_count() == 3
        assert clip.open().size == SIZE
        assert [frame.name for frame in frames] == [names[k] for k in order]
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])
        for frame, k in zip(frames, order, strict=True):
            np.testing.assert_array_equal(frame.image, images[k])
        assert [f.name for f in clip.open().frames(2)] == [names[order[2]]]
    _predict(checkpoint, path.parent, tmp_path / "out", overlay=True)
    assert len(_masks(tmp_path / "out/a")) == 3


RUN = """
import sys
from dvos.api import predict
predict(overrides=sys.argv[1:])
"""


def test_kills_at_any_moment_change_no_byte(checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "field.mp4"
    with VideoWriter(source, frame_rate=10, size=SIZE) as video:
        for index in range(40):
            video.write(_frame(index))
    options = {"overlay": True, "instances": True, "run_lengths": True, "probabilities": True}
    _predict(checkpoint, source, tmp_path / "whole", **options)
    words = [f"{name}={value}" for name, value in options.items()]
    words += [f"checkpoint={checkpoint}", f"input={source}", f"out={tmp_path / 'out'}"]
    for masks in (3, 17):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words, "device=cpu"],
            # Sums of as many threads as here: others are rounded otherwise.
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(list(tmp_path.glob("out/field/[!.]*.png"))) < masks:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(_masks(tmp_path / "out/field")) >= 3
    # As a kill in the middle of a file leaves it.
    (tmp_path / f"out/field/{TEMPORARY_PREFIX}abc.png").touch()
    _predict(checkpoint, source, tmp_path / "out", **options)
    assert not list((tmp_path / "out/field").rglob(f"{TEMPORARY_PREFIX}*"))
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")
