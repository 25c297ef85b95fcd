"""Filming one clip: frame by frame into the places it goes to, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dvos import __version__
from dvos.files import write_json
from dvos.media.clip_store import STORE_SUFFIX
from dvos.synthesis.clip import ClipMaker, SyntheticClip
from dvos.synthesis.recipe import Recipe, build_maker
from dvos.synthesis.scene import Scene
from dvos.synthesis.sinks import (
    FrameSink,
    OverlaySink,
    StoreSink,
    TreeSink,
    write_instance_table,
)

__all__ = ["ClipJob", "film_clip"]

_STORE_ENDINGS = (STORE_SUFFIX, ".instances.csv", ".mp4")

# Frames rendered at a time hold at most so many pixels, of 5 bytes each; with
# fewer, the sprites' textures are made too often.
_PART_PIXELS = 24 * 2**20


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
        built: File that holds the maker, see :func:`build_maker`.
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


def film_clip(job: ClipJob) -> dict[str, Any]:
    """Make and write one clip.

    Returns:
        ``files``: what a later run checks before it trusts that the clip is
        there: the store, or the tree's ``clip.json``, which lists the rest,
        and what stands beside them.

    Raises:
        OutputError: If something cannot be written.
        MediaError, RunError: As ``ClipMaker.make``.
    """
    maker = build_maker(job.recipe, job.built)
    scene = maker.scene(job.number, frames=job.frames, size=job.size, background=job.background)
    facts = _facts(job, maker.plates.store.plates[scene.plate.plate].name)
    places = _places(job)
    # Without it the clip counts as unfinished, whatever happens from here.
    places.clip.unlink(missing_ok=True)
    if job.layout == "store":
        sinks: list[FrameSink] = [StoreSink(places.clip, size=job.size, metadata=facts)]
    else:
        tree = TreeSink(Path(job.out), job.number, instances=job.instances)
        sinks = [tree]
    files = [places.clip]
    if job.overlay_rate is not None:
        sinks.append(OverlaySink(places.video, size=job.size, frame_rate=job.overlay_rate))
        files.append(places.video)
    with ExitStack() as stack:
        truth = _film(maker, scene, [stack.enter_context(each) for each in sinks], flow=job.flow)
    if job.instances:
        write_instance_table(places.table, truth.table)
        files.append(places.table)
    for unwanted in {places.video, places.table}.difference(files):
        unwanted.unlink(missing_ok=True)
    if job.layout == "tree":
        root = places.clip.parent
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in tree.files}
        write_json(places.clip, {**facts, "files": sizes})
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


def _facts(job: ClipJob, plate: str) -> dict[str, Any]:
    return {
        "clip": job.number,
        "name": job.name,
        "background": f"Back_{job.background:03d}",
        "plate": plate,
        "frames": job.frames,
        "height": job.size[0],
        "width": job.size[1],
        "seed": job.recipe.seed,
        "dvos": __version__,
    }


def _film(
    maker: ClipMaker, scene: Scene, sinks: Sequence[FrameSink], *, flow: bool
) -> SyntheticClip:
    """Render a few frames at a time into the sinks; give the clip's truth without pixels."""
    height, width = scene.size
    step = max(1, _PART_PIXELS // (height * width))
    parts: list[SyntheticClip] = []
    for start in range(0, scene.frames, step):
        times = np.arange(start, min(start + step, scene.frames))
        part = maker.film(scene, window=(0, 0, height, width), times=times, flow=flow)
        for k in range(len(times)):
            for sink in sinks:
                motion = None if part.flow is None else part.flow[k]
                sink.write(part.frames[k], part.instances[k], motion)
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
