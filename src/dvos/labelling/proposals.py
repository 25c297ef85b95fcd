"""Objects proposed while somebody labels: at a click, or all that are seen by now.

A classifier of what an encoder sees is fitted to what is labelled so far, and fitted anew after
each click; an object is the region about a click, or a piece of the mask, that it and the colours
about it tell. Nothing was trained for the objects before: until the first is labelled, whatever
looks like the click is one, and what the frame shows elsewhere is none.

Importing this module loads no torch.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.formats.labels import Region, cropped
from dvos.labelling.classifier import Click, Mask, Samples, click_samples, fit, frame_samples
from dvos.labelling.edits import Ids
from dvos.labelling.features import FeatureExtractor, FrameFeatures, LinearModel, Pixels, Singles
from dvos.labelling.pictures import Pictures
from dvos.media.mask import IGNORE
from dvos.media.splitting import split_mask

_FRAMES = 4  # frames whose features are kept
#: Penalties of the classifier of all other frames, and of what this frame adds to it.
_PENALTY, _OWN_PENALTY = 0.02, 0.05
_SIDE = 40.0  # side of an object, as the root of its area, while none is labelled, pixels
_REACH = 1.8  # sides of an object, to each side of a click, that are looked at
_SPREAD = 0.3  # how far what a click says reaches, a standard deviation, of an object's side
_WIDE = 0.4  # of an object's side, how far about its outline colours are looked at
_MOST = 0.5  # of an object that nobody pointed at: a cut of that share means all of it
_FEW = 3  # objects that tell their usual area
_SCRAP = 0.1  # of the usual area of an object; a piece below that is a scrap
#: Until some objects are labelled, one ends at this part of the way from the surroundings' logit to
#: the click's; the former is a percentile of what is near.
_LEVEL, _GROUND = 0.4, 20
Place = tuple[int, int]  # a row and a column

#: Logit that a click has in the end, at least, and beyond which it does not take more to get there.
_TOLD, _SURE = 6.0, 4.0
_NOISE = 0.05  # variance of the noise of a click, of what it says
_NEAR = 2  # pixels about a click that belong to its region in any case
_BLUR = 1.0  # deviation of the blur of logits, pixels
_ROUNDS = 3  # how often an outline is drawn anew by the colours on its two sides
_RIM = 1  # pixels to each side of an outline that tell no colours, as it may be wrong by them
_FEW_PIXELS = 12  # pixels that tell colours, at least
_NARROW, _MOST_TOLD = 0.5, 8.0  # least variance of a colour, and the most that colours say, a logit
#: Squared distance (Mahalanobis 1936) of two groups of colours below which they tell no outline:
#: one pixel in nine would be on the wrong side of it.
_APART = 6.0
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Proposal(Region):
    """An object to be added, or, at a click on what is none, what is to be cut."""

    score: float  # how sure it is, 0..1


class Proposer:
    """Proposes objects, and learns from what is made of its proposals.

    Used are encoder and probability of a checkpoint, or else the encoder that ImageNet trained, on
    the device ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, checkpoint: Path | None = None, device: str = "auto") -> None:
        self._extractor = FeatureExtractor.open(checkpoint, device)
        self._samples: dict[Hashable, Samples] = {}
        self._areas: dict[Hashable, NDArray[np.int64]] = {}
        self._clicks: dict[Hashable, tuple[Click, ...]] = {}
        # Of the current frame; None until all its objects are asked for.
        self._model: LinearModel | None = None
        # Where the next search starts: fits that follow each other differ little.
        self._latest: LinearModel | None = None
        # What the other frames taught, and for which frame it was fitted.
        self._before: LinearModel | None = None
        self._current: Hashable = None

    def prepare(self, image: Pixels) -> FrameFeatures:
        """Features of a frame, uint8 RGB (H, W, 3), which are computed once."""
        return FrameFeatures(image, self._extractor)

    def learn(
        self, features: FrameFeatures, ids: Ids, known: Mask | None, clicks: Sequence[Click]
    ) -> None:
        """Learn what is labelled in a frame by now; what it taught before is forgotten.

        ``ids`` are uint16 (H, W), 0 where no object is labelled, 65535 where it is unknown;
        ``known``, bool (H, W), is where somebody looked, so that 0 is background; ``clicks`` are
        all of the frame, of which those that the mask no longer agrees with were taken back.
        """
        clicks = [one for one in clicks if (ids[one.y, one.x] > 0) == one.take]
        self._samples[features.key] = frame_samples(features, ids, known, clicks)
        self._clicks[features.key] = tuple(clicks)
        areas = np.bincount(ids.ravel(), minlength=IGNORE + 1)[1:IGNORE]
        self._areas[features.key] = areas[areas > 0]
        self._turn_to(features)
        self._model = None

    def propose(self, features: FrameFeatures, ids: Ids, click: Click) -> Proposal | None:
        """The object at a click, or what of one is to be cut there; None for neither."""
        pointed = int(ids[click.y, click.x])
        if pointed == IGNORE or (pointed == 0) != click.take:
            return None
        self._turn_to(features)
        usual = self._area() or _SIDE**2
        reach = round(_REACH * usual**0.5)
        top, left = max(0, click.y - reach), max(0, click.x - reach)
        own = ids[top : click.y + reach + 1, left : click.x + reach + 1]
        box = top, left, top + own.shape[0], left + own.shape[1]
        model = self._fitted(features, list(click_samples(features, click)))
        earlier = self._clicks.get(features.key, ())
        inside = {
            (one.y - top, one.x - left): one.take
            for one in (*earlier, click)
            if top <= one.y < box[2] and left <= one.x < box[3]
        }
        place = click.y - top, click.x - left
        logit = features.logit(model, box)
        if self._area() is None and self._extractor.predictor is None:
            # Nothing tells yet what logit an outline has.
            low = np.percentile(logit, _GROUND)
            logit -= low + _LEVEL * (logit[place] - low)
        logit = corrected(logit, inside, _SPREAD * usual**0.5)
        if click.take:
            mask = outlined(logit, features.colours(box), own == 0, place, _wide(usual))
        else:
            free = (own > 0) & (own != IGNORE)
            mask = region_at(logit < 0, free, place)
            piece = piece_at(own == own[place], place)
            named = any(take and piece[at] for at, take in inside.items())
            if not named and np.count_nonzero(mask & piece) >= _MOST * np.count_nonzero(piece):
                mask |= piece
        region, surely = cropped(mask, top, left), float(logit[mask].mean())
        score = _probability(surely if click.take else -surely)
        return Proposal(region.top, region.left, region.mask, score)

    def propose_all(self, features: FrameFeatures, ids: Ids) -> list[Proposal]:
        """Every object that it would add, the surest first; takes long in a large frame."""
        from scipy.ndimage import find_objects

        taught = any(samples.labels.any() for samples in self._samples.values())
        if not taught and self._extractor.predictor is None:
            return []
        self._turn_to(features)
        self._model = self._model or self._fitted(features, [])
        whole, usual = features.logit(self._model, (0, 0, *features.size)), self._area() or _SIDE**2
        labels = split_mask((whole > 0) & (ids == 0), minimum_area=round(_SCRAP * usual))
        wide, found = _wide(usual), []
        for number, pieces in enumerate(find_objects(labels), start=1):
            top, left = (max(0, one.start - wide) for one in pieces)
            window = np.s_[top : pieces[0].stop + wide, left : pieces[1].stop + wide]
            near, own, logit = labels[window], labels[window] == number, whole[window]
            free = ((near == 0) | own) & (ids[window] == 0)
            colours = features.colours((top, left, top + len(own), left + own.shape[1]))
            smooth = corrected(logit, {}, 0)
            row, column = divmod(int(np.where(own, smooth, -np.inf).argmax()), own.shape[1])
            mask = outlined(smooth, colours, free, (row, column), wide)
            near[own], near[mask] = 0, number
            region, score = cropped(mask, top, left), _probability(float(logit[mask].mean()))
            found.append(Proposal(region.top, region.left, region.mask, score))
        return sorted(found, key=lambda proposal: -proposal.score)

    def _turn_to(self, features: FrameFeatures) -> None:
        """Have what the classifier of a frame is fitted to."""
        if self._current != features.key:
            self._current, self._before = features.key, self._of_others(features.key)
            self._model = None
        if features.key not in self._samples:
            nothing = np.zeros(features.size, np.uint16)
            self._samples[features.key] = frame_samples(features, nothing, None, [])

    def _of_others(self, key: Hashable) -> LinearModel | None:
        others = [samples for other, samples in self._samples.items() if other != key]
        # A checkpoint tells more of a frame than others do that are labelled in part.
        if not others or self._extractor.predictor is not None:
            return None
        joined = Samples.joined(others)
        even = replace(joined, weights=joined.weights / np.float32(len(others)))
        return fit(even, LinearModel.blank(joined.features.shape[1]), _PENALTY, self._latest)

    def _fitted(self, features: FrameFeatures, clicked: list[Samples]) -> LinearModel:
        """The classifier for the current frame, a click on top."""
        before = self._before or LinearModel.blank(features.ground.shape[1])
        samples = Samples.joined([self._samples[features.key], *clicked])
        if not samples.labels.any():
            return before
        self._latest = fit(samples, before, _OWN_PENALTY, self._latest)
        return self._latest

    def _area(self) -> float | None:
        """Usual area of an object of this frame, or of all; None until some are labelled."""
        own = self._areas.get(self._current, np.zeros(0, np.int64))
        areas = own if len(own) >= _FEW else np.concatenate([*self._areas.values(), own])
        if len(areas) < _FEW:
            return None
        # Half of all pixels lie in objects of at least that area: pieces of objects do not tell it.
        areas = np.sort(areas)
        total = np.cumsum(areas)
        return float(areas[np.searchsorted(total, total[-1] / 2)])


class Helper:
    """Proposes objects, one thread at a time; what loads torch is made when first needed."""

    def __init__(self, make: Callable[[], Proposer], pictures: Pictures) -> None:
        self._proposer = cache(make)
        self._features = lru_cache(_FRAMES)(lambda at: self._proposer().prepare(pictures.whole(at)))
        self._guard = threading.Lock()
        self._clicks: dict[int, list[Click]] = {}
        self._found: dict[int, list[Proposal]] = {}

    def prepare(self, index: int) -> None:
        """Compute a frame's features, so that the first click is answered at once."""
        with self._guard:
            self._prepared(index)

    def point(self, index: int, ids: Ids, x: int, y: int, take: bool) -> Region | None:
        """The object at a click, or the part that is none; None where nothing is found."""
        with self._guard:
            proposer, features = self._prepared(index)
            clicks, click = self._clicks.setdefault(index, []), Click(x, y, take)
            proposer.learn(features, ids, None, clicks)
            clicks.append(click)
            return proposer.propose(features, ids, click)

    def all(self, index: int, ids: Ids) -> list[Proposal]:
        """Every object that would be added, the surest first."""
        with self._guard:
            proposer, features = self._prepared(index)
            proposer.learn(features, ids, None, self._clicks.get(index, []))
            self._found[index] = proposer.propose_all(features, ids)
            return self._found[index]

    def accepted(self, index: int, least: float) -> list[Proposal]:
        """Those of the latest :meth:`all` with at least that score."""
        with self._guard:
            return [one for one in self._found.pop(index, []) if one.score >= least]

    def _prepared(self, index: int) -> tuple[Proposer, Any]:
        return self._proposer(), self._features(index)


def _wide(area: float) -> int:
    """How far about an outline colours are looked at, pixels, where objects have that area."""
    return int(max(3, round(_WIDE * area**0.5)))


def _probability(logit: float) -> float:
    return float(0.5 + 0.5 * np.tanh(0.5 * logit))


def corrected(logit: Singles, clicks: dict[Place, bool], spread: float) -> Singles:
    """Logits, blurred, that agree with all clicks, each an object's or not.

    They are the mean of a Gaussian process about what the classifier tells, given the clicks that
    it gets wrong, or is not sure of (Rasmussen and Williams 2006, chapter 2.2).
    """
    smooth = np.clip(cv2.GaussianBlur(logit, (0, 0), _BLUR), -_SURE, _SURE)
    if not clicks:
        return np.asarray(smooth, np.float32)
    places, signs = np.array([*clicks]), np.where([*clicks.values()], 1.0, -1.0)
    amiss = signs * np.maximum(_TOLD - signs * smooth[tuple(places.T)], 0)
    rows, columns = (
        np.exp(-((np.arange(side) - at[:, None]) ** 2) / (2 * spread**2))
        for side, at in zip(logit.shape, places.T, strict=True)
    )
    near = rows[:, places[:, 0]] * columns[:, places[:, 1]]
    shares = np.linalg.solve(near + _NOISE * np.eye(len(places)), amiss)
    return np.asarray(smooth + (rows.T * shares) @ columns, np.float32)


def outlined(logit: Singles, colours: Singles, free: Mask, place: Place, reach: int) -> Mask:
    """The object at a place, where it is ``free``: its outline lies where the colours change.

    It begins with the connected pixels of a logit above 0; to that is added what the colours
    (H, W, 3) tell within it and, up to ``reach`` pixels, beside it.
    """
    mask = region_at(logit > 0, free, place)
    for _ in range(_ROUNDS):
        told = _by_colours(colours, mask, free, reach)
        if told is None:
            break
        mask = region_at(logit + told > 0, free, place)
    return mask


def _by_colours(colours: Singles, mask: Mask, free: Mask, reach: int) -> Singles | None:
    """The logit that each pixel's colour is the region's, not its surroundings'.

    A linear discriminant (Fisher 1936); None where the two differ too little.
    """
    own = mask.view(np.uint8)
    inside = cv2.erode(own, _SQUARE, iterations=_RIM) > 0
    rim = cv2.dilate(own, _SQUARE, iterations=_RIM + 1) > 0
    outside = (cv2.dilate(own, _SQUARE, iterations=reach) > 0) & ~rim & free
    groups = colours[inside], colours[outside]
    if min(map(len, groups)) < _FEW_PIXELS:
        return None
    first, second = (group.mean(0) for group in groups)
    scatter = sum(len(group) * np.cov(group.T) for group in groups)
    spread = scatter / sum(map(len, groups)) + _NARROW * np.eye(colours.shape[2])
    weights = np.linalg.solve(spread, first - second).astype(np.float32)
    if weights @ (first - second) < _APART:
        return None
    told = (colours - (first + second) / 2) @ weights
    return np.asarray(np.clip(told, -_MOST_TOLD, _MOST_TOLD), np.float32)


def region_at(inside: Mask, allowed: Mask, place: Place) -> Mask:
    """The connected pixels about a place, which lies where they are ``allowed``; no holes."""
    rows, columns = (slice(max(0, at - _NEAR), at + _NEAR + 1) for at in place)
    inside = inside.copy()
    inside[rows, columns] = True
    return _filled(piece_at(inside & allowed, place)) & allowed


def piece_at(mask: Mask, place: Place) -> Mask:
    """The connected piece of a mask that holds a pixel of it."""
    _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    return np.asarray(pieces == pieces[place], np.bool_)


def _filled(mask: Mask) -> Mask:
    around = cv2.copyMakeBorder((~mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2, np.bool_)
