"""Making one clip and writing it, frame by frame, in constant memory.

Frames go into a folder of PNGs or a clip store, and into an overlay video if
one is asked for. The contact sheet shows a few frames of a few clips instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos import __version__
from dvos.errors import OutputError
from dvos.files import write_json
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.media.video_write import VideoWriter
from dvos.runner import progress
from dvos.synthesis.build import Recipe, build_generator
from dvos.synthesis.clip import ClipGenerator, InstanceRow, SyntheticClip
from dvos.synthesis.flow import write_flow
from dvos.synthesis.scene import Scene
from dvos.tables import STORE_SUFFIX, write_rows

_STORE_ENDINGS = (STORE_SUFFIX, ".instances.csv", ".mp4")
_FOLDERS = ("Frames", "Masks", "Instances", "Flow")
_COLUMNS = (
    *("Frame", "Instance", "X", "Y", "Width", "Height"),
    *("VisibleArea", "FullArea", "Entering", "Leaving"),
)

# Frames rendered at a time hold at most so many pixels, of 5 bytes each; with
# fewer, the sprites' textures are made too often.
_PART_PIXELS = 24 * 2**20

#: Takes a frame uint8 (H, W, 3), its ids uint16 (H, W) and flow (H, W, 2) or None.
FrameWriter = Callable[[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32] | None], None]


@dataclass(frozen=True)
class ClipJob:
    """One clip to make and write.

    Attributes:
        recipe: What it is made from.
        number: Which clip, from 0.
        background: Number of its background table.
        name: Its VID.
        frames: Its length.
        size: Height and width of its frames.
        out: Absolute folder that the layout stands in.
        layout: ``tree`` or ``store``.
        instances: Whether to write instance masks and the table of instances.
        flow: Whether to write the flow.
        overlay_rate: Frames a second of the overlay video; None for no video.
        built: File that holds the generator, see :func:`build_generator`.
    """

    recipe: Recipe
    number: int
    background: int
    name: str
    frames: int
    size: tuple[int, int]
    out: str
    layout: str
    instances: bool
    flow: bool
    overlay_rate: float | None
    built: str | None = None


def render_clip(job: ClipJob) -> dict[str, Any]:
    """Make and write one clip.

    Returns:
        ``files``: what a later run checks before it trusts that the clip is
        there: the store, or the tree's ``clip.json``, which lists the rest,
        and what stands beside them.

    Raises:
        OutputError: If something cannot be written.
        MediaError, RunError: As ``ClipGenerator.make``.
    """
    generator = build_generator(job.recipe, job.built)
    scene = generator.scene(job.number, frames=job.frames, size=job.size, background=job.background)
    metadata = {
        "clip": job.number,
        "name": job.name,
        "background": f"Back_{job.background:03d}",
        "plate": generator.backgrounds.store.backgrounds[scene.background.number].name,
        "frames": job.frames,
        "height": job.size[0],
        "width": job.size[1],
        "seed": job.recipe.seed,
        "dvos": __version__,
    }
    places = _places(job)
    # Without it the clip counts as unfinished, whatever happens from here.
    places.clip.unlink(missing_ok=True)
    files = [places.clip]
    tree: TreeWriter | None = None
    with ExitStack() as stack:
        writers: list[FrameWriter] = []
        if job.layout == "store":
            store = stack.enter_context(
                ClipStoreWriter(places.clip, size=job.size, metadata=metadata)
            )
            writers.append(lambda image, ids, _: store.write(image, ids))
        else:
            tree = TreeWriter(Path(job.out), job.number, instances=job.instances)
            writers.append(tree.write)
        if job.overlay_rate is not None:
            video = stack.enter_context(
                VideoWriter(places.video, frame_rate=job.overlay_rate, size=job.size)
            )
            writers.append(lambda image, ids, _: video.write(overlay(image, ids > 0)))
            files.append(places.video)
        truth = _render(generator, scene, writers, flow=job.flow)
    if job.instances:
        write_instance_table(places.table, truth.table)
        files.append(places.table)
    for unwanted in {places.video, places.table}.difference(files):
        unwanted.unlink(missing_ok=True)
    if tree is not None:
        root = places.clip.parent
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in tree.files}
        write_json(places.clip, {**metadata, "files": sizes})
    return {"files": [str(path) for path in files]}


class _Places(NamedTuple):
    clip: Path
    table: Path
    video: Path


def _places(job: ClipJob) -> _Places:
    """Where the clip (of a tree, the list of its files), its table and its video go."""
    stem = Path(job.out) / f"VID_{job.number:05d}"
    if job.layout == "tree":
        return _Places(stem / "clip.json", stem / "instances.csv", stem / "overlay.mp4")
    return _Places(*(stem.with_name(stem.name + end) for end in _STORE_ENDINGS))


def _render(
    generator: ClipGenerator, scene: Scene, writers: Sequence[FrameWriter], *, flow: bool
) -> SyntheticClip:
    """Render a few frames at a time for the writers; give the clip's truth without pixels."""
    height, width = scene.size
    step = max(1, _PART_PIXELS // (height * width))
    parts: list[SyntheticClip] = []
    for start in range(0, scene.frames, step):
        times = np.arange(start, min(start + step, scene.frames))
        part = generator.render_scene(scene, window=(0, 0, height, width), times=times, flow=flow)
        for k in range(len(times)):
            motion = None if part.flow is None else part.flow[k]
            for write in writers:
                write(part.frames[k], part.instances[k], motion)
        parts.append(_without_pixels(part))
    return _without_pixels(
        parts[0],
        full=np.concatenate([part.full for part in parts]),
        visible=np.concatenate([part.visible for part in parts]),
        box=np.concatenate([part.box for part in parts]),
    )


def _without_pixels(clip: SyntheticClip, **others: Any) -> SyntheticClip:
    none = np.empty((0, 0, 0), np.uint8)
    return replace(
        clip, frames=none[..., None], instances=none.astype(np.uint16), flow=None, **others
    )


def frame_name(number: int, frame_index: int) -> str:
    """Path of a frame in the tree, relative to its root."""
    return f"VID_{number:05d}/Frames/vid-{number:05d}_frame-{frame_index:05d}.png"


def mask_name(number: int, frame_index: int) -> str:
    """Path of a mask in the tree, relative to its root."""
    return f"VID_{number:05d}/Masks/vid-{number:05d}_mask-{frame_index:05d}.png"


class TreeWriter:
    """PNGs in the published tree; what an earlier run left of the clip is removed.

    Args:
        root: Of the tree.
        number: Of the clip.
        instances: Whether to write instance masks.

    Attributes:
        files: What was written.

    Raises:
        OutputError: If what an earlier run left cannot be removed.
    """

    def __init__(self, root: Path, number: int, *, instances: bool) -> None:
        self._root = root
        self._number = number
        self._instances = instances
        self._count = 0
        self.files: list[Path] = []
        for folder in _FOLDERS:
            place = self._root / f"VID_{self._number:05d}" / folder
            try:
                for old in place.glob(f"vid-{self._number:05d}_*.png"):
                    old.unlink()
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
            except OSError as error:
                raise OutputError.at(
                    place,
                    f"what stands there cannot be removed ({error.strerror or error})",
                    remedy="change its permissions, or choose another place with --out",
                ) from error

    def write(
        self,
        image: NDArray[np.uint8],
        instances: NDArray[np.uint16],
        flow: NDArray[np.float32] | None,
    ) -> None:
        """Write a frame, its mask and what else is asked for."""
        clip = self._root / f"VID_{self._number:05d}"
        name = f"vid-{self._number:05d}_{{}}-{self._count:05d}.png"
        frame = self._root / frame_name(self._number, self._count)
        mask = self._root / mask_name(self._number, self._count)
        write_image(frame, image)
        write_mask(mask, instances > 0)
        self.files += [frame, mask]
        if self._instances:
            self.files.append(clip / "Instances" / name.format("instance"))
            write_mask(self.files[-1], instances)
        if flow is not None:
            self.files.append(clip / "Flow" / name.format("flow"))
            write_flow(self.files[-1], flow)
        self._count += 1


def write_instance_table(path: Path, rows: Sequence[InstanceRow]) -> None:
    """Write the table of all instances of a clip, by frame and id."""
    lines = (
        (
            *(row.frame_index, row.instance, row.x0, row.y0, row.x1 - row.x0, row.y1 - row.y0),
            *(row.visible_area, row.full_area, int(row.entering), int(row.leaving)),
        )
        for row in rows
    )
    write_rows(path, _COLUMNS, lines)


_CELL = 420  # longer side of a picture, px


def write_preview(
    path: Path,
    generator: ClipGenerator,
    backgrounds: Sequence[int],
    *,
    frames: int,
    size: tuple[int, int],
) -> int:
    """Write a sheet with a row a clip: its first frame, then first, middle and last with masks.

    The clips are the first of the set, made as they would be written, but for
    the frames shown only.

    Args:
        path: PNG.
        generator: Makes the clips.
        backgrounds: Background table of each clip, from clip 0 on.
        frames: Length of a clip.
        size: Height and width of a frame.

    Returns:
        Number of frames shown.
    """
    times = sorted({0, frames // 2, frames - 1})
    pictures: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for number, background in enumerate(
        progress(backgrounds, description="preview", total=len(backgrounds), unit="clip")
    ):
        clip = generator.make(number, frames=frames, size=size, times=times, background=background)
        pictures.append(_shrunk(clip.frames[0]))
        labels.append(f"VID_{number:05d} {clip.plate}")
        for k, time in enumerate(times):
            # Ids are coloured and outlined at the sheet's size, so that lines stay sharp.
            small, ids = _shrunk(clip.frames[k]), clip.instances[k]
            shape = small.shape[1], small.shape[0]
            ids = np.asarray(cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST))
            pictures.append(outline(overlay(small, ids, alpha=0.3), ids))
            count = len(np.unique(clip.instances[k])) - int((clip.instances[k] == 0).any())
            labels.append(f"frame {time}: {count} objects")
    write_image(path, contact_sheet(pictures, columns=1 + len(times), labels=labels))
    return len(times) * len(backgrounds)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _CELL / max(image.shape[:2])
    if scale >= 1:
        return image
    shape = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA))
