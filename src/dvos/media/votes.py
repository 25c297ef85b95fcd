"""Inner loops of :mod:`dvos.media.grouping`; places are rows and columns of its maps."""

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit

Singles = NDArray[np.float32]
Numbers = NDArray[np.int32]

#: Of an object's side: distance that a centre with fewer votes keeps at least from it.
_APART = 0.35
#: Of an object's side: how far beside its centre a place may point that still belongs to it.
_REACH = 0.75


@jit
def aim(weight: Singles, x: Singles, y: Singles) -> tuple[Numbers, Numbers]:
    """The row and the column nearest to where each place (h, w) points by its offset, in the map.

    What is off the mask, of ``weight`` 0, points to itself, and so does what has no number for an
    offset, or one larger than the map.
    """
    height, width = weight.shape
    rows, columns = np.empty((height, width), np.int32), np.empty((height, width), np.int32)
    for i in range(height):
        for j in range(width):
            across, down = x[i, j], y[i, j]
            told = weight[i, j] > 0 and -width < across < width and -height < down < height
            row, column = (i + down, j + across) if told else (i + 0.0, j + 0.0)
            rows[i, j] = int(min(max(row, 0.0), height - 1.0) + 0.5)
            columns[i, j] = int(min(max(column, 0.0), width - 1.0) + 0.5)
    return rows, columns


@jit
def cast(
    weight: Singles, rows: Numbers, columns: Numbers
) -> tuple[Numbers, Numbers, Singles, Singles]:
    """Votes of the places of a mask, of ``weight`` above 0, for those that they point to.

    ``rows`` and ``columns`` are of :func:`aim`. What lies where a place points to may point on, and
    is followed once: an offset that falls short, as far ones do in a network that is not sure, then
    arrives, and one that hits the centre stays. Given are the places and what each points to, i * w
    + j, (M,), the votes that each place of the map has got, by weight, (h, w), and the same times
    the distance they came from.
    """
    height, width = weight.shape
    count = 0
    for i in range(height):
        for j in range(width):
            count += weight[i, j] > 0
    places, targets = np.empty(count, np.int32), np.empty(count, np.int32)
    votes, away = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    n = 0
    for i in range(height):
        for j in range(width):
            if weight[i, j] == 0:
                continue
            row, column = rows[i, j], columns[i, j]
            row, column = rows[row, column], columns[row, column]
            places[n], targets[n] = i * width + j, row * width + column
            distance = np.sqrt(np.float32((row - i) * (row - i) + (column - j) * (column - j)))
            votes[row, column] += weight[i, j]
            away[row, column] += weight[i, j] * distance
            n += 1
    return places, targets, votes, away


@jit
def _equals_earlier(votes: Singles, i: int, j: int) -> bool:
    """Whether a neighbour of a place that comes before it in reading order has as many votes."""
    value, left, right = votes[i, j], max(j - 1, 0), min(j + 2, votes.shape[1])
    found = j > 0 and votes[i, j - 1] == value
    for column in range(left, right if i else left):
        found |= votes[i - 1, column] == value
    return found


@jit
def find_centres(
    votes: Singles, sides: Singles, peaks: NDArray[np.intp]
) -> tuple[Numbers, Singles]:
    """Where blurred votes (h, w) heap up: of the ``peaks``, those that no higher one lies near.

    A peak is a place, i * w + j, none of whose neighbours has more votes; on level ground the
    first one counts. ``sides`` are likewise votes times the side of the object that they came from.
    Given are row and column of each centre in reading order, (N, 2), and how far beside it a place
    may point that belongs to it, (N,).
    """
    height, width = votes.shape
    first = [peak for peak in peaks if not _equals_earlier(votes, peak // width, peak % width)]
    tops = np.array(first, np.int32)
    taken = np.zeros((height, width), np.uint8)
    kept = np.zeros(len(tops), np.bool_)
    for n in np.argsort(-votes.ravel()[tops], kind="mergesort"):
        i, j = tops[n] // width, tops[n] % width
        if taken[i, j]:
            continue
        kept[n] = True
        near = _APART * sides[i, j] / votes[i, j]
        reach = int(near)
        for row in range(max(i - reach, 0), min(i + reach + 1, height)):
            for column in range(max(j - reach, 0), min(j + reach + 1, width)):
                if (row - i) ** 2 + (column - j) ** 2 <= near * near:
                    taken[row, column] = 1
    tops = tops[kept]
    centres = np.stack((tops // width, tops % width), axis=1).astype(np.int32)
    limits = np.empty(len(tops), np.float32)
    for n in range(len(tops)):
        i, j = centres[n]
        limits[n] = max(_REACH * sides[i, j] / votes[i, j], 1.5)
    return centres, limits


@jit
def surround(centres: Numbers, limits: Singles, height: int, width: int) -> Numbers:
    """For each place the number, from 1, of the nearest centre within whose reach it lies, or 0."""
    nearest = np.zeros((height, width), np.int32)
    distance = np.empty((height, width), np.float32)
    for n in range(len(centres)):
        i, j = centres[n]
        limit = limits[n] * limits[n]
        reach = int(limits[n])
        for row in range(max(i - reach, 0), min(i + reach + 1, height)):
            for column in range(max(j - reach, 0), min(j + reach + 1, width)):
                away = np.float32((row - i) * (row - i) + (column - j) * (column - j))
                if away <= limit and (nearest[row, column] == 0 or away < distance[row, column]):
                    nearest[row, column] = n + 1
                    distance[row, column] = away
    return nearest


@jit
def assign(
    weight: Singles,
    places: Numbers,
    targets: Numbers,
    nearest: Numbers,
    motion: Singles,
    count: int,
) -> tuple[Numbers, NDArray[np.float64], Singles]:
    """The number of the centre that each place points to, from 1; 0 off the mask and beside all.

    ``places`` and ``targets`` are of :func:`cast`, ``nearest`` of :func:`surround`. With the
    numbers, int32 (h, w), come pixels of each object, float64 (N,), and mean motion, float32
    (N, 2), of a ``motion`` (2, h, w), or zeros of none (0, h, w).
    """
    height, width = weight.shape
    owners = np.zeros((height, width), np.int32)
    area = np.zeros(count + 1, np.float64)
    moved = np.zeros((count + 1, 2), np.float64)
    owner_of, weight_of, nearest_of = owners.ravel(), weight.ravel(), nearest.ravel()
    for n in range(len(places)):
        place, owner = places[n], nearest_of[targets[n]]
        owner_of[place] = owner
        area[owner] += weight_of[place]
        if owner and len(motion):
            moved[owner, 0] += weight_of[place] * motion[0, place // width, place % width]
            moved[owner, 1] += weight_of[place] * motion[1, place // width, place % width]
    mean = moved[1:] / np.maximum(area[1:], 1.0).reshape(count, 1)
    return owners, area[1:], mean.astype(np.float32)


@jit
def spread(
    mask: NDArray[np.bool_], owners: Numbers, numbers: Numbers, rows: Numbers, columns: Numbers
) -> Numbers:
    """The numbers (N + 1,) of the owners (h, w) of places for the pixels of a mask, int32 (H, W).

    ``rows`` (H,) and ``columns`` (W,) are the places of the mask's rows and columns.
    """
    labels = np.empty(mask.shape, np.int32)
    line, before = np.zeros(mask.shape[1], np.int32), -1
    for i in range(mask.shape[0]):
        if rows[i] != before:
            before = rows[i]
            for j in range(mask.shape[1]):
                line[j] = numbers[owners[before, columns[j]]]
        for j in range(mask.shape[1]):
            labels[i, j] = line[j] * mask[i, j]
    return labels


@jit
def find_runs(
    labels: Numbers, probability: Singles, threshold: float, count: int
) -> tuple[Numbers, NDArray[np.int64], NDArray[np.float64]]:
    """Runs of labels, and of each of N objects what lies from the threshold on.

    A run is what one object has, one pixel after another, in one line of labels (H, W), which are
    contiguous: its first place i * W + j and the one after its last, (R, 2), rising. Of what lies
    from the threshold on come the number of pixels and the sum of their probabilities, (N,) each.
    """
    label_of, likely, width = labels.ravel(), probability.ravel(), labels.shape[1]
    runs, n, place = np.empty((label_of.size // 2 + len(labels), 2), np.int32), 0, 0
    cores, sums = np.zeros(count, np.int64), np.zeros(count)
    least = np.float32(threshold)  # as the mask compares
    for end in range(width, label_of.size + 1, width):
        while place < end:
            label, number, total = label_of[place], 0, 0.0
            if label == 0:
                place += 1
                continue
            runs[n, 0] = place
            while place < end and label_of[place] == label:
                if likely[place] >= least:
                    number += 1
                    total += likely[place]
                place += 1
            runs[n, 1] = place
            n += 1
            cores[label - 1] += number
            sums[label - 1] += total
    return runs[:n], cores, sums


@jit
def sum_up(
    labels: Numbers, runs: Numbers, probability: Singles, limits: Singles
) -> tuple[NDArray[np.float64], Singles]:
    """Set pixels below the limit of their object, (N,), free; sums over the rest of each object.

    They are pixels, x, y, x * x, y * y, x * y and probability, (7, N), and the highest probability,
    (N,). ``runs`` are those of :func:`find_runs`.
    """
    label_of, likely, width = labels.ravel(), probability.ravel(), labels.shape[1]
    sums, highest = np.zeros((len(limits), 7)), np.zeros(len(limits), np.float32)
    y, line = 0, 0
    for first, end in runs:
        while first >= line + width:
            y, line = y + 1, line + width
        label = label_of[first]
        n = label - 1
        many, xs, squares, total, surest = 0, 0, 0, 0.0, np.float32(0)
        for pixel in range(first, end):
            # Without a branch, which would be guessed wrongly at each object's edge.
            own, x = int(likely[pixel] >= limits[n]), pixel - line
            many += own
            xs += own * x
            squares += own * x * x
            total += own * likely[pixel]
            surest = max(surest, likely[pixel])
            label_of[pixel] = own * label
        for at, value in enumerate((many, xs, y * many, squares, y * y * many, y * xs)):
            sums[n, at] += value
        sums[n, 6] += total
        highest[n] = max(highest[n], surest)
    return sums.T, highest


@jit
def renumber(labels: Numbers, runs: Numbers, numbers: Numbers) -> None:
    """Replace the labels in ``runs`` by their numbers, of all from 0 on."""
    label_of = labels.ravel()
    for first, end in runs:
        for pixel in range(first, end):
            label_of[pixel] = numbers[label_of[pixel]]
