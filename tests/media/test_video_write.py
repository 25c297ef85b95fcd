from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter

# Writes videos of several sizes, most of them no multiple of 16, and prints a
# digest of each.
WRITE = """
import hashlib, sys
from pathlib import Path
import numpy as np
from dvos.media.video_write import VideoWriter
rng = np.random.default_rng(0)
for height, width in ((36, 34), (42, 48), (36, 50), (41, 47), (340, 642)):
    path = Path(sys.argv[1]) / "a.mp4"
    with VideoWriter(path, frame_rate=10, size=(height, width)) as video:
        for _ in range(8):
            video.write(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    print(hashlib.md5(path.read_bytes()).hexdigest())
"""


def test_equal_frames_give_equal_bytes_whatever_lies_in_fresh_memory(tmp_path: Path) -> None:
    digests = set()
    for filling in ("0", "85", "170"):
        # The C library fills what it hands out with this byte.
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        done = subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_timed_frames_keep_their_times(tmp_path: Path, suffix: str) -> None:
    times = [0.0, 1 / 29.97, 0.2, 0.21, 1.0, 2.5]
    path = tmp_path / f"timed{suffix}"
    with VideoWriter(path, frame_rate=10, size=(36, 50), timed=True) as video:
        for index, time_s in enumerate(times):
            video.write(np.full((36, 50, 3), 40 * index, np.uint8), time_s)
    frames = list(VideoFile(path))
    tick = 1 / 90_000 if suffix == ".mp4" else 1e-3
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=tick)
    assert [round(float(frame.image.mean()) / 40) for frame in frames] == list(range(6))


def test_the_last_timed_frame_is_shown(tmp_path: Path) -> None:
    import av

    path = tmp_path / "timed.mp4"
    with VideoWriter(path, frame_rate=10, size=(32, 32), timed=True) as video:
        for time_s in (0.0, 0.1, 3.0):
            video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    with av.open(str(path)) as container:
        assert container.duration >= 3_000_000


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("rate", [1 / 86_400, 1 / 300, 2000, 1e5, 1e6])
def test_very_slow_and_very_fast_frames_keep_their_times(
    tmp_path: Path, rate: float, timed: bool
) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, frame_rate=rate, size=(32, 32), timed=timed) as video:
        for index in range(4):
            image = np.full((32, 32, 3), 40 * index, np.uint8)
            video.write(image, index / rate if timed else None)
    source = VideoFile(path)
    np.testing.assert_allclose([frame.time_s * rate for frame in source], range(4), rtol=0.01)
    assert source.damage == []


def test_a_gap_longer_than_a_container_holds_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, frame_rate=25, size=(32, 32), timed=True) as video:
        for time_s in (0.0, 0.04, 86_400.0):
            video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    times = [frame.time_s for frame in VideoFile(path)]
    np.testing.assert_allclose(times, [0.0, 0.04, 0.04 + (2**31 - 2) / 90_000], atol=1e-4)


def test_a_matroska_file_is_the_same_whenever_it_is_written(tmp_path: Path) -> None:
    data = []
    for name in ("a.mkv", "b.mkv"):
        with VideoWriter(tmp_path / name, frame_rate=10, size=(32, 32)) as video:
            video.write(np.zeros((32, 32, 3), np.uint8))
        data.append((tmp_path / name).read_bytes())
    assert data[0] == data[1]


def test_times_that_stand_still_are_moved_on(tmp_path: Path) -> None:
    path = tmp_path / "still.mp4"
    with VideoWriter(path, frame_rate=10, size=(32, 32), timed=True) as video:
        for time_s in (0.0, 0.5, 0.5, 0.4, 0.6):
            video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    times = [frame.time_s for frame in VideoFile(path)]
    np.testing.assert_allclose(times, [0.0, 0.5, 0.5, 0.5, 0.6], atol=1e-4)
    assert len(set(times)) == 5


@pytest.mark.parametrize(("timed", "time_s"), [(True, None), (False, 0.5)])
def test_a_time_where_none_belongs_or_none_where_one_does(
    tmp_path: Path, timed: bool, time_s: float | None
) -> None:
    with (
        pytest.raises(ValueError, match="takes the time of each frame"),
        VideoWriter(tmp_path / "a.mp4", frame_rate=10, size=(32, 32), timed=timed) as video,
    ):
        video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    assert not (tmp_path / "a.mp4").exists()
