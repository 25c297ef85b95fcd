"""Bad input to prediction at the command line: a clear line each, work so far kept."""

from __future__ import annotations

import csv
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dvos.cli.main import main
from dvos.files import TEMPORARY_PREFIX
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter

SIZE = (40, 48)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[str]]:
    """Run a command; give its exit code and its error lines."""
    code = main([str(word) for word in words])
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert not list(Path().rglob(f"{TEMPORARY_PREFIX}*"))
    return code, [line for line in text.splitlines() if line.startswith("error: ")]


def predict(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, source: str | Path, *extra: str
) -> tuple[int, list[str]]:
    words = ("--checkpoint", checkpoint, "--out", "out", "--device", "cpu", *extra)
    return run(capsys, "predict", source, *words)


def counted() -> list[str]:
    """Frames in counts.csv."""
    with open("out/counts.csv", newline="") as stream:
        return [row["frame"] for row in csv.DictReader(stream)]


def image(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def video(path: Path, frames: int = 3) -> Path:
    with VideoWriter(path, frame_rate=10, size=SIZE) as writer:
        for index in range(frames):
            writer.write(image(index))
    return path


def sound_only(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def without_frames(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        container.start_encoding()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (sound_only, "no video stream in this file"),
        (without_frames, "b.mp4"),
        (lambda path: path.write_bytes(b""), "b.mp4"),
        (lambda path: path.write_text("no video"), "cannot be opened as a video"),
        (lambda path: path.symlink_to("nowhere.mp4"), "b.mp4: is a link to nowhere.mp4"),
    ],
)
def test_a_bad_video_is_one_line_and_the_others_are_done(
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    words: str,
) -> None:
    video(folder / "videos/a.mp4")
    make(folder / "videos/b.mp4")
    video(folder / "videos/c.mp4")
    code, errors = predict(capsys, checkpoint, "videos")
    assert counted() == [f"{name}_{k:06d}" for name in "ac" for k in range(3)]
    assert code == 1
    assert len(errors) == 1
    assert words in errors[0]


def test_frames_of_changing_size_name_the_odd_one(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        for index in range(3):
            write_image(folder / f"clips/{name}/{index}.png", image(index))
    write_image(folder / "clips/a/1.png", image(1, (30, 30)))
    code, errors = predict(capsys, checkpoint, "clips")
    assert code == 1
    assert len(errors) == 1
    assert "clips/a/1.png: is 30 x 30 pixels" in errors[0]
    assert "expected 48 x 40" in errors[0]
    assert counted() == ["0", "1", "2"]


def test_nothing_to_predict(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    (folder / "clips.csv").write_text("VID,FID,Image,Mask,Label\n")
    (folder / "images.csv").write_text("Image\n")
    with ClipStoreWriter(folder / "none.dvclip", size=SIZE):
        pass
    for source in ("empty", "clips.csv", "images.csv", "none.dvclip", "nowhere"):
        code, errors = predict(capsys, checkpoint, source)
        assert code in (1, 2)
        assert len(errors) == 1, source
        assert source in errors[0]
    assert not (folder / "out").exists()


def test_rows_of_a_table_that_name_nothing_are_told_all_at_once(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(folder / "0.png", image(0))
    rows = ["v,0,0.png,,0", "v,1,gone.png,,0", "v,x,0.png,,0", "v,3"]
    (folder / "clips.csv").write_text("\n".join(["VID,FID,Image,Mask,Label", *rows, ""]))
    code, errors = predict(capsys, checkpoint, "clips.csv")
    assert code == 1
    text = "\n".join(errors)
    assert "gone.png" in text
    assert "row 3" in text or "line 3" in text
    assert len(errors) >= 3
    assert not (folder / "out").exists()


@pytest.mark.parametrize("frame", ["000007", "000000"])
def test_frames_that_a_store_lacks_or_that_are_damaged(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str], frame: str
) -> None:
    with ClipStoreWriter(folder / "a.dvclip", size=SIZE) as store:
        for index in range(2):
            store.write(image(index), np.zeros(SIZE, np.uint16))
    if frame == "000000":
        data = bytearray((folder / "a.dvclip").read_bytes())
        data[200] ^= 255
        (folder / "a.dvclip").write_bytes(data)
    (folder / "clips.csv").write_text(
        f"VID,FID,Image,Mask,Label\nv,0,a.dvclip#000001,,0\nv,1,a.dvclip#{frame},,0\n"
    )
    code, errors = predict(capsys, checkpoint, "clips.csv")
    assert code == 1
    assert len(errors) == 1
    assert "a.dvclip" in errors[0]
    assert ("has no frame 7" in errors[0]) or ("frame 0 is damaged" in errors[0])
    assert counted() == ["a_000001"]


@pytest.mark.parametrize("one_more", [b"", b"no store", b"cut", b"version", b"no frame"])
def test_a_bad_clip_store_is_one_line_and_the_others_are_done(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str], one_more: bytes
) -> None:
    for name in "ace":
        with ClipStoreWriter(folder / f"m/{name}.dvclip", size=SIZE) as store:
            for index in range(2):
                store.write(image(index), np.zeros(SIZE, np.uint16))
    whole = (folder / "m/a.dvclip").read_bytes()
    (folder / "m/b.dvclip").write_bytes(whole[:500])
    changed = {b"cut": whole[:-1], b"version": whole[:8] + b"\x02" + whole[9:]}
    (folder / "m/d.dvclip").write_bytes(changed.get(one_more, one_more))
    if one_more == b"no frame":
        with ClipStoreWriter(folder / "m/d.dvclip", size=SIZE):
            pass
    code, errors = predict(capsys, checkpoint, "m")
    assert counted() == [f"{name}_{index:06d}" for name in "ace" for index in range(2)]
    assert code == 1
    assert len(errors) == 2
    assert "m/b.dvclip: " in errors[0]
    assert "m/d.dvclip: " in errors[1]


@pytest.mark.parametrize("option", ["--checkpoint", "--first-mask-checkpoint"])
def test_a_folder_is_no_network_but_may_hold_one(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    video(folder / "a.mp4")
    (folder / "run/train").mkdir(parents=True)
    extra = ["--first-mask", "auto"] if option != "--checkpoint" else []
    words = ["predict", "a.mp4", "--checkpoint", checkpoint, *extra, option, "run"]
    code, errors = run(capsys, *words)
    told = "error: run: is a folder; expected a trained network's file; "
    assert (code, errors) == (1, [f"{told}check {option}"])
    shutil.copy(checkpoint, "run/train/best.safetensors")
    assert run(capsys, *words)[1] == [f"{told}did you mean run/train/best.safetensors?"]


@pytest.mark.parametrize(
    ("words", "name"),
    [(["gone.csv"], "INPUT"), (["--truth", "gone.csv"], "--truth")],
)
def test_a_missing_truth_is_told_by_the_name_it_was_given_under(
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    name: str,
) -> None:
    code, errors = run(capsys, "evaluate", *words, "--checkpoint", checkpoint)
    told = f"error: gone.csv: no such file or folder; check the path of {name}"
    assert (code, errors) == (2, [told])


def foreign(path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, path)


def other_kind(path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, path, metadata={"dvos": '{"name": "teapot"}'})


@pytest.mark.parametrize(
    "make",
    [
        foreign,
        other_kind,
        lambda path: path.write_text("weights"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
)
@pytest.mark.parametrize("name", ["best.safetensors", "best.pth", "best.onnx"])
def test_checkpoints_of_another_kind(
    folder: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], name: str
) -> None:
    write_image(folder / "clip/0.png", image(0))
    make(folder / name)
    code, errors = predict(capsys, folder / name, "clip")
    assert code in (1, 2)
    assert len(errors) == 1
    assert name in errors[0]
    assert not (folder / "out").exists()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing beyond that fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("options", [(), ("--overlay",), ("--run-lengths", "--instances")])
def test_a_full_disk_is_one_line_and_work_goes_on_from_there(
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    for index in range(12):
        write_image(folder / f"clip/{index:02d}.png", image(index))
    # Enough for each mask and the first rows of the record, not for all.
    with files_no_larger_than(2500):
        code, errors = predict(capsys, checkpoint, "clip", *options)
    assert code == 1
    assert len(errors) == 1
    assert "File too large" in errors[0]
    kept = {path.name: path.read_bytes() for path in Path("out/clip").glob("*.png")}
    assert kept
    assert predict(capsys, checkpoint, "clip", *options) == (0, [])
    continued = {path.name: path.read_bytes() for path in Path("out/clip").glob("*.png")}
    assert len(continued) == 12
    shutil.rmtree("out")
    assert predict(capsys, checkpoint, "clip", *options) == (0, [])
    for name, data in continued.items():
        assert Path("out/clip", name).read_bytes() == data
        assert kept.get(name, data) == data


def test_output_where_a_file_is_in_the_way(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(folder / "clip/0.png", image(0))
    (folder / "out").write_text("a file")
    code, errors = predict(capsys, checkpoint, "clip")
    assert code == 1
    assert len(errors) == 1
    assert "out: cannot be written" in errors[0]
    assert (folder / "out").read_text() == "a file"


def test_a_mask_folder_with_a_name_missing_counts_it_and_tells(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[5:20, 5:20] = 255
    for index in range(3):
        write_image(folder / f"clips/a/{index}.png", image(index))
        write_mask(folder / f"truth/a/{index}.png", mask)
    assert predict(capsys, checkpoint, "clips") == (0, [])
    (folder / "out/a/1.png").unlink()
    words = ("--truth", "truth", "--predictions", "out", "--out", "scores")
    code, errors = run(capsys, "score", *words)
    assert code == 1
    assert len(errors) == 1
    assert "1" in errors[0]
    assert (folder / "scores/scores.json").is_file()
    # The mask that is gone is made again, those that follow it likewise.
    assert predict(capsys, checkpoint, "clips") == (0, [])
    assert run(capsys, "score", *words) == (0, [])


def test_a_missing_input_is_told_beside_what_is_wrong_with_the_checkpoint(folder, capsys):
    code, lines = predict(capsys, Path("none.safetensors"), "none.mp4")
    assert code == 1
    assert [line.split(":")[1].strip() for line in lines] == ["none.safetensors", "none.mp4"]
    assert not Path("out").exists()


def test_a_frame_that_is_not_there_leaves_a_gap_and_is_told(
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for index in (0, 2, 3):
        write_image(folder / "clip" / f"f{index}.png", image(index))
    (folder / "clip" / "f1.png").symlink_to("/nowhere/f1.png")
    code, errors = predict(capsys, checkpoint, "clip", "--set", "frame_rate=10")
    assert (code, errors) == (0, [])
    with open("out/counts.csv", newline="") as stream:
        rows = [(row["frame"], row["frame_index"], row["time_s"]) for row in csv.DictReader(stream)]
    assert [frame for frame, _, _ in rows] == ["f0", "f2", "f3"]
    assert [index for _, index, _ in rows] == ["0", "2", "3"]
    assert "f1.png: is a link to /nowhere/f1.png, which is not there" in caplog.text


def test_names_that_are_no_utf_8_do_not_cost_the_others(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = os.fsdecode(b"gr\xf6sse")
    for name in ("a", bad, "z"):
        for index in range(2):
            write_image(Path("clips", name, f"{index}.png"), image(index))
    Path("clips/z/1.png").rename(Path("clips/z", f"{bad}.png"))
    code, errors = predict(capsys, checkpoint, "clips")
    assert (code, len(errors)) == (1, 1)
    assert "its name is not valid Unicode" in errors[0]
    assert counted() == ["0", "1", "0"]
    assert sorted(path.name for path in Path("out").iterdir() if path.is_dir()) == [
        ".progress",
        "a",
        "z",
    ]
    Path("clips", bad).rename("clips/b")
    assert predict(capsys, checkpoint, "clips") == (0, [])
    assert counted() == ["0", "1", "0", "1", "0"]
