"""The entry: from one seed, the files that a user of the method would bring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dvos.errors import FaultCollector, UsageError
from dvos.files import digest
from dvos.runner import Task, run_tasks
from dvos.sample.files import FileJob, write_file
from dvos.sample.numbering import HELDOUT_SCENE, TARGET_SCENE

__all__ = ["SampleField", "make_sample_field"]

#: Raised whenever the renderer's pictures change, so that old files are made anew.
_LOOK = 1


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


def make_sample_field(
    out: Path,
    *,
    seed: int = 123,
    size: tuple[int, int] = (480, 640),
    frame_rate: float = 20.0,
    stills: int = 5,
    background_videos: int = 3,
    background_frames: int = 60,
    target_frames: int = 90,
    heldout_frames: int = 48,
    workers: int = 0,
) -> SampleField:
    """Make the sample field; what is there already and unchanged is kept.

    Args:
        out: Folder to write to; see ``docs/explanation/sample-field.md``.
        seed: Other seeds give other fields.
        size: (height, width) of all pictures, even.
        frame_rate: Frames a second of all videos.
        stills: Labelled stills.
        background_videos: Videos of bare field.
        background_frames: Frames in each of them.
        target_frames: Frames of the unlabelled video.
        heldout_frames: Frames of the labelled video.
        workers: Processes; 0 for one per core. No influence on the result.

    Raises:
        UsageError: If an argument is out of range, all such at once.
        OutputError: If the files cannot be written.
    """
    _check(
        size=size,
        frame_rate=frame_rate,
        counts={
            "stills": stills,
            "background_videos": background_videos,
            "background_frames": background_frames,
            "target_frames": target_frames,
            "heldout_frames": heldout_frames,
        },
    )

    still = FileJob(
        "still",
        out,
        None,
        bare=False,
        seed=seed,
        scene=0,
        frames=1,
        frame_rate=frame_rate,
        size=size,
    )
    video = replace(still, kind="video")
    target = replace(
        video, path=out / "target/target.mp4", scene=TARGET_SCENE, frames=target_frames
    )
    heldout_masks = out / "validation/masks/heldout"
    heldout = replace(
        video,
        path=out / "validation/heldout.mp4",
        masks=heldout_masks,
        scene=HELDOUT_SCENE,
        frames=heldout_frames,
    )
    backgrounds = [
        replace(
            video,
            path=out / f"backgrounds/field_{n}.mp4",
            bare=True,
            scene=n,
            frames=background_frames,
        )
        for n in range(background_videos)
    ]
    masks = [out / f"annotated/masks/still_{n}.nrrd" for n in range(stills)]
    pictures = [
        replace(still, path=out / f"annotated/images/still_{n}.png", masks=mask, scene=n)
        for n, mask in enumerate(masks)
    ]
    # The longest first, so that no process is left with a long one at the end.
    jobs = [target, *backgrounds, heldout, *pictures]
    return SampleField(
        folder=out,
        images=tuple(job.path for job in pictures),
        masks=tuple(masks),
        backgrounds=tuple(job.path for job in backgrounds),
        target=target.path,
        heldout=heldout.path,
        heldout_masks=heldout_masks,
        heads=_write(jobs, out, workers),
    )


def _write(jobs: list[FileJob], out: Path, workers: int) -> dict[str, int]:
    """Write the files not yet there; give the labelled heads by file name."""
    results = run_tasks(
        write_file,
        [_task(job, out) for job in jobs],
        ledger=out / "sample.jsonl",
        description="sample field",
        workers=workers,
        unit="file",
    )
    return {job.path.name: result["heads"] for job, result in zip(jobs, results, strict=True)}


def _task(job: FileJob, out: Path) -> Task[FileJob]:
    name = job.path.relative_to(out).as_posix()
    # Not the folder: a field that was moved as a whole is still finished.
    facts = {k: v for k, v in asdict(job).items() if k not in ("path", "masks")}
    return Task(name, job, digest({**facts, "look": _LOOK}))


def _check(*, size: tuple[int, int], frame_rate: float, counts: dict[str, int]) -> None:
    with FaultCollector(UsageError) as faults:
        for name, side in zip(("height", "width"), size, strict=True):
            if side < 64 or side % 2:
                faults.add(f"sample field size: {name}", str(side), "an even number, at least 64")
        if not 1 <= frame_rate <= 120:
            faults.add("sample field frame_rate", str(frame_rate), "1 to 120 frames a second")
        for name, count in counts.items():
            if count < 1:
                faults.add(f"sample field {name}", str(count), "at least 1")
