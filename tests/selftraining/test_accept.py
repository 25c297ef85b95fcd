from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvos.selftraining.accept import (
    BACKGROUND,
    OBJECT,
    UNKNOWN,
    accept,
    balanced_threshold,
    judge,
)

RULE = {
    "object_threshold": 0.8,
    "background_threshold": 0.2,
    "max_spread": 0.1,
    "min_agreement": 1.0,
    "trust_unseen": True,
}
JUDGE = {"lowest_object_threshold": 0.6, "min_known": 0.5, "min_object": 0.0} | RULE


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def labels_of(mean: np.ndarray, spread: float = 0.0, agreement: float = 1.0, **changes) -> list:
    full = np.full_like
    found = accept(mean, full(mean, spread), full(mean, agreement), **(RULE | changes))
    assert found.dtype == np.uint8
    return found[0].tolist()


def test_the_middle_is_unknown_and_thresholds_belong_to_the_labels() -> None:
    mean = row(0.0, 0.2, 0.21, 0.5, 0.79, 0.8, 1.0)
    assert labels_of(mean) == [0, 0, 128, 128, 128, 255, 255]


def test_views_that_disagree_make_a_pixel_unknown() -> None:
    assert labels_of(row(0.0, 1.0), spread=0.1) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), spread=0.11) == [UNKNOWN, UNKNOWN]


def test_neighbours_that_disagree_make_a_pixel_unknown() -> None:
    assert labels_of(row(0.0, 1.0), agreement=0.5) == [UNKNOWN, UNKNOWN]
    assert labels_of(row(0.0, 1.0), agreement=0.5, min_agreement=0.5) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), agreement=0.0, min_agreement=0.0) == [BACKGROUND, OBJECT]


def test_what_no_neighbour_sees_is_trusted_or_not() -> None:
    assert labels_of(row(0.0, 1.0), agreement=np.nan) == [BACKGROUND, OBJECT]
    assert labels_of(row(0.0, 1.0), agreement=np.nan, trust_unseen=False) == [UNKNOWN, UNKNOWN]


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not below"):
        labels_of(row(0.5), object_threshold=0.2)


shares = hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


@settings(deadline=None, max_examples=50)
@given(shares, shares, shares, st.floats(0.5, 1), st.floats(0, 0.4))
def test_labels_are_on_the_side_of_the_mean(mean, spread, agreement, high, low) -> None:
    rule = RULE | {"object_threshold": high, "background_threshold": low}
    labels = accept(mean, spread, agreement, **rule)
    assert set(np.unique(labels)) <= {BACKGROUND, UNKNOWN, OBJECT}
    assert (mean[labels == OBJECT] >= np.float32(0.5)).all()
    assert (mean[labels == BACKGROUND] < 0.5).all()
    # A stricter rule never labels more.
    strict = accept(mean, spread / 2 + 0.05, agreement, **(rule | {"max_spread": 0.05}))
    assert ((strict == UNKNOWN) | (strict == labels)).all()


def test_the_balanced_threshold_accepts_the_same_share_of_both_sides() -> None:
    # Of 10 background pixels 8 are sure; of 5 objects' pixels 4 are to be.
    mean = row(*[0.1] * 8, 0.3, 0.4, 0.95, 0.9, 0.7, 0.65, 0.55)
    sure = np.ones(mean.shape, bool)
    found = balanced_threshold(mean, sure, background_threshold=0.2, lowest=0.5)
    assert found == pytest.approx(0.65)
    assert balanced_threshold(mean, sure, background_threshold=0.2, lowest=0.68) == 0.68
    assert balanced_threshold(mean, sure, background_threshold=0.5, lowest=0.5) == 0.5


def test_the_balanced_threshold_counts_only_what_is_sure() -> None:
    mean = row(*[0.1] * 8, 0.3, 0.4, 0.95, 0.9, 0.7, 0.65, 0.55)
    sure = np.ones(mean.shape, bool)
    sure[0, 10] = False  # the best object is not: the four that are left are all wanted
    assert balanced_threshold(mean, sure, background_threshold=0.2, lowest=0.5) == 0.5
    sure[0, :8] = False
    assert balanced_threshold(mean, sure, background_threshold=0.2, lowest=0.5) == 1.0


def test_without_background_all_objects_are_accepted() -> None:
    found = balanced_threshold(
        row(0.9, 0.6), np.ones((1, 2), bool), background_threshold=0.2, lowest=0.5
    )
    assert found == 0.5


def test_a_frame_is_judged_with_its_shares() -> None:
    mean = row(0.1, 0.1, 0.5, 0.9)
    result = judge(mean, mean * 0, mean * 0 + 1, **JUDGE)
    assert (result.object_share, result.background_share) == (0.25, 0.5)
    assert result.unknown_share == 0.25
    assert result.accepted
    assert result.object_threshold == 0.8


@pytest.mark.parametrize(
    ("mean", "changes", "reason"),
    [
        (row(0.1, 0.1, 0.1, 0.1), {}, "no object was accepted"),
        (row(0.1, 0.5, 0.5, 0.9), {"min_known": 0.6}, "known share 0.500 is below 0.6"),
        (row(0.1, 0.1, 0.1, 0.9), {"min_object": 0.3}, "object share 0.2500 is below 0.3"),
    ],
)
def test_a_frame_with_too_little_is_no_query(mean, changes, reason) -> None:
    result = judge(mean, mean * 0, mean * 0 + 1, **(JUDGE | changes))
    assert not result.accepted
    assert result.reason == reason


def test_auto_says_which_threshold_it_took() -> None:
    mean = row(*[0.1] * 4, 0.9, 0.7)
    result = judge(mean, mean * 0, mean * 0 + 1, **(JUDGE | {"object_threshold": "auto"}))
    # All background is accepted, so all objects are, down to the lowest threshold.
    assert result.object_threshold == 0.6
    assert result.object_share == pytest.approx(2 / 6)
