"""Objects that stand for several tracks, which are parted between these, and pieces of objects.

Objects that touch or pass one another are found as one, and as two again some frames later. What
each was before tells which part of the one is whose; of those that were never seen apart before,
what each is afterwards.
"""

from collections.abc import MutableSequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit
from dvos.media.mask import cut_by_edge
from dvos.prediction.objects import FrameObjects, measured
from dvos.prediction.tracks.motion import REST, Links, Motion, Overlaps
from dvos.prediction.tracks.nearest import Doubles, Places
from dvos.prediction.tracks.state import Flags, Ints, Keyed, LinkedFrame, TrackState

_TAKEN_IN = 0.45  # of a track's area, how much of it an object must hold to have taken it in
#: Least area of an object that stands for two tracks, in the larger one's and in both together.
_MERGED_LARGER, _MERGED_BOTH = 1.1, 0.6
#: Of an ellipse with an object's length and width, how much at most an object that stands for two
#: fills: a plain ellipse is one object, as a cell is before it divides.
_FILLED = 0.97
_SEEN = 2  # frames that a track must have been seen in to be inside another's object
#: Of a piece of an object: what of it the object held; its area, and with the rest, in the whole's.
_WITHIN, _PIECE, _WHOLE = 0.6, 0.6, 1.4
_LEAST_PART = 0.2  # least area of a part of an object, in that of its track
_LEAST_MOMENT = 0.25  # added to second moments, pixels squared, so that lines have a width


def find_merged(
    state: TrackState, now: Keyed, links: Links, overlaps: Overlaps | None, keys_before: Ints
) -> Flags:
    """Which links are to an object that stands for other tracks, too; these are noted as within it.

    ``keys_before`` are of the objects of the frame before.
    """
    (objects, keys), (tracks, found) = now, links
    object_of = np.full(len(state), -1)
    object_of[tracks] = found
    state.within[tracks] = 0
    if overlaps is not None:
        lost = state.place_of(keys_before)[overlaps.before]
        taken = (object_of[lost] < 0) & (overlaps.of_before >= _TAKEN_IN)
        taken &= keys[overlaps.now] > 0
        for place, holder in zip(lost[taken], keys[overlaps.now[taken]], strict=True):
            state.within[place] = holder
    hidden = np.flatnonzero(state.within)
    at = np.minimum(np.searchsorted(state.keys, state.within[hidden]), len(state) - 1)
    there = (state.keys[at] == state.within[hidden]) & (object_of[at] >= 0)
    area = np.where(there, objects.area[object_of[at]], 0) if objects.count else 0.0 * at
    one, other = state.area[at], state.area[hidden]
    holds = _holds(area, one, other)
    # Once inside, it is taken to be so while the object stays larger than its own track.
    holds |= state.merged[at] & there & (area >= _MERGED_LARGER * one)
    # A piece that an object lost for one frame has not gone into it: it would live on as a track.
    holds &= state.confirmed[hidden] | (state.sightings[hidden] >= _SEEN)
    state.within[hidden[~holds]] = 0
    return np.isin(state.keys[tracks], state.within[hidden[holds]])


def part_merged(
    state: TrackState, objects: FrameObjects, links: Links, merged: Flags
) -> tuple[FrameObjects, Links, Flags]:
    """Part merged objects between their tracks, where these are no chance finds.

    Given are the objects, whose parts but one stand at the end, all links, by rising track, and
    which of them still are ``merged``, as no part of the object was large enough.
    """
    tracks, found = links
    hidden = np.flatnonzero((state.within > 0) & state.confirmed)
    if not len(hidden):
        return objects, links, merged
    at = np.searchsorted(tracks[merged], state.place_of(state.within[hidden]))
    shared = np.unique(at)
    # The pairs of an object stand together, that of its own track first.
    whole = np.concatenate([found[merged][shared], found[merged][at]])
    inside = np.concatenate([tracks[merged][shared], hidden])
    order = np.argsort(whole, kind="stable")
    whole, inside = whole[order], inside[order]
    of_tracks = state.position[inside], state.shape[inside], state.area[inside]
    objects, part = _parted(objects, whole, *of_tracks)
    more = (part >= 0) & (part != whole)
    state.within[inside[more]] = 0
    still = merged & ~np.isin(found, whole[part >= 0])
    tracks, found = np.append(tracks, inside[more]), np.append(found, part[more])
    still = np.append(still, np.zeros(np.count_nonzero(more), np.bool_))
    order = np.argsort(tracks, kind="stable")
    return objects, (tracks[order], found[order]), still[order]


def part_earlier(earlier: MutableSequence[LinkedFrame], now: LinkedFrame) -> None:
    """Part objects of earlier frames, there, between their tracks and those that begin ``now``.

    A track that begins where the object of another one was, which goes on beside it, was in that
    object before, as far back as that is large enough for both. What divides is left alone.
    """
    begun, later = np.setdiff1d(now.ids, np.append(earlier[-1].ids, [0, *now.parents])), now
    for place in range(len(earlier) - 1, -1, -1):
        if not len(begun):
            return
        earlier[place], begun = _parted_before(earlier[place], later, begun)
        later = earlier[place]


def _parted_before(
    frame: LinkedFrame, later: LinkedFrame, tracks: Ints
) -> tuple[LinkedFrame, Ints]:
    """Give tracks of the frame after their parts of this one's objects; those which got one."""
    back = (later.motion or REST).inverse
    objects, seen = frame.objects, later.objects
    ones = np.flatnonzero(np.isin(later.ids, np.setdiff1d(tracks, frame.ids)))
    covering = (_covering(objects.labels, seen, one, back) for one in ones.tolist())
    whole = np.array([*covering], np.intp)
    # The track of the object that covers each, 0 of none, and where that is seen after.
    track = np.append(frame.ids, 0)[whole]
    place_of = {key: place for place, key in enumerate(later.ids.tolist()) if key}
    own = np.array([place_of.get(key, -1) for key in track.tolist()], np.intp)
    filled = objects.area / (np.pi / 4 * objects.length * objects.width)
    kept = own >= 0
    kept[kept] = filled[whole[kept]] < _FILLED
    areas = objects.area[whole[kept]], seen.area[own[kept]], seen.area[ones[kept]]
    kept[kept] = _holds(*areas)
    ones, whole, own = ones[kept], whole[kept], own[kept]
    if not len(ones):
        return frame, np.zeros(0, np.int64)
    # The pairs of an object stand together, that of its own track first.
    wholes, first = np.unique(whole, return_index=True)
    whole, inside = np.concatenate([wholes, whole]), np.concatenate([own[first], ones])
    order = np.argsort(whole, kind="stable")
    whole, inside = whole[order], inside[order]
    # They moved as the object did whose parts they are.
    area, number = seen.area[inside].astype(np.float64), np.searchsorted(wholes, whole)
    position = back(seen.centre[inside])
    sums = [np.bincount(number, weights=area * values) for values in position.T]
    middle = np.stack(sums, axis=1) / np.bincount(number, weights=area)[:, None]
    position += (objects.centre[wholes] - middle)[number]
    objects, part = _parted(objects, whole, position, seen.moments[inside], area)
    more = (part >= 0) & (part != whole)
    ids = np.append(frame.ids, np.zeros(objects.count - len(frame.ids), np.int64))
    ids[part[more]] = later.ids[inside[more]]
    return replace(frame, objects=objects, ids=ids), later.ids[inside[more]]


def _covering(labels: NDArray[np.int32], later: FrameObjects, one: int, back: Motion) -> int:
    """Which object of a frame covers one of the frame after; -1 if none does."""
    low = np.maximum(np.floor(later.centre[one] - later.length[one] - 1), 0).astype(np.int64)
    high = np.ceil(later.centre[one] + later.length[one] + 1).astype(np.int64) + 1
    y, x = np.nonzero(later.labels[low[1] : high[1], low[0] : high[0]] == one + 1)
    at = np.rint(back(np.stack([x, y], axis=1) + low)).astype(np.int64)
    at = at[((at >= 0) & (at < labels.shape[::-1])).all(axis=1)]
    shares = np.bincount(labels[at[:, 1], at[:, 0]], minlength=2)[1:] / max(1, len(x))
    return int(shares.argmax()) if shares.max() >= _TAKEN_IN else -1


def _holds(area: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> Flags:
    """Whether objects of these areas, each, may stand for both of two others."""
    enough = np.maximum(_MERGED_LARGER * np.maximum(one, other), _MERGED_BOTH * (one + other))
    return np.asarray(area >= enough, np.bool_)


def find_pieces(earlier: Keyed, now: Keyed, overlaps: Overlaps) -> Flags:
    """Which objects without a track are pieces of an object whose track has another one."""
    (before, keys_before), (objects, keys) = earlier, now
    pieces = np.zeros(objects.count, np.bool_)
    area_of = dict(zip(keys.tolist(), objects.area.tolist(), strict=True))
    inside = (keys[overlaps.now] == 0) & (overlaps.of_now >= _WITHIN)
    for a, b in zip(overlaps.before[inside], overlaps.now[inside], strict=True):
        whole, area = before.area[a], objects.area[b]
        rest = area_of.get(int(keys_before[a]), 0)
        pieces[b] = rest > 0 and area < _PIECE * whole and rest + area < _WHOLE * whole
    return pieces


def _parted(
    objects: FrameObjects, whole: Places, centre: Doubles, shape: Doubles, area: Doubles
) -> tuple[FrameObjects, Places]:
    """Part objects between ellipses: pairs of both, those of an object one after another.

    A pixel goes to the ellipse in which it lies deepest (Mahalanobis distance); they are moved to
    the middle of what they got, once, and pixels go anew. Of each pair is given the object that it
    became: an object's first pair keeps its place; -1 where a part is too small for its ``area``.
    """
    wholes, first = np.unique(whole, return_index=True)
    reach = objects.length[wholes, None] + 1
    size = np.array(objects.labels.shape[::-1])
    low = np.clip(np.floor(objects.centre[wholes] - reach), 0, size)
    high = np.clip(np.ceil(objects.centre[wholes] + reach) + 1, 0, size)
    boxes = np.concatenate([low, high], axis=1).astype(np.int64)
    xx, yy, xy = shape.T + np.array([[_LEAST_MOMENT], [_LEAST_MOMENT], [0.0]])
    forms = np.stack([yy, xx, -2 * xy], axis=1) / (xx * yy - xy * xy)[:, None]
    labels, part, sums = objects.labels.copy(), np.full(len(whole), -1), np.zeros((len(whole), 6))
    ends = np.append(first, len(whole))
    least = np.maximum(_LEAST_PART * area, 1.0)
    count = objects.count
    _share(labels, count, wholes, boxes, ends, centre.copy(), forms, least, part, sums)
    done = part >= 0
    # What is not measured anew, a part has of the whole.
    source = np.append(np.arange(count), whole[done & (part >= count)])
    new = {}
    for name, values in measured(*sums[done].T).items():
        new[name] = getattr(objects, name)[source]
        new[name][part[done]] = values
    return replace(
        objects,
        labels=labels,
        numbers=np.append(objects.numbers, np.arange(count, len(source)) + 1),
        probability=objects.probability[source],
        peak_probability=objects.peak_probability[source],
        touches_border=cut_by_edge(labels, len(source))[1:],
        motion=None if objects.motion is None else objects.motion[source],
        **new,
    ), part


@jit
def _share(
    labels: NDArray[np.int32],
    count: int,
    wholes: Places,
    boxes: Ints,
    ends: Places,
    centre: Doubles,
    forms: Doubles,
    least: Doubles,
    part: Places,
    sums: Doubles,
) -> None:
    """Share the pixels of each of the ``wholes``, in its box, between ellipses ends[i]:ends[i + 1].

    Filled in are ``labels``, each pair's ``part`` and its ``sums``: pixels, x, y, x * x, y * y and
    x * y. ``centre`` is overwritten.
    """
    for i in range(len(wholes)):
        number, first, last = wholes[i] + 1, ends[i], ends[i + 1]
        own, form = centre[first:last], forms[first:last]
        got, new = sums[first:last], part[first:last]
        _go_to_deepest(labels, number, boxes[i], own, form, got, new)
        for k in range(last - first):
            if got[k, 0]:
                own[k] = got[k, 1:3] / got[k, 0]
        got[:] = 0
        _go_to_deepest(labels, number, boxes[i], own, form, got, new)
        if (got[:, 0] >= least[first:last]).all():
            new[0] = wholes[i]
            for k in range(1, last - first):
                new[k] = count
                count += 1
            _go_to_deepest(labels, number, boxes[i], own, form, got, new)


@jit
def _go_to_deepest(
    labels: NDArray[np.int32],
    number: int,
    box: Ints,
    centre: Doubles,
    forms: Doubles,
    sums: Doubles,
    part: Places,
) -> None:
    """Each pixel of an object counts for the ellipse in which it lies deepest, or becomes its part.

    It counts in ``sums`` while parts are unknown, below 0.
    """
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            if labels[y, x] != number:
                continue
            best, nearest = 0, np.inf
            for k in range(len(centre)):
                dx, dy = x - centre[k, 0], y - centre[k, 1]
                away = forms[k, 0] * dx * dx + forms[k, 1] * dy * dy + forms[k, 2] * dx * dy
                if away < nearest:
                    best, nearest = k, away
            if part[best] >= 0:
                labels[y, x] = part[best] + 1
            else:
                for at, value in enumerate((1, x, y, x * x, y * y, x * y)):
                    sums[best, at] += value
