"""Linking alone: time of a core, links that are right, memory, by number and motion of objects.

    python benchmarks/linking.py --objects 5000 --frames 100 --out linking.json

Discs stand on a jittered grid and move by up to 0.49 of its spacing in each frame: "steady" keeps a
motion of its own, "home" moves anywhere about its place. They are numbered anew in each frame.
``--xmem`` sets XMem beside grouping and linking instead; see ``linking_xmem.py``.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.state import LinkedFrame
from facts import machine, write_result

SPACING, RADIUS, STEP = 22, 6, 0.49


def places(kind: str, count: int, frames: int, rng: np.random.Generator) -> Any:
    """Centres (N, 2) of each frame."""
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:count]
    home = (grid + 0.5 + rng.uniform(-0.2, 0.2, grid.shape)) * SPACING
    angle, step = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, STEP * SPACING, count)
    motion = np.stack([np.cos(angle), np.sin(angle)], axis=1) * step[:, None]
    for frame in range(frames):
        if kind == "steady":
            yield home + frame * motion
        else:
            yield home + rng.uniform(-0.5, 0.5, home.shape) * STEP * SPACING / np.sqrt(2)


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


def measure(kind: str, count: int, frames: int) -> dict[str, Any]:
    """Link a clip; what it cost and how right it is."""
    rng = np.random.default_rng(0)
    side = SPACING * int(np.ceil(np.sqrt(count)))
    linker, seconds = Linker(), 0.0
    linker.push(drawn(rng.uniform(0, side, (20, 2)), side))  # loops are compiled
    linker = Linker()
    orders: list[NDArray[np.intp]] = []
    found: list[LinkedFrame] = []
    for centre in places(kind, count, frames, rng):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--xmem", type=int, nargs="+", metavar="N", help="numbers of objects")
    parser.add_argument("--checkpoint", help="of XMem; without one its weights are random")
    parser.add_argument("--plot", type=Path, help="picture of the cost beside XMem's")
    chosen = parser.parse_args()
    if chosen.xmem:
        from linking_xmem import beside_xmem, plot_cost

        rows = beside_xmem(chosen.xmem, chosen.frames, chosen.checkpoint)
        if chosen.plot:
            plot_cost(rows, chosen.plot)
    else:
        rows = [measure(kind, chosen.objects, chosen.frames) for kind in ("steady", "home")]
    write_result({"machine": machine("numpy", "scipy"), "linking": rows}, chosen.out)


if __name__ == "__main__":
    main()
