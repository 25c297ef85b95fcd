"""Proposals on a drawn field: discs of one colour on a ground with stripes of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dvos.labelling.classifier import frame_samples
from dvos.labelling.features import FeatureExtractor, FrameFeatures
from dvos.labelling.proposals import Click, Proposal, Proposer
from dvos.media.mask import IGNORE
from dvos.prediction.features import FEATURE_STRIDE, Piece

Field = tuple[NDArray[np.uint8], NDArray[np.bool_]]

SIDE, RADIUS = 160, 12
CENTRES = [(30, 30), (30, 90), (80, 130), (100, 40), (130, 100)]


class _Colours:
    """Reads a frame's mean colours as its features."""

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        height, width = (-(-side // FEATURE_STRIDE) for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        values = small.astype(np.float32).transpose(2, 0, 1)
        yield Piece(slice(0, height), slice(0, width), values)


@pytest.fixture
def proposer(monkeypatch: pytest.MonkeyPatch) -> Proposer:
    monkeypatch.setattr(FeatureExtractor, "open", classmethod(lambda cls, *_: cls(_Colours())))
    return Proposer()


@pytest.fixture(scope="module")
def field() -> Field:
    rng = np.random.default_rng(3)
    image = rng.integers(60, 90, (SIDE, SIDE, 3)).astype(np.uint8)
    image[::8] //= 2
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for y, x in CENTRES:
        cv2.circle(mask, (x, y), RADIUS, 1, -1)
    image[mask > 0] = rng.integers(150, 190, (int(mask.sum()), 3))
    return image, mask > 0


def _dice(proposal: Proposal, truth: NDArray[np.bool_]) -> float:
    full = np.zeros(truth.shape, bool)
    top, left, bottom, right = proposal.box
    full[top:bottom, left:right] = proposal.mask
    return 2 * float((full & truth).sum()) / float(full.sum() + truth.sum())


def _disc(y: int, x: int) -> NDArray[np.bool_]:
    return cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (x, y), RADIUS, 1, -1) > 0


def test_the_first_click_gives_the_whole_object(proposer: Proposer, field: Field) -> None:
    image, _ = field
    features = proposer.prepare(image)
    found = proposer.propose(features, np.zeros((SIDE, SIDE), np.uint16), Click(30, 30, True))
    assert found is not None
    assert _dice(found, _disc(30, 30)) > 0.8
    assert 0 <= found.score <= 1
    assert found.mask.shape == (found.box[2] - found.box[0], found.box[3] - found.box[1])


def test_one_object_is_enough_to_propose_the_others(proposer: Proposer, field: Field) -> None:
    image, _ = field
    features = proposer.prepare(image)
    ids = _disc(30, 30).astype(np.uint16)
    assert proposer.propose_all(features, ids) == []
    proposer.learn(features, ids, None, [Click(30, 30, True)])
    found = proposer.propose_all(features, ids)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    best = [max(_dice(one, _disc(*centre)) for one in found) for centre in CENTRES[1:]]
    assert min(best) > 0.8
    assert not any(_dice(one, _disc(30, 30)) for one in found)


def test_a_leave_out_click_cuts_within_objects_alone(proposer: Proposer, field: Field) -> None:
    image, _ = field
    features = proposer.prepare(image)
    ids = np.zeros((SIDE, SIDE), np.uint16)
    ids[15:45, 15:45] = 1  # the disc and too much ground
    ids[70:90, 5:25] = 2  # bare ground
    ids[:5, 100:120] = IGNORE
    proposer.learn(features, ids, None, [])
    cut = proposer.propose(features, ids, Click(15, 80, False))
    assert cut is not None
    assert _dice(cut, ids == 2) > 0.9
    assert proposer.propose(features, ids, Click(100, 100, False)) is None
    assert proposer.propose(features, ids, Click(30, 30, True)) is None
    assert proposer.propose(features, ids, Click(105, 2, True)) is None
    assert proposer.propose(features, ids, Click(105, 2, False)) is None


def test_what_other_frames_taught_is_used_and_replaced(proposer: Proposer, field: Field) -> None:
    image, mask = field
    first, second = proposer.prepare(image), proposer.prepare(image[::-1].copy())
    nothing = np.zeros((SIDE, SIDE), np.uint16)
    proposer.learn(first, mask.astype(np.uint16), np.ones(mask.shape, bool), [])
    assert len(proposer.propose_all(second, nothing)) >= len(CENTRES)
    # The same frame prepared anew is the same frame: what it taught is replaced, not doubled.
    proposer.learn(proposer.prepare(image), nothing, None, [])
    assert proposer.propose_all(second, nothing) == []


@pytest.mark.parametrize("seen", [True, False])
def test_unknown_pixels_teach_nothing(proposer: Proposer, field: Field, seen: bool) -> None:
    image, mask = field
    features = proposer.prepare(image)
    ids = np.where(mask, IGNORE, 0).astype(np.uint16)
    ids[_disc(30, 30)] = 7
    proposer.learn(features, ids, np.ones(mask.shape, bool) if seen else None, [])
    free = np.where(ids == 7, ids, 0).astype(np.uint16)
    found = proposer.propose_all(features, free)
    assert min(max(_dice(one, _disc(*centre)) for one in found) for centre in CENTRES[1:]) > 0.8


def test_what_is_labelled_is_no_ground(field: Field) -> None:
    """Only what nobody has looked at is taken for background there."""
    image, mask = field
    features = FrameFeatures(image, FeatureExtractor(_Colours()))
    rows, columns = features.ground_places
    near = cv2.blur(image[..., 0].astype(np.float32), (5, 5))[rows, columns]
    assert np.corrcoef(near, features.ground[:, 0])[0, 1] > 0.9  # they lie where they are from
    for value in (1, IGNORE):
        ids = np.where(mask, value, 0).astype(np.uint16)
        samples = frame_samples(features, ids, None, [])
        taught = samples.features[samples.labels == 0]
        count = np.count_nonzero(~mask[rows, columns])
        assert np.array_equal(taught[-count:], features.ground[~mask[rows, columns]])


def test_a_large_frame_is_looked_at_in_parts() -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(0, 255, (1100, 2300, 3)).astype(np.uint8)
    looked: list[tuple[int, int]] = []

    class Counting(FeatureExtractor):
        def part(self, seen, inner, box, scale):
            looked.append(box[:2])
            return super().part(seen, inner, box, scale)

    features = FrameFeatures(large, Counting(_Colours()))
    assert len(looked) == 3
    before = [(part.box, part.cells.copy()) for part in features.parts(kept=True)]
    assert len(list(features.parts())) == 6
    assert len(looked) >= 6
    again = {part.box: part.cells for part in features.parts()}
    assert all(np.array_equal(again[box], cells) for box, cells in before)
    assert len(list(features.parts(kept=True))) == 4


def test_a_click_is_agreed_with_and_moves_no_outline_beyond_its_reach(
    proposer: Proposer, field: Field
) -> None:
    image, mask = field
    features = proposer.prepare(image)
    ids = mask.astype(np.uint16)
    ids[20:60, 50:56] = 2  # bare ground, joined to no disc
    clicks = [Click(30, 30, True), Click(53, 40, False)]
    proposer.learn(features, ids, None, clicks[:1])
    cut = proposer.propose(features, ids, clicks[1])
    assert cut is not None
    assert not (cut.whole(ids.shape) & mask).any()
    ids[cut.window][cut.mask] = 0
    # Pointed at beside a place that was left out, an object does not grow over it.
    proposer.learn(features, ids, None, clicks)
    ids[_disc(30, 30)] = 0
    again = proposer.propose(features, ids, Click(30, 30, True))
    assert again is not None
    assert _dice(again, _disc(30, 30)) > 0.8
    assert not again.whole(ids.shape)[40, 53]


def test_a_click_that_was_undone_says_nothing(proposer: Proposer, field: Field) -> None:
    image, _ = field
    features = proposer.prepare(image)
    nothing = np.zeros((SIDE, SIDE), np.uint16)
    proposer.learn(features, nothing, None, [])
    without = proposer.propose(features, nothing, Click(30, 30, True))
    proposer.learn(features, nothing, None, [Click(50, 60, True)])
    undone = proposer.propose(features, nothing, Click(30, 30, True))
    assert without is not None
    assert undone is not None
    assert without.box == undone.box
    assert np.array_equal(without.mask, undone.mask)


class _Half:
    """A checkpoint that is not sure of anything, but for bright pixels."""

    def segment(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[SimpleNamespace]:
        for image in images:
            yield SimpleNamespace(probability=np.where(image[..., 0] > 120, 0.9, 0.3))


def test_with_a_checkpoint_other_frames_teach_nothing(
    monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    extractor = classmethod(lambda cls, *_: cls(_Colours(), _Half()))
    monkeypatch.setattr(FeatureExtractor, "open", extractor)
    image, mask = field
    proposer = Proposer()
    first, second = proposer.prepare(image), proposer.prepare(image[::-1].copy())
    nothing = np.zeros((SIDE, SIDE), np.uint16)
    before = proposer.propose_all(second, nothing)
    assert len(before) == len(CENTRES)
    proposer.learn(first, (~mask).astype(np.uint16), np.ones(mask.shape, bool), [])
    after = proposer.propose_all(second, nothing)
    assert [one.score for one in after] == [one.score for one in before]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(after, before, strict=True))
