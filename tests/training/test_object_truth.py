"""What is told of objects as a target: centres, motion, and what is left unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made_stills import blob_mask, shown

from dvos.config.training import LossSettings, TrainingSettings
from dvos.media.grouping import ObjectMaps
from dvos.media.mask import IGNORE
from dvos.networks.spec import Normalisation, ObjectChannels
from dvos.training.augment.spatial import resize_ids
from dvos.training.clips.clip import Clip
from dvos.training.losses import ObjectBatch, centre, motion, offset
from dvos.training.objective import build_loss
from dvos.training.targets import (
    QueryTarget,
    TruthChannels,
    object_count,
    object_truth,
    size_weights,
)


def clip_of(*ids: np.ndarray, apart: bool = True) -> Clip:
    every = np.stack(ids).astype(np.uint16)
    frames = np.stack([shown(mask > 0) for mask in ids])
    return Clip(frames, every, np.ones(len(ids), np.bool_), apart)


@pytest.fixture
def squares() -> Clip:
    """Squares of 8 and 4 pixels, the former moved by (3, -2) since the frame before."""
    before, now = np.zeros((2, 32, 40), np.uint16)
    before[10:18, 7:15] = now[8:16, 10:18] = 5
    before[20:24, 30:34] = now[20:24, 30:34] = 9
    return clip_of(before, now)


def test_offsets_point_to_the_centre_and_motion_to_where_it_was(squares: Clip) -> None:
    truth = object_truth(squares)
    assert truth.shape == (8, 16, 20)
    # Position (4, 5) is the middle of rows 8 and 9, columns 10 and 11; the centre (11.5, 13.5).
    assert truth[:, 4, 5].tolist() == pytest.approx([3, 3, -3, 2, 8, 1 / 8, 1 / 8, 1])
    assert truth[TruthChannels.SIZE, 10, 15] == 4
    assert truth[TruthChannels.WEIGHT, 10, 15] == pytest.approx(1 / 4)
    assert truth[:, 0, 0].tolist() == [0] * 7 + [1]
    assert object_count(truth) == 2


def test_what_is_not_known_is_not_told(squares: Clip) -> None:
    alike = clip_of(*squares.ids, apart=False)
    truth = object_truth(alike)
    there = squares.ids[-1, ::2, ::2] > 0
    assert not truth[:7].any()
    assert np.array_equal(truth[TruthChannels.KNOWN], ~there)
    assert object_count(truth) is None

    unknown = squares.ids.copy()
    unknown[-1, :, 20:] = IGNORE
    truth = object_truth(clip_of(*unknown))
    assert not truth[:, :, 10:].any()
    assert object_count(truth) == 1

    alone = Clip(squares.frames, squares.ids, np.array([False, True]), True)
    assert not object_truth(alone)[TruthChannels.MOTION_WEIGHT].any()
    first = Clip(squares.frames[:1], squares.ids[:1], np.array([True]), True)
    assert not object_truth(first)[TruthChannels.MOTION_WEIGHT].any()


@pytest.mark.parametrize("change", ["cut", "hidden", "gone"])
def test_motion_is_not_told_where_the_centre_is_of_another_part(squares: Clip, change) -> None:
    before = squares.ids[0].copy()
    if change == "cut":
        before = np.roll(before, -7, axis=1)
    else:
        before[10 : 14 if change == "hidden" else 18] = 0
    weight = object_truth(clip_of(before, squares.ids[1]))[TruthChannels.MOTION_WEIGHT]
    assert not weight[4:8, 5:9].any()
    assert (weight[10:12, 15:17] > 0).all()


def test_scraps_are_unknown() -> None:
    ids = np.zeros((20, 20), np.uint16)
    ids[4:6, 4:6] = 1
    truth = object_truth(clip_of(ids))
    assert not truth[:, 2, 2].any()


def _batch(truth: np.ndarray, told: torch.Tensor) -> ObjectBatch:
    return ObjectBatch(told, torch.from_numpy(truth)[None])


def _perfect(truth: np.ndarray) -> torch.Tensor:
    told = torch.zeros(1, len(ObjectChannels), *truth.shape[1:])
    told[0, ObjectChannels.OFFSET_X : ObjectChannels.OFFSET_Y + 1] = torch.from_numpy(truth[:2])
    told[0, ObjectChannels.MOTION_X : ObjectChannels.MOTION_Y + 1] = torch.from_numpy(truth[2:4])
    return told


def test_losses_by_hand(squares: Clip) -> None:
    truth = object_truth(squares)
    told = _perfect(truth)
    for loss in (offset, motion):
        total, amount = loss(_batch(truth, told))
        assert total.item() == 0
        assert amount.item() == pytest.approx(16 / 8 + 4 / 4)
    # Two pixels beside on the large one: a quarter of its side.
    told[0, ObjectChannels.OFFSET_X, 4:8, 5:9] += 2
    total, _ = offset(_batch(truth, told))
    assert total.item() == pytest.approx(16 / 8 * 2 / 8)


def test_a_surer_centre_in_its_place_costs_less(squares: Clip) -> None:
    truth = object_truth(squares)
    bump = _batch(truth, _perfect(truth)).bump
    assert bump.max() <= 1
    assert bump[0, 5:7, 6:8].min() > bump[0, 4, 5]
    assert not bump[0, :4].any()
    told = _perfect(truth)
    told[:, ObjectChannels.CENTRE] = -5
    lost = centre(_batch(truth, told))[0]
    told[:, ObjectChannels.CENTRE] = torch.logit(bump.clamp(1e-3, 1 - 1e-3))
    assert centre(_batch(truth, told))[0] < 0.01 * lost


def test_losses_of_objects_are_there_where_objects_are_told_apart(squares: Clip) -> None:
    norm = Normalisation((0, 0, 0), (1, 1, 1))
    assert "offset" not in build_loss(LossSettings(), norm).names
    loss = build_loss(LossSettings(reconstruction=0), norm, tells_apart=True)
    assert loss.names == ("loss", "bce", "soft_dice", "offset", "centre", "motion")
    masks = torch.zeros(1, 1, 32, 40), torch.zeros(1, 1, 32, 40), torch.ones(1, 1, 32, 40)
    with pytest.raises(ValueError, match="needs objects"):
        loss.sums(*masks)
    nothing = object_truth(clip_of(*squares.ids, apart=False))
    told = torch.randn(1, 5, 16, 20, requires_grad=True)
    parts = loss(loss.sums(*masks, objects=_batch(nothing, told)))
    assert parts.parts["offset"] == parts.parts["motion"] == 0
    parts.loss.backward()
    assert torch.isfinite(told.grad).all()


@pytest.mark.parametrize("size", [(40, 52), (97, 131), (173, 219)])
def test_told_apart_or_not_a_mask_is_resized_alike(size: tuple[int, int]) -> None:
    mask = blob_mask(120, 160, seed=1, blobs=20)
    ids = np.where(mask, 1 + np.indices(mask.shape)[1] // 20, 0).astype(np.uint16)
    one, apart = (resize_ids(ids, size, as_one=as_one) for as_one in (True, False))
    known = apart != IGNORE
    assert known.mean() > 0.999
    assert np.array_equal(one[known] > 0, apart[known] > 0)
    assert set(np.unique(apart[known])) <= set(np.unique(ids))


def test_the_channels_are_read_in_the_order_they_are_told_in() -> None:
    told = np.zeros((len(ObjectChannels), 1, 1), np.float32)
    told[:, 0, 0] = np.arange(5)
    maps = ObjectMaps.of(told)
    order = [ObjectChannels.OFFSET_X, ObjectChannels.OFFSET_Y]
    assert maps.offset.ravel().tolist() == [channel / 2 for channel in order]
    order = [ObjectChannels.MOTION_X, ObjectChannels.MOTION_Y]
    assert maps.motion.ravel().tolist() == [channel / 2 for channel in order]


def test_small_objects_weigh_as_much_as_the_median() -> None:
    ids = np.zeros((60, 200), np.uint16)
    ids[10:20, 20:40], ids[10:20, 60:70], ids[10:12, 100:105] = 3, 9, 12  # 200, 100, 10 pixels
    ids[40:50, 150:160] = IGNORE
    weights = size_weights(ids, 1.0)
    assert weights.dtype == np.float32
    assert np.unique(weights[ids == 3]).tolist() == [1]  # no object weighs less
    assert np.unique(weights[ids == 9]).tolist() == [1]  # the median
    assert np.unique(weights[ids == 12]).tolist() == [5]  # not ten times as much
    assert (weights[ids != 12] == 1).all()  # nor does what lies around it
    ids[10:12, 60:70] = 0
    assert np.unique(size_weights(ids, 1.0)[ids == 9]).tolist() == [1]
    assert (size_weights(np.zeros((8, 8), np.uint16), 1.0) == 1).all()
    assert size_weights(ids, 0.5)[10, 102] == pytest.approx((80 / 10) ** 0.5)


def test_small_objects_weigh_more_in_training_alone_where_asked_and_told_apart() -> None:
    ids = np.zeros((40, 80), np.uint16)
    ids[10:20, 10:30], ids[10:20, 40:60], ids[10:15, 66:76] = 1, 2, 3
    rng, asked = np.random.default_rng(0), {"losses": {"small_objects": 1.0}}

    def target(**settings: Any) -> QueryTarget:
        return QueryTarget(TrainingSettings(out="x", **settings), references=0)

    def weight(chosen: QueryTarget, clip: Clip) -> float:
        return float(chosen.labels(rng, 0, clip, "stills")["weight"][0, 12, 70])

    assert weight(target(**asked), clip_of(ids)) == 4
    assert weight(target(**asked), clip_of(ids, apart=False)) == 1
    assert weight(target(), clip_of(ids)) == 1
    assert float(target(**asked).validation_labels(clip_of(ids))["weight"].max()) == 1
