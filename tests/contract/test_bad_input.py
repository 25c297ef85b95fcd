"""Bad input at the command line: a clear line per fault, the exit code, nothing broken left."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from dvos.cli.main import main
from dvos.files import TEMPORARY_PREFIX
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[str]]:
    """Run a command; give its exit code and its error lines."""
    code = main([str(word) for word in words])
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return code, [line for line in text.splitlines() if line.startswith("error: ")]


def make_still(folder: Path, name: str = "still", size: tuple[int, int] = (60, 80)) -> Path:
    rng = np.random.default_rng(3)
    path = folder / f"{name}.png"
    write_image(path, rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    mask = np.zeros(size, np.uint8)
    mask[10:40, 10:40] = 255
    write_mask(folder / f"{name}_mask.png", mask)
    return path


def make_video(path: Path, frames: int = 6) -> Path:
    with VideoWriter(path, frame_rate=10, size=(64, 64)) as writer:
        for index in range(frames):
            writer.write(np.full((64, 64, 3), 20 * index, np.uint8))
    return path


def extract_objects(capsys: pytest.CaptureFixture[str], *extra: str) -> tuple[int, list[str]]:
    return run(
        capsys,
        *("extract", "objects", "--annotated", "annotated.csv", "--cutouts", "cutouts.csv"),
        *("--distractors", "distractors.csv", "--workers", "1", *extra),
    )


def test_warnings_of_libraries_are_one_line_each(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dvos.api

    def check(*_: object) -> str:
        warnings.warn("Glyph 24180 missing\n  from font(s)", UserWarning, stacklevel=1)
        place = "/usr/lib/python3/site-packages/matplotlib/figure.py"
        warnings.warn_explicit("no room for\n labels", UserWarning, place, 7)
        return "done"

    monkeypatch.setattr(dvos.api, "run", check)
    (folder / "run").mkdir()
    shown = warnings.showwarning
    assert main(["report", "run"]) == 0
    assert warnings.showwarning is shown
    assert caplog.messages == [
        "UserWarning: Glyph 24180 missing from font(s)",
        "matplotlib: no room for labels",
    ]


def test_a_misspelt_key_names_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = run(capsys, "train", "--set", "out=x", "--set", "optimiser.leraning_rate=1")
    assert code == 2
    assert len(errors) == 1
    assert "optimiser.leraning_rate: unknown key" in errors[0]
    assert not (folder / "x").exists()


def test_wrong_types_are_told_with_the_value_all_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "t.yaml").write_text("out: x\nepochs: many\nbatch: -1\nnetwork: {name: unet}\n")
    code, errors = run(capsys, "train", "--config", "t.yaml")
    assert code == 2
    text = "\n".join(errors)
    assert len(errors) == 3
    assert "t.yaml: epochs: found 'many'" in text
    assert "t.yaml: batch: found -1" in text
    assert "t.yaml: network.name: found 'unet'" in text


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--no-such-option"),
        ("no-such-command",),
        ("extract", "frames"),
        ("check",),
        ("predict", "--scale", "large"),
    ],
)
def test_bad_usage_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, errors = run(capsys, *words)
    assert code == 2
    assert errors


def test_a_missing_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = run(capsys, "extract", "frames", "--videos", "none.csv", "--out", "o.csv")
    assert code == 1
    assert len(errors) == 1
    assert "none.csv" in errors[0]


@pytest.mark.parametrize("text", ["", "Image,Mask,OutDir\n", "\n\n"])
def test_an_empty_table(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (folder / "annotated.csv").write_text(text)
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 1
    assert "annotated.csv" in errors[0]
    assert not (folder / "cutouts.csv").exists()


def test_every_missing_file_of_a_table_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_still(folder)
    (folder / "annotated.csv").write_text(
        "Image,Mask,OutDir\na.png,still_mask.png,o\nstill.png,b.png,o\n"
    )
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 2
    assert "row 2" in errors[0]
    assert "a.png" in errors[0]
    assert "row 3" in errors[1]
    assert "b.png" in errors[1]


def test_a_truncated_png(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make_still(folder)
    image.write_bytes(image.read_bytes()[:-200])
    (folder / "annotated.csv").write_text("Image,Mask,OutDir\nstill.png,still_mask.png,o\n")
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 1
    assert "still.png" in errors[0]
    assert not (folder / "cutouts.csv").exists()


def test_a_mask_of_another_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_still(folder)
    write_mask(folder / "still_mask.png", np.ones((30, 40), np.uint8))
    (folder / "annotated.csv").write_text("Image,Mask,OutDir\nstill.png,still_mask.png,o\n")
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 1
    assert "40 x 30" in errors[0]
    assert "80 x 60" in errors[0]


def test_a_mask_without_objects(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_still(folder)
    write_mask(folder / "still_mask.png", np.zeros((60, 80), np.uint8))
    (folder / "annotated.csv").write_text("Image,Mask,OutDir\nstill.png,still_mask.png,o\n")
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 1
    assert "still_mask.png" in errors[0]


def test_a_corrupt_video_keeps_the_good_ones_frames(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(folder / "good.mp4")
    (folder / "bad.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(300))
    (folder / "videos.csv").write_text(
        "Video,FramesDir,Interval\nbad.mp4,frames/bad,1\ngood.mp4,frames/good,2\n"
    )
    code, errors = run(
        capsys, "extract", "frames", "--videos", "videos.csv", "--out", "f.csv", "--workers", "1"
    )
    assert code == 1
    assert len(errors) == 1
    assert "bad.mp4" in errors[0]
    assert len(list((folder / "frames" / "good").glob("good_*.png"))) == 3
    assert not (folder / "f.csv").exists()


@pytest.mark.parametrize("command", [("demo", "--data"), ("fit",)])
def test_a_data_folder_with_nothing_to_learn_from(
    folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    (folder / "data" / "backgrounds").mkdir(parents=True)
    code, errors = run(capsys, *command, "data", "--out", "run")
    assert code == 2
    assert len(errors) == 1
    assert "data: holds nothing to learn from; expected annotated/images" in errors[0]
    assert "dvos import" in errors[0]
    assert not (folder / "run").exists()


def test_no_backgrounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = run(capsys, "synthesize", "--set", "cutouts=[c.csv]", "--out", "clips")
    assert code == 2
    assert "backgrounds" in errors[0]


def test_an_unwritable_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_still(folder)
    (folder / "annotated.csv").write_text("Image,Mask,OutDir\nstill.png,still_mask.png,o\n")
    (folder / "o").write_text("a file in the way of the folder")
    code, errors = extract_objects(capsys)
    assert code == 1
    assert len(errors) == 1
    assert "OutDir" in errors[0]
    assert "is a file; expected a folder to write to" in errors[0]
    (folder / "o").unlink()
    (folder / "out").write_text("in the way")
    make_video(folder / "v.mp4")
    (folder / "videos.csv").write_text("Video,FramesDir,Interval\nv.mp4,frames,1\n")
    code, errors = run(
        capsys,
        "extract",
        "frames",
        "--videos",
        "videos.csv",
        "--out",
        "out/f.csv",
        "--workers",
        "1",
    )
    assert code == 1
    assert len(errors) == 1
    assert "out" in errors[0]
    assert "cannot be written" in errors[0]
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


def test_a_file_that_is_no_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_video(folder / "v.mp4")
    (folder / "w.safetensors").write_bytes(b"not weights")
    code, errors = run(capsys, "predict", "v.mp4", "--checkpoint", "w.safetensors", "--out", "p")
    assert code == 1
    assert len(errors) == 1
    assert "w.safetensors" in errors[0]


def test_debug_gives_the_traceback(folder: Path) -> None:
    from dvos.errors import ConfigError

    with pytest.raises(ConfigError):
        main(["train", "--set", "nonsense=1", "--debug"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_still(folder)
    (folder / "annotated.csv").write_text("Image,Mask,OutDir\nstill.png,still_mask.png,o\n")
    (folder / "o").mkdir(mode=0o500)
    code, errors = extract_objects(capsys)
    assert code == 1
    assert "cannot be written" in errors[0]


def test_a_name_outside_the_outputs_encoding_is_no_fault(folder: Path) -> None:
    make_still(folder)
    (folder / "Größe→.csv").write_text("Image\nstill.png\n", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "dvos", "check", "Größe→.csv"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert result.returncode == 0, result.stderr
    assert "Größe\\u2192.csv: 1 rows".encode("latin-1") in result.stdout
