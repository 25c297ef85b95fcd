"""What every predictor must keep to, whatever its network; see test_predictor_contract.py."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.predictor import Predictor

SIZE = (40, 56)
FRAMES = 7


def textured(count: int = FRAMES, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames of coarse random blocks that move to the right."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    wide = blocks.repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(np.roll(wide, index, 1)) for index in range(count)]


class Closing:
    """An endless video that tells how far it was read, and whether it was closed."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        frames = textured()
        try:
            while True:
                self.given += 1
                yield frames[self.given % len(frames)]
        finally:
            self.closed.set()


class PredictorContract:
    """Tests of a predictor; a subclass gives the fixture ``predictor``.

    The predictor takes frames of SIZE, and has the threshold 0.5.
    """

    def test_frames_come_in_order_whole_and_of_the_promised_kind(
        self, predictor: Predictor
    ) -> None:
        frames = textured()
        found = list(predictor.segment(frames))
        assert [one.frame_index for one in found] == list(range(FRAMES))
        assert [one.name for one in found] == [f"{index:06d}" for index in range(FRAMES)]
        for one, image in zip(found, frames, strict=True):
            assert math.isnan(one.time_s)
            assert (one.image == image).all()
            assert (one.probability.shape, one.probability.dtype) == (SIZE, np.float32)
            assert one.probability.min() >= 0
            assert one.probability.max() <= 1
            assert (one.mask == (one.probability >= 0.5)).all()

    def test_a_folder_names_its_frames(self, predictor: Predictor, tmp_path: Path) -> None:
        for index, image in enumerate(textured(3)):
            write_image(tmp_path / f"leaf_{index + 8}.png", image)
        found = list(predictor.segment(tmp_path))
        assert [one.name for one in found] == ["leaf_8", "leaf_9", "leaf_10"]
        expected = list(predictor.segment(textured(3)))
        assert _probabilities(found) == _probabilities(expected)

    def test_a_video_has_times_from_its_stamps(self, predictor: Predictor, tmp_path: Path) -> None:
        path = tmp_path / "field.mp4"
        with VideoWriter(path, frame_rate=20, size=SIZE) as video:
            for image in textured(4):
                video.write(image)
        found = list(predictor.segment(path))
        assert [one.name for one in found] == [f"field_{index:06d}" for index in range(4)]
        assert [one.time_s for one in found] == pytest.approx([0, 0.05, 0.1, 0.15])
        assert _probabilities(found) == _probabilities(predictor.segment(VideoFile(path)))

    @pytest.mark.parametrize("start", [0, 1, 4, FRAMES - 1])
    def test_a_start_in_the_middle_gives_the_very_same(
        self, predictor: Predictor, start: int
    ) -> None:
        whole = list(predictor.segment(textured()))
        rest = list(predictor.segment(textured(), start=start))
        assert [one.frame_index for one in rest] == list(range(start, FRAMES))
        assert _probabilities(rest) == _probabilities(whole[start:])

    def test_nothing_comes_from_behind_the_end_or_of_no_frames(self, predictor: Predictor) -> None:
        assert list(predictor.segment(textured(3), start=3)) == []
        assert list(predictor.segment([])) == []

    def test_videos_do_not_change_each_other(self, predictor: Predictor) -> None:
        alone = _probabilities(predictor.segment(textured()))
        backwards = textured()[::-1]
        other = _probabilities(predictor.segment(backwards))
        together = zip(predictor.segment(textured()), predictor.segment(backwards), strict=True)
        pairs = list(together)
        assert _probabilities([one for one, _ in pairs]) == alone
        assert _probabilities([one for _, one in pairs]) == other

    def test_frames_are_read_as_they_are_needed(self, predictor: Predictor) -> None:
        video = Closing()
        found = list(islice(predictor.segment(iter(video)), 5))
        assert len(found) == 5
        assert video.given < 20

    def test_stopping_early_closes_the_video_and_its_thread(self, predictor: Predictor) -> None:
        before = threading.active_count()
        video = Closing()
        predictions: Any = predictor.segment(iter(video))
        next(predictions)
        predictions.close()
        assert video.closed.wait(5)
        assert threading.active_count() <= before

    def test_memory_does_not_grow_with_the_video(self, predictor: Predictor) -> None:
        held = [
            _bytes_of_tensors()
            for one in predictor.segment(islice(iter(Closing()), 48))
            if one.frame_index % 12 == 11
        ]
        assert max(held[2:]) <= max(held[:2])

    def test_a_changing_size_is_told_with_both_sizes(self, predictor: Predictor) -> None:
        frames = [*textured(3), *textured(1, (48, 64))]
        with pytest.raises(MediaError, match=r"64 x 48.*expected 56 x 40"):
            list(predictor.segment(frames))

    @pytest.mark.parametrize(
        "odd",
        [np.zeros((*SIZE, 4), np.uint8), np.zeros((*SIZE, 3))],
        ids=["four channels", "float"],
    )
    def test_frames_of_another_kind_are_refused(
        self, predictor: Predictor, odd: np.ndarray
    ) -> None:
        with pytest.raises(MediaError, match="uint8 RGB"):
            list(predictor.segment([odd]))

    def test_a_fault_of_the_source_comes_after_the_frames_before_it(
        self, predictor: Predictor
    ) -> None:
        def torn() -> Iterator[np.ndarray]:
            yield from textured(3)
            raise MediaError("the tape is torn")

        predictions = predictor.segment(torn())
        assert [next(predictions).frame_index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(MediaError, match="the tape is torn"):
            next(predictions)

    def test_a_missing_path_is_told(self, predictor: Predictor, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="nowhere"):
            list(predictor.segment(tmp_path / "nowhere.mp4"))

    def test_it_says_what_it_knows(self, predictor: Predictor) -> None:
        assert predictor.context >= 0
        assert isinstance(predictor.calibration, CountCalibration)
        assert isinstance(predictor.tells_apart, bool)


def _probabilities(predictions: Any) -> list[bytes]:
    return [one.probability.tobytes() for one in predictions]


def _bytes_of_tensors() -> int:
    storages = {
        thing.untyped_storage().data_ptr(): thing.untyped_storage().nbytes()
        for thing in gc.get_objects()
        if type(thing) in (torch.Tensor, torch.nn.Parameter)
        and thing.layout == torch.strided
        and not thing.is_mkldnn
    }
    return sum(storages.values())
