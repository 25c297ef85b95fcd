"""Writing synthetic clips to disk, by many processes, in shards or on a cluster.

Clip v is the same whatever the number of clips, workers, shards or machines: it stands on
background table ``v modulo number of tables`` and draws from the seed and v alone. One task makes
one clip, frame by frame in constant memory, as a folder of PNGs or a clip store, and an overlay
video if one is asked for.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dvos import __version__, files
from dvos.config.base import changes, shard_numbers, values_affecting
from dvos.config.load import load_settings
from dvos.config.scene import SynthesisSettings
from dvos.errors import ConfigError, FaultCollector, OutputError
from dvos.media.clip_store import ClipStoreWriter
from dvos.media.image import refuse_other_image, write_image
from dvos.media.mask import write_mask
from dvos.media.overlay import overlay
from dvos.media.video_write import VideoWriter
from dvos.runner.manifest import Manifest, Task
from dvos.runner.shards import adopt, gather, manifest_path, manifests_of, shard_table
from dvos.runner.tasks import cluster_executor, run_tasks, worker_count
from dvos.synthesis import Bytes, Ids, Singles, build
from dvos.synthesis.compositor import SyntheticClip, render
from dvos.synthesis.flow import write_flow
from dvos.synthesis.scene import Scene
from dvos.tables import STORE_SUFFIX, ClipRow, frame_address, write_clips, write_rows

_TABLE = "clips.csv"
_NOTE = "synthesis.yaml"
_REMEDY = "choose another --out, or delete the folder"
_OF_A_CLIP = {
    *("prefix", "frames", "height", "width", "layout"),
    *("instances", "flow", "overlay_video", "frame_rate"),
}


@dataclass(frozen=True)
class SynthesisResult:
    """What was made."""

    table: Path  # CSV of the clips; of the preview, its picture
    clips: int
    frames: int
    missing: int = 0  # clips of other shards that are not there yet
    whole: Path | None = None  # CSV of all clips; None while some are missing, and of the preview

    def __str__(self) -> str:
        rest = f"; {self.missing} clips of other shards are still to be made"
        text = f"{self.clips} clips, {self.frames} frames ({self.table})"
        if self.whole not in (None, self.table):
            text += f"; the clips of all shards are in {self.whole}"
        return text + (rest if self.missing else "")


@dataclass(frozen=True)
class ClipJob:
    """One clip to make and write."""

    recipe: build.Recipe  # What it is made from
    settings: SynthesisSettings  # Of its set; ``out`` is absolute
    number: int  # Which clip, from 0


def synthesize(settings: SynthesisSettings) -> SynthesisResult:
    """Make the clips of ``settings``, or of one shard, and their table.

    What is finished already, by whichever shard, is not made again. The run that completes the set
    writes ``clips.csv``. Clips of other settings, images or code are not replaced: an OutputError
    refuses a folder that holds them. For other errors see ``build_clip_generator``, ``run_tasks``.
    """
    recipe = build.build_recipe(settings)
    if not (settings.backgrounds and settings.cutouts):
        build.build_generator(recipe)  # raises, with the faults of all tables
    if settings.preview:
        path = files.make_folder(settings.out) / "preview.png"
        refuse_other_image(path, build.MAKER)
        generator = build.build_generator(recipe)
        return SynthesisResult(path, *build.write_preview(path, generator, settings))
    if settings.out.exists():
        files.make_folder(settings.out)  # tells of a file
    tasks = _tasks(settings, recipe)
    part = _part(settings)
    own = [tasks[number] for number in part]
    whole = settings.out / _TABLE
    table = shard_table(whole, settings.shard)
    manifest = manifest_path(table)
    _check_settings(settings)
    if _unfinished(own, manifest, manifests_of(whole)):
        # Before any process starts or file is made, so that faults of the inputs come once.
        build.build_generator(recipe)
        notes = {settings.out / _NOTE, whole, table}
        clips = [clip_place(settings, number) for number in part]
        clips = [clip.parent if settings.layout == "tree" else clip for clip in clips]
        try:
            files.refuse_foreign([*sorted(notes), *sorted(clips)], build.MAKER)
        except OutputError:
            # What this command made, another shard just now perhaps, has a manifest beside it.
            if not manifests_of(whole):
                raise
        files.make_folder(settings.out)
        _run(settings, own, manifest, table)
    write_clips(table, _rows(settings, sorted(part)))
    missing = 0
    if settings.shard:
        missing = gather(tasks, manifests_of(whole)).count(None)
        if not missing:
            write_clips(whole, _rows(settings, range(len(tasks))))
    made = (table, len(part), len(part) * settings.frames, missing)
    return SynthesisResult(*made, None if missing else whole)


def _run(
    settings: SynthesisSettings, tasks: Sequence[Task[ClipJob]], manifest: Path, table: Path
) -> None:
    def begin() -> None:
        _check_settings(settings)
        noted = yaml.safe_dump(values_affecting(settings), sort_keys=False, allow_unicode=True)
        files.write_text(settings.out / _NOTE, noted)
        # These would list clips that are about to be made, or made again.
        for stale in (settings.out / _TABLE, table):
            stale.unlink(missing_ok=True)

    # Worker processes build their own.
    if settings.scheduler is not None or min(worker_count(settings.workers), len(tasks)) > 1:
        build.forget_generators()
    with cluster_executor(settings.scheduler) as executor:
        run_tasks(
            render_clip,
            tasks,
            manifest=manifest,
            description="synthesize",
            workers=settings.workers,
            executor=executor,
            unit="clip",
            begin=begin,
        )


def _check_settings(settings: SynthesisSettings) -> None:
    """Keep a folder's clips from being replaced by those of other settings; all faults at once."""
    note = settings.out / _NOTE
    if not manifests_of(settings.out / _TABLE):
        return
    try:
        earlier = load_settings(SynthesisSettings, config=note, options={"out": settings.out})
    except ConfigError:
        return  # lost or spoilt: what each clip was made of is known all the same
    with FaultCollector(OutputError) as faults:
        for key, old, new in changes(earlier, settings):
            if key.partition(".")[0] in {"scene", "seed", *_OF_A_CLIP}:
                found = f"is {new} now, but the clips in this folder have {old}"
                faults.add(f"{note}: {key}", found, "", _REMEDY)


def _tasks(settings: SynthesisSettings, recipe: build.Recipe) -> list[Task[ClipJob]]:
    """A task for each clip of the set, by number."""
    # Workers on other machines start in other folders.
    out = Path(os.path.abspath(settings.out))  # noqa: PTH100 (symlinks stay)
    settings = settings.model_copy(update={"out": out})
    # Neither where a clip goes nor how many there are says what it is.
    made = settings.model_dump(include=_OF_A_CLIP)
    tasks = []
    for number in range(settings.clip_count):
        which = [number, build.background_of(settings, number)]
        fingerprint = files.digest([recipe.fingerprint, which, made])
        tasks.append(Task(f"VID_{number:05d}", ClipJob(recipe, settings, number), fingerprint))
    return tasks


def _part(settings: SynthesisSettings) -> list[int]:
    """Numbers of the clips of this shard, or all, in the order of work."""
    numbers = range(settings.clip_count)
    # Background by background, as a process keeps those it decoded last.
    order = sorted(numbers, key=lambda number: (build.background_of(settings, number), number))
    if settings.shard is None:
        return order
    index, count = shard_numbers(settings.shard)
    return order[(index - 1) * len(order) // count : index * len(order) // count]


def _rows(settings: SynthesisSettings, numbers: Iterable[int]) -> Iterator[ClipRow]:
    for number in numbers:
        bid = f"Back_{build.background_of(settings, number):03d}"
        for index in range(settings.frames):
            if settings.layout == "store":
                image = mask = frame_address(clip_place(settings, number), index)
            else:
                image = settings.out / tree_name("frame", number, index)
                mask = settings.out / tree_name("mask", number, index)
            fid = number * settings.frames + index
            yield ClipRow(bid, clip_name(settings, number), fid, image, mask, label=1)


def _unfinished(
    tasks: Sequence[Task[ClipJob]], manifest: Path, manifests: Sequence[Path]
) -> list[Task[ClipJob]]:
    """Take over what other shards finished, forget what was damaged; what is still to be made."""
    others = [path for path in manifests if path != manifest]
    left = adopt(tasks, manifest, others, lambda job: not _forget_if_damaged(job))
    books = list(map(Manifest, manifests))
    for task in left:
        if any(book.is_other(task) for book in books):
            found = f"holds a clip {task.key} of other images, or of another release of dvos"
            raise OutputError.at(manifest.parent, found, remedy=_REMEDY)
    return left


def _forget_if_damaged(job: ClipJob) -> bool:
    """Remove the manifest of a tree's clip of which a file is missing or of another size."""
    manifest = clip_place(job.settings, job.number)
    if job.settings.layout == "store":
        return False
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        listed = files.parse_json(manifest.read_bytes())["files"]
        if all(
            all(map(files.is_plain_name, name.split("/")))
            and (manifest.parent / name).stat().st_size == size
            for name, size in listed.items()
        ):
            return False
    try:
        manifest.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError.at(manifest, f"cannot be removed ({error.strerror or error})") from error
    return True


_FOLDERS = {"frame": "Frames", "mask": "Masks", "instance": "Instances", "flow": "Flow"}
_COLUMNS = (
    *("Frame", "Instance", "X", "Y", "Width", "Height"),
    *("VisibleArea", "FullArea", "Entering", "Leaving"),
)

# Pixels, of 5 bytes each, that are rendered at a time; with fewer, textures are made too often.
_PART_PIXELS = 24 * 2**20

#: Takes a frame uint8 (H, W, 3), its ids uint16 (H, W) and flow (H, W, 2) or None.
FrameWriter = Callable[[Bytes, Ids, Singles | None], object]


def render_clip(job: ClipJob) -> dict[str, Any]:
    """Make and write one clip.

    The ``files`` given are what a later run checks before it trusts that the clip is there: the
    store, or the tree's ``clip.json``, which lists the rest, and what stands beside them.
    """
    generator = build.build_generator(job.recipe)
    settings, number = job.settings, job.number
    size, background = (settings.height, settings.width), build.background_of(settings, number)
    scene = generator.scene(number, frames=settings.frames, size=size, background=background)
    metadata = {
        "clip": number,
        "name": clip_name(settings, number),
        "background": f"Back_{background:03d}",
        "plate": generator.store.backgrounds[scene.background.number].name,
        **settings.model_dump(include={"frames", "height", "width"}),
        "seed": job.recipe.seed,
        "intensity": job.recipe.intensity,
        "dvos": __version__,
    }
    clip = clip_place(settings, number)
    table, video = clip.with_suffix(".instances.csv"), clip.with_suffix(".mp4")
    if settings.layout == "tree":
        table, video = clip.with_name("instances.csv"), clip.with_name("overlay.mp4")
    clip.unlink(missing_ok=True)  # without it the clip counts as unfinished, whatever comes
    written = [clip]
    is_tree, instances = settings.layout == "tree", settings.instances
    tree = TreeWriter(settings.out, number, instances=instances) if is_tree else None
    with ExitStack() as stack:
        writers: list[FrameWriter] = [tree.write] if tree else []
        if tree is None:
            store = stack.enter_context(ClipStoreWriter(clip, size=size, metadata=metadata))
            writers.append(lambda image, ids, _: store.write(image, ids))
        if settings.overlay_video:
            writer = VideoWriter(video, frame_rate=settings.frame_rate, size=size)
            film = stack.enter_context(writer)
            writers.append(lambda image, ids, _: film.write(overlay(image, ids > 0)))
            written.append(video)
        truth = _render(generator, scene, writers, flow=settings.flow)
    if settings.instances:
        lines = (
            (t, n, x0, y0, x1 - x0, y1 - y0, *areas, int(entering), int(leaving))
            for t, n, y0, y1, x0, x1, *areas, entering, leaving in truth.table
        )
        write_rows(table, _COLUMNS, lines)
        written.append(table)
    for unwanted in {video, table}.difference(written):
        unwanted.unlink(missing_ok=True)
    if tree is not None:
        names = {path.relative_to(clip.parent).as_posix(): path for path in tree.files}
        sizes = {name: path.stat().st_size for name, path in names.items()}
        files.write_json(clip, {**metadata, "files": sizes})
    return {"files": [str(path) for path in written]}


def _render(
    generator: build.ClipGenerator, scene: Scene, writers: Sequence[FrameWriter], *, flow: bool
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
    names = ("full", "visible", "box")
    truth: Any = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **truth)


def clip_name(settings: SynthesisSettings, number: int) -> str:
    """VID of a clip."""
    return f"{settings.prefix}VID_{number:05d}"


def clip_place(settings: SynthesisSettings, number: int) -> Path:
    """The clip's store, or the list of the files of its tree."""
    ending = "/clip.json" if settings.layout == "tree" else STORE_SUFFIX
    return settings.out / f"VID_{number:05d}{ending}"


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
            files.remove_leftovers(place)
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
