from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStore, ClipStoreWriter
from dvos.tables import frame_address, split_address

SIZE = (150, 300)


def made(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))[..., None] // 3
    frames = np.clip(ramp + rng.integers(0, 30, (count, *SIZE, 3)), 0, 255).astype(np.uint8)
    ids = np.zeros((count, *SIZE), np.uint16)
    for t in range(count):
        ids[t, 20 + t : 60, 100:180] = 7
        ids[t, 100:140, 250 + t : 300] = 40_000
    return frames, ids


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "clip.dvclip"
    write(path, *made())
    return path


def write(path: Path, frames: np.ndarray, ids: np.ndarray, tile: int = 128) -> None:
    with ClipStoreWriter(path, size=SIZE, metadata={"name": "é"}, tile=tile) as writer:
        for image, instances in zip(frames, ids, strict=True):
            writer.write(image, instances)
        writer.metadata["late"] = 1


def test_ids_and_metadata_come_back_as_they_were(store: Path) -> None:
    _, ids = made()
    with ClipStore(store) as clip:
        assert (len(clip), clip.size) == (4, SIZE)
        assert clip.metadata == {"name": "é", "late": 1}
        assert np.array_equal(clip.read_instances(), ids)
        assert np.array_equal(clip.read_instances([2]), ids[2:3])
        clip.verify()


def test_tiles_leave_no_seams(store: Path) -> None:
    # Tiles are cut between the 8 x 8 blocks of JPEG: decoded, they are the whole image's.
    frames, _ = made()
    whole = [
        simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(f, 95, "RGB", "444"), "RGB") for f in frames
    ]
    assert np.array_equal(ClipStore(store).read_frames(), np.stack(whole))


@given(st.data())
@settings(max_examples=50)
def test_a_window_is_the_whole_cut(store: Path, data: st.DataObject) -> None:
    y = data.draw(st.integers(0, SIZE[0] - 1))
    x = data.draw(st.integers(0, SIZE[1] - 1))
    h = data.draw(st.integers(1, SIZE[0] - y))
    w = data.draw(st.integers(1, SIZE[1] - x))
    which = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    with ClipStore(store) as clip:
        frames, ids = clip.read_frames(), clip.read_instances()
        cut = (which, slice(y, y + h), slice(x, x + w))
        assert np.array_equal(clip.read_frames(which, (y, x, h, w)), frames[cut])
        assert np.array_equal(clip.read_instances(which, (y, x, h, w)), ids[cut])


def test_the_same_frames_give_the_same_bytes(store: Path, tmp_path: Path) -> None:
    write(tmp_path / "again.dvclip", *made())
    assert (tmp_path / "again.dvclip").read_bytes() == store.read_bytes()


def test_a_copy_in_another_process_opens_the_file_anew(store: Path) -> None:
    copy = pickle.loads(pickle.dumps(ClipStore(store)))
    assert np.array_equal(copy.read_instances([1]), made()[1][1:2])


@pytest.mark.parametrize(("frames", "window"), [([4], None), ([-1], None), ([0], (0, 0, 151, 1))])
def test_what_lies_outside_is_refused(store: Path, frames: list[int], window: object) -> None:
    with pytest.raises(MediaError, match=r"clip\.dvclip"):
        ClipStore(store).read_frames(frames, window)  # type: ignore[arg-type]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    frames, ids = made(2)
    with pytest.raises(ValueError, match="shape"):
        write(tmp_path / "a.dvclip", [frames[0], frames[1][:10]], ids)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"", "is empty"),
        (lambda b: b"PNG" + b[3:], "is no clip store"),
        (lambda b: b[:30], "ends inside its header"),
        (lambda b: b[:-1], "it was cut off"),
        (lambda b: b + b"xx", "bytes; expected [0-9]+: more was written after it"),
        (lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:], "metadata is damaged"),
        (lambda b: b[:12] + b"\x09" + b[13:], "header is damaged"),
        (lambda b: b[:8] + b"\x02" + b[9:], "of version 2"),
    ],
)
def test_damage_is_told_in_one_line(
    store: Path, tmp_path: Path, change: object, message: str
) -> None:
    path = tmp_path / "bad.dvclip"
    path.write_bytes(change(store.read_bytes()))  # type: ignore[operator]
    with pytest.raises(MediaError, match=message) as caught:
        ClipStore(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)


def test_damage_in_a_tile_is_found_when_it_is_read(store: Path, tmp_path: Path) -> None:
    data = bytearray(store.read_bytes())
    data[2000] ^= 255  # in the first tiles of frame 0
    path = tmp_path / "bad.dvclip"
    path.write_bytes(data)
    clip = ClipStore(path)
    assert clip.read_frames([1]).shape == (1, *SIZE, 3)
    for read in (lambda: clip.read_frames([0]), clip.verify):
        with pytest.raises(MediaError, match="frame 0 is damaged"):
            read()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.dvclip"):
        ClipStore(tmp_path / "none.dvclip")


@given(st.integers(0, 10**9))
@settings(max_examples=50)
def test_a_table_can_name_a_frame(index: int) -> None:
    path = Path("some #where/VID_00001.dvclip")
    assert split_address(frame_address(path, index)) == (path, index)


def test_other_paths_are_no_addresses() -> None:
    for name in ("a.png", "a.dvclip", "a.dvclip#x", "#1", "a.png#000001"):
        assert split_address(Path(name)) is None
