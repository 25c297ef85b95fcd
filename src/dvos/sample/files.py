"""The sample's files: what each holds, and the writing of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter

__all__ = ["FileJob", "write_file"]


@dataclass(frozen=True)
class FileJob:
    """One picture or video to render, with its masks.

    Attributes:
        kind: Whether it is a labelled still or a video.
        path: The picture or video.
        masks: The still's mask file, or the folder for one mask a frame of a
            video; None for no masks.
        bare: Whether the field is bare: no heads.
        seed: Seed of the sample.
        scene: Number of the scene.
        frames: Number of frames.
        frame_rate: Frames a second.
        size: (height, width).
    """

    kind: Literal["still", "video"]
    path: Path
    masks: Path | None
    bare: bool
    seed: int
    scene: int
    frames: int
    frame_rate: float
    size: tuple[int, int]


def write_file(job: FileJob) -> dict[str, Any]:
    """Render ``job`` and write its files.

    Returns:
        ``files``: the paths written; ``heads``: labelled heads in the first frame.
    """
    # The renderer compiles its loops with numba, which light commands must not load.
    from dvos.sample.render import Renderer
    from dvos.sample.scenes import background_scene, headed_scene

    make = background_scene if job.bare else headed_scene
    scene = make(job.seed, job.scene, seconds=job.frames / job.frame_rate)
    renderer = Renderer(scene, frame_rate=job.frame_rate, size=job.size)
    files = [str(job.path)]
    heads = 0
    if job.kind == "still":
        frame = renderer.frame(0)
        write_image(job.path, frame.image)
        heads = _count(frame.instances)
        if job.masks is not None:
            write_mask(job.masks, frame.instances)
            files.append(str(job.masks))
        return {"files": files, "heads": heads}
    # Masks come first under their names; the video's appears when all is done.
    with VideoWriter(job.path, frame_rate=job.frame_rate, size=job.size) as video:
        for index in range(job.frames):
            frame = renderer.frame(index)
            video.write(frame.image)
            heads = heads if index else _count(frame.instances)
            if job.masks is not None:
                path = job.masks / f"{job.path.stem}_{index:06d}.png"
                write_mask(path, frame.instances)
                files.append(str(path))
    return {"files": files, "heads": heads}


def _count(instances: Any) -> int:
    import numpy as np

    return int(np.count_nonzero(np.unique(instances)))
