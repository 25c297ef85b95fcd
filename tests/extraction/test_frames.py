"""Frames from videos: names, sizes, one draw a video, resume, damage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dvos.cli.main import main
from dvos.config.extraction import FramesSettings
from dvos.errors import MediaError, OutputError, TableError
from dvos.extraction import frames as module
from dvos.extraction.frames import extract_frames
from dvos.media.image import image_size, read_image
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.tables import read_images


def make_video(
    path: Path, count: int = 10, size: tuple[int, int] = (48, 64), hue=(0, 1, 0)
) -> None:
    """Frames whose brightness tells their index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, frame_rate=10, size=size, crf=1) as writer:
        for k in range(count):
            image = np.zeros((*size, 3), np.uint8)
            image[:] = np.array(hue) * (60 + 12 * k)
            writer.write(image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_video(tmp_path / "in/one.mp4", 10)
    make_video(tmp_path / "in/two.v2.mp4", 5)
    (tmp_path / "v.csv").write_text(
        "Video,FramesDir,Interval\nin/one.mp4,f/one,3\nin/two.v2.mp4,f/two,2\n"
    )
    return tmp_path


def extract(folder: Path, **options: Any) -> list[Path]:
    settings = {"videos": folder / "v.csv", "out": folder / "out.csv", "min_side": 0, "workers": 1}
    table = extract_frames(FramesSettings(**{**settings, **options}))
    assert table == folder / "out.csv"
    return [row.image for row in read_images(table)]


@pytest.mark.parametrize(("workers", "published"), [(1, True), (2, False)])
def test_every_interval_th_frame_in_video_order(
    folder: Path, workers: int, published: bool
) -> None:
    paths = extract(folder, workers=workers, names="published" if published else "frame")
    saved = {"one": (0, 3, 6, 9), "two.v2": (0, 2, 4)}
    names = [
        f"{stem}_{place if published else frame:06d}.png"
        for stem, frames in saved.items()
        for place, frame in enumerate(frames)
    ]
    assert [path.name for path in paths] == names
    greens = [int(np.median(read_image(path)[..., 1])) for path in paths]
    expected = [60 + 12 * k for k in (0, 3, 6, 9, 0, 2, 4)]
    assert np.abs(np.array(greens) - expected).max() <= 4
    assert sorted((folder / "f/one").iterdir()) == paths[:4]


def test_the_table_tells_which_frame_of_which_video_each_is(folder: Path) -> None:
    extract(folder, names="published")
    lines = (folder / "out.csv").read_text().splitlines()
    assert lines[0] == "Image,Video,Frame"
    assert lines[2] == "f/one/one_000001.png,in/one.mp4,3"
    assert lines[-1] == "f/two/two.v2_000002.png,in/two.v2.mp4,4"


def test_frames_are_named_and_sized_as_those_that_are_predicted(folder: Path) -> None:
    video = VideoFile(folder / "in/one.mp4")
    settings = FramesSettings(videos=folder / "v.csv", out=folder / "out.csv", workers=1)
    rows = read_images(extract_frames(settings))
    frames = {frame.name: frame.image.shape[:2] for frame in video}
    assert {row.image.stem: image_size(row.image) for row in rows[:4]}.items() <= frames.items()


def test_videos_given_by_themselves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = ["extract", "frames", "in/one.mp4", "in", "--interval", "5", "--out", "all.csv"]
    assert main(words) == 1  # one.mp4 is in the folder, too
    assert main(["extract", "frames", "in", "--interval", "5", "--out", "all.csv"]) == 0
    lines = Path("all.csv").read_text().splitlines()[1:]
    assert lines == [
        "all/one_000000.png,in/one.mp4,0",
        "all/one_000005.png,in/one.mp4,5",
        "all/two.v2_000000.png,in/two.v2.mp4,0",
    ]
    Path("none").mkdir()
    with pytest.raises(MediaError, match="none: holds no video"):
        extract_frames(FramesSettings(inputs=[Path("none")]))
    with pytest.raises(ValidationError, match="neither is there"):
        FramesSettings()


def test_small_frames_are_enlarged_in_proportion(folder: Path) -> None:
    paths = extract(folder, min_side=96, extension=".jpg")
    assert {image_size(path) for path in paths} == {(96, 128)}
    assert {image_size(path) for path in extract(folder, min_side=30)} == {(48, 64)}


def test_hue_swap(folder: Path) -> None:
    paths = extract(folder, hue_swap={"source": (50, 70), "destin": (20, 40)})
    red, green, blue = np.median(read_image(paths[0]), axis=(0, 1))
    assert abs(red - green) < 12
    assert blue < 20


def test_one_draw_a_video(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    scene = scene.repeat(8, axis=0).repeat(8, axis=1)
    for name in ("a", "b"):
        with VideoWriter(
            tmp_path / f"in/{name}.mp4", frame_rate=5, size=(96, 128), crf=1
        ) as writer:
            for _ in range(4):
                writer.write(scene)
    (tmp_path / "v.csv").write_text("Video,FramesDir,Interval\nin/a.mp4,f,1\nin/b.mp4,f,1\n")
    paths = extract(tmp_path, transform={"name": "random_crop", "height": 40, "width": 40})
    images = [read_image(path).astype(int) for path in paths]
    for image in images[1:4]:
        assert np.abs(image - images[0]).mean() < 5
    assert np.abs(images[4] - images[0]).mean() > 20


def test_a_crop_larger_than_the_frames(folder: Path) -> None:
    with pytest.raises(MediaError, match="64 x 48 pixels, smaller than the crop") as caught:
        extract(folder, transform={"name": "center_crop"})
    assert len(caught.value.faults) == 2
    assert len(extract(folder, transform={"name": "center_crop", "height": 48, "width": 64})) == 7


def test_finished_videos_are_not_done_again(folder: Path) -> None:
    paths = extract(folder)
    stamps = [path.stat().st_mtime_ns for path in paths]
    paths[-1].unlink()
    assert extract(folder) == paths
    again = [path.stat().st_mtime_ns for path in paths]
    assert again[:4] == stamps[:4]
    assert all(new > old for new, old in zip(again[4:], stamps[4:], strict=True))
    (folder / "v.csv").write_text("Video,FramesDir,Interval\nin/one.mp4,f/one,5\n")
    assert len(extract(folder)) == 2


def test_an_interrupted_video_goes_on_at_the_next_frame(folder: Path, monkeypatch) -> None:
    whole = {path: path.read_bytes() for path in extract(folder)}
    (folder / ".out.csv.ledger.jsonl").unlink()
    (folder / "out.csv").unlink()
    for path in whole:
        path.unlink()
    real = module.write_image
    written: list[Path] = []

    def stop_at_third(path: Path, *arguments: Any, **options: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        real(path, *arguments, **options)
        written.append(path)

    monkeypatch.setattr(module, "write_image", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        extract(folder)
    monkeypatch.setattr(module, "write_image", real)
    assert (folder / "f/one/.one.unfinished").is_file()
    stamps = [path.stat().st_mtime_ns for path in written]
    assert {path: path.read_bytes() for path in extract(folder)} == whole
    assert [path.stat().st_mtime_ns for path in written] == stamps
    assert not list(folder.rglob("*.unfinished"))


def test_notes_of_other_settings_do_not_count(folder: Path) -> None:
    paths = extract(folder)
    (folder / "f/one/.one.unfinished").write_text(f"other\n{paths[0].name}\n")
    extract(folder, min_side=96)
    assert image_size(paths[0]) == (96, 128)


def test_a_cut_video_gives_what_decodes_and_a_broken_one_is_told(folder: Path, caplog) -> None:
    make_video(folder / "in/long.mp4", 60, hue=(1, 1, 1))
    data = (folder / "in/long.mp4").read_bytes()
    (folder / "in/cut.mp4").write_bytes(data[: int(len(data) * 0.7)])
    (folder / "in/broken.mp4").write_bytes(b"no video" * 100)
    (folder / "v.csv").write_text("Video,FramesDir,Interval\nin/cut.mp4,f,1\n")
    with caplog.at_level(logging.WARNING):
        paths = extract(folder)
    assert 1 <= len(paths) < 60
    assert "cut.mp4" in caplog.text
    with (folder / "v.csv").open("a") as table:
        table.write("in/broken.mp4,f,1\nin/one.mp4,f,1\n")
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        extract(folder)
    assert (folder / "f/one_000009.png").is_file()


def test_two_videos_that_write_the_same_names(folder: Path) -> None:
    make_video(folder / "in2/one.mp4", 2)
    (folder / "v.csv").write_text(
        "Video,FramesDir,Interval\nin/one.mp4,f,1\nin2/one.mp4,f/../f,1\n"
    )
    with pytest.raises(TableError, match="FramesDir"):
        extract(folder)
    assert not (folder / "f").exists()


def test_interval_below_one(folder: Path) -> None:
    (folder / "v.csv").write_text("Video,FramesDir,Interval\nin/one.mp4,f,0\n")
    with pytest.raises(TableError, match="row 2 column Interval"):
        extract(folder)


def test_frames_that_it_did_not_make_are_not_written_over(folder: Path) -> None:
    extract(folder)
    (first,) = folder.rglob("one_000000.png")
    first.write_bytes(b"mine")
    (folder / ".out.csv.ledger.jsonl").unlink()
    with pytest.raises(OutputError, match="is not known to have made it"):
        extract(folder)
    assert first.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["mine.csv", "v.csv", "in/one.mp4"])
def test_a_table_that_it_did_not_make_is_not_written_over(folder: Path, name: str) -> None:
    (folder / "mine.csv").write_text("Image\nx.png\n")
    (folder / "sub").mkdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=f"{name}: is there, and dvos extract is not known"):
        extract(folder, out=folder / "sub/.." / name)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    # Its own, also of an earlier run, is written anew.
    extract(folder)
    (folder / "f/one/one_000000.png").unlink()
    assert len(extract(folder)) == 7


def test_frames_and_tables_of_another_card_are_not_written_over(folder: Path) -> None:
    extract(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    make_video(folder / "card2/one.mp4", 7)
    make_video(folder / "card2/three.mp4", 3)
    for name, frames in (("one", "f/one"), ("three", "f/three")):
        videos = folder / f"{name}.csv"
        videos.write_text(f"Video,FramesDir,Interval\ncard2/{name}.mp4,{frames},1\n")
        before[videos] = videos.read_bytes()
    settings = {"min_side": 0, "workers": 1}
    told = rf"f/one holds what was extracted of {folder}/in/one\.mp4"
    with pytest.raises(OutputError, match=told):
        videos = folder / "one.csv"
        extract_frames(FramesSettings(videos=videos, out=folder / "other.csv", **settings))
    with pytest.raises(OutputError, match=r"out\.csv: lists what was extracted of other files"):
        extract(folder, videos=folder / "three.csv")
    assert {path: path.read_bytes() for path in before} == before


def test_moved_videos_are_the_same(folder: Path) -> None:
    extract(folder)
    (folder / "in").rename(folder / "moved")
    (folder / "v.csv").write_text((folder / "v.csv").read_text().replace("in/", "moved/"))
    assert len(extract(folder)) == 7


def test_the_table_of_videos_is_not_written_over(folder: Path) -> None:
    with pytest.raises(ValidationError, match="different files"):
        extract(folder, out=folder / "v.csv")
