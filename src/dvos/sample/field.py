"""The sample field: from one seed, the files that a user of the method would bring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dvos.config.sample import SampleSettings
from dvos.files import digest
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.runner import Task, run_tasks

__all__ = ["FileJob", "SampleField", "make_sample_field", "write_file"]

#: Raised whenever the renderer's pictures change, so that old files are made anew.
_LOOK = 1

#: Random stands of the two videos. Stills count from 0; these lie beyond any number of stills and
#: give stands of middling ripeness.
_TARGET_SCENE, _HELDOUT_SCENE = 10_001, 10_003


@dataclass(frozen=True)
class SampleField:
    """Where the sample's files are.

    Attributes:
        folder: The folder that holds all of it; fits ``dvos demo --data``.
        images: Labelled stills.
        masks: Their instance masks, in the same order.
        backgrounds: Videos of bare field.
        target: Unlabelled video.
        heldout: Labelled video that nothing may be trained on.
        heldout_masks: Folder with one instance mask for each of its frames.
        heads: Labelled heads in the first frame of each file, by file name.
    """

    folder: Path
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    backgrounds: tuple[Path, ...]
    target: Path
    heldout: Path
    heldout_masks: Path
    heads: dict[str, int]


def make_sample_field(out: Path, settings: SampleSettings | None = None) -> SampleField:
    """Make the sample field; what is there already and unchanged is kept.

    Args:
        out: Folder to write to; see ``docs/explanation/sample-field.md``.
        settings: Seed, sizes and numbers of files; the defaults without them.

    Raises:
        OutputError: If the files cannot be written.
    """
    chosen = settings or SampleSettings()
    still = FileJob("still", out, None, False, chosen.seed, 0, 1, chosen.frame_rate, chosen.size)
    video = replace(still, kind="video")
    target = replace(
        video, path=out / "target/target.mp4", scene=_TARGET_SCENE, frames=chosen.target_frames
    )
    heldout_masks = out / "validation/masks/heldout"
    heldout = replace(
        video,
        path=out / "validation/heldout.mp4",
        masks=heldout_masks,
        scene=_HELDOUT_SCENE,
        frames=chosen.heldout_frames,
    )
    bare = replace(video, bare=True, frames=chosen.background_frames)
    backgrounds = [
        replace(bare, path=out / f"backgrounds/field_{n}.mp4", scene=n)
        for n in range(chosen.background_videos)
    ]
    masks = [out / f"annotated/masks/still_{n}.nrrd" for n in range(chosen.stills)]
    pictures = [
        replace(still, path=out / f"annotated/images/still_{n}.png", masks=mask, scene=n)
        for n, mask in enumerate(masks)
    ]
    # The longest first, so that no process is left with a long one at the end.
    jobs = [target, *backgrounds, heldout, *pictures]
    results = run_tasks(
        write_file,
        [_task(job, out) for job in jobs],
        manifest=out / "sample.jsonl",
        description="sample field",
        workers=chosen.workers,
        unit="file",
    )
    return SampleField(
        folder=out,
        images=tuple(job.path for job in pictures),
        masks=tuple(masks),
        backgrounds=tuple(job.path for job in backgrounds),
        target=target.path,
        heldout=heldout.path,
        heldout_masks=heldout_masks,
        heads={job.path.name: made["heads"] for job, made in zip(jobs, results, strict=True)},
    )


def _task(job: FileJob, out: Path) -> Task[FileJob]:
    name = job.path.relative_to(out).as_posix()
    # Not the folder: a field that was moved as a whole is still finished.
    metadata = {k: v for k, v in asdict(job).items() if k not in ("path", "masks")}
    return Task(name, job, digest({**metadata, "look": _LOOK}))


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
