from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_predictor import Brightness, write_frames

from dvos.errors import MediaError
from dvos.media.frames import ImageFolder, ImageList
from dvos.media.image import write_image
from dvos.selftraining.views import SharedFrames, mirrors_of, view_clip


class Sided(Brightness):
    """Sure of the left half of whatever it is shown."""

    def _prediction(self, frame):
        found = super()._prediction(frame)
        found.probability[:] = 0.2
        found.probability[:, : frame.image.shape[1] // 2] = 0.8
        return found


def test_views_are_turned_back_before_they_are_averaged(tmp_path: Path) -> None:
    source = ImageFolder(write_frames(tmp_path, 3))
    frames = list(view_clip(source, [Brightness(), Brightness()], mirrors_of("all")))
    assert [frame.frame_index for frame in frames] == [0, 1, 2]
    for frame in frames:
        np.testing.assert_allclose(frame.probability, frame.image[..., 2] / 255, atol=1e-6)
        assert frame.std.max() < 1e-3


def test_the_std_is_the_deviation_over_the_views(tmp_path: Path) -> None:
    source = ImageFolder(write_frames(tmp_path, 1))
    (frame,) = view_clip(source, [Sided()], mirrors_of("horizontal"))
    np.testing.assert_allclose(frame.probability, 0.5, atol=1e-6)
    np.testing.assert_allclose(frame.std, 0.3, atol=1e-6)
    (alone,) = view_clip(source, [Sided()], mirrors_of("none"))
    assert alone.std.max() == 0


def test_a_start_in_the_middle_gives_the_same(tmp_path: Path) -> None:
    source = ImageFolder(write_frames(tmp_path, 6))
    whole = list(view_clip(source, [Sided()], mirrors_of("all")))
    rest = list(view_clip(source, [Sided()], mirrors_of("all"), start=4))
    assert [frame.name for frame in rest] == ["f4", "f5"]
    np.testing.assert_array_equal(rest[0].probability, whole[4].probability)


def test_a_source_is_read_once_and_not_hoarded(tmp_path: Path) -> None:
    read = []

    class Counted(ImageFolder):
        def frames(self, start: int = 0):
            for frame in super().frames(start):
                read.append(frame.frame_index)
                yield frame

    source = Counted(write_frames(tmp_path, 8))
    for taken, _ in enumerate(view_clip(source, [Brightness()] * 2, mirrors_of("all"))):
        assert len(read) <= taken + 2
    assert read == list(range(8))


def test_readers_must_begin_together(tmp_path: Path) -> None:
    shared = SharedFrames(ImageFolder(write_frames(tmp_path, 3)), readers=2)
    next(shared.frames(0, 1))
    with pytest.raises(ValueError, match="begins at 0"):
        next(shared.frames(1, 0))


def test_a_frame_that_cannot_be_read_is_told_to_every_view(tmp_path: Path) -> None:
    write_frames(tmp_path, 2)
    broken = tmp_path / "f2.png"
    broken.write_bytes(b"nothing")
    source = ImageList("clip", [tmp_path / "f0.png", tmp_path / "f1.png", broken])
    taken = []
    with pytest.raises(MediaError, match=r"f2\.png"):
        for frame in view_clip(source, [Brightness()], mirrors_of("all")):
            taken.append(frame.name)  # noqa: PERF401
    assert taken == ["f0", "f1"]
    shared = SharedFrames(source, readers=2)
    for reader in range(2):
        with pytest.raises(MediaError, match=r"f2\.png"):
            list(shared.frames(reader, 0))


def test_frames_of_other_sizes_end_all_views(tmp_path: Path, checkpoint: Path) -> None:
    from dvos.api import load_predictor

    write_frames(tmp_path, 1)
    write_image(tmp_path / "g.png", np.zeros((40, 40, 3), np.uint8))
    source = ImageList("clip", [tmp_path / "f0.png", tmp_path / "g.png"])
    predictor = load_predictor(checkpoint, "cpu")
    with pytest.raises(MediaError, match="40 x 40"):
        list(view_clip(source, [predictor], mirrors_of("all")))
