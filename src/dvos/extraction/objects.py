"""Labelled stills to cutouts of their objects and distractors of the same shapes.

Cutouts go to ``OutDir/real/{image stem}_rlobj{id:04d}.png``, distractors to
``OutDir/fake/{cutout stem}_fkobj{k:04d}.png``, both RGBA with alpha 255 on the shape, else 0.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.base import values_affecting
from dvos.config.extraction import ObjectsSettings
from dvos.errors import FaultCollector, MediaError, check_size
from dvos.extraction import Job, Work, named_rng, run_extraction
from dvos.extraction.cutouts import (
    DistractorFinder,
    Ids,
    LabelledObject,
    cut_out,
    find_objects,
    transform_patch,
)
from dvos.files import composed, digest, file_stamp, stem_of
from dvos.media.colour import hue_swap
from dvos.media.image import read_image, write_image
from dvos.media.intensity import choose_intensity
from dvos.media.layout import pair_stills
from dvos.media.mask import is_binary, label_components, read_mask, without_unknown
from dvos.media.mask_values import declared_void
from dvos.runner.manifest import Task
from dvos.runner.shards import shard_table
from dvos.runner.tasks import worker_count
from dvos.tables import AnnotatedRow, ImageRow, read_annotated, write_images, write_rows

logger = logging.getLogger(__name__)

ObjectsJob = Job[AnnotatedRow, ObjectsSettings]

_COLUMNS = (
    *("Image", "Mask", "Id", "Cutout", "X", "Y", "Width", "Height"),
    *("Area", "Touching", "AtBorder", "Distractors"),
)


@dataclass(frozen=True)
class _Extracted(LabelledObject):
    """What is noted of an object."""

    cutout: str | None  # Name of its file, if it has one
    distractors: int  # How many


@dataclass(frozen=True)
class _StillResult:
    """What is noted of a finished still."""

    cutouts: int
    objects: list[_Extracted]


@dataclass(frozen=True)
class ObjectsResult:
    """The three CSVs that were written, and how many of each thing there are."""

    cutouts: Path
    distractors: Path
    objects: Path
    object_count: int
    cutout_count: int
    distractor_count: int
    too_small: int
    touching: int
    at_border: int
    images: int
    missing: int = 0  # Stills of other shards; CSVs and numbers are then this shard's

    def __str__(self) -> str:
        text = (
            f"{self.cutout_count} cutouts ({self.cutouts}) and "
            f"{self.distractor_count} distractors ({self.distractors}) "
            f"of {self.object_count} objects in {self.images} stills ({self.objects}): "
            f"{self.too_small} too small, {self.touching} touch another, "
            f"{self.at_border} at the border"
        )
        if self.missing:
            text += f"; {self.missing} stills of other shards are still to be done"
        return text


def extract_objects(settings: ObjectsSettings) -> ObjectsResult:
    """Extract cutouts and distractors of all stills of a table, or of a shard.

    What is finished already, by whichever shard, is not done again. The run that completes the set
    writes the CSVs of all. A TableError if the table has faults; a MediaError, after the others are
    done, if a file cannot be used, or no still holds an object; else as :func:`run_extraction`.
    """
    source, rows = _find_rows(settings)
    chosen = choose_intensity(settings.intensity, [row.image for row in rows], source)
    settings = settings.model_copy(update={"intensity": chosen})
    tables = (settings.cutouts, settings.distractors, settings.objects_table)
    own, whole = run_extraction(extract_image, _work, rows, source, settings, tables)
    for row, result in own:
        _warn(settings, row, result)
    results = [(row, result) for row, result in whole if result is not None]
    if settings.shard is not None:
        parts = (shard_table(table, settings.shard) for table in tables)
        names = dict(zip(("cutouts", "distractors", "objects"), parts, strict=True))
        of_part = _write_tables(settings.model_copy(update=names), own)
        if missing := len(whole) - len(results):
            return replace(of_part, missing=missing)
    if not any(result["objects"] for _, result in results):
        masks = f"{rows[0].mask.name}{' and the others' if len(rows) > 1 else ''}"
        empty = f"no mask holds an object: every pixel of {masks} is background"
        remedy = "label some, or name masks that show them"
        raise MediaError.at(source, empty, "at least one labelled object", remedy)
    return _write_tables(settings, results)


def _find_rows(settings: ObjectsSettings) -> tuple[Path, list[AnnotatedRow]]:
    """The table or folder that is given, and its labelled stills."""
    if settings.annotated is not None:
        return settings.annotated, read_annotated(settings.annotated)
    assert settings.folder is not None  # else the settings are refused
    out = settings.cutouts.with_suffix("")
    with FaultCollector(MediaError) as faults:
        pairs = pair_stills(settings.folder, faults)
    return settings.folder, [AnnotatedRow(image, mask, out) for image, mask in pairs]


def extract_image(job: ObjectsJob) -> dict[str, Any]:
    """Extract the cutouts and distractors of one still.

    Given are its ``files``, the cutouts first, how many of these are ``cutouts``, and its
    ``objects``: each :class:`_Extracted` as a mapping.
    """
    image, ids = _read_pair(job)
    found = find_objects(ids)
    settings = job.settings
    if settings.hue_swap is not None:
        image = hue_swap(image, settings.hue_swap.source, settings.hue_swap.destin)
    finder = DistractorFinder(image, ids != 0, max_iou=settings.max_iou, tries=settings.tries)
    chosen = [
        item
        for item in found
        if item.area >= settings.min_object_size and (settings.cut_at_border or not item.at_border)
    ]
    total = _wanted(settings, len(chosen))
    shares = [(k + 1) * total // len(chosen) - k * total // len(chosen) for k in range(len(chosen))]
    # Each object's draws are its own: its patches are the same in any order.
    write = partial(_write_patches, job, image, ids, finder)
    with ThreadPoolExecutor(job.threads or worker_count(0)) as pool:
        written = list(pool.map(write, chosen, shares))
    made = {item.object_id: patches for item, patches in zip(chosen, written, strict=True)}
    objects = []
    for item in found:
        path, fakes = made.get(item.object_id, (None, []))
        name = path and os.path.basename(path)  # noqa: PTH119
        objects.append({**vars(item), "cutout": name, "distractors": len(fakes)})
    files = [*(path for path, _ in written), *(fake for _, fakes in written for fake in fakes)]
    return {"files": files, "cutouts": len(written), "objects": objects}


def _wanted(settings: ObjectsSettings, cutouts: int) -> int:
    """How many distractors a still of so many cutouts is to give."""
    return min(cutouts * settings.distractors_per_object, settings.max_distractors)


def _read_pair(job: ObjectsJob) -> tuple[NDArray[np.uint8], Ids]:
    row, settings = job.row, job.settings
    image, mask = read_image(row.image, settings.intensity), read_mask(row.mask, settings.void)
    remedy = "export the mask again at the image's size"
    check_size(row.mask, mask.shape, image.shape, f"its image {row.image}", remedy)
    mask = without_unknown(mask)
    if settings.instances != "components" and not is_binary(mask):
        return image, mask
    components = label_components(mask)
    if settings.instances in ("components", "auto"):
        return image, components
    # Nearly always a semantic mask: a whole field as one cutout would spoil all that follows.
    if (pieces := int(components.max())) > 1:
        found = f"holds the single id {mask.max()} in {pieces} separate pieces"
        remedy = "set instances: components if this is a semantic mask"
        raise MediaError.at(row.mask, found, "an id of its own for each object", remedy)
    return image, mask


def _write_patches(
    job: ObjectsJob,
    image: NDArray[np.uint8],
    ids: Ids,
    finder: DistractorFinder,
    item: LabelledObject,
    count: int,
) -> tuple[str, list[str]]:
    """Write the cutout of an object and up to ``count`` distractors; give their paths."""
    # Streams named by photo and id: neither order nor other objects change what is drawn.
    stem = stem_of(job.row.image)
    patch = cut_out(image, ids, item)
    rng = named_rng(job.settings.seed, "places", stem, item.object_id)
    fakes = finder.find(patch[..., 3] != 0, count, rng) if count else []
    rng = named_rng(job.settings.seed, "transforms", stem, item.object_id)
    folder, ending = job.row.out_dir, job.settings.extension
    name = f"{stem}_rlobj{item.object_id:04d}"
    paths = [f"{folder}/real/{name}{ending}"]
    paths += [f"{folder}/fake/{name}_fkobj{k:04d}{ending}" for k in range(len(fakes))]
    for path, pixels in zip(paths, (patch, *fakes), strict=True):
        write_image(Path(path), transform_patch(pixels, job.settings.transform, rng))
    return paths[0], paths[1:]


def _work(settings: ObjectsSettings, row: AnnotatedRow, threads: int) -> Work[ObjectsJob]:
    # Relative and by content, so that a folder moved as a whole stays finished.
    out_dir = composed(os.path.relpath(row.out_dir, settings.cutouts.parent))
    stamps = [[composed(path.name), *file_stamp(path)] for path in (row.image, row.mask)]
    limits = [] if settings.intensity == "full" else [settings.intensity]
    void = declared_void(row.mask.parent, settings.void)
    declared = [] if void is None else [["void", *void]]
    fingerprint = digest([values_affecting(settings), stamps, out_dir, *limits, *declared])
    job = ObjectsJob(row, settings, fingerprint, threads)
    task = Task(f"{out_dir}/{stem_of(row.image)}", job, fingerprint, _StillResult, row.image)
    folders = (row.out_dir / "real", row.out_dir / "fake")
    return Work(row.image, folders, "_rlobj*", "_rlobj*", task)


def _write_tables(
    settings: ObjectsSettings, results: Sequence[tuple[AnnotatedRow, dict[str, Any]]]
) -> ObjectsResult:
    cutouts: list[ImageRow] = []
    distractors: list[ImageRow] = []
    lines: list[tuple[object, ...]] = []
    objects: list[dict[str, Any]] = []
    for row, result in results:
        files = [ImageRow(Path(name)) for name in result["files"]]
        cutouts += files[: result["cutouts"]]
        distractors += files[result["cutouts"] :]
        objects += result["objects"]
        for entry in result["objects"]:
            top, left, height, width = entry["box"]
            cutout = row.out_dir / "real" / entry["cutout"] if entry["cutout"] else None
            place = (row.image, row.mask, entry["object_id"], cutout, left, top, width, height)
            about = (entry["area"], entry["touching"], int(entry["at_border"]))
            lines.append((*place, *about, entry["distractors"]))
    write_images(settings.cutouts, cutouts)
    write_images(settings.distractors, distractors)
    write_rows(settings.objects_table, _COLUMNS, lines)
    return ObjectsResult(
        cutouts=settings.cutouts,
        distractors=settings.distractors,
        objects=settings.objects_table,
        object_count=len(objects),
        cutout_count=len(cutouts),
        distractor_count=len(distractors),
        too_small=sum(_is_small(settings, entry) for entry in objects),
        touching=sum(entry["touching"] > 0 for entry in objects),
        at_border=sum(entry["at_border"] for entry in objects),
        images=len(results),
    )


def _is_small(settings: ObjectsSettings, entry: dict[str, Any]) -> bool:
    small: bool = entry["area"] < settings.min_object_size
    return small


def _warn(settings: ObjectsSettings, row: AnnotatedRow, result: dict[str, Any]) -> None:
    count = result["cutouts"]
    if not result["objects"]:
        logger.warning("%s: no object in it; the still gives no cutout", row.mask)
    elif not count and (cut := sum(not _is_small(settings, x) for x in result["objects"])):
        logger.warning(
            "%s: %d objects are cut by the photo's border and %d others smaller than %d pixels: it "
            "gives no cutout; set cut_at_border, or lower min_object_size, to use them",
            *(row.mask, cut, len(result["objects"]) - cut, settings.min_object_size),
        )
    elif not count:
        logger.warning(
            "%s: all %d objects are smaller than %d pixels and give no cutout; "
            "lower min_object_size to use them",
            *(row.mask, len(result["objects"]), settings.min_object_size),
        )
    wanted = _wanted(settings, count)
    made = len(result["files"]) - count
    if made < wanted:
        logger.warning(
            "%s: %d of %d distractors found no place; raise tries or max_iou, "
            "or take them from stills with more background",
            *(row.image, wanted - made, wanted),
        )
