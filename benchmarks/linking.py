"""Linking alone: time of a core, links that are right, memory, by number and motion of objects.

    python benchmarks/linking.py --objects 5000 --frames 100 --out linking.json

Discs stand on a jittered grid and move by up to 0.49 of its spacing in each frame, or ``--step``:
"steady" keeps a motion of its own, "home" moves anywhere about its place. They are numbered anew in
each frame. ``--find 1024`` draws them about their places in frames of so many pixels a side, over
43 % of them with hard edges and over 51 % with soft ones, and finds them, too, by offsets as a
network tells them.
``--xmem`` sets XMem beside grouping and linking instead; see ``linking_xmem.py``.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.grouping import ObjectMaps
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.objects import FrameObjects, find_objects
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.state import LinkedFrame
from facts import machine, write_result

SPACING, RADIUS, STEP = 22, 6, 0.49  # the last a share of the first
#: Share of the frame that discs to be found cover, and the width of their edges, pixels.
EDGES = {"hard": (0.43, 0.0), "soft": (0.51, 4.0)}


def places(
    kind: str,
    count: int,
    frames: int,
    rng: np.random.Generator,
    step: float,
    spacing: float = SPACING,
) -> Any:
    """Centres (N, 2) of each frame."""
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:count]
    home = (grid + 0.5 + rng.uniform(-0.2, 0.2, grid.shape)) * spacing
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, step * spacing, count)
    motion = np.stack([np.cos(angle), np.sin(angle)], axis=1) * speed[:, None]
    for frame in range(frames):
        if kind == "steady":
            yield home + frame * motion
        else:
            yield home + rng.uniform(-0.5, 0.5, home.shape) * step * spacing / np.sqrt(2)


def drawn(centre: NDArray[np.float64], side: int) -> FrameObjects:
    """Discs as the objects of a frame."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    inside = x**2 + y**2 <= RADIUS**2
    at = np.rint(centre).astype(int)
    rows, columns = at[:, 1:] + y[inside], at[:, :1] + x[inside]
    seen = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    numbers = np.arange(1, len(centre) + 1)
    labels = np.zeros((side, side), np.int32)
    labels[rows[seen], columns[seen]] = np.broadcast_to(numbers[:, None], rows.shape)[seen]
    area = np.maximum(np.bincount(labels.ravel(), minlength=len(centre) + 1)[1:], 1)
    ones = np.ones(len(centre))
    sizes = (ones * 2 * RADIUS, ones * 2 * RADIUS, 0 * ones)
    return FrameObjects(labels, numbers, area, *sizes, centre, ones, ones, ones < 0)


def measure(kind: str, step: float, count: int, frames: int) -> dict[str, Any]:
    """Link a clip; what it cost and how right it is."""
    rng = np.random.default_rng(0)
    side = SPACING * int(np.ceil(np.sqrt(count)))
    linker, seconds = Linker(), 0.0
    linker.push(drawn(rng.uniform(0, side, (20, 2)), side))  # loops are compiled
    linker = Linker()
    orders: list[NDArray[np.intp]] = []
    found: list[LinkedFrame] = []
    for centre in places(kind, count, frames, rng, step):
        order = rng.permutation(np.flatnonzero(((centre >= 0) & (centre < side)).all(axis=1)))
        orders.append(order)
        objects = drawn(centre[order], side)
        began = time.process_time()
        found += linker.push(objects)
        seconds += time.process_time() - began
    found += linker.finish()
    right, links = 0, 0
    before: dict[int, int] = {}
    for order, frame in zip(orders, found, strict=True):
        # Parts of objects that several tracks share come after the objects.
        now = dict(zip(order.tolist(), frame.ids[: len(order)].tolist(), strict=True))
        both = [number for number in now if number in before]
        links += len(both)
        right += sum(now[number] == before[number] > 0 for number in both)
        before = now
    return {
        "motion": kind,
        "objects": count,
        "frames": frames,
        "core_seconds": round(seconds, 3),
        "milliseconds_a_frame": round(1000 * seconds / frames, 2),
        "links_right": round(right / links, 5),
        "tracks": int(max(frame.ids.max(initial=0) for frame in found)),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def seen(
    centre: NDArray[np.float64], side: int, radius: float, edge: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Probability (H, W) of discs as a network tells it, and each pixel's disc, from 1, or 0."""
    reach = math.ceil(radius + edge)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    at = np.rint(centre).astype(int)
    rows, columns = at[:, 1, None, None] + y, at[:, 0, None, None] + x
    away = np.hypot(columns - centre[:, 0, None, None], rows - centre[:, 1, None, None])
    sure = np.clip((radius - away) / edge + 0.5, 0, 1) if edge else (away <= radius) * 1.0
    whose = np.broadcast_to(np.arange(1, len(centre) + 1)[:, None, None], sure.shape)
    within = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side) & (sure > 0)
    probability, discs = np.zeros((side, side), np.float32), np.zeros((side, side), np.int32)
    # The nearest last, as it stays.
    order = np.argsort(-away[within], kind="stable")
    place = (rows[within][order], columns[within][order])
    probability[place], discs[place] = sure[within][order], whose[within][order]
    return probability, discs


def measure_finding(edges: str, step: float, count: int, frames: int, side: int) -> dict[str, Any]:
    """Find and link the discs of a clip: milliseconds of a core, and how many were found."""
    rng, (cover, edge) = np.random.default_rng(0), EDGES[edges]
    radius = math.sqrt(cover / count / math.pi) * side
    spacing = side / math.ceil(math.sqrt(count))
    y, x = np.mgrid[:side:2, :side:2] + 0.5
    linker, found, before = Linker(), [], None
    seconds: list[tuple[float, float]] = []
    for centre in places("home", count, frames + 1, rng, step, spacing):
        now = centre[((centre >= -radius) & (centre < side + radius)).all(axis=1)]
        probability, discs = seen(centre, side, radius, edge)
        small = discs[::2, ::2]
        padded = np.vstack([[0, 0], centre])
        moved = np.vstack([[0, 0], (centre if before is None else before) - centre])
        noise = rng.normal(0, 0.05 * radius, (2, *small.shape))
        offset = np.where(small, np.moveaxis(padded[small], -1, 0) - (x, y), 0) / 2 + noise
        motion = np.moveaxis(moved[small], -1, 0) / 2 + noise[::-1]
        maps = ObjectMaps(offset.astype(np.float32), motion.astype(np.float32))
        mask, before = probability >= 0.5, centre
        began = time.process_time()
        objects = find_objects(mask, probability, CountCalibration(), minimum_area=4, maps=maps)
        between = time.process_time()
        linker.push(objects)
        seconds.append((between - began, time.process_time() - between))
        found.append(objects.count / len(now))
    # The first frame begins everything.
    finding, linking = 1000 * np.median(seconds[1:], axis=0)
    return {
        "edges": edges,
        "objects": count,
        "pixels": side**2,
        "found": round(float(np.mean(found)), 4),
        "milliseconds_finding": round(finding, 2),
        "milliseconds_linking": round(linking, 2),
        "milliseconds_both": round(finding + linking, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--step", type=float, default=STEP, help="share of the spacing")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--find", type=int, metavar="PIXELS", help="find them, too")
    parser.add_argument("--xmem", type=int, nargs="+", metavar="N", help="numbers of objects")
    parser.add_argument("--checkpoint", help="of XMem; without one its weights are random")
    parser.add_argument("--plot", type=Path, help="picture of the cost beside XMem's")
    chosen = parser.parse_args()
    if chosen.xmem:
        from linking_xmem import beside_xmem, plot_cost

        rows = beside_xmem(chosen.xmem, chosen.frames, chosen.checkpoint)
        if chosen.plot:
            plot_cost(rows, chosen.plot)
    elif chosen.find:
        cv2.setNumThreads(1)
        given = (chosen.step, chosen.objects, chosen.frames, chosen.find)
        rows = [measure_finding(edges, *given) for edges in EDGES]
    else:
        rows = [
            measure(kind, chosen.step, chosen.objects, chosen.frames) for kind in ("steady", "home")
        ]
    write_result({"machine": machine("numpy", "scipy"), "linking": rows}, chosen.out)


if __name__ == "__main__":
    main()
