from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvos.selftraining.accept import (
    BACKGROUND,
    OBJECT,
    UNKNOWN,
    Rule,
    accept,
    judge,
)

RULE = Rule(
    object_threshold=0.8,
    background_threshold=0.2,
    opinion_object=0.9,
    opinion_background=0.2,
    opening=0,
    decide_rims=False,
    max_spread=0.1,
    min_agreement=1.0,
    trust_unseen=True,
    min_known=0.5,
    min_object=0.0,
)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def labels_of(
    mean: np.ndarray,
    opinion: np.ndarray | None = None,
    *,
    spread: float = 0.0,
    agreement: float = 1.0,
    **changes,
) -> list:
    full = np.full_like
    found = accept(
        mean, full(mean, spread), full(mean, agreement), opinion, replace(RULE, **changes)
    )
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
        replace(RULE, object_threshold=0.2)


shares = hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


@settings(deadline=None, max_examples=50)
@given(shares, shares, shares, st.none() | shares, st.floats(0.5, 1), st.floats(0, 0.4))
def test_a_label_needs_the_mean_or_a_sure_opinion(
    mean, spread, agreement, opinion, high, low
) -> None:
    rule = replace(RULE, object_threshold=high, background_threshold=low)
    labels = accept(mean, spread, agreement, opinion, rule)
    assert set(np.unique(labels)) <= {BACKGROUND, UNKNOWN, OBJECT}
    by_opinion = np.zeros(mean.shape, bool) if opinion is None else opinion > 0.9
    assert ((mean >= np.float32(0.5)) | by_opinion)[labels == OBJECT].all()
    assert (mean[labels == BACKGROUND] < 0.5).all()
    assert not by_opinion[labels == BACKGROUND].any()
    # A stricter rule never labels more.
    strict = accept(mean, spread / 2 + 0.05, agreement, opinion, replace(rule, max_spread=0.05))
    assert ((strict == UNKNOWN) | (strict == labels)).all()


def test_the_opinion_vetoes_background_and_adds_objects() -> None:
    mean = row(0.1, 0.1, 0.1, 0.5, 0.5, 0.9)
    opinion = row(0.2, 0.21, 0.91, 0.9, 0.91, 0.0)
    found = labels_of(mean, opinion)
    assert found == [BACKGROUND, UNKNOWN, OBJECT, UNKNOWN, OBJECT, OBJECT]
    assert labels_of(mean) == [BACKGROUND] * 3 + [UNKNOWN, UNKNOWN, OBJECT]
    assert labels_of(mean, opinion, agreement=0.5) == [UNKNOWN] * 6


def test_what_the_opinion_alone_makes_object_must_hold_an_ellipse() -> None:
    mean, opinion = np.zeros((40, 60), np.float32), np.zeros((40, 60), np.float32)
    mean[:, :10] = 1
    opinion[:, :13] = 1  # a rim of three pixels
    opinion[5:30, 25:50] = 1
    still = np.ones_like(mean)
    labels = accept(mean, still * 0, still, opinion, replace(RULE, opening=13))
    assert (labels[:, :10] == OBJECT).all()
    assert (labels[:, 10:13] == UNKNOWN).all()
    assert (labels[11:24, 31:44] == OBJECT).all()
    assert (labels[5, 25], labels[17, 25], labels[35, 40]) == (UNKNOWN, OBJECT, BACKGROUND)


def test_rims_are_background_and_wide_doubt_stays_unknown() -> None:
    mean = np.zeros((40, 60), np.float32)
    mean[5:35, 5:20] = 0.5  # nothing the network can say, 15 pixels wide
    mean[8:32, 38:52] = 0.5
    mean[11:29, 41:49] = 1.0  # an object with a doubtful rim of 3 pixels
    zero, one = np.zeros_like(mean), np.ones_like(mean)
    rule = replace(RULE, opening=7, decide_rims=True)
    labels = accept(mean, zero, one, None, rule)
    assert (labels[11:29, 41:49] == OBJECT).all()
    assert (labels[8:32, 38:41] == BACKGROUND).all()
    assert (labels[10:30, 8:17] == UNKNOWN).all()
    left_open = accept(mean, zero, one, None, replace(rule, decide_rims=False))
    assert (left_open[8:32, 38:41] == UNKNOWN).all()
    # Views that disagree are no more believed for being thin.
    assert (accept(mean, one, one, None, rule) == UNKNOWN).all()


def test_a_frame_is_judged_with_its_shares() -> None:
    mean = row(0.1, 0.1, 0.5, 0.9)
    result = judge(mean, mean * 0, mean * 0 + 1, None, RULE)
    assert (result.object_share, result.background_share) == (0.25, 0.5)
    assert result.unknown_share == 0.25
    assert result.accepted


@pytest.mark.parametrize(
    ("mean", "changes", "reason"),
    [
        (row(0.1, 0.1, 0.1, 0.1), {}, "no object was accepted"),
        (row(0.1, 0.5, 0.5, 0.9), {"min_known": 0.6}, "known share 0.500 is below 0.6"),
        (row(0.1, 0.1, 0.1, 0.9), {"min_object": 0.3}, "object share 0.2500 is below 0.3"),
    ],
)
def test_a_frame_with_too_little_is_no_query(mean, changes, reason) -> None:
    result = judge(mean, mean * 0, mean * 0 + 1, None, replace(RULE, **changes))
    assert not result.accepted
    assert result.reason == reason
