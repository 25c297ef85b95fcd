"""Making one clip and writing it, frame by frame, in constant memory.

Frames go into a folder of PNGs or a clip store, and into an overlay video if
one is asked for. The contact sheet shows a few frames of a few clips instead.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvos import __version__
from dvos.config.scene import SynthesisSettings
from dvos.errors import OutputError
from dvos.files import remove_leftovers, write_json
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import resized, write_image
from dvos.media.mask import write_mask
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.media.video_write import VideoWriter
from dvos.runner.display import progress
from dvos.synthesis import Bytes, Ids, Singles
from dvos.synthesis.build import ClipGenerator, Recipe, build_generator
from dvos.synthesis.compositor import SyntheticClip, render
from dvos.synthesis.flow import write_flow
from dvos.synthesis.scene import Scene
from dvos.tables import STORE_SUFFIX, write_rows

_FOLDERS = {"frame": "Frames", "mask": "Masks", "instance": "Instances", "flow": "Flow"}
_COLUMNS = (
    *("Frame", "Instance", "X", "Y", "Width", "Height"),
    *("VisibleArea", "FullArea", "Entering", "Leaving"),
)

# Frames rendered at a time hold at most so many pixels, of 5 bytes each; with
# fewer, the sprites' textures are made too often.
_PART_PIXELS = 24 * 2**20

#: Takes a frame uint8 (H, W, 3), its ids uint16 (H, W) and flow (H, W, 2) or None.
FrameWriter = Callable[[Bytes, Ids, Singles | None], object]


@dataclass(frozen=True)
class ClipJob:
    """One clip to make and write."""

    recipe: Recipe  # What it is made from
    settings: SynthesisSettings  # Of its set; ``out`` is absolute
    number: int  # Which clip, from 0


def render_clip(job: ClipJob) -> dict[str, Any]:
    """Make and write one clip.

    The ``files`` given are what a later run checks before it trusts that the clip is there: the
    store, or the tree's ``clip.json``, which lists the rest, and what stands beside them.
    """
    generator = build_generator(job.recipe)
    settings, number = job.settings, job.number
    size, background = (settings.height, settings.width), background_of(settings, number)
    scene = generator.scene(number, frames=settings.frames, size=size, background=background)
    metadata = {
        "clip": number,
        "name": clip_name(settings, number),
        "background": f"Back_{background:03d}",
        "plate": generator.store.backgrounds[scene.background.number].name,
        "frames": settings.frames,
        "height": settings.height,
        "width": settings.width,
        "seed": job.recipe.seed,
        "intensity": job.recipe.intensity,
        "dvos": __version__,
    }
    clip = clip_place(settings, number)
    table, video = clip.with_suffix(".instances.csv"), clip.with_suffix(".mp4")
    if settings.layout == "tree":
        table, video = clip.with_name("instances.csv"), clip.with_name("overlay.mp4")
    # Without it the clip counts as unfinished, whatever happens from here.
    clip.unlink(missing_ok=True)
    files = [clip]
    tree: TreeWriter | None = None
    with ExitStack() as stack:
        writers: list[FrameWriter] = []
        if settings.layout == "store":
            store = stack.enter_context(ClipStoreWriter(clip, size=size, metadata=metadata))
            writers.append(lambda image, ids, _: store.write(image, ids))
        else:
            tree = TreeWriter(settings.out, number, instances=settings.instances)
            writers.append(tree.write)
        if settings.overlay_video:
            film = stack.enter_context(
                VideoWriter(video, frame_rate=settings.frame_rate, size=size)
            )
            writers.append(lambda image, ids, _: film.write(overlay(image, ids > 0)))
            files.append(video)
        truth = _render(generator, scene, writers, flow=settings.flow)
    if settings.instances:
        lines = (
            (t, n, x0, y0, x1 - x0, y1 - y0, *areas, int(entering), int(leaving))
            for t, n, y0, y1, x0, x1, *areas, entering, leaving in truth.table
        )
        write_rows(table, _COLUMNS, lines)
        files.append(table)
    for unwanted in {video, table}.difference(files):
        unwanted.unlink(missing_ok=True)
    if tree is not None:
        names = {path.relative_to(clip.parent).as_posix(): path for path in tree.files}
        sizes = {name: path.stat().st_size for name, path in names.items()}
        write_json(clip, {**metadata, "files": sizes})
    return {"files": [str(path) for path in files]}


def _render(
    generator: ClipGenerator, scene: Scene, writers: Sequence[FrameWriter], *, flow: bool
) -> SyntheticClip:
    """Render a few frames at a time for the writers; give the clip's truth without pixels."""
    height, width = scene.size
    step = max(1, _PART_PIXELS // (height * width))
    no_frames, no_ids = np.empty((0, 0, 0, 3), np.uint8), np.empty((0, 0, 0), np.uint16)
    parts: list[SyntheticClip] = []
    for start in range(0, scene.frames, step):
        times = np.arange(start, min(start + step, scene.frames))
        part = render(scene, generator.atlas, generator.store, times, (0, 0, height, width), flow)
        for k in range(len(times)):
            motion = None if part.flow is None else part.flow[k]
            for write in writers:
                write(part.frames[k], part.instances[k], motion)
        parts.append(replace(part, frames=no_frames, instances=no_ids, flow=None))
    truth: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("full", "visible", "box")
    }
    return replace(parts[0], **truth)


def background_of(settings: SynthesisSettings, number: int) -> int:
    """Number of a clip's background table."""
    # In turn, so that a set that is made larger keeps the clips it has.
    return number % len(settings.backgrounds)


def clip_name(settings: SynthesisSettings, number: int) -> str:
    """VID of a clip."""
    return f"{settings.prefix}VID_{number:05d}"


def clip_place(settings: SynthesisSettings, number: int) -> Path:
    """The clip's store, or the list of the files of its tree."""
    stem = f"VID_{number:05d}"
    tree = settings.layout == "tree"
    return settings.out / (f"{stem}/clip.json" if tree else f"{stem}{STORE_SUFFIX}")


def tree_name(kind: str, number: int, frame_index: int) -> str:
    """Path of a clip's frame, mask, instance mask or flow in the tree, relative to its root."""
    return f"VID_{number:05d}/{_FOLDERS[kind]}/vid-{number:05d}_{kind}-{frame_index:05d}.png"


class TreeWriter:
    """PNGs of a clip in the published tree; what an earlier run left of it is removed."""

    def __init__(self, root: Path, number: int, *, instances: bool) -> None:
        self._root, self._number, self._instances = root, number, instances
        self._count = 0
        self.files: list[Path] = []  # what was written
        for folder in _FOLDERS.values():
            place = root / f"VID_{number:05d}" / folder
            remove_leftovers(place)
            try:
                for old in place.glob(f"vid-{number:05d}_*.png"):
                    old.unlink()
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
            except OSError as error:
                found = f"what stands there cannot be removed ({error.strerror or error})"
                remedy = "change its permissions, or choose another place with --out"
                raise OutputError.at(place, found, remedy=remedy) from error

    def write(self, image: Bytes, instances: Ids, flow: Singles | None) -> None:
        """Write a frame, its mask and what else is asked for."""
        write_image(self._next("frame"), image)
        write_mask(self._next("mask"), instances > 0)
        if self._instances:
            write_mask(self._next("instance"), instances)
        if flow is not None:
            write_flow(self._next("flow"), flow)
        self._count += 1

    def _next(self, kind: str) -> Path:
        self.files.append(self._root / tree_name(kind, self._number, self._count))
        return self.files[-1]


_CELL = 420  # longer side of a picture, px


def write_preview(
    path: Path, generator: ClipGenerator, settings: SynthesisSettings
) -> tuple[int, int]:
    """Write a sheet with a row a clip: its first frame, then first, middle and last with masks.

    The clips are the first six of the set. Gives the number of clips and of frames shown.
    """
    size, frames = (settings.height, settings.width), settings.frames
    times = sorted({0, frames // 2, frames - 1})
    pictures: list[Bytes] = []
    labels: list[str] = []
    numbers = range(min(settings.clip_count, 6))
    for number in progress(numbers, description="preview", total=len(numbers), unit="clip"):
        background = background_of(settings, number)
        clip = generator.make(number, frames=frames, size=size, times=times, background=background)
        scale = min(1.0, _CELL / max(size))
        pictures.append(resized(clip.frames[0], scale))
        labels.append(f"VID_{number:05d} {clip.plate}")
        for k, time in enumerate(times):
            # Ids are coloured and outlined at the sheet's size, so that lines stay sharp.
            small, ids = resized(clip.frames[k], scale), clip.instances[k]
            shape = small.shape[1], small.shape[0]
            ids = np.asarray(cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST))
            pictures.append(outline(overlay(small, ids, alpha=0.3), ids))
            count = len(np.unique(clip.instances[k])) - int((clip.instances[k] == 0).any())
            labels.append(f"frame {time}: {count} objects")
    write_image(path, contact_sheet(pictures, columns=1 + len(times), labels=labels))
    return len(numbers), len(numbers) * len(times)
