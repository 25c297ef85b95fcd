"""How a field moves as a whole between two frames (camera, stage, wind), by objects' centres.

And how far the objects of both overlap, once the motion that they share is taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from dvos.compiling import jit
from dvos.formats.labels import Size
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.nearest import Doubles, Grid, Places

Links = tuple[Places, Places]  # rows and columns, or tracks and objects, that are linked, (E,) each

_FEWEST = 6  # fewer objects than these do not tell a common motion from their own
_FEWEST_TURNED = 16  # pairs from which turn and scale are told beside the shift
_NEAR = 0.4  # of the spacing, how near a moved object must come to one of the other frame
#: Of the objects, how many a shift must explain, and how many more than the one expected.
_ENOUGH, _MORE = 0.65, 0.15
_LOSS = 0.8  # a share below this one of the frame before's is a loss
_FAR = 0.5  # a far shift must explain this much: by chance some always do
#: Cells of the map of centres across the usual spacing, its longest side, and peaks looked at.
_CELLS, _LONGEST, _PEAKS = 3.0, 768, 4
_LOOKED_AT = 256  # highest cells of the agreement that peaks are chosen from
#: Radians that a picture may turn at once, and the least step in which turns are tried.
_MOST_TURN, _LEAST_TURN = np.pi / 20, np.pi / 360
#: A share below this one of what was usual is explained by no motion; how fast that is forgotten.
_LOST, _FADING = 0.5, 0.9
_BETTER = 0.8  # turn and scale are taken where they leave at most this share of the residuals
_ROUNDS = 3
_TELLING = 400  # objects that tell what is common to all; more add time and nothing else
#: Places looked at across an object of the usual size, which tell its overlap well enough.
_ACROSS = 6
_WIDEST = 8
_PARTNERS = 8  # earlier objects that a later one may share places with; further ones are left out


@dataclass(frozen=True, eq=False)
class Motion:
    """A similarity of the plane: shift (x, y), turn and scale, a matrix (2, 2)."""

    matrix: Doubles
    shift: Doubles

    def __call__(self, points: Doubles) -> Doubles:
        """Where points (N, 2) of the earlier frame lie in the later one."""
        return points @ self.matrix.T + self.shift

    @property
    def inverse(self) -> "Motion":
        """From the later frame to the earlier one."""
        matrix = np.asarray(np.linalg.inv(self.matrix), np.float64)
        return Motion(matrix, -matrix @ self.shift)

    def after(self, other: "Motion") -> "Motion":
        """Both motions, the other one first."""
        return Motion(self.matrix @ other.matrix, self(other.shift))


class Centres:
    """Centres of a frame's objects, float64 (N, 2), sorted by place for what is asked of them."""

    def __init__(self, points: Doubles) -> None:
        self.points = points
        self.grid = Grid(points)
        #: Three of four have another one nearer than this, pixels; infinite of one alone.
        self.spacing = np.inf
        #: Share of the objects before that the motion led near to these; infinite if not asked.
        self.explained = np.inf
        self.lost = False  # whether no motion explains where the objects before have gone
        if len(points) > 1:
            away, _ = self.grid.nearest(self.some, 2)
            self.spacing = float(np.quantile(away[:, 1], 0.75))

    def __len__(self) -> int:
        return len(self.points)

    def was_lost(self, later: "Centres") -> bool:
        """Whether what led to a later frame of the same clip shows that to these to be none."""
        return self.explained < _LOST * later.explained < np.inf

    @property
    def some(self) -> Doubles:
        """So many of the points, evenly chosen, as tell what is common to all."""
        return self.points[:: max(1, len(self.points) // _TELLING)]


def shifted(shift: Doubles) -> Motion:
    """A shift alone, x and y."""
    return Motion(np.eye(2), np.asarray(shift, np.float64))


REST = shifted(np.zeros(2))


def common_motion(
    before: Centres, now: Centres, expected: Motion, size: Size, told: Motion | None = None
) -> Motion | None:
    """The motion that most objects share between two frames.

    The motion expected (that of the frame before), rest, and where neither explains most of the
    objects the shifts at which the maps of both frames' centres agree best (cross-correlation) are
    compared by how near they bring the objects; the best is refined by a fit to mutual nearest
    neighbours, in which far ones count little. Where no shift explains the objects, turns are tried
    too. What a network has ``told`` stands where it explains them. None where there are too few
    objects: a shift of theirs is their own.
    """
    if min(len(before), len(now)) < _FEWEST:
        return told
    points, reach = before.some, _NEAR * now.spacing
    expect = (REST,) if expected is REST else (REST, expected)

    def nearest(motions: Sequence[Motion]) -> tuple[float, Motion]:
        tried = [(_explained(now, motion(points), reach), motion) for motion in motions]
        return max(tried, key=lambda one: one[0])

    share, best = nearest([told] if told else expect)  # of equals rest, the first, is taken
    # Where objects move by themselves it is always little: a jump is told by a sudden loss.
    enough = 0.0 if told and np.isinf(before.explained) else _LOSS * before.explained
    for search in (_far_shifts, _turns):
        if share < min(_ENOUGH, enough):
            found, motion = nearest(search(before, now, size))
            if found > max(_FAR, share + _MORE):
                share, best = found, motion
    now.lost = share < _LOST * before.explained < np.inf
    # A loss is not what is usual from now on, unless it stays.
    now.explained = _FADING * before.explained if now.lost else share
    return best if best is told else _refined(before, now, best, reach)


def similarity(before: Doubles, now: Doubles) -> Motion | None:
    """The motion of pairs of centres, (N, 2) each: a shift alone where there are few.

    Far ones count little. None where there are too few to tell a common motion.
    """
    if len(before) < _FEWEST:
        return None
    motion = _middle(before, now)
    for _ in range(_ROUNDS if len(before) >= _FEWEST_TURNED else 0):
        # By least squares (Umeyama 1991, in the plane, without reflection).
        away = np.hypot(*(now - motion(before)).T)
        weights = 1 / (1 + (away / (1.5 * float(np.median(away)) + 1e-6)) ** 2)
        weights /= weights.sum()
        middle, target = weights @ before, weights @ now
        a, b = (points @ np.array([1, 1j]) for points in (before - middle, now - target))
        factor = complex((weights * b) @ a.conj()) / max(float(weights @ np.abs(a) ** 2), 1e-9)
        matrix = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
        motion = Motion(matrix, target - matrix @ middle)
    return motion


def fitted(before: Doubles, now: Doubles) -> Motion:
    """The common motion of pairs of centres, (N, 2) each: turn and scale where many ask for it."""
    motion = _middle(before, now)
    turned = similarity(before, now) or motion
    plain, fit = (float(np.median(np.hypot(*(now - one(before)).T))) for one in (motion, turned))
    return turned if fit < _BETTER * plain else motion


def _middle(before: Doubles, now: Doubles) -> Motion:
    """The shift in the middle of those of pairs of centres, (N, 2) each."""
    # Column by column: along an axis NumPy's median takes five times as long.
    return shifted(np.array([np.median(moved) for moved in (now - before).T]))


def _explained(now: Centres, moved: Doubles, reach: float) -> float:
    """How many of the moved objects, as a share, come near one there is; nearer counts more."""
    away, _ = now.grid.nearest(moved, 1, reach)
    return float(np.clip(1 - (np.minimum(away, reach) / reach) ** 2, 0, 1).mean())


def _refined(before: Centres, now: Centres, motion: Motion, reach: float) -> Motion:
    chosen = before.some
    away, nearest = now.grid.nearest(motion(chosen), 1, reach)
    found = np.flatnonzero(np.isfinite(away))
    if len(found) < _FEWEST:
        return motion
    target = now.points[nearest[found, 0]]
    came_from = motion.inverse(target)
    back = before.grid.nearest(came_from, 1)[0][:, 0]
    # Mutual: nothing of the earlier frame lies nearer to what it is nearest to.
    own = np.hypot(*(came_from - chosen[found]).T)
    mutual = own <= back * (1 + 1e-6) + 1e-6
    if np.count_nonzero(mutual) < max(_FEWEST, 0.3 * len(chosen)):
        return motion
    return fitted(chosen[found][mutual], target[mutual])


def _turns(before: Centres, now: Centres, size: Size) -> list[Motion]:
    """Turns about the picture's middle, each with the best shift after it, refined."""
    middle, reach = np.array(size[::-1]) / 2, _NEAR * now.spacing
    # So near to one another that the corners come within reach.
    step = max(reach / float(np.hypot(*middle)), _LEAST_TURN)
    motions = []
    for angle in np.arange(step, _MOST_TURN + step, step):
        for turn in (angle, -angle):
            matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            turned = Motion(matrix, middle - matrix @ middle)
            shift = _far_shifts(Centres(turned(before.points)), now, size)[0]
            motions.append(_refined(before, now, shift.after(turned), reach))
    return motions


def _far_shifts(before: Centres, now: Centres, size: Size) -> list[Motion]:
    """The shifts at which the maps of both frames' centres agree best."""
    cell = max(now.spacing / _CELLS, max(size) / _LONGEST, 1.0)
    # Twice as large, so that what leaves on one side does not come in on the other.
    shape = tuple(next_fast_len(2 * int(side / cell + 2), real=True) for side in size)
    maps = []
    for points in (before.points, now.points):
        y, x = np.clip(np.rint(points.T[::-1] / cell), 0, None).astype(np.intp)
        map_ = np.zeros(shape)
        np.add.at(map_, (np.minimum(y, shape[0] // 2), np.minimum(x, shape[1] // 2)), 1.0)
        maps.append(rfft2(map_))
    product = maps[1] * maps[0].conj()
    agreement = irfft2(product, s=shape)
    # Centres fall to either side of a cell's edge: neighbouring cells count together.
    agreement = sum(
        np.roll(agreement, (dy, dx), (0, 1)) * (1.0 if dy == dx == 0 else 0.5)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )
    flat = np.asarray(agreement).ravel()
    highest = np.argpartition(-flat, _LOOKED_AT)[:_LOOKED_AT] if flat.size > _LOOKED_AT else None
    peaks = np.arange(flat.size) if highest is None else np.sort(highest)
    chosen: list[Doubles] = []
    for peak in peaks[np.argsort(-flat[peaks], kind="stable")]:
        place = np.array(np.unravel_index(peak, shape))[::-1]
        sides = np.array(shape[::-1])
        shift = np.where(place > sides // 2, place - sides, place).astype(np.float64)
        if all(np.abs(shift - other).max() > 2 for other in chosen):
            chosen.append(shift)
    return [_sharpened(before, now, shift * cell, 1.5 * cell) for shift in chosen[:_PEAKS]]


def _sharpened(before: Centres, now: Centres, shift: Doubles, reach: float) -> Motion:
    """A shift of whole cells moved to the middle of what it explains."""
    away, nearest = now.grid.nearest(before.points + shift, 1, reach)
    near = np.isfinite(away[:, 0])
    if not near.any():
        return shifted(shift)
    return _middle(before.points[near], now.points[nearest[near, 0]])


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of an object of the earlier frame and one of the later that share places, (P,).

    They stand by rising object of the later one.
    """

    before: Places  # of the earlier objects
    now: Places
    union: Doubles  # shared places over those of either
    of_before: Doubles  # over those of the earlier object
    of_now: Doubles

    def joined(
        self, track_of: Places, rows: Places, columns: Places, least: float
    ) -> tuple[Places, Places, Doubles]:
        """Links possible by distance and those possible by overlap, with the overlap of each.

        ``track_of`` are the places of the tracks of earlier objects. From an overlap of ``least``
        of the smaller on a link is possible however far.
        """
        near = np.maximum(self.of_before, self.of_now) >= least
        track, found = track_of[self.before], np.zeros(len(near), np.bool_)
        shared = _shared(rows, columns, (track, self.now, self.union), found)
        more = near & ~found
        ends = (np.append(rows, track[more]), np.append(columns, self.now[more]))
        return *ends, np.append(shared, self.union[more])


@jit
def _shared(
    rows: Places, columns: Places, pairs: tuple[Places, Places, Doubles], found: NDArray[np.bool_]
) -> Doubles:
    """The overlap of each link, 0 of those that no pair tells of; which pairs are ``found`` so.

    ``pairs`` are track, object and overlap of each, by rising object.
    """
    tracks, objects, union = pairs
    shared = np.zeros(len(rows))
    firsts = np.searchsorted(objects, columns)
    for link in range(len(rows)):
        pair = firsts[link]
        while pair < len(objects) and objects[pair] == columns[link]:
            if tracks[pair] == rows[link]:
                shared[link], found[pair] = union[pair], True
            pair += 1
    return shared


def find_overlaps(before: FrameObjects, now: FrameObjects, motion: Motion) -> Overlaps:
    """Compare the labels of two frames at places on a grid, dense enough for the usual object."""
    count = now.count
    side = float(np.sqrt(now.area.mean())) if count else 0.0
    step = int(np.clip(round(side / _ACROSS), 1, _WIDEST))
    back = np.column_stack([motion.inverse.matrix, motion.inverse.shift])
    met, shared = np.zeros((2, count + 1, _PARTNERS), np.int32)
    places_now, places_before = (np.zeros(n + 1, np.int64) for n in (count, before.count))
    _meet(before.labels, now.labels, step, back, met, shared, places_now, places_before)
    second, slot = np.nonzero(met)
    first, number = met[second, slot], shared[second, slot].astype(np.float64)
    # A sampled object may have fewer places than it shares with a moved one.
    of_first = np.maximum(places_before[first], number)
    union = of_first + places_now[second] - number
    shares = (number / whole for whole in (union, of_first, places_now[second]))
    return Overlaps((first - 1).astype(np.intp), second - 1, *shares)


@jit
def _meet(
    before: NDArray[np.int32],
    now: NDArray[np.int32],
    step: int,
    back: Doubles,
    met: NDArray[np.int32],
    shared: NDArray[np.int32],
    places_now: NDArray[np.int64],
    places_before: NDArray[np.int64],
) -> None:
    """Count the places that objects of two frames share, and those of each, on a grid.

    ``back``, float64 (2, 3), leads from x, y, 1 of the later frame to x, y of the earlier. Filled
    in are, for each later object, the earlier ones that it ``met``, the places ``shared`` with
    each, and the numbers of places of all.
    """
    height, width = now.shape
    for y in range(0, height, step):
        for x in range(0, width, step):
            if before[y, x]:
                places_before[before[y, x]] += 1
            label = now[y, x]
            if label == 0:
                continue
            places_now[label] += 1
            # To the nearest pixel, as what follows the point is cut off.
            at_x = back[0, 0] * x + back[0, 1] * y + back[0, 2] + 0.5
            at_y = back[1, 0] * x + back[1, 1] * y + back[1, 2] + 0.5
            if not (0 <= at_x < width and 0 <= at_y < height):
                continue
            other = before[int(at_y), int(at_x)]
            if other == 0:
                continue
            for slot in range(met.shape[1]):
                if met[label, slot] == 0:
                    met[label, slot] = other
                if met[label, slot] == other:
                    shared[label, slot] += 1
                    break
