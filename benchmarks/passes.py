"""Totals of a pass over a field: distinct objects, ground swept and memory, truth known.

    python benchmarks/passes.py --frames 1000 --out passes.json

A camera flies rows over plants: it stops, turns at the ends of rows, rises and sinks by a tenth.
Plants sway and stand up to a twentieth of its height apart. Their masks are given as they are
("true"), and with objects missed, joined, split and made up as a network does ("errors").
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import LinkingSettings
from dvos.prediction.calibration import CountCalibration, TrackCalibration
from dvos.prediction.objects import FrameObjects, find_objects
from dvos.prediction.tracks.clip import follow
from dvos.prediction.tracks.ground import CameraPath, swept_area
from dvos.prediction.tracks.motion import Motion
from dvos.prediction.tracks.table import TrackTable
from facts import machine, write_result

SIZE = (480, 640)
SPACING, RADIUS = 30.0, (6, 10)
#: Pixels along a row and between rows, a frame's step, and radians that it turns at their ends.
ROW, APART, STEP, TURN = 1800.0, 380.0, 7.0, np.pi / 120
#: Of the objects of a frame.
MISSED, MADE_UP, SPLIT = 0.06, 0.03, 0.03
#: Of plants, how long each spell of being missed lasts, frames.
HIDDEN = 4


def camera(frames: int, rng: np.random.Generator) -> list[Motion]:
    """From the ground to each picture: rows of a field there and back, with stops and turns."""
    poses = []
    place, heading, left = np.zeros(2), 0.0, 0.0
    turn, side, stop = 0.0, 1.0, 0
    for t in range(frames):
        if stop:
            stop -= 1
        elif turn:
            step = np.sign(turn) * min(abs(turn), TURN)
            heading, turn = heading + step, turn - step
            # Half a circle from one row to the next.
            place = place + APART / 2 * abs(step) * np.array([np.cos(heading), np.sin(heading)])
        elif left >= ROW:
            left, turn, side = 0.0, side * np.pi, -side
        else:
            place = place + STEP * np.array([np.cos(heading), np.sin(heading)])
            left += STEP
            stop = 12 if rng.random() < 0.01 else 0
        rise = 1 + 0.1 * np.sin(t / 60)
        shake = rng.normal(0, 0.004)
        cosine, sine = np.cos(heading + shake) / rise, np.sin(heading + shake) / rise
        matrix = np.array([[cosine, sine], [-sine, cosine]])
        poses.append(Motion(matrix, np.array([SIZE[1], SIZE[0]]) / 2 - matrix @ place))
    return poses


def plants(poses: list[Motion], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where plants stand, (N, 2), all over what is seen and beyond."""
    corners = np.array([[0.0, 0], [SIZE[1], 0], [SIZE[1], SIZE[0]], [0, SIZE[0]]])
    seen = np.concatenate([pose.inverse(corners) for pose in poses])
    low, high = seen.min(axis=0) - 50, seen.max(axis=0) + 50
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b, SPACING) for a, b in zip(low, high, strict=True)))
    )
    homes = grid.reshape(2, -1).T
    return homes + rng.uniform(-0.3, 0.3, homes.shape) * SPACING


def spoilt(labels: NDArray[np.uint16], hidden: NDArray[np.bool_], rng: Any) -> NDArray[np.uint16]:
    """Labels as a network finds them; neighbours that touch are joined by themselves."""
    labels = np.where(hidden[labels], 0, labels)
    ids = np.unique(labels[labels > 0])
    for one in ids[rng.random(len(ids)) < SPLIT]:
        y, x = np.nonzero(labels == one)
        half = x > np.median(x)
        labels[y[half], x[half]] = hidden.size + one
    for _ in range(rng.poisson(MADE_UP * len(ids))):
        y, x = rng.integers(0, SIZE[0] - 9), rng.integers(0, SIZE[1] - 9)
        block = labels[y : y + 9, x : x + 9]
        block[block == 0] = 2 * hidden.size + y
    return labels


def drawn(
    frames: int, seed: int, errors: bool
) -> Iterator[tuple[FrameObjects, NDArray[np.int64], Motion]]:
    """Objects of each frame, the plants that are there, and where the picture lies."""
    import cv2

    rng = np.random.default_rng(seed)
    poses = camera(frames, rng)
    homes = plants(poses, rng)
    high = 1 + rng.uniform(-0.05, 0.05, len(homes))
    radius = rng.uniform(*RADIUS, len(homes))
    phase = rng.uniform(0, 2 * np.pi, len(homes))
    away = np.zeros(len(homes) + 1, np.int64)
    middle = np.array([SIZE[1], SIZE[0]]) / 2
    for t, pose in enumerate(poses):
        sway = 2.0 * np.sin(t / 4 + phase)
        at = (pose(homes) - middle) * high[:, None] + middle
        at[:, 0] += sway
        inside = ((at > -15) & (at < middle * 2 + 15)).all(axis=1)
        labels = np.zeros(SIZE, np.uint16)
        scale = np.sqrt(np.linalg.det(pose.matrix))
        near = np.flatnonzero(inside)
        for number, one in enumerate(near, 1):
            centre = tuple(np.rint(at[one]).astype(int).tolist())
            cv2.circle(labels, centre, round(radius[one] * scale), number, -1)  # type: ignore[call-overload]
        there = np.unique(labels[labels > 0])
        found = labels
        if errors:
            fresh = (away[near] == 0) & (rng.random(len(near)) < MISSED / HIDDEN)
            away[near] = np.where(fresh, HIDDEN, np.maximum(away[near] - 1, 0))
            found = spoilt(labels, np.append(False, away[near] > 0), rng)
        mask = found > 0
        told = find_objects(
            mask,
            mask.astype(np.float32),
            CountCalibration(),
            minimum_area=30,
            ids=np.unique(found, return_inverse=True)[1].reshape(SIZE).astype(np.uint16),
        )
        yield told, near[there - 1], pose


def measure(frames: int, seed: int, errors: bool) -> dict[str, Any]:
    """Totals of a pass beside the truth."""
    table, path = TrackTable(), CameraPath()
    poses: list[Motion] = []
    times_seen: dict[int, int] = {}
    drawing, early, late = 0.0, 0, 0

    def found() -> Iterator[tuple[None, FrameObjects, int]]:
        nonlocal drawing
        began = time.process_time()
        for t, (objects, there, pose) in enumerate(drawn(frames, seed, errors)):
            for one in there.tolist():
                times_seen[one] = times_seen.get(one, 0) + 1
            poses.append(poses[0].after(pose.inverse) if poses else pose)
            drawing += time.process_time() - began
            yield None, objects, t
            began = time.process_time()

    began = time.process_time()
    for _, _, linked in follow(found(), "linked"):
        place = path.add(linked.ids, linked.objects.centre, linked.motion, linked.lost)
        table.add({"time_s": None}, linked, place)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        early, late = (resident if linked.frame == frames // 10 else early), resident
    seconds = time.process_time() - began - drawing
    began = time.process_time()
    area = swept_area(path.poses, SIZE)
    swept = time.process_time() - began
    start = poses[0]
    true_area = swept_area([start.after(start.inverse), *poses[1:]], SIZE)
    again = len(table.came_back(path.poses, SIZE, LinkingSettings().sightings))
    count = TrackCalibration().estimate(table.count - again, table.loose())
    # What shows in one or two frames at a corner is no sighting of a plant that anyone counts.
    distinct = sum(times >= LinkingSettings().sightings for times in times_seen.values())
    return {
        "masks": "with errors" if errors else "true",
        "seed": seed,
        "frames": frames,
        "distinct_truth": distinct,
        "tracks": table.count,
        "came_back": again,
        "loose": round(table.loose(), 1),
        "distinct": round(count.distinct),
        "low": round(count.low),
        "high": round(count.high),
        "error": round(count.distinct / distinct - 1, 4),
        "area_error": round(area / true_area - 1, 4),
        "linking_core_ms_a_frame": round(1000 * seconds / frames, 2),
        "path_lost": len(path.lost),
        "area_core_seconds": round(swept, 2),
        "memory_growth_mb": round((late - early) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    rows = [
        measure(chosen.frames, seed, errors)
        for seed in range(chosen.seeds)
        for errors in (False, True)
    ]
    write_result({"machine": machine("numpy", "scipy"), "passes": rows}, chosen.out)


if __name__ == "__main__":
    main()
