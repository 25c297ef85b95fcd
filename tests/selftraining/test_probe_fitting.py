from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_predictor import Brightness, Colours, scene, write_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.selftraining import PseudoLabelSettings
from dvos.media.image import write_image
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.predictor import Views
from dvos.selftraining.probe_fitting import (
    PROBE,
    SampleStore,
    choose_pixels,
    probe_for,
    spread_evenly,
)


def test_frames_are_spread_over_all_clips() -> None:
    assert spread_evenly([1, 0, 3], 10) == [(0, 0), (2, 0), (2, 1), (2, 2)]
    assert spread_evenly([100, 100], 4) == [(0, 25), (0, 75), (1, 25), (1, 75)]
    assert spread_evenly([0], 4) == []


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 30))
def test_no_frame_is_chosen_twice_and_none_that_is_not_there(counts, limit) -> None:
    chosen = spread_evenly(counts, limit)
    assert len(set(chosen)) == len(chosen) == min(limit, sum(counts))
    assert chosen == sorted(chosen)
    assert all(0 <= index < counts[clip] for clip, index in chosen)


def test_few_objects_are_all_kept_and_every_pixel_is_stood_for() -> None:
    probability = np.full((50, 60), 0.01, np.float32)
    probability[:2, :10] = 0.9
    probability[10:20] = 0.1
    places, counts = choose_pixels(probability, 300, np.random.default_rng(0))
    chosen = probability.ravel()[places]
    assert len(places) == len(set(places)) == 300
    assert (np.diff(places) > 0).all()
    assert counts.sum() == pytest.approx(3000)
    for value, kept in ((0.9, 20), (0.1, 140), (0.01, 140)):
        members = chosen == np.float32(value)
        assert members.sum() == kept
        assert counts[members].sum() == pytest.approx((probability == np.float32(value)).sum())
    every, ones = choose_pixels(probability, 5000, np.random.default_rng(0))
    assert len(every) == 3000
    assert (ones == 1).all()


def test_the_moments_are_those_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    store = SampleStore(20)
    images = [rng.integers(0, 256, (64, 80, 3), dtype=np.uint8) for _ in range(3)]
    for image in images:
        image[:, :40, 0] = 255
        image[:, 40:, 0] //= 8
        probability = np.where(image[..., 0] > 200, 0.9, 0.01).astype(np.float32)
        store.add(image, probability, Colours(), rng)
    assert (store.frames, store.samples) == (3, 60)
    probe, fit = store.fit()
    assert probe is None  # too few
    assert "at least 50" in fit.reason
    store = SampleStore(10**6)
    for image in images:
        probability = np.where(image[..., 0] > 200, 0.9, 0.01).astype(np.float32)
        store.add(image, probability, Colours(), rng)
    probe, _ = store.fit()
    cells = np.stack(images).reshape(3, 16, 4, 20, 4, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(probe.mean, cells.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(probe.std, cells.std((0, 1, 2)), rtol=1e-3)


class Fitted:
    """Fits on a folder with the fake network; keeps what was looked at."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __call__(self, source: Path, **options):
        predictor = Brightness()
        self.reader = Colours()
        values = {"fingerprint": "f", "frames": 4, "seed": 0} | options
        found = probe_for(
            options.get("clips") or find_clips(source, stills=source.name == "photos", context=3),
            PseudoLabelSettings(
                input=source,
                checkpoint=source,
                out=self.out,
                probe_frames=values["frames"],
                seed=values["seed"],
            ),
            fingerprint=values["fingerprint"],
            context=2,
            view=partial(predictor.segment_views, views=Views()),
            reader=self.reader,
        )
        self.segmented = predictor.segmented
        return found


def test_frames_of_a_video_are_looked_at_in_one_pass(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=(64, 80)) as video:
        for _ in range(16):
            video.write(scene())
    run = Fitted(tmp_path / "out")
    _, record = run(tmp_path / "field.mp4")
    assert run.segmented == [2, 6, 10, 14]
    assert (record.frames, record.samples) == (4, 4 * 16 * 20)


class Misstated(VideoFile):
    """A video that states twice the frames that it has, as one trimmed by an edit list."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.frame_count = 40


def test_the_number_that_a_video_states_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "field.mp4"
    with VideoWriter(path, frame_rate=10, size=(64, 80)) as video:
        for _ in range(20):
            video.write(scene())
    clip = ClipInput("field", (path,), partial(Misstated, path))
    run = Fitted(tmp_path / "out")
    _, record = run(path, clips=[clip], frames=20)
    assert run.segmented == list(range(20))
    assert record.frames == 20


def test_a_finished_fit_is_taken_up_and_a_changed_one_is_not(tmp_path: Path) -> None:
    clip = write_frames(tmp_path / "clip", 6)
    run = Fitted(tmp_path / "out")
    first, record = run(clip)
    stored = (tmp_path / "out" / PROBE).read_bytes()
    again, same = run(clip)
    assert (run.reader.read, same) == (0, record)
    np.testing.assert_array_equal(again.weights, first.weights)
    (tmp_path / "out" / PROBE).write_bytes(b"torn")
    assert run(clip)[1] == record
    assert (tmp_path / "out" / PROBE).read_bytes() == stored
    for changes in ({"fingerprint": "g"}, {"frames": 2}, {"seed": 1}):
        run(clip, **changes)
        assert run.reader.read > 0
    write_image(clip / "f9.png", scene(3))
    assert run(clip, seed=1)[1].fingerprint != record.fingerprint
    (tmp_path / "out/.progress/probe.json").write_text("{}")
    assert run(clip)[1].fingerprint != record.fingerprint
    assert run.reader.read == 4


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    write_frames(clips / "a", 4)
    torn = clips / "a/f1.png"
    torn.write_bytes(torn.read_bytes()[:500])
    write_frames(clips / "b", 2)
    write_image(clips / "b/f1.png", np.zeros((30, 30, 3), np.uint8))
    run = Fitted(tmp_path / "out")
    _, record = run(clips, frames=6)
    # For the second frame of a the third stands in, which is taken once.
    assert run.segmented[:3] == [0, 2, 3]
    # b, whose frames are not of one size, gives none.
    assert record.frames == 3


def test_photos_are_looked_at_themselves(tmp_path: Path) -> None:
    photos = write_frames(tmp_path / "photos", 3)
    run = Fitted(tmp_path / "out")
    run(photos)
    assert run.segmented == [3, 3, 3]


def test_without_objects_there_is_no_probe_and_it_is_said(tmp_path: Path, caplog) -> None:
    clip = tmp_path / "clip"
    write_frames(clip, 1)
    run = Fitted(tmp_path / "out")
    assert run(clip)[0] is not None
    for number in range(2):
        write_image(clip / f"f{number}.png", np.full((64, 80, 3), 5, np.uint8))
    probe, record = run(clip)
    assert probe is None
    assert record.reason == "0 samples are surely object, at least 50 are needed"
    assert "no feature probe could be fitted on 2 frames (0 samples" in caplog.text
    assert not (tmp_path / "out" / PROBE).exists()
    caplog.clear()
    assert run(clip) == (None, record)
    assert run.reader.read == 0
    assert "the network labels alone" in caplog.text
