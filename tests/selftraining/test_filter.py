from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvos.config.selftraining import FilterSettings
from dvos.selftraining.filter import BACKGROUND, OBJECT, UNKNOWN, filter_frame, filter_pixels

CRITERIA = FilterSettings(
    object_threshold=0.8,
    background_threshold=0.2,
    probe_object=0.9,
    probe_background=0.2,
    opening=0,
    decide_boundary_band=False,
    max_std=0.1,
    min_consistency=1.0,
    trust_unseen=True,
    min_known=0.5,
    min_object=0.0,
)


def criteria(**changes: Any) -> FilterSettings:
    return FilterSettings.model_validate(CRITERIA.model_dump() | changes)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def labels_of(
    mean: np.ndarray,
    probe: np.ndarray | None = None,
    *,
    std: float = 0.0,
    consistency: float = 1.0,
    **changes,
) -> list:
    full = np.full_like
    found = filter_pixels(
        mean, full(mean, std), full(mean, consistency), probe, criteria(**changes)
    )
    assert found.dtype == np.uint8
    return found[0].tolist()


def test_the_middle_is_unknown_and_thresholds_belong_to_the_labels() -> None:
    mean = row(0.0, 0.2, 0.21, 0.5, 0.79, 0.8, 1.0)
    assert labels_of(mean) == [0, 0, 128, 128, 128, 255, 255]


def test_views_that_disagree_make_a_pixel_unknown() -> None:
    assert labels_of(row(0.0, 1.0), std=0.1) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), std=0.11) == [UNKNOWN, UNKNOWN]


def test_neighbours_that_disagree_make_a_pixel_unknown() -> None:
    assert labels_of(row(0.0, 1.0), consistency=0.5) == [UNKNOWN, UNKNOWN]
    assert labels_of(row(0.0, 1.0), consistency=0.5, min_consistency=0.5) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), consistency=0.0, min_consistency=0.0) == [BACKGROUND, OBJECT]


def test_what_no_neighbour_sees_is_trusted_or_not() -> None:
    assert labels_of(row(0.0, 1.0), consistency=np.nan) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), consistency=np.nan, trust_unseen=False) == [UNKNOWN, UNKNOWN]


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="above background_threshold"):
        criteria(object_threshold=0.2)


shares = hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


@settings(max_examples=50)
@given(shares, shares, shares, st.none() | shares, st.floats(0.5, 1), st.floats(0, 0.4))
def test_a_label_needs_the_mean_or_a_sure_probe(mean, std, consistency, probe, high, low) -> None:
    rule = criteria(object_threshold=high, background_threshold=low)
    labels = filter_pixels(mean, std, consistency, probe, rule)
    assert set(np.unique(labels)) <= {BACKGROUND, UNKNOWN, OBJECT}
    by_probe = np.zeros(mean.shape, bool) if probe is None else probe > 0.9
    assert ((mean >= np.float32(0.5)) | by_probe)[labels == OBJECT].all()
    assert (mean[labels == BACKGROUND] < 0.5).all()
    assert not by_probe[labels == BACKGROUND].any()
    # A stricter rule never labels more.
    strict = criteria(object_threshold=high, background_threshold=low, max_std=0.05)
    strict_labels = filter_pixels(mean, std / 2 + 0.05, consistency, probe, strict)
    assert ((strict_labels == UNKNOWN) | (strict_labels == labels)).all()


def test_the_probe_vetoes_background_and_adds_objects() -> None:
    mean = row(0.1, 0.1, 0.1, 0.5, 0.5, 0.9)
    probe = row(0.2, 0.21, 0.91, 0.9, 0.91, 0.0)
    found = labels_of(mean, probe)
    assert found == [BACKGROUND, UNKNOWN, OBJECT, UNKNOWN, OBJECT, OBJECT]
    assert labels_of(mean) == [BACKGROUND] * 3 + [UNKNOWN, UNKNOWN, OBJECT]
    assert labels_of(mean, probe, consistency=0.5) == [UNKNOWN] * 6


def test_what_the_probe_alone_makes_object_must_hold_an_ellipse() -> None:
    mean, probe = np.zeros((40, 60), np.float32), np.zeros((40, 60), np.float32)
    mean[:, :10] = 1
    probe[:, :13] = 1  # a band of three pixels
    probe[5:30, 25:50] = 1
    still = np.ones_like(mean)
    labels = filter_pixels(mean, still * 0, still, probe, criteria(opening=13))
    assert (labels[:, :10] == OBJECT).all()
    assert (labels[:, 10:13] == UNKNOWN).all()
    assert (labels[11:24, 31:44] == OBJECT).all()
    assert (labels[5, 25], labels[17, 25], labels[35, 40]) == (UNKNOWN, OBJECT, BACKGROUND)


def test_the_boundary_band_is_background_and_wide_doubt_stays_unknown() -> None:
    mean = np.zeros((40, 60), np.float32)
    mean[5:35, 5:20] = 0.5  # nothing the network can say, 15 pixels wide
    mean[8:32, 38:52] = 0.5
    mean[11:29, 41:49] = 1.0  # an object with a doubtful band of 3 pixels
    zero, one = np.zeros_like(mean), np.ones_like(mean)
    rule = criteria(opening=7, decide_boundary_band=True)
    labels = filter_pixels(mean, zero, one, None, rule)
    assert (labels[11:29, 41:49] == OBJECT).all()
    assert (labels[8:32, 38:41] == BACKGROUND).all()
    assert (labels[10:30, 8:17] == UNKNOWN).all()
    left_open = filter_pixels(mean, zero, one, None, criteria(opening=7))
    assert (left_open[8:32, 38:41] == UNKNOWN).all()
    # Views that disagree are no more believed for being thin.
    assert (filter_pixels(mean, one, one, None, rule) == UNKNOWN).all()


def test_a_frame_is_labelled_with_its_shares() -> None:
    mean = row(0.1, 0.1, 0.5, 0.9)
    labels = filter_pixels(mean, mean * 0, mean * 0 + 1, None, CRITERIA)
    told = filter_frame(labels, CRITERIA)
    assert (told["object"], told["background"], told["unknown"]) == (0.25, 0.5, 0.25)
    assert told["accepted"]


@pytest.mark.parametrize(
    ("mean", "changes", "reason"),
    [
        (row(0.1, 0.1, 0.1, 0.1), {}, "no object was accepted"),
        (row(0.1, 0.5, 0.5, 0.9), {"min_known": 0.6}, "known share 0.500 is below 0.6"),
        (row(0.1, 0.1, 0.1, 0.9), {"min_object": 0.3}, "object share 0.2500 is below 0.3"),
    ],
)
def test_a_frame_with_too_little_is_no_query(mean, changes, reason) -> None:
    rule = criteria(**changes)
    told = filter_frame(filter_pixels(mean, mean * 0, mean * 0 + 1, None, rule), rule)
    assert (told["accepted"], told["reason"]) == (False, reason)
