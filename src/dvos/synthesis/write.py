"""Writing synthetic clips to disk, by many processes, in shards or on a cluster.

Clip v is the same whatever the number of clips, workers, shards or machines:
it stands on background table ``v modulo number of tables`` and draws from the
seed and v alone. One task makes one clip.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dvos.config.base import changes, shard_numbers, values_affecting
from dvos.config.load import load_settings
from dvos.config.scene import SynthesisSettings
from dvos.errors import ConfigError, FaultCollector, OutputError
from dvos.files import digest, is_plain_name, make_folder, parse_json, refuse_foreign, write_text
from dvos.runner.manifest import Manifest, Task
from dvos.runner.shards import adopt, gather, manifest_path, manifests_of, shard_table
from dvos.runner.tasks import cluster_executor, run_tasks, worker_count
from dvos.synthesis import clip_files
from dvos.synthesis.build import Recipe, build_generator, build_recipe, forget_generators
from dvos.synthesis.clip_files import ClipJob, background_of, clip_place
from dvos.tables import ClipRow, frame_address, write_clips

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

    def __str__(self) -> str:
        rest = f"; {self.missing} clips of other shards are still to be made"
        text = f"{self.clips} clips, {self.frames} frames ({self.table})"
        return text + (rest if self.missing else "")


def synthesize(settings: SynthesisSettings) -> SynthesisResult:
    """Make the clips of ``settings``, or of one shard, and their table.

    What is finished already, by whichever shard, is not made again. The run that completes the set
    writes ``clips.csv``. Clips of other settings, images or code are not replaced: an OutputError
    refuses a folder that holds them. For other errors see ``build_clip_generator``, ``run_tasks``.
    """
    recipe = build_recipe(settings)
    if not (settings.backgrounds and settings.cutouts):
        build_generator(recipe)  # raises, with the faults of all tables
    if settings.preview:
        path, generator = make_folder(settings.out) / "preview.png", build_generator(recipe)
        return SynthesisResult(path, *clip_files.write_preview(path, generator, settings))
    tasks = _tasks(settings, recipe)
    part = _part(settings)
    own = [tasks[number] for number in part]
    whole = settings.out / _TABLE
    table = shard_table(whole, settings.shard)
    manifest = manifest_path(table)
    _check_settings(settings)
    if _unfinished(own, manifest, manifests_of(whole)):
        # Before any process starts or file is made, so that faults of the inputs come once.
        build_generator(recipe)
        notes = {settings.out / _NOTE, whole, table}
        # The folder or the store of each.
        clips = [clip_place(settings, number) for number in part]
        clips = [clip.parent if settings.layout == "tree" else clip for clip in clips]
        try:
            refuse_foreign([*sorted(notes), *sorted(clips)], "dvos synthesize")
        except OutputError:
            # What this command made, another shard just now perhaps, has a manifest beside it.
            if not manifests_of(whole):
                raise
        make_folder(settings.out)
        _run(settings, own, manifest, table)
    write_clips(table, _rows(settings, sorted(part)))
    missing = 0
    if settings.shard:
        missing = gather(tasks, manifests_of(whole)).count(None)
        if not missing:
            write_clips(whole, _rows(settings, range(len(tasks))))
    return SynthesisResult(table, len(part), len(part) * settings.frames, missing)


def _run(
    settings: SynthesisSettings, tasks: Sequence[Task[ClipJob]], manifest: Path, table: Path
) -> None:
    def begin() -> None:
        _check_settings(settings)
        noted = yaml.safe_dump(values_affecting(settings), sort_keys=False, allow_unicode=True)
        write_text(settings.out / _NOTE, noted)
        # These would list clips that are about to be made, or made again.
        for stale in (settings.out / _TABLE, table):
            stale.unlink(missing_ok=True)

    # Worker processes build their own.
    if settings.scheduler is not None or min(worker_count(settings.workers), len(tasks)) > 1:
        forget_generators()
    with cluster_executor(settings.scheduler) as executor:
        run_tasks(
            clip_files.render_clip,
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


def _tasks(settings: SynthesisSettings, recipe: Recipe) -> list[Task[ClipJob]]:
    """A task for each clip of the set, by number."""
    # Workers on other machines start in other folders.
    out = Path(os.path.abspath(settings.out))  # noqa: PTH100 (symlinks stay)
    settings = settings.model_copy(update={"out": out})
    # Neither where a clip goes nor how many there are says what it is.
    made = settings.model_dump(include=_OF_A_CLIP)
    tasks = []
    for number in range(settings.clip_count):
        which = [number, background_of(settings, number)]
        job = ClipJob(recipe, settings, number)
        tasks.append(Task(f"VID_{number:05d}", job, digest([recipe.fingerprint, which, made])))
    return tasks


def _part(settings: SynthesisSettings) -> list[int]:
    """Numbers of the clips of this shard, or all, in the order of work."""
    numbers = range(settings.clip_count)
    # Background by background, as a process keeps those it decoded last.
    order = sorted(numbers, key=lambda number: (background_of(settings, number), number))
    if settings.shard is None:
        return order
    index, count = shard_numbers(settings.shard)
    return order[(index - 1) * len(order) // count : index * len(order) // count]


def _rows(settings: SynthesisSettings, numbers: Iterable[int]) -> Iterator[ClipRow]:
    for number in numbers:
        for index in range(settings.frames):
            if settings.layout == "store":
                image = mask = frame_address(clip_place(settings, number), index)
            else:
                image = settings.out / clip_files.tree_name("frame", number, index)
                mask = settings.out / clip_files.tree_name("mask", number, index)
            yield ClipRow(
                bid=f"Back_{background_of(settings, number):03d}",
                vid=clip_files.clip_name(settings, number),
                fid=number * settings.frames + index,
                image=image,
                mask=mask,
                label=1,
            )


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
    try:
        files = parse_json(manifest.read_bytes())["files"]
        whole = all(
            all(map(is_plain_name, name.split("/")))
            and (manifest.parent / name).stat().st_size == size
            for name, size in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    try:
        if not whole:
            manifest.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError.at(manifest, f"cannot be removed ({error.strerror or error})") from error
    return not whole
