"""Linking: which object of a frame is which of the frames before, as frames come in.

The motion that all objects share (camera, stage, wind) is taken out first; tracks and objects are
linked by the least total cost of distance from where tracks are foreseen, overlap and size.
Assignment with gaps, merging and splitting goes back to Jaqaman et al. (Nature Methods 2008).
"""

from collections import deque

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dvos.compiling import jit
from dvos.config.prediction import LinkingSettings
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.divisions import Divisions
from dvos.prediction.tracks.merging import find_merged, find_pieces, part_merged
from dvos.prediction.tracks.motion import (
    REST,
    Centres,
    Links,
    Motion,
    Overlaps,
    common_motion,
    find_overlaps,
    fitted,
)
from dvos.prediction.tracks.nearest import Doubles, Places
from dvos.prediction.tracks.state import LinkedFrame, Pending, TrackState

#: Shares of distance, overlap and size in the cost of a link, 1 together; each is 0 to 1.
_BY_DISTANCE, _BY_OVERLAP, _BY_SIZE = 0.6, 0.2, 0.2
#: Of an object's side, how far it must move by itself for its overlap to tell nothing.
_LEAVING = 0.3
_OTHER_SIZE = 3.0  # areas that differ by this factor cost all of the size's share
_PER_MISS = 0.02  # added for each frame missed: of equals the track that was just seen is taken
_NEIGHBOURS = 8  # neighbours of a track that are looked at
#: Of an object's side (square root of the area): the least reach, and the greatest.
_LEAST_REACH, _MOST_REACH = 0.6, 4.0
_SPACINGS = 0.75  # of the spacing of objects: the greatest reach
_DEVIATIONS = 4.5  # reach in standard deviations of the distance from where tracks were foreseen
_GROWN = 2.5  # the greatest reach after a gap, in that of one frame
#: Overlap of the smaller of two, from which they are looked at however far their centres lie.
_OVERLAPPING = 0.5
_TENTATIVE_MISSES = 2  # a tentative track ends when it misses more frames than this
#: Nearest objects must be nearer by this factor for tracks to be taken to keep their motion.
_FAR_NEARER = 0.5
_LEARNT = 0.2  # a frame's weight in what is learnt about motion
#: A track inside another's object is carried on for so many times the frames of a gap.
_MERGED_GAP = 4
_FORGET = 64  # frames after which keys of tracks that have ended are forgotten
_ABOVE = 1.0  # costs stand above zero in a sparse matrix, where zero is "no link"


class Linker:
    """Links frame after frame; ids count from 1 and are never given twice."""

    def __init__(self, settings: LinkingSettings | None = None) -> None:
        self._settings = settings or LinkingSettings()
        self._misses = min(self._settings.gap, _TENTATIVE_MISSES)
        #: Most frames between a frame's being pushed and its being settled, when a tentative track
        #: has been seen often enough to be no chance find, or has ended.
        self.delay = max(1, (self._settings.sightings - 1) * (1 + self._misses))
        self._divisions = Divisions(self._settings.sightings) if self._settings.divisions else None
        if self._divisions:
            self.delay = max(self.delay, self._divisions.delay)
        self._state = TrackState.empty()
        self._pending: deque[Pending] = deque()
        self._before: FrameObjects | None = None
        self._centres = Centres(np.zeros((0, 2)))
        self._keys_before = np.zeros(0, np.int64)
        self._frame, self._pushed, self._count = -1, 0, 0
        self._motion = REST
        self._spread: float | None = None
        self._steadiness = np.zeros(2)
        # By key, of tracks that are confirmed and may still be asked for; 0 before they are told.
        self._ids: dict[int, int] = {}

    def push(self, objects: FrameObjects, frame: int | None = None) -> list[LinkedFrame]:
        """Link the next frame; gives the frames that are settled by now, in order.

        Frames its number leaves out (None: the next) count as missed; a ValueError unless it rises.
        """
        frame = self._frame + 1 if frame is None else frame
        if frame <= self._frame:
            raise ValueError(f"frame {frame} comes after frame {self._frame}")
        state, passed, centres = self._state, frame - self._frame, Centres(objects.centre)
        overlaps = None
        self._end(frame)
        told = self._moved(objects, centres, passed)
        self._motion = told or REST
        if self._before is not None:
            state.move(self._motion, self._persistence(centres), passed)
            if passed == 1:
                overlaps = find_overlaps(self._before, objects, self._motion)
        tracks, found = self._links(objects, centres, overlaps, frame)
        keys = np.zeros(objects.count, np.int64)
        keys[found] = state.keys[tracks]
        links = (tracks, found)
        merged = find_merged(state, (objects, keys), links, overlaps, self._keys_before)
        self._learn(objects, tracks[~merged], found[~merged], frame)
        new = np.flatnonzero(keys == 0)
        late = np.zeros(len(new), np.bool_)
        if overlaps is not None and self._before is not None and not self._divisions:
            before = (self._before, self._keys_before)
            late = find_pieces(before, (objects, keys), overlaps)[new]
        objects, (tracks, found), merged = part_merged(state, objects, links, merged)
        state.see(tracks, objects, found, merged, frame)
        keys = np.zeros(objects.count, np.int64)
        keys[found] = state.keys[tracks]
        keys[new] = state.add(objects, new, late, frame)
        if self._pushed <= self.delay + 1:
            # What is usual is known by hindsight alone where a clip begins with a jump.
            for one in self._pending:
                one.centres.lost |= one.centres.was_lost(centres)
        self._pending.append(Pending(frame, keys, told, centres, objects))
        if self._divisions:
            self._divisions.note(self._pending, new)
        self._before, self._keys_before, self._frame = objects, keys, frame
        self._centres = centres
        self._pushed += 1
        self._confirm()
        return [self._settled() for _ in range(len(self._pending) - self.delay)]

    def finish(self) -> list[LinkedFrame]:
        """Settle the frames that are left, after the last."""
        if 0 < self._pushed < self._settings.sightings:
            # Of a clip that is shorter than what confirms a track, all are taken for tracks.
            keys = (key for one in self._pending for key in one.keys.tolist())
            self._ids = dict.fromkeys(keys, 0) | self._ids
        return [self._settled() for _ in range(len(self._pending))]

    def _moved(self, objects: FrameObjects, centres: Centres, passed: int) -> Motion | None:
        """The common motion since the frame before; None where objects do not tell it."""
        if self._before is None:
            return None
        told = None
        if objects.motion is not None and passed == 1 and objects.count:
            told = fitted(objects.centre + objects.motion, objects.centre)
        height, width = objects.labels.shape
        return common_motion(self._centres, centres, self._motion, (height, width), told)

    def _persistence(self, centres: Centres) -> float:
        """How much of their own motion tracks keep from frame to frame, 0..1 (least squares).

        Before anything was learnt it is all, if that brings tracks far nearer to objects, or none.
        """
        together, alone = self._steadiness
        state = self._state
        if alone > 0:
            return float(np.clip(together / alone, 0, 1))
        if not state.velocity.any() or not len(centres):
            return 0.0
        places = self._motion(state.position)
        still, kept = (
            float(np.median(centres.grid.nearest(moved, 1)[0]))
            for moved in (places, places + state.velocity)
        )
        return float(kept < _FAR_NEARER * still)

    def _links(
        self, objects: FrameObjects, centres: Centres, overlaps: Overlaps | None, frame: int
    ) -> Links:
        """Places of tracks and of the objects that they are linked to."""
        state = self._state
        if not len(state) or not objects.count:
            return np.zeros(0, np.intp), np.zeros(0, np.intp)
        missed = frame - state.last - 1
        reach = self._reach(objects, centres.spacing) * np.minimum(np.sqrt(1.0 + missed), _GROWN)
        # Each track and those of the objects nearest to where it was foreseen that are in reach.
        away, nearest = centres.grid.nearest(state.position, _NEIGHBOURS, reach.max())
        row, rank = np.nonzero(away <= reach[:, None])
        column = nearest[row, rank]
        shared = np.zeros(len(row))
        if overlaps is not None:
            track_of = state.place_of(self._keys_before)
            row, column, shared = overlaps.joined(track_of, row, column, _OVERLAPPING)
        foreseen, place = state.position[row], objects.centre[column]
        if objects.motion is not None:
            # What the network tells of an object's motion says where it was in the frame before;
            # the common motion leads from there to this one.
            told = self._motion(objects.centre + objects.motion)
            just = (missed[row] == 0)[:, None]
            foreseen = np.where(just, state.carried[row], foreseen)
            place = np.where(just, told[column], place)
        distance = np.minimum(np.hypot(*(place - foreseen).T) / reach[row], 1.0)
        sizes = np.abs(np.log(objects.area[column] / state.area[row])) / np.log(_OTHER_SIZE)
        # A track that shared its object tells nothing of that object's size.
        sizes[state.merged[row]] = 0.0
        # Overlap tells nothing of tracks once their objects leave their places.
        own = ((state.position - state.carried) ** 2).sum(axis=1) + (self._spread or 0.0)
        leaving = np.sqrt(own / state.area) / _LEAVING
        telling = _BY_OVERLAP * np.clip(1 - leaving, 0, 1)[row]
        costs = (_BY_DISTANCE + _BY_OVERLAP - telling) * distance**2 + telling * (1 - shared)
        costs += _BY_SIZE * np.minimum(sizes, 1.0) + _PER_MISS * missed[row]
        return assign(row, column, costs)

    def _reach(self, objects: FrameObjects, spacing: float) -> Doubles:
        """How far an object may be from where its track was foreseen, pixels; of each track."""
        state = self._state
        if self._settings.reach is not None:
            return np.full(len(state), self._settings.reach)
        usual = float(np.median(np.sqrt(objects.area)))
        most = max(min(_SPACINGS * spacing, _MOST_REACH * usual), usual)
        if self._spread is None:
            return np.full(len(state), most)
        foreseen = _DEVIATIONS * np.sqrt(np.maximum(self._spread, state.spread)) + 1
        return np.clip(foreseen, np.minimum(_LEAST_REACH * np.sqrt(state.area), most), most)

    def _learn(self, objects: FrameObjects, tracks: Places, found: Places, frame: int) -> None:
        """Learn how far objects are from where they were foreseen, and how steadily they move."""
        state = self._state
        just = state.last[tracks] == frame - 1
        tracks, found = tracks[just], found[just]
        if not len(tracks):
            return
        away = objects.centre[found] - state.position[tracks]
        # Of normal values in the plane, half lie within the square root of 2 ln 2.
        spread = float(np.median((away**2).sum(axis=1))) / (2 * np.log(2))
        known = spread if self._spread is None else self._spread
        self._spread = max(spread, known + _LEARNT * (spread - known))
        moved = objects.centre[found] - state.carried[tracks]
        kept = state.velocity[tracks]
        self._steadiness *= 1 - _LEARNT
        self._steadiness += [(moved * kept).sum(), (kept**2).sum()]

    def _confirm(self) -> None:
        state = self._state
        lasted = ~state.late | (state.last - state.first >= self.delay)
        fresh = (state.sightings >= self._settings.sightings) & lasted & ~state.confirmed
        state.confirmed |= fresh
        confirmed = state.keys[fresh].tolist()
        if self._divisions:
            confirmed += self._divisions.settle(state, self._pending, self._ids)
            self._keys_before = self._pending[-1].keys
        self._ids = dict.fromkeys(confirmed, 0) | self._ids

    def _end(self, frame: int) -> None:
        """Forget the tracks that have missed more frames than they may when this one comes."""
        state, gap = self._state, self._settings.gap
        missed = frame - 1 - state.kept
        alive = missed <= np.where(state.confirmed, gap, self._misses)
        alive &= frame - 1 - state.last <= _MERGED_GAP * gap
        state.end(~alive)
        if self._pushed % _FORGET == 0:
            asked = {*state.keys.tolist(), *(k for one in self._pending for k in one.keys.tolist())}
            # Mothers are asked for until the first frame of their daughters is settled.
            asked |= {*self._divisions.parents.values()} if self._divisions else set()
            self._ids = {key: one for key, one in self._ids.items() if key in asked}

    def _settled(self) -> LinkedFrame:
        """Take the oldest frame that waits; tracks that are first seen in it get their ids."""
        pending, parents, ids = self._pending.popleft(), dict[int, int](), self._ids
        found = np.array([ids.get(key, -1) for key in pending.keys.tolist()], np.int64)
        for place in np.flatnonzero(found == 0).tolist():
            self._count += 1
            key = int(pending.keys[place])
            found[place] = ids[key] = self._count
            mother = self._divisions.parents.pop(key, 0) if self._divisions else 0
            if ids.get(mother):
                parents[self._count] = ids[mother]
        found, lost = np.maximum(found, 0), pending.centres.lost
        return LinkedFrame(pending.frame, found, parents, pending.motion, pending.objects, lost)


def assign(rows: Places, columns: Places, costs: Doubles, unlinked: float = 1.0) -> Links:
    """Choose links of the least total cost; a row without a link costs ``unlinked``.

    Links that no better choice could do without are taken first: row i and column j, each the
    other's best, where the cost of their link and of one row without any is at most that of the
    second best links of both. The rest, usually little, is solved exactly as a sparse assignment
    (LAPJVsp, Jonker and Volgenant 1987), in which each row has a column of its own for "none".

    Rows and columns of possible links, no pair twice, and of the links taken, by rising row, are
    (E,); costs are at least 0, and links that cost ``unlinked`` or more are never taken.
    """
    open_ = costs < unlinked
    rows, columns, costs = rows[open_], columns[open_], costs[open_]
    if not len(costs):
        return rows, columns
    best_of_row, second_of_row = _two_best(rows, costs, unlinked)
    best_of_column, second_of_column = _two_best(columns, costs, unlinked)
    links = best_of_row[best_of_row >= 0]
    links = links[best_of_column[columns[links]] == links]
    alternative = second_of_row[rows[links]] + second_of_column[columns[links]]
    links = links[costs[links] + unlinked <= alternative]
    taken_rows, taken_columns = (np.zeros_like(x, np.bool_) for x in (best_of_row, best_of_column))
    taken_rows[rows[links]] = taken_columns[columns[links]] = True
    rest = ~(taken_rows[rows] | taken_columns[columns])
    rows_left, columns_left = _solved(rows[rest], columns[rest], costs[rest], unlinked)
    linked = np.concatenate([rows[links], rows_left])
    order = np.argsort(linked, kind="stable")
    return linked[order], np.concatenate([columns[links], columns_left])[order]


@jit
def _two_best(groups: Places, costs: Doubles, unlinked: float) -> tuple[Places, Doubles]:
    """Of each group the place of its cheapest link (-1: none) and the cost of the next one."""
    count = groups.max() + 1
    best, lowest, second = np.full(count, -1), np.full(count, unlinked), np.full(count, unlinked)
    for link in range(len(costs)):
        group, cost = groups[link], costs[link]
        if cost < lowest[group]:
            best[group], lowest[group], second[group] = link, cost, lowest[group]
        elif cost < second[group]:
            second[group] = cost
    return best, second


def _solved(rows: Places, columns: Places, costs: Doubles, unlinked: float) -> Links:
    if not len(costs):
        return rows, columns
    own_rows, row_of = np.unique(rows, return_inverse=True)
    own_columns, column_of = np.unique(columns, return_inverse=True)
    count, dummies = len(own_columns), np.arange(len(own_rows))
    ends = np.append(row_of, dummies), np.append(column_of, count + dummies)
    weights = np.append(costs, np.full(len(dummies), unlinked)) + _ABOVE
    graph = csr_array((weights, ends), shape=(len(dummies), count + len(dummies)))
    found_rows, found_columns = min_weight_full_bipartite_matching(graph)
    real = found_columns < count
    return own_rows[found_rows[real]], own_columns[found_columns[real]]
