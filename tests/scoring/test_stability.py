from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.scoring.match import pair_up, true_masks
from dvos.scoring.stability import Followed, backward_flow, follow, measure_stability

SIZE = (96, 128)
#: Rows and columns that the scene moves in each frame.
STEP = (2, 3)


def _square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def _moving(index: int) -> np.ndarray:
    return _square(20 + STEP[0] * index, 30 + STEP[1] * index)


def _frame(index: int) -> np.ndarray:
    """A textured scene that moves by STEP."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.random((200, 260)).astype(np.float32), (0, 0), 2.0)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    top, left = 40 - STEP[0] * index, 60 - STEP[1] * index
    return np.repeat(scene[top : top + SIZE[0], left : left + SIZE[1], None], 3, axis=2)


def _flow(dy: float, dx: float) -> np.ndarray:
    return np.full((*SIZE, 2), (dx, dy), np.float32)


def test_a_rigidly_moving_square_is_perfectly_steady() -> None:
    flow = _flow(-STEP[0], -STEP[1])
    assert follow(_moving(1), _moving(0), flow) == 1.0
    # Unmoved it overlaps 18 x 17 of 20 x 20.
    assert follow(_moving(1), _moving(0), _flow(0, 0)) == pytest.approx(306 / (800 - 306))


def test_flicker_lowers_it_by_its_area() -> None:
    grown = _moving(1) | _square(22, 53, 10)
    assert follow(grown, _moving(0), _flow(-STEP[0], -STEP[1])) == pytest.approx(400 / 500)


def test_what_enters_the_picture_is_no_flicker() -> None:
    mask = np.zeros(SIZE, bool)
    mask[:, :5] = True
    assert follow(mask, np.zeros(SIZE, bool), _flow(0, -5)) == 1.0
    assert follow(mask, np.zeros(SIZE, bool), _flow(0, -4)) == 0.0


def test_flow_of_a_moving_scene() -> None:
    flow = backward_flow(_frame(1), _frame(0))
    assert flow.shape == (*SIZE, 2)
    assert np.median(flow[..., 0]) == pytest.approx(-STEP[1], abs=0.2)
    assert np.median(flow[..., 1]) == pytest.approx(-STEP[0], abs=0.2)


def test_flow_of_large_frames_is_told_in_their_pixels() -> None:
    large = [cv2.resize(_frame(k), (2560, 1920), interpolation=cv2.INTER_CUBIC) for k in (1, 0)]
    flow = backward_flow(large[0], large[1])
    assert flow.shape == (1920, 2560, 2)
    assert np.median(flow[..., 0]) == pytest.approx(-STEP[1] * 20, rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (40, 5), (12, 12)])
def test_flow_of_tiny_frames(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert (backward_flow(image, image) == 0).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), dy=st.floats(-9, 9), dx=st.floats(-9, 9))
def test_range_and_stillness(seed: int, dy: float, dx: float) -> None:
    rng = np.random.default_rng(seed)
    mask, before = rng.random((2, *SIZE)) < rng.random((2, 1, 1))
    assert 0 <= follow(mask, before, _flow(dy, dx)) <= 1
    assert follow(mask, mask, _flow(0, 0)) == 1.0
    assert follow(mask, before, _flow(0, 0)) == follow(before, mask, _flow(0, 0))


def _write(root: Path, frames: int = 4, labelled: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    for index in range(frames):
        write_image(root / f"images/a/{index:02d}.png", _frame(index))
        # The prediction loses half the square in every second frame.
        mask = _moving(index) if index % 2 else _moving(index) & _square(0, 0, 60 + index * 2)
        write_mask(root / f"predictions/a/{index:02d}.png", mask)
        if index in labelled:
            write_mask(root / f"truth/a/{index:02d}.png", _moving(index))


def _measured(root: Path, images: Path | None, frames: int = 100) -> dict[int, Followed]:
    truths = true_masks(root / "truth", frames="all", images=images)
    pairs = pair_up(truths, root / "predictions")
    options = ScoringSettings(
        truth=root / "truth",
        predictions=root / "predictions",
        images=images,
        flow_frames=frames,
        workers=2,
    )
    return measure_stability(pairs, options)


def test_a_clip_of_image_files(tmp_path: Path) -> None:
    _write(tmp_path)
    found = _measured(tmp_path, tmp_path / "images")
    assert sorted(found) == [1, 2, 3]
    for one in found.values():
        assert one.truth is not None
        assert one.truth > 0.9
        assert one.prediction <= one.truth
    assert _measured(tmp_path, None) == {}
    assert sorted(_measured(tmp_path, tmp_path / "images", frames=1)) == [1]
    assert _measured(tmp_path, tmp_path / "images", frames=0) == {}


def test_sparse_labels_still_see_the_frame_before(tmp_path: Path) -> None:
    _write(tmp_path, labelled=(1, 3))
    found = _measured(tmp_path, tmp_path / "images")
    assert sorted(found) == [0, 1]
    assert all(one.truth is None for one in found.values())


def test_a_missing_prediction_before_leaves_the_figure_out(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "predictions/a/01.png").unlink()
    assert sorted(_measured(tmp_path, tmp_path / "images")) == [3]


def test_a_clip_of_video(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", frame_rate=10, size=SIZE, crf=5) as video:
        for index in range(4):
            video.write(_frame(index))
    for index in range(4):
        for kind in ("truth", "predictions"):
            write_mask(tmp_path / f"{kind}/a/a_{index:06d}.png", _moving(index))
    found = _measured(tmp_path, tmp_path / "a.mp4")
    assert sorted(found) == [1, 2, 3]
    assert min(one.prediction for one in found.values()) > 0.85


def test_stills_are_no_clip(tmp_path: Path) -> None:
    for name in ("p", "q"):
        write_image(tmp_path / f"images/{name}.png", _frame(0))
        write_mask(tmp_path / f"truth/{name}.png", _moving(0))
        write_mask(tmp_path / f"predictions/{name}.png", _moving(0))
    assert _measured(tmp_path, tmp_path / "images") == {}


def test_frames_of_another_size_are_a_fault_each(tmp_path: Path) -> None:
    _write(tmp_path)
    for index in (1, 2):
        write_image(tmp_path / f"images/a/{index:02d}.png", _frame(index)[:50])
    with pytest.raises(MediaError, match=r"128 x 50.*temporal=false") as caught:
        _measured(tmp_path, tmp_path / "images")
    assert len(caught.value.faults) == 3
