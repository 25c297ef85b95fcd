from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import as_open_dml, noisy, picture, write_plain

from dvos.errors import MediaError, OutputError
from dvos.media.frames import open_frames
from dvos.media.video import SeekableVideo, VideoFile
from dvos.media.video_write import VideoWriter

#: Display matrices (a, b, c, d) of ISO/IEC 14496-12 and what numpy does the same by.
TURNS = {
    "90": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "180": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "270": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirror": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "flip": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transpose": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
}


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set the display matrix in the track header of an MP4."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    words = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    turned = path.with_name("turned.mp4")
    turned.write_bytes(data[:at] + words + data[at + 36 :])
    return turned


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_tag_is_honoured(video, turn):
    path = video(3)
    matrix, turned = TURNS[turn]
    upright = VideoFile(path)
    source = VideoFile(with_matrix(path, matrix))
    for frame, before in zip(source, upright, strict=True):
        np.testing.assert_array_equal(frame.image, turned(before.image))
        assert frame.image.shape[:2] == source.size


def test_variable_frame_rate_gives_exact_times(tmp_path):
    pts = [0, 40, 200, 210, 1000, 2500]
    path = write_plain(tmp_path / "vfr.mp4", [noisy(k) for k in range(6)], pts=pts, rate=30)
    frames = list(VideoFile(path))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(pts) / 1000, atol=2e-4)


def test_times_count_from_the_first_frame(tmp_path):
    images = [noisy(k) for k in range(3)]
    path = write_plain(tmp_path / "late.mkv", images, pts=[5000, 5040, 5080])
    times = [frame.time_s for frame in VideoFile(path)]
    np.testing.assert_allclose(times, [0, 0.04, 0.08], atol=2e-3)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64)])
def test_odd_sizes_are_read(tmp_path, size):
    images = [noisy(k, size) for k in range(3)]
    path = write_plain(tmp_path / "odd.mkv", images, codec="ffv1", pix_fmt="yuv444p")
    source = VideoFile(path)
    assert source.size == size
    assert [frame.image.shape for frame in source] == [(*size, 3)] * 3


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1)])
def test_odd_sizes_are_written_by_repeating_the_edge(tmp_path, size):
    with VideoWriter(tmp_path / "v.mp4", frame_rate=10, size=size, crf=1) as writer:
        writer.write(np.full((*size, 3), 90, np.uint8))
    source = VideoFile(tmp_path / "v.mp4")
    assert source.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert np.abs(next(iter(source)).image.astype(int) - 90).max() <= 3


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("v.mkv", "libx264", "yuv420p10le"),
        ("v.avi", "mjpeg", "yuvj420p"),
        ("v.webm", "libvpx-vp9", "yuv420p"),
        ("v.mpg", "mpeg2video", "yuv420p"),
        ("v.mov", "mpeg4", "yuv420p"),
    ],
)
def test_other_codecs_and_depths(tmp_path, name, codec, pix_fmt):
    images = [picture(k) for k in range(4)]
    frames = list(VideoFile(write_plain(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt)))
    assert len(frames) == 4
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - image).mean() < 9


@pytest.mark.parametrize("size", [(64, 96), (720, 96)])
def test_flat_colours_survive_writing_and_reading(tmp_path, size):
    colours = [
        (230, 20, 20),
        (20, 230, 20),
        (20, 20, 230),
        (128, 128, 128),
        (255, 255, 255),
        (0, 0, 0),
    ]
    path = tmp_path / "v.mp4"
    with VideoWriter(path, frame_rate=5, size=size, crf=5) as writer:
        for colour in colours:
            writer.write(np.broadcast_to(np.uint8(colour), (*size, 3)))
    for frame, colour in zip(VideoFile(path), colours, strict=True):
        assert np.abs(frame.image.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("rate", [25, 29.97, 30000 / 1001, 12.5, 0.5, 120, 1 / 900_000, 1e-6])
def test_frame_rates(video, rate):
    source = VideoFile(video(3, frame_rate=rate))
    assert source.frame_rate == pytest.approx(rate, rel=1e-4)
    assert [frame.time_s for frame in source] == pytest.approx([0, 1 / rate, 2 / rate], rel=1e-3)


def test_what_a_browser_needs(video):
    import av

    path = video(3)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)


def test_frame_count_is_counted_where_the_header_has_none(video):
    source = VideoFile(video(7, "v.mkv"))
    assert source.frame_count is None
    assert len(list(source)) == 7
    assert source.frame_count == 7


def test_names(video):
    assert [frame.name for frame in VideoFile(video(2, "поле 1.mp4"))] == [
        "поле 1_000000",
        "поле 1_000001",
    ]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.97])
def test_truncated_tail_gives_what_decodes_and_tells(video, share):
    path = video(60)
    whole = [frame.image for frame in VideoFile(path)]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    source = VideoFile(path)
    frames = list(source)
    assert 0 < len(frames) < 60
    assert any(
        "60 frames" in line and f"{len(frames)} were decoded" in line for line in source.damage
    )
    assert source.frame_count == len(frames)
    sound = len(frames) // 2
    np.testing.assert_array_equal([frame.image for frame in frames[:sound]], whole[:sound])


def test_truncated_matroska_is_told(video):
    path = video(150, "v.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = VideoFile(path)
    assert 0 < len(list(source)) < 150
    assert any("ends early" in line for line in source.damage)


@pytest.mark.parametrize("threads", [0, 1])
def test_corrupt_bytes_in_the_middle_are_passed_over_and_told(video, threads):
    path = video(60)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(data)
    source = VideoFile(path, threads=threads)
    frames = list(source)
    assert 30 < len(frames) <= 60
    assert frames[-1].time_s == pytest.approx(59 / 25, abs=0.2)
    assert source.damage
    assert [frame.frame_index for frame in frames] == list(range(len(frames)))


def test_a_whole_video_has_no_damage_to_tell(video):
    for name in ("v.mp4", "v.mkv", "v.mov"):
        for rate in (25, 1 / 86_400):
            source = VideoFile(video(40 if rate == 25 else 3, name, frame_rate=rate))
            list(source)
            assert source.damage == []


def with_edit(path: Path, frames: int, first: int = 0) -> Path:
    """An MP4 at 25 frames a second of which an edit list shows only some frames."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    duration, media_time = struct.unpack(">Ii", data[at : at + 8])
    whole = VideoFile(path).frame_count
    assert whole is not None
    ticks = 12_800 // 25  # of the track's clock, which FFmpeg chooses, for a frame
    values = duration * frames // whole, media_time + ticks * first
    data[at : at + 8] = struct.pack(">Ii", *values)
    edited = path.with_name(f"edited {path.name}")
    edited.write_bytes(bytes(data))
    return edited


@pytest.mark.parametrize("first", [0, 15])
def test_an_edit_list_is_no_early_end(tmp_path, first):
    # A key frame every five: of what an edit list cuts off whole groups are not even read.
    images = [noisy(k) for k in range(40)]
    options = {"g": "5"}
    path = write_plain(tmp_path / "v.mp4", images, codec_options=options)
    source = VideoFile(with_edit(path, 20, first))
    assert source.frame_count == 20
    frames = list(source)
    assert source.damage == []
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(20) / 25)
    whole = [frame.image for frame in VideoFile(path)]
    np.testing.assert_array_equal([frame.image for frame in frames], whole[first : first + 20])


def with_late_start(path: Path, seconds: float, shown: float) -> Path:
    """An MP4, its index at the end, that shows nothing first and then a part of its frames."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    clock = int.from_bytes(data[(mvhd := data.index(b"mvhd") + 16) : mvhd + 4], "big")
    entry = struct.pack(">IiHH", round(seconds * clock), -1, 1, 0)
    data[at + 8 : at + 12] = struct.pack(">I", 2)
    data[at + 12 : at + 16] = struct.pack(">I", round(shown * clock))
    data[at + 12 : at + 12] = entry
    for place in (data.rindex(box, 0, at + 4) for box in (b"moov", b"trak", b"edts", b"elst")):
        size = int.from_bytes(data[place - 4 : place], "big") + len(entry)
        data[place - 4 : place] = struct.pack(">I", size)
    late = path.with_name(f"late {path.name}")
    late.write_bytes(bytes(data))
    return late


def test_an_edit_list_that_begins_late_is_no_early_end(tmp_path):
    path = write_plain(tmp_path / "v.mp4", [noisy(k) for k in range(40)])
    late = with_late_start(path, 0.4, 0.8)
    source = VideoFile(late)
    assert [round(frame.time_s * 25) for frame in source] == list(range(20))
    assert source.damage == []
    assert SeekableVideo(late).count() == source.count() == 20


def test_an_edit_list_does_not_hide_a_truncated_tail(tmp_path):
    path = write_plain(
        tmp_path / "v.mp4",
        [noisy(k) for k in range(40)],
        options={"movflags": "+faststart"},
        codec_options={"g": "5"},
    )
    edited = with_edit(path, 30)
    data = edited.read_bytes()
    edited.write_bytes(data[: len(data) * 6 // 10])
    source = VideoFile(edited)
    assert len(list(source)) < 30
    assert any("ends early" in line for line in source.damage)


@pytest.mark.parametrize("last", [28, 40])
def test_frames_that_a_recorder_dropped_are_no_early_end(tmp_path, last):
    kept = [0, 1, 2, 3, 6, 7, 8, 9, 10, 15, last]
    path = tmp_path / "v.avi"
    images = [noisy(k) for k in range(len(kept))]
    write_plain(path, images, codec="mjpeg", pix_fmt="yuvj420p", pts=kept, ticks=25)
    source = VideoFile(path)
    assert source.frame_count == last + 1  # as the header counts, the dropped ones too
    times = [frame.time_s for frame in source]
    np.testing.assert_allclose(times, np.array(kept) / 25)
    assert source.damage == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    cut = VideoFile(path)
    assert len(list(cut)) < len(kept)
    assert any("ends early" in line for line in cut.damage)


def test_an_avi_of_several_segments_is_judged_by_all_of_them(tmp_path):
    plain = write_plain(
        tmp_path / "plain.avi", [noisy(k) for k in range(12)], codec="mjpeg", pix_fmt="yuvj420p"
    )
    # Recorders begin another segment after a gigabyte, and count what they dropped at the end.
    data = as_open_dml(plain.read_bytes(), first=7, empty=6)
    path = tmp_path / "v.avi"
    path.write_bytes(data)
    source = VideoFile(path)
    assert source.frame_count == 18
    np.testing.assert_allclose([frame.time_s for frame in source], np.arange(12) / 25)
    assert source.damage == []
    second = data.index(b"AVIX") - 8
    for length, frames in ((second, 7), (len(data) * 8 // 10, 9), (second + 5, 7)):
        path.write_bytes(data[:length])
        cut = VideoFile(path)
        assert len(list(cut)) == frames
        assert any("ends early" in line for line in cut.damage)


@pytest.mark.parametrize("start", [0, 5_000, 1_700_000_000_000])
def test_stamps_of_the_time_of_day_are_no_early_end(tmp_path, start):
    stamps = [start + 40 * k for k in range(150)]
    path = write_plain(tmp_path / "v.mkv", [noisy(k) for k in range(150)], pts=stamps)
    source = VideoFile(path)
    np.testing.assert_allclose([frame.time_s for frame in source], np.arange(150) * 0.04, atol=2e-3)
    assert source.damage == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    cut = VideoFile(path)
    assert 0 < len(list(cut)) < 150
    assert any("ends early" in line for line in cut.damage)


class Stamped:
    def __init__(self, pts: int | None) -> None:
        self.pts, self.time_base = pts, Fraction(1, 1000)


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([100, 200, 300, 100, 200, 300], [0, 100, 200, 300, 400, 500]),  # joined
        ([100, 200, 300, 5000, 5100, 0, 100], [0, 100, 200, 4900, 5000, 5100, 5200]),
        ([100, 200, 200, 300, 400], [0, 100, 150, 200, 300]),  # stands still
        ([100, 200, 300, 250, 400, 500], [0, 100, 200, 250, 300, 400]),  # slips
        ([100, 200, None, 400], [0, 100, 200, 300]),
        ([None, None, None], [0, 40, 80]),
    ],
)
def test_times_only_grow(stamps, times):
    from dvos.media.video_damage import Clock

    clock, damage = Clock(Fraction(25)), []
    found = [clock.time_of(index, Stamped(pts)) for index, pts in enumerate(stamps)]
    np.testing.assert_allclose(found, np.array(times) / 1000)
    clock.close(damage)
    raw = [pts for pts in stamps if pts is not None]
    assert bool(damage) == (raw != sorted(set(raw)))


def test_stamps_that_jump_back_are_told(tmp_path):
    parts = [tmp_path / name for name in ("a.ts", "b.ts")]
    for part in parts:
        write_plain(part, [noisy(k) for k in range(6)], options={"muxdelay": "0"})
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = VideoFile(path)
    times = np.array([frame.time_s for frame in source])
    assert len(times) >= 11
    assert (np.diff(times) > 0.03).all()
    assert times[-1] < 0.6
    assert any("jump back 1 times, first at frame" in line for line in source.damage)


def test_a_bare_name_with_colons_is_a_file(video, tmp_path, monkeypatch):
    path = video(3).rename(tmp_path / "2026-06-01T12:30:00.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoFile(Path(path.name)))) == 3
    Path("http:").mkdir()
    with VideoWriter(Path("http:/new:1.mp4"), frame_rate=5, size=(8, 8)) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))
    assert len(list(VideoFile(Path("http:/new:1.mp4")))) == 1


def test_a_name_that_is_no_utf_8_is_read_and_written(video, tmp_path):
    name = os.fsdecode(b"gr\xf6sse.mp4")
    source = VideoFile(video(2).rename(tmp_path / name))
    assert len(list(source)) == 2
    with VideoWriter(tmp_path / "out" / name, frame_rate=5, size=(8, 8)) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))
    assert len(list(VideoFile(tmp_path / "out" / name))) == 1


def no_index(data: bytes) -> bytes:
    return data[:32] + data[data.index(b"mdat") - 4 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "empty"),
        (lambda data: b"Video,FramesDir\n" * 40, "cannot be opened as a video"),
        (lambda data: data[: data.index(b"moov") + 40], "MP4"),
        (no_index, "no video stream|cannot be opened"),
        (lambda data: data[: data.index(b"mdat") + 8], "no frame could be decoded"),
    ],
)
def test_what_is_no_video_is_one_clear_error(video, capfd, change, words):
    path = video(5)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(MediaError, match=words) as caught:
        open_frames(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file_folder_and_image(tmp_path):
    from dvos.media.image import write_image

    with pytest.raises(MediaError, match="no such file"):
        open_frames(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="is a folder"):
        VideoFile(tmp_path)
    write_image(tmp_path / "still.png", noisy(0))
    with pytest.raises(MediaError, match="not a video"):
        VideoFile(tmp_path / "still.png")


def test_sound_without_pictures(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="no video stream"):
        VideoFile(tmp_path / "a.mp4")


@pytest.mark.parametrize(("name", "codec"), [("z.mp4", "h264"), ("z.avi", "mpeg4")])
def test_a_video_stream_without_frames(tmp_path, name, codec):
    import av

    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(MediaError, match="no frame"):
        VideoFile(tmp_path / name)


def test_a_change_of_size_is_an_error_that_says_where(tmp_path):
    parts = []
    for k, size in enumerate([(48, 64), (64, 48)]):
        part = write_plain(tmp_path / f"{k}.h264", [noisy(i, size) for i in range(5)])
        parts.append(part.read_bytes())
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(parts))
    source = VideoFile(path)
    assert source.size == (48, 64)
    with pytest.raises(MediaError, match=r"frame 5 is 48 x 64 .* before it are 64 x 48"):
        list(source)


def write_frames(path: Path, images: list[np.ndarray]) -> None:
    with VideoWriter(path, frame_rate=5, size=(8, 8)) as writer:
        for image in images:
            writer.write(image)


def test_nothing_is_left_when_the_block_fails(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")
    with pytest.raises(MediaError, match="frame 1 has shape"):
        write_frames(path, [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)])
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    assert path.read_bytes() == b"old"


def test_nothing_appears_before_the_end(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", frame_rate=5, size=(8, 8)) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))
        assert not (tmp_path / "v.mp4").exists()
    assert (tmp_path / "v.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "v.gif"}, "cannot write video as .gif"),
        ({"frame_rate": 0}, "frame rate 0"),
        ({"frame_rate": float("nan")}, "frame rate nan"),
        ({"size": (0, 8)}, "at least 1 x 1"),
        ({"crf": 60}, "crf 60"),
    ],
)
def test_writer_arguments(tmp_path, arguments, words):
    arguments = {"path": "v.mp4", "frame_rate": 5, "size": (8, 8), **arguments}
    with pytest.raises(MediaError, match=words):
        VideoWriter(tmp_path / arguments.pop("path"), **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_a_frame_of_another_kind_is_refused(tmp_path, image):
    with pytest.raises(MediaError, match="frame 0 has shape"):
        write_frames(tmp_path / "v.mp4", [image])
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="no frame was written"):
        write_frames(tmp_path / "v.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        VideoWriter(tmp_path / "file" / "v.mp4", frame_rate=5, size=(8, 8)),
    ):
        pass


def test_missing_encoder_is_told(tmp_path, monkeypatch):
    import av

    monkeypatch.setattr(av, "codecs_available", set())
    with (
        pytest.raises(MediaError, match=r"no H.264 encoder.*pip install"),
        VideoWriter(tmp_path / "v.mp4", frame_rate=5, size=(8, 8)),
    ):
        pass


def with_broken_tag(path: Path) -> Path:
    """Spoil a tag of a file, so that it is no UTF-8."""
    data = path.read_bytes()
    at = data.index(b"Lavf")
    path.write_bytes(data[:at] + b"\xff\xfe" + data[at + 2 :])
    return path


@pytest.mark.parametrize("release", ["installed", "19"])
def test_a_tag_that_is_no_utf_8_whatever_the_release_of_pyav(video, monkeypatch, release):
    path = with_broken_tag(video(2))
    import av

    before = av.open
    if release == "19" and int(av.__version__.split(".")[0]) < 19:

        def newer(file, mode=None):
            return before(file, mode, metadata_errors="replace")

        monkeypatch.setattr(av, "open", newer)
    assert len(list(VideoFile(path))) == 2
