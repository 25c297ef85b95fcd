"""Background plates in a clip: which frames of which one, and how they lie in the frame.

Where all the plates' frames fit the bound, each clip starts anywhere. Where
they do not, clips share starts: as many runs of frames as fit are in use at a
time, and each block of ``reuse`` clips per run has its own. Which runs those
are follows from the clip's index alone, so a clip stays the same in every
process, and a process that makes clips in order decodes each run once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.synthesis.camera import CameraPath
from dvos.synthesis.draws import Range, log_uniform, signs, uniform
from dvos.synthesis.plate_store import PlateStore
from dvos.synthesis.scene import PlateShot

__all__ = ["Plates"]

_HALVED_BELOW = 0.6  # a plate shown smaller than this is halved first


@dataclass(frozen=True)
class Plates:
    """Ranges of the backgrounds; the fields are those of ``PlateSettings``.

    ``store`` holds the plates themselves, ``seed`` that of all clips.
    """

    store: PlateStore
    seed: int
    labelled: float
    scale: Range
    flip: bool
    pan: Range
    zoom: Range
    cache_mb: int
    reuse: int

    def draw(
        self,
        rng: np.random.Generator,
        clip_index: int,
        frames: int,
        size: tuple[int, int],
        camera: CameraPath,
        table: int | None,
        scale: float,
    ) -> PlateShot:
        """Draw one shot of ``frames`` frames.

        A plate too small for the frame at the drawn scale is enlarged until it
        fills it; where the camera looks beyond its border it is mirrored.

        Order of draws: plate and start, scale, mirroring, window, pan, zoom.

        Args:
            rng: The clip's stream.
            clip_index: Which clip.
            frames: Length T of the clip.
            size: Height and width of the frame.
            camera: Its path.
            table: Only plates of this table; None = all.
            scale: Size of everything relative to the drawn one.
        """
        number, start = self._run(rng, clip_index, frames, table)
        plate = self.store.plates[number]
        scale = max(
            scale * log_uniform(rng, self.scale),
            *(s / p for s, p in zip(size, plate.size, strict=True)),
        )
        mirrored = float(signs(rng, 1)[0]) if self.flip else 1.0
        window = np.array(plate.size) - np.array(size) / scale
        origin = rng.random(2) * np.maximum(window, 0)
        if scale == 1:
            origin = np.floor(origin)  # whole pixels stay as they were taken
        path, zoom = self._pan(rng, frames, moving=len(plate.frames) == 1)
        level = 1 if scale < _HALVED_BELOW else 0
        maps = _maps(camera, size, scale, mirrored, origin, path, zoom, level)
        order = _there_and_back(start, frames, len(plate.frames))
        colour = self.store.mean_colour(number, int(order[0]), level)
        labelled = self.store.object_count(number, order)
        return PlateShot(number, order, level, maps, colour, labelled)

    def _run(
        self, rng: np.random.Generator, clip_index: int, frames: int, table: int | None
    ) -> tuple[int, int]:
        """Plate and first frame: anywhere, or one of the runs in use."""
        choice = rng.random(3)
        plates = self.store.plates
        allowed = [n for n, p in enumerate(plates) if table is None or p.table == table]
        if not allowed:
            raise ValueError(f"there is no background table {table}")
        frame_bytes = [4 * plates[n].size[0] * plates[n].size[1] for n in allowed]
        counts = [len(plates[n].frames) for n in allowed]
        total = sum(b * c for b, c in zip(frame_bytes, counts, strict=True))
        if total > self.store.cache_bytes:
            run_bytes = max(b * min(c, frames) for b, c in zip(frame_bytes, counts, strict=True))
            runs = max(int(0.9 * self.store.cache_bytes // run_bytes), 1)
            block = clip_index // (runs * self.reuse)
            which = int(choice[2] * runs)
            choice = np.random.default_rng([self.seed, block, which, 1]).random(3)
        number = self._one_of(allowed, float(choice[0]))
        starts = max(len(plates[number].frames) - frames + 1, 1)
        return number, int(choice[1] * starts)

    def _one_of(self, allowed: list[int], choice: float) -> int:
        """The plate that ``choice``, 0..1, falls on: first those with objects of their own."""
        own = [number for number in allowed if self.store.plates[number].labelled]
        if 0 < len(own) < len(allowed):
            if choice < self.labelled:
                allowed, choice = own, choice / self.labelled
            else:
                allowed = [number for number in allowed if number not in own]
                choice = (choice - self.labelled) / (1 - self.labelled)
        return allowed[min(int(choice * len(allowed)), len(allowed) - 1)]

    def _pan(
        self, rng: np.random.Generator, frames: int, *, moving: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Travel (T, 2) and zoom (T,) of a still's window; none for a video."""
        speed = uniform(rng, self.pan) * float(moving)
        heading = uniform(rng, (0, 2 * np.pi))
        zoom = uniform(rng, self.zoom) * float(signs(rng, 1)[0]) * float(moving)
        time = np.arange(frames, dtype=np.float64)
        course = np.array([np.sin(heading), np.cos(heading)])
        return speed * time[:, None] * course, np.exp(zoom * time)


def _there_and_back(start: int, frames: int, count: int) -> NDArray[np.int64]:
    """Frame numbers from ``start``; turns round at the ends of ``count`` frames."""
    if count == 1:
        return np.zeros(frames, np.int64)
    steps = (start + np.arange(frames)) % (2 * (count - 1))
    return np.where(steps < count, steps, 2 * (count - 1) - steps).astype(np.int64)


def _maps(
    camera: CameraPath,
    size: tuple[int, int],
    scale: float,
    mirrored: float,
    origin: NDArray[np.float64],
    path: NDArray[np.float64],
    zoom: NDArray[np.float64],
    level: int,
) -> NDArray[np.float64]:
    """Maps (T, 2, 3) from the frame to the plate halved ``level`` times."""
    maps = camera.plate_maps()
    centre = (np.array(size) - 1) / 2
    # The still's own window: pan and zoom about the frame's centre.
    maps[:, :, 2] += path
    maps = maps / zoom[:, None, None]
    maps[:, :, 2] += centre * (1 - 1 / zoom[:, None])
    if mirrored < 0:
        maps[:, 1] = -maps[:, 1]
        maps[:, 1, 2] += size[1] - 1
    # Pixel centres: plate = (frame + 0.5) / scale - 0.5 + origin.
    factor = 1 / (scale * 2**level)
    maps = maps * factor
    maps[:, :, 2] += 0.5 * factor - 0.5 + origin / 2**level
    return np.asarray(maps)
