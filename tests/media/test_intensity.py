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
from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.config.prediction import PredictorOptions
from dvos.config.scene import SynthesisSettings
from dvos.config.selftraining import PseudoLabelOptions, RoundsSettings
from dvos.config.workflow import DemoSettings
from dvos.errors import MediaError
from dvos.extraction.frames import extract_frames
from dvos.extraction.objects import extract_objects
from dvos.media.clip_store import read_image_at
from dvos.media.frames import ImageFolder, ImageList, PanClip, open_frames
from dvos.media.image import read_image, to_uint8
from dvos.media.intensity import choose_intensity, measure_intensity, told_together
from dvos.media.video import VideoFile, to_rgb
from dvos.prediction.inputs import find_clips
from dvos.prediction.network import LoadedNetwork
from dvos.selftraining.rounds import build_first_training, build_labelling, build_training
from dvos.synthesis.build import Recipe, build_recipe
from dvos.tables import read_images
from dvos.training.labels import find_labels, settle_intensity
from dvos.workflow.pipeline import with_intensity
from dvos.workflow.steps import MethodFolder, build_frames, build_objects, build_synthesis


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


def test_clips_are_told_in_one_line(tmp_path: Path, caplog) -> None:
    for number in range(7):
        write_clip(tmp_path / "a" / f"c{number}", [0])
        write_clip(tmp_path / "b" / f"c{number}", [number])
    find_clips(tmp_path / "a")
    find_clips(tmp_path / "b", intensity="74,262")
    find_clips(tmp_path / "b")
    find_clips(tmp_path / "b", intensity="full")
    names = "7 clips (c0, c1, c2, c3, c4 and 2 more)"
    spread = "are spread over 0 to 255"
    assert caplog.messages == [
        f"{names}: samples from 100 to 250 {spread}, as measured (see intensity)",
        f"{names}: samples from 74 to 262 {spread}, as asked for or as in training (see intensity)",
        f"{names}: samples {spread} by limits of each clip's own, as measured: c0 100,250, "
        "c1 101,251, c2 102,252, c3 103,253, c4 104,254 and 2 more (see intensity)",
    ]


@pytest.mark.parametrize("stills", [True, False])
def test_pictures_of_8_bit_are_not_named(tmp_path: Path, caplog, stills: bool) -> None:
    for name in ("deep", "eight", "more"):
        image = camera() if name != "eight" else (camera() // 2).astype(np.uint8)
        place = tmp_path / "in" / f"{name}.png" if stills else tmp_path / "in" / name / "0.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), image)
    for given in ("auto", "74,262"):
        find_clips(tmp_path / "in", stills=stills, intensity=given)
    assert len(caplog.messages) == 2
    assert all(line.startswith("2 clips (deep, more): samples from") for line in caplog.messages)


def test_videos_are_told_in_two_lines(tmp_path: Path, caplog) -> None:
    for number in range(3):
        write_video(tmp_path / f"v{number}.mkv", [camera(number, side=64)], "gray16le")
    with told_together(), told_together():
        for path in sorted(tmp_path.iterdir()):
            for _ in range(2):
                assert len(list(VideoFile(path))) == 1
            VideoFile(path, intensity="74,262")
        assert len(caplog.messages) == 1
    assert [line.split(":")[0] for line in caplog.messages] == [
        "v0",
        "2 clips (v1, v2)",
        "3 clips (v0, v1, v2)",
    ]
    assert "v1 101,251, v2 102,252" in caplog.messages[1]
    assert "from 74 to 262" in caplog.messages[2]
    assert VideoFile(tmp_path / "v0.mkv", is_told=False).intensity == "auto"
    assert len(caplog.messages) == 3


def ramp(kind: str, bits: int) -> av.VideoFrame:
    """A frame of YUV whose luma takes all values of 10 bit, from left to right, without colour."""
    frame = av.VideoFrame(1024, 16, kind)
    for place, plane in enumerate(frame.planes):
        values = np.full((plane.height, plane.line_size // 2), 2 ** (bits - 1), np.uint16)
        if place == 0:
            values[:, :1024] = np.arange(1024) * 2 ** (bits - 10)
        plane.update(values.tobytes())
    return frame


@pytest.mark.parametrize(
    ("codec", "kind", "bits", "name"),
    [
        ("ffv1", "yuv420p10le", 10, "a.mkv"),
        ("ffv1", "yuv422p12le", 12, "a.mkv"),
        ("ffv1", "yuv444p16le", 16, "a.mkv"),
        ("prores_ks", "yuv422p10le", 10, "a.mov"),
    ],
)
def test_yuv_of_more_than_8_bit_keeps_its_precision(
    tmp_path: Path, caplog, codec: str, kind: str, bits: int, name: str
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 1024, 16, kind
        container.mux(stream.encode(ramp(kind, bits)))
        container.mux(stream.encode())
    source = VideoFile(path)
    (frame,) = source
    # Black is 64 and white 940 of 10 bit; nothing is measured, and nothing to be told.
    levels = np.clip((np.arange(1024) - 64) * 255 / 876, 0, 255)
    assert np.abs(frame.image[8].astype(float) - levels[:, None]).max() < 0.51
    assert (source.intensity, caplog.messages) == ("full", [])
    (other,) = VideoFile(path, intensity="74,262")
    assert np.array_equal(other.image, frame.image)
    (told,) = caplog.messages
    assert told.startswith("a: a video in YUV states what is black and white: no other limits")


@pytest.mark.parametrize(("space", "red", "blue"), [(1, 0.2126, 0.0722), (9, 0.2627, 0.0593)])
def test_the_matrix_of_deep_yuv_is_the_one_it_names(space: int, red: float, blue: float) -> None:
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    samples = (600, 400, 640)
    for plane, value in zip(frame.planes, samples, strict=True):
        plane.update(np.full((plane.height, plane.line_size // 2), value, np.uint16).tobytes())
    frame.colorspace = space
    luma = (samples[0] - 64) / 876
    r = luma + 2 * (1 - red) * (samples[2] - 512) / 896
    b = luma + 2 * (1 - blue) * (samples[1] - 512) / 896
    g = (luma - red * r - blue * b) / (1 - red - blue)
    found = to_rgb(frame, [1, 0, 0, 1], "full")[24, 32]
    assert np.abs(found - 255 * np.array([r, g, b])).max() < 0.75


def test_extracted_frames_of_a_deep_video(tmp_path: Path, caplog) -> None:
    write_video(tmp_path / "a.mkv", [camera(side=64)] * 2, "gray16le")
    table = tmp_path / "videos.csv"
    table.write_text(f"Video,FramesDir,Interval\n{tmp_path / 'a.mkv'},{tmp_path / 'frames'},1\n")
    for given, object_value in (("auto", 255), ("0,500", 128)):
        settings = FramesSettings(
            videos=table, out=tmp_path / "frames.csv", min_side=0, intensity=given
        )
        for row in read_images(extract_frames(settings)):
            assert read_image(row.image)[15, 15, 0] == object_value
    assert [line.split(":")[0] for line in caplog.messages] == ["a.mkv"] * 2
    assert "samples from 100 to 250" in caplog.messages[0]
    assert "samples from 0 to 500" in caplog.messages[1]


def test_a_command_hands_its_intensity_on(tmp_path: Path) -> None:
    train = {"data": {"stills": {"folders": [tmp_path]}}}
    rounds = RoundsSettings(
        unlabelled=[{"input": tmp_path}, {"input": tmp_path / "b"}], train=train, intensity="74,262"
    )
    assert build_first_training(rounds).data.intensity == "74,262"
    later = build_training(rounds, 1, tmp_path / "a", stills=[], clips=[])
    assert later.data.intensity == "74,262"
    assert {one.intensity for one in build_labelling(rounds, 1, tmp_path)} == {"74,262"}
    own = {"data": {**train["data"], "intensity": "full"}}
    other = rounds.model_copy(update={"train": own})
    assert build_first_training(other).data.intensity == "full"
    options = PseudoLabelOptions(intensity="1,2")
    other = rounds.model_copy(update={"pseudo_label": options})
    assert {one.intensity for one in build_labelling(other, 1, tmp_path)} == {"1,2"}


def test_backgrounds_of_clips_have_one_pair_that_is_part_of_the_work(
    tmp_path: Path, caplog
) -> None:
    write_clip(tmp_path / "bare", [0, 50])
    table = tmp_path / "bare.csv"
    rows = "".join(f"{path}\n" for path in sorted((tmp_path / "bare").iterdir()))
    table.write_text(f"Image\n{rows}")

    def recipe(given: str) -> Recipe:
        settings = SynthesisSettings(
            backgrounds=[table], cutouts=[table], out=tmp_path / "clips", intensity=given
        )
        return build_recipe(settings)

    assert recipe("auto").intensity == "100,300"
    assert recipe("auto").fingerprint == recipe("100,300").fingerprint
    assert recipe("full").fingerprint != recipe("auto").fingerprint
    assert caplog.messages[0].startswith("backgrounds: samples from 100 to 300 are spread")


def test_a_demo_has_one_pair_for_all_that_it_reads(tmp_path: Path) -> None:
    (image,) = write_clip(tmp_path / "a", [0])
    (bare,) = write_clip(tmp_path / "b", [50])
    data = SimpleNamespace(
        labelled=[SimpleNamespace(image=image)], background_stills=[bare], validation_stills=[]
    )
    settings = with_intensity(DemoSettings(out=tmp_path / "out", data=tmp_path), data)
    assert settings.intensity == "100,300"
    folder = MethodFolder(tmp_path / "out", "demo")
    assert build_objects(settings, folder).intensity == "100,300"
    assert build_frames(settings, folder).intensity == "100,300"
    assert build_synthesis(settings, folder, []).intensity == "100,300"
    cv2.imwrite(str(image), camera().astype(np.uint8))
    cv2.imwrite(str(bare), camera().astype(np.uint8))
    assert with_intensity(DemoSettings(out=tmp_path / "out"), data).intensity == "auto"


def test_a_grey_video_of_8_bit_is_as_it_is(tmp_path: Path, caplog) -> None:
    write_video(tmp_path / "a.mkv", [camera().astype(np.uint8)] * 2, "gray")
    first = next(iter(VideoFile(tmp_path / "a.mkv", intensity="100,200")))
    assert (first.image[0, 0, 0], first.image[15, 15, 0]) == (100, 250)
    assert not caplog.messages
