"""A figure where nothing is labelled for validation: each still is predicted unseen.

The stills are parted into folds; for each a network is trained, in less time than the one that is
kept, on the others alone, their cutouts included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from dvos.config.scoring import ScoringSettings
from dvos.files import make_folder
from dvos.media.image import read_image, write_image
from dvos.media.mask import object_pixels, read_mask, write_mask
from dvos.scoring.score import Scores
from dvos.tables import ClipRow, ImageRow, StillRow, write_clips, write_images
from dvos.workflow import steps
from dvos.workflow.data_folder import DataFolder
from dvos.workflow.pipeline import Pipeline
from dvos.workflow.planning import MOST_UNITS, Plan


def cross_validate(run: Pipeline, plan: Plan, backgrounds: Sequence[Path]) -> Scores | None:
    """Train on all folds but one, predict that one; score all predictions together.

    Args:
        run: Of all data, with settings whose data mix is still open.
        plan: Number of the folds, and how long each is trained.
        backgrounds: Tables of backgrounds.

    Returns:
        The scores; None where there is nothing to part.
    """
    parts = part(run.data, plan.folds, run.folder.parts, run.settings.intensity)
    if len(parts) < 2:
        run.stages.announce("no cross-validation: a single still with objects in one corner only")
        return None
    for number, held in enumerate(parts, 1):
        others = tuple(row for one in parts if one is not held for row in one)
        folder = steps.MethodFolder(make_folder(run.folder.folds / str(number)), "fold")
        data = DataFolder(run.data.folder, annotated=others)
        length = {"clips": plan.fold_clips, "epochs": plan.fold_epochs}
        settings = steps.with_data_mix(run.settings, data)
        settings = settings.model_copy(update=length)
        prefix = f"fold {number} of {len(parts)}: "
        fold = Pipeline(settings, folder, data, run.stages, prefix)
        fold.make_backgrounds()
        fold.cut_objects()
        fold.train(list(backgrounds))
        write_images(folder.stills, [ImageRow(row.image) for row in held])
        predicting = steps.build_prediction(
            settings, folder.checkpoint, folder.stills, run.folder.heldout, stills=True
        )
        fold.predict(f"{prefix}predict", predicting, f"{len(held)} stills")
    rows = [row for one in parts for row in one]
    write_clips(
        run.folder.truth,
        [ClipRow("", row.image.stem, 0, row.image, row.mask, label=1) for row in rows],
    )
    scoring = ScoringSettings(
        truth=run.folder.truth,
        predictions=run.folder.heldout,
        out=run.folder.root,
        frames="all",
        temporal=False,
        workers=run.settings.workers,
    )
    return run.score(scoring)


def part(
    data: DataFolder, folds: int, folder: Path, intensity: str = "full"
) -> list[list[StillRow]]:
    """The stills in so many parts of about one size, which depend on their names alone.

    Frames of clips are parted in blocks of neighbours. A single still is cut into quarters, which
    are written into ``folder``. Parts without an object are left out.
    """
    if data.annotated and len(data.annotated) > 1:
        rows = sorted(data.annotated, key=lambda row: _hash(row.image.stem))
        return [rows[number::folds] for number in range(folds)]
    if data.annotated:
        rows = _quarters(data.annotated[0], folder, intensity)
        return [one for number in range(folds) if (one := rows[number::folds])]
    rows = list(data.labelled[:: -(-len(data.labelled) // MOST_UNITS)])
    edges = [len(rows) * number // folds for number in range(folds + 1)]
    return [rows[a:b] for a, b in pairwise(edges)]


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _quarters(still: StillRow, folder: Path, intensity: str) -> list[StillRow]:
    """The quarters of a still that hold objects, as files."""
    image, mask = read_image(still.image, intensity), read_mask(still.mask)
    middle = mask.shape[0] // 2, mask.shape[1] // 2
    make_folder(folder)
    rows = []
    for number in range(4):
        down, across = divmod(number, 2)
        place = (
            slice(middle[0], None) if down else slice(middle[0]),
            slice(middle[1], None) if across else slice(middle[1]),
        )
        if not object_pixels(mask[place]).any():
            continue
        row = StillRow(*(folder / f"{still.image.stem}_{number}{end}.png" for end in ("", "_mask")))
        write_image(row.image, image[place])
        write_mask(row.mask, mask[place])
        rows.append(row)
    return rows
