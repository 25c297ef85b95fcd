from __future__ import annotations

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dvos.errors import MediaError, OutputError
from dvos.media import limits
from dvos.media.image import (
    image_size,
    read_image,
    read_reduced,
    read_rgba,
    refuse_other_image,
    write_image,
)
from dvos.media.layout import list_images, natural_key
from dvos.media.limits import free_memory
from dvos.media.mask import mask_size, read_mask, write_mask

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
LOSSLESS = [".png", ".tif"]


def save(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def smooth(size: tuple[int, int] = (120, 160)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    noise = RNG.integers(0, 40, size)
    return np.stack([x % 200, y % 200, (x + y) % 200], -1).astype(np.uint8) + noise[
        ..., None
    ].astype(np.uint8)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_what_is_written_is_read_back(tmp_path, suffix, dtype, channels):
    shape = (21, 33) if channels is None else (21, 33, channels)
    array = RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    path = tmp_path / f"x{suffix}"
    write_image(path, array)
    scaled = array if dtype is np.uint8 else np.rint(array / 257).astype(np.uint8)
    if scaled.ndim == 2 or scaled.shape[2] == 1:
        scaled = np.repeat(scaled.reshape(21, 33, 1), 3, axis=2)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, scaled[..., :3])
    alpha = scaled[..., 3] if channels == 4 else np.full((21, 33), 255)
    np.testing.assert_array_equal(read_rgba(path), np.dstack([scaled[..., :3], alpha]))
    assert image_size(path) == (21, 33)


def test_sixteen_bit_keeps_full_scale(tmp_path):
    write_image(tmp_path / "x.png", np.array([[0, 128, 129, 257, 65535]], dtype=np.uint16))
    assert read_image(tmp_path / "x.png")[0, :, 0].tolist() == [0, 0, 1, 1, 255]


@pytest.mark.parametrize("name", ["x.bmp", "x.webp", "x.tif", "x.png"])
def test_formats_of_other_programs(tmp_path, name):
    path = save(tmp_path / name, RGB, **({"lossless": True} if name == "x.webp" else {}))
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (20, 30)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_alpha_is_not_multiplied_in(tmp_path, name):
    path = save(tmp_path / name, RGBA)
    np.testing.assert_array_equal(read_rgba(path), RGBA)
    np.testing.assert_array_equal(read_image(path), RGBA[..., :3])


def test_grey_with_alpha_and_palette_with_transparency(tmp_path):
    grey = Image.fromarray(RGBA[..., 0])
    grey.putalpha(Image.fromarray(RGBA[..., 3]))
    grey.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_rgba(tmp_path / "la.png"), RGBA[..., [0, 0, 0, 3]])
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    indexed.putpalette([9, 8, 7, 60, 50, 40])
    indexed.save(tmp_path / "p.png", transparency=0)
    assert read_rgba(tmp_path / "p.png").tolist() == [[[9, 8, 7, 0], [60, 50, 40, 255]]]
    colours = np.array([[[9, 8, 7], [60, 50, 40]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png", transparency=(9, 8, 7))
    assert read_image(tmp_path / "rgb.png").tolist() == colours.tolist()
    assert read_rgba(tmp_path / "rgb.png").tolist() == [[[9, 8, 7, 0], [60, 50, 40, 255]]]


def test_jpeg_is_close_full_colour_and_takes_grey(tmp_path):
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[:, ::2] = (255, 0, 0)
    write_image(tmp_path / "x.jpg", red)
    # Subsampled colour would smear one-pixel stripes into one another.
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - red).max() < 25
    write_image(tmp_path / "g.jpg", red[..., 0] // 4)
    assert read_image(tmp_path / "g.jpg").shape == (32, 32, 3)
    assert read_rgba(tmp_path / "g.jpg").shape == (32, 32, 4)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    assert read_image(tmp_path / "x.jpg")[4, 8, 0] > 200
    assert read_image(tmp_path / "x.jpg")[4, 8, 1] < 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.webp", "x.tif"])
def test_orientation_is_honoured(tmp_path, orientation, name):
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :8] = (250, 0, 0)
    upright[8:, 16:] = (0, 0, 250)
    # How a camera stores what it should show: the inverse of each tag.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"x.jpg": {"quality": 100, "subsampling": 0}, "x.webp": {"lossless": True}}
    save(tmp_path / name, np.ascontiguousarray(stored), exif=exif, **options.get(name, {}))
    read = read_image(tmp_path / name)
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).max() < 30
    assert image_size(tmp_path / name) == (16, 24)


def encoded(kind: str, array: np.ndarray) -> bytes:
    if kind == "TIFF16":
        return cv2.imencode(".tif", array.astype(np.uint16) * 257)[1].tobytes()
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "TIFF16", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.002, 0.3, 0.6, 0.97])
def test_a_truncated_file_is_an_error(tmp_path, capfd, kind, share):
    data = encoded(kind, smooth())
    path = tmp_path / "half photo.img"
    path.write_bytes(data[: max(12, int(len(data) * share))])
    with pytest.raises(MediaError) as caught:
        read_image(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)
    assert "copy the file again" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lost", [1, 4, 12, 13])
def test_a_png_without_its_last_bytes_is_an_error(tmp_path, lost):
    path = tmp_path / "x.png"
    path.write_bytes(encoded("PNG", smooth())[:-lost])
    with pytest.raises(MediaError, match="ends early"):
        read_image(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1), flip=st.integers(1, 255))
def test_any_changed_byte_of_a_png_is_found(tmp_path, position, flip):
    array = smooth((24, 32))
    data = bytearray(encoded("PNG", array))
    data[int(position * (len(data) - 1))] ^= flip
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(MediaError):
        read_image(path)


def test_stray_bytes_that_harm_no_pixel_are_accepted(tmp_path):
    data = encoded("JPEG", smooth())
    for name, variant in {
        "between": data[:-2] + b"\0\0\0" + data[-2:],
        "after": data + b"x" * 9,
    }.items():
        (tmp_path / name).write_bytes(variant)
        np.testing.assert_array_equal(
            read_image(tmp_path / name), read_image(_bytes(tmp_path / "whole", data))
        )


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("function", [read_image, read_rgba, image_size])
def test_each_kind_of_missing_image_has_its_own_words(tmp_path, function):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("Image\nframe_1.png\n")
    expected = {
        "none.png": "no such file",
        "": "is a folder",
        "empty.png": "empty",
        "text.png": "not an image",
    }
    for name, words in expected.items():
        with pytest.raises(MediaError, match=words):
            function(tmp_path / name)


def test_float_samples_are_refused(tmp_path):
    save(tmp_path / "x.tif", np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(MediaError, match=r"float32.*8 or 16 bit"):
        read_image(tmp_path / "x.tif")


def test_names_with_spaces_and_other_alphabets(tmp_path):
    for name in ["wheat field 1.png", "поле.tif", "麦.jpg"]:
        path = tmp_path / "été 2024" / name
        write_image(path, RGB)
        assert read_image(path).shape == RGB.shape
        assert image_size(path) == (20, 30)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("x.gif", RGB, "cannot write images as .gif"),
        ("x", RGB, "without ending"),
        ("x.jpg", RGBA, "cannot hold alpha"),
        ("x.jpg", RGB.astype(np.uint16), "cannot hold 16-bit"),
        ("x.png", RGB.astype(np.float32), "float32"),
        ("x.png", np.zeros((3, 3, 2), np.uint8), "shape"),
        ("x.png", np.zeros((0, 3, 3), np.uint8), "shape"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, name, array, words):
    with pytest.raises(MediaError, match=words):
        write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


def test_quality_is_checked(tmp_path):
    with pytest.raises(MediaError, match="quality 0"):
        write_image(tmp_path / "x.jpg", RGB, quality=0)


def test_list_images_is_natural_and_passes_over_the_rest(tmp_path):
    for name in ["f10.png", "f2.PNG", "f1.jpg", ".hidden.png", "notes.txt", "a.csv"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["f1.jpg", "f2.PNG", "f10.png"]


def test_list_images_of_no_folder(tmp_path):
    with pytest.raises(MediaError, match="no such folder"):
        list_images(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="is a file"):
        list_images(tmp_path / "file")


@settings(max_examples=50)
@given(st.lists(st.text(max_size=8), max_size=12))
def test_natural_order_is_total(names):
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=12, unique=True))
def test_natural_order_of_numbers_is_theirs(numbers):
    names = [f"frame_{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"frame_{number}.png" for number in sorted(numbers)]


def test_errors_cross_processes(tmp_path):
    with pytest.raises(MediaError) as caught:
        read_image(tmp_path / "none.png")
    assert pickle.loads(pickle.dumps(caught.value)).faults == caught.value.faults


@pytest.mark.parametrize("length", [0, 70_000, 200_000])
def test_orientation_is_found_behind_other_segments(tmp_path, monkeypatch, length):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth((96, 128))).save(tmp_path / "x.jpg", exif=exif)
    data = (tmp_path / "x.jpg").read_bytes()
    segment = b"\xff\xe5" + (65_000).to_bytes(2, "big") + b"\0" * 64_998
    (tmp_path / "x.jpg").write_bytes(data[:2] + segment * -(-length // 65_000) + data[2:])
    # Pillow's limit of the whole process is none of ours.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert image_size(tmp_path / "x.jpg") == (128, 96)
    assert read_image(tmp_path / "x.jpg").shape == (128, 96, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.bmp", "x.webp"])
def test_an_image_for_which_there_is_no_memory_is_refused(tmp_path, monkeypatch, name):
    Image.fromarray(smooth((96, 128))).save(tmp_path / name)
    monkeypatch.setattr(limits, "_SMALL", 0)
    assert read_image(tmp_path / name).shape == (96, 128, 3)
    monkeypatch.setattr(limits, "free_memory", lambda: 1e4)
    with pytest.raises(MediaError, match=r"128 x 96 pixels need 0\.\d GB of memory, 0\.0 GB are"):
        read_image(tmp_path / name)
    with pytest.raises(MediaError, match=f"{name}: too many pixels"):
        limits.check_room(tmp_path / name, 2**16, 2**16, 1)
    assert free_memory() > 1e6


def test_readers_at_the_same_time_have_the_memory_together(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_SMALL", 0)
    monkeypatch.setattr(limits, "free_memory", lambda: 8e9)
    path = tmp_path / "a.png"
    limits.check_room(path, 10_000, 20_000, 30)
    with limits.memory_shared(4):
        limits.check_room(path, 10_000, 20_000, 10)
        # What others have taken since does not make their share smaller.
        monkeypatch.setattr(limits, "free_memory", lambda: 2.5e9)
        limits.check_room(path, 10_000, 20_000, 10)
        words = r"need 6\.0 GB of memory, 2\.0 GB are free for each of 4 workers; .* fewer workers"
        with pytest.raises(MediaError, match=words):
            limits.check_room(path, 10_000, 20_000, 30)
        with limits.memory_shared(2), pytest.raises(MediaError, match=r"1\.0 GB .* each of 8"):
            limits.check_room(path, 10_000, 20_000, 10)
    limits.check_room(path, 10_000, 20_000, 12)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_an_animation_is_refused(tmp_path, suffix):
    frames = [Image.fromarray(smooth((20, 30)) // (k + 1)) for k in range(3)]
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="an animation of several frames; expected one image"):
        read_image(tmp_path / f"x{suffix}")
    frames[0].save(tmp_path / f"x{suffix}", save_all=True)
    assert read_image(tmp_path / f"x{suffix}").shape == (20, 30, 3)


def test_what_a_container_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path)
    without = free_memory()
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 400000\nactive_file 300000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == pytest.approx(without, rel=0.5)
    # The pages of files, 700000 bytes, are given up when memory is asked for.
    (tmp_path / "memory.max").write_text("1000000\n")
    assert free_memory() == 800000


def test_paths_may_be_text(tmp_path: Path) -> None:
    picture = smooth((32, 24))
    for suffix in (".png", ".jpg", ".tif"):
        write_image(f"{tmp_path}/x{suffix}", picture)
        assert image_size(f"{tmp_path}/x{suffix}") == (32, 24)
        assert read_image(f"{tmp_path}/x{suffix}").shape == (32, 24, 3)
    write_mask(f"{tmp_path}/m.png", picture[..., 0] > 99)
    assert mask_size(f"{tmp_path}/m.png") == read_mask(f"{tmp_path}/m.png").shape == (32, 24)


def test_a_reduced_jpeg_is_upright_and_like_the_whole(tmp_path: Path) -> None:
    image = np.zeros((400, 640, 3), np.uint8)
    image[:200, :320], image[200:, 320:] = (200, 30, 30), (30, 30, 200)
    path = tmp_path / "photo.jpg"
    write_image(path, image)
    reduced = read_reduced(path, 80)
    assert reduced is not None
    assert reduced.shape == (100, 160, 3)
    assert np.abs(reduced[:40, :60].astype(int) - (200, 30, 30)).max() < 12
    write_image(tmp_path / "photo.png", image)
    assert read_reduced(tmp_path / "photo.png", 80) is None


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_an_image_notes_its_maker_and_is_otherwise_the_same(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    plain, noted = tmp_path / f"plain_{name}", tmp_path / name
    write_image(plain, pixels)
    refuse_other_image(noted, "dvos check")
    write_image(noted, pixels, maker="dvos check")
    assert np.array_equal(read_image(noted), read_image(plain))
    with Image.open(noted) as opened:
        told = opened.info.get("Software") or opened.info["comment"].decode().split("\0")[1]
    assert told == "dvos check"
    refuse_other_image(noted, "dvos check")
    for path, maker in (
        (plain, "dvos check"),
        (noted, "dvos synthesize"),
        (tmp_path, "dvos check"),
    ):
        with pytest.raises(OutputError, match=rf"{path}: is there, and {maker} \("):
            refuse_other_image(path, maker)
