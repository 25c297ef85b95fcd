"""Images of more than 8 bit: one pair of limits for a whole clip, kept from training on."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from dvos.config.data import DataSettings, StillsSettings, SyntheticSettings
from dvos.config.extraction import ObjectsSettings
from dvos.config.prediction import PredictorOptions
from dvos.errors import MediaError
from dvos.extraction.objects import extract_objects
from dvos.media.addressed import read_image_at
from dvos.media.frames import ImageFolder, ImageList, PanClip, open_frames
from dvos.media.image import read_image, to_uint8
from dvos.media.intensity import choose_intensity, measure_intensity
from dvos.media.video import VideoFile
from dvos.prediction.inputs import find_clips
from dvos.prediction.network import LoadedNetwork
from dvos.tables import read_images
from dvos.training.labels import find_labels, settle_intensity


def camera(level: int = 0, side: int = 40) -> np.ndarray:
    """A picture of a 12-bit camera: background 100, one object 250."""
    image = np.full((side, side), 100 + level, np.uint16)
    image[10:20, 10:20] = 250 + level
    return image


def write_clip(folder: Path, levels: list[int]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{k:03d}.png" for k in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        cv2.imwrite(str(path), camera(level))
    return paths


def test_samples_are_spread_between_the_limits() -> None:
    samples = np.array([[0, 100, 150, 200, 300, 65535]], np.uint16)
    assert to_uint8(samples, "100,200").tolist() == [[0, 0, 128, 255, 255, 255]]
    assert to_uint8(samples).tolist() == [[0, 0, 1, 1, 1, 255]]
    reals = np.array([[-1.0, 0.25, np.nan, 2.0]], np.float32)
    assert to_uint8(reals, "0,1").tolist() == [[0, 64, 0, 255]]
    plain = np.array([[7]], np.uint8)
    assert to_uint8(plain, "100,200") is plain


def test_a_clip_has_one_pair_however_its_frames_differ(tmp_path: Path, caplog) -> None:
    paths = write_clip(tmp_path / "clip", [0, 0, 50])
    with caplog.at_level(logging.WARNING):
        frames = [frame.image for frame in ImageFolder(tmp_path / "clip")]
    assert len(caplog.messages) == 1
    assert "clip: samples from 100 to 300 are spread over 0 to 255" in caplog.messages[0]
    # 50 of 200 steps brighter, background and object alike.
    assert [int(image[0, 0, 0]) for image in frames] == [0, 0, 64]
    assert [int(image[15, 15, 0]) for image in frames] == [191, 191, 255]
    again = [frame.image for frame in ImageList("clip", paths, intensity="full")]
    assert all(image.max() == 1 for image in again)
    (found,) = find_clips(tmp_path / "clip")
    assert found.intensity == "100,300"
    assert [int(frame.image[15, 15, 0]) for frame in found.open()] == [191, 191, 255]


def test_what_uses_its_range_is_divided_by_257(tmp_path: Path) -> None:
    wide = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    cv2.imwrite(str(tmp_path / "plain.png"), camera().astype(np.uint8))
    assert measure_intensity([tmp_path / "wide.png"]) == "full"
    assert measure_intensity([tmp_path / "plain.png", tmp_path / "gone.png"]) is None
    (frame,) = ImageList("wide", [tmp_path / "wide.png"])
    assert np.array_equal(frame.image[..., 0], to_uint8(wide))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_other_types_are_read_once_there_are_limits(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", camera().astype(dtype))
    with pytest.raises(MediaError, match="LOW,HIGH"):
        read_image(tmp_path / "a.tif")
    assert measure_intensity([tmp_path / "a.tif"]) == "100,250"
    (frame,) = ImageFolder(tmp_path)
    assert set(np.unique(frame.image)) == {0, 255}
    assert read_image(tmp_path / "a.tif", "0,1000")[15, 15].tolist() == [64] * 3


def test_twelve_bits_of_a_tiff_keep_their_steps(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", camera(), bitspersample=12)
    (frame,) = ImageFolder(tmp_path)
    assert (frame.image[0, 0, 0], frame.image[15, 15, 0]) == (0, 255)


def test_a_constant_image_has_limits(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 300, np.uint16))
    assert measure_intensity([tmp_path / "a.png"]) == "300,301"


def test_photos_share_one_pair(tmp_path: Path) -> None:
    write_clip(tmp_path / "photos", [0, 50])
    clips = find_clips(tmp_path / "photos", stills=True)
    assert [clip.intensity for clip in clips] == ["100,300"] * 2
    (pan,) = PanClip(tmp_path / "photos" / "001.png", count=1, step=1, seed=0, intensity="100,300")
    assert pan.image[0, 0, 0] == 64
    # To look at, an image is as its folder.
    assert read_image_at(tmp_path / "photos" / "001.png")[0, 0, 0] == 64


def test_the_files_and_the_limits_make_the_work_known(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", [0])
    auto, full = (find_clips(tmp_path / "clip", intensity=one)[0] for one in ("auto", "full"))
    assert auto.fingerprint() != full.fingerprint()
    assert len(full.fingerprint()) == 1


def test_training_has_one_pair_for_all_its_images(tmp_path: Path) -> None:
    write_clip(tmp_path / "a" / "images", [0])
    write_clip(tmp_path / "bare", [50])
    (tmp_path / "a" / "masks").mkdir()
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    cv2.imwrite(str(tmp_path / "a" / "masks" / "000.png"), mask)
    (tmp_path / "bare.csv").write_text(f"Image\n{tmp_path / 'bare' / '000.png'}\n")
    data = DataSettings(
        stills=StillsSettings(folders=[tmp_path / "a"]),
        synthetic=SyntheticSettings(
            backgrounds=[tmp_path / "bare.csv"], cutouts=[tmp_path / "bare.csv"]
        ),
    )
    settled, found = settle_intensity(data)
    assert (settled.intensity, found) == ("100,300", "100,300")
    assert find_labels(settled).stills[0].intensity == "100,300"
    assert settle_intensity(data, kept="90,400")[1] == "90,400"
    assert settle_intensity(settled, kept="90,400")[1] == "100,300"


def test_prediction_goes_by_the_checkpoint_unless_told() -> None:
    loaded = SimpleNamespace(extra={"intensity": "90,400"})
    intensity = LoadedNetwork.intensity
    assert intensity(loaded, PredictorOptions()) == "90,400"
    assert intensity(loaded, PredictorOptions(intensity="full")) == "full"
    assert intensity(SimpleNamespace(extra={}), PredictorOptions()) == "auto"
    assert intensity(SimpleNamespace(extra={"intensity": [3]}), PredictorOptions()) == "auto"


def test_cutouts_of_a_12_bit_camera_are_not_black(tmp_path: Path) -> None:
    (image,) = write_clip(tmp_path / "images", [0])
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    table = tmp_path / "annotated.csv"
    table.write_text(f"Image,Mask,OutDir\n{image},{tmp_path / 'mask.png'},{tmp_path / 'out'}\n")
    result = extract_objects(
        ObjectsSettings(
            annotated=table,
            cutouts=tmp_path / "cutouts.csv",
            distractors=tmp_path / "distractors.csv",
            min_object_size=10,
        )
    )
    (row,) = read_images(result.cutouts)
    assert read_image(row.image).max() == 255


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("auto", "auto"),
        ("74,262", "74,262"),
        ([74, 262.5], "74,262.5"),
        ("-1e3, 2e3", "-1000,2000"),
    ],
)
def test_the_setting(given: object, kept: str) -> None:
    assert PredictorOptions(intensity=given).intensity == kept


@pytest.mark.parametrize("given", ["262,74", "3", "a,b", [1, 2, 3], None, 5, "nan,2", "0,inf", {}])
def test_a_setting_that_is_none(given: object) -> None:
    with pytest.raises(ValidationError, match="LOW,HIGH"):
        PredictorOptions(intensity=given)


def test_open_frames_takes_limits(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", [0])
    (frame,) = open_frames(tmp_path / "clip", "0,500")
    assert frame.image[15, 15].tolist() == [128] * 3
    assert choose_intensity("0,500", [], "nothing") == "0,500"


def write_video(path: Path, pixels: list[np.ndarray], kind: str) -> None:
    """A lossless video, of grey with 8 to 16 bit."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = pixels[0].shape
        stream.pix_fmt = kind
        for image in pixels:
            frame = av.VideoFrame(stream.width, stream.height, kind)
            plane = frame.planes[0]
            rows = np.zeros((stream.height, plane.line_size // image.itemsize), image.dtype)
            rows[:, : stream.width] = image
            plane.update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("kind", ["gray16le", "gray12le"])
def test_a_grey_video_of_more_than_8_bit(tmp_path: Path, kind: str, caplog) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, [camera(level, side=64) for level in (0, 0, 50)], kind)
    with caplog.at_level(logging.WARNING):
        frames = [frame.image for frame in VideoFile(path)]
    assert len(caplog.messages) == 1
    assert [int(image[0, 0, 0]) for image in frames] == [0, 0, 64]
    assert [int(image[15, 15, 2]) for image in frames] == [191, 191, 255]
    assert max(frame.image.max() for frame in VideoFile(path, intensity="full")) < 20
    (clip,) = find_clips(path, intensity="0,65535")
    assert next(iter(clip.open())).image.max() < 20


def test_a_grey_video_of_8_bit_is_as_it_is(tmp_path: Path, caplog) -> None:
    write_video(tmp_path / "a.mkv", [camera().astype(np.uint8)] * 2, "gray")
    first = next(iter(VideoFile(tmp_path / "a.mkv", intensity="100,200")))
    assert (first.image[0, 0, 0], first.image[15, 15, 0]) == (100, 250)
    assert not caplog.messages
