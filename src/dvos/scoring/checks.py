"""What is looked at before scoring, and what figures look like when names are one off."""

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dvos.errors import DvosError, FaultCollector, MediaError, OutputError, TableError
from dvos.files import (
    check_file_name,
    composed,
    is_plain_name,
    parse_json,
    real_path,
    refuse_foreign,
)
from dvos.scoring.aggregate import by_group
from dvos.scoring.match import Pair, true_masks
from dvos.scoring.measure import MaskScore
from dvos.tables.cells import read_cells

#: Masks of a clip, gain in IoU and share of masks from which numbers seem to be one off.
_SHIFTED, _SHIFTED_GAIN, _SHIFTED_SHARE = 6, 0.1, 0.9

#: What is written of any scores.
FILES = (
    *("scores.json", "scores.csv", "scores_by_mask.csv"),
    *("best.png", "median.png", "worst.png"),
)

_log = logging.getLogger(__name__)


def truth_place(out: Path, truth: Path) -> str:
    """Where a truth lies, from a folder of scores: both may be moved together."""
    return composed(Path(os.path.relpath(truth, out)).as_posix())


def earlier_scores(out: Path, name: str, keys: Collection[str]) -> dict[str, Any] | None:
    """What scoring has written into a JSON file of a folder, which has these keys; None if none."""
    try:
        found = parse_json((out / name).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= set(keys) else None


def check_out(out: Path, truth: Path, frames: str, others: Iterable[str] = ()) -> None:
    """Refuse a folder of scores with a user's files, or scores of another truth.

    ``scores.json``, which is written first, tells what is scoring's own.
    """
    earlier = earlier_scores(out, "scores.json", ("masks", "mean_dice"))
    if earlier is None:
        refuse_foreign((out / name for name in (*FILES, *others)), "dvos score")
        return
    known = earlier.get("truth")  # which earlier releases did not tell
    if not isinstance(known, str) or known in ("", truth_place(out, truth)):
        return
    new = {real_path(one.truth) for one in true_masks(truth, frames=frames, images=None)}
    with suppress(DvosError), FaultCollector() as faults:
        rows = read_cells(out / "scores.csv", ("Image", "Mask"), faults, allow_empty=True)
        if all(real_path(out / mask) in new for row in rows if (mask := row.raw("Mask"))):
            return
    found = f"holds the scores of another truth, {os.path.normpath(out / known)}"
    remedy = "choose another --out for each, or score both at once as one table or folder"
    raise OutputError.at(out / "scores.json", found, f"those of {truth}, or none", remedy)


def check_unicode(pairs: Sequence[Pair]) -> None:
    """Refuse, before anything is measured, files that a table of scores cannot name."""
    with FaultCollector(MediaError) as faults:
        for pair in pairs:
            for path in (pair.image, pair.truth, pair.prediction):
                if path is not None and not str(path).isascii():
                    faults.collect(check_file_name, path, str(path))


def tell_shifted(masks: Sequence[MaskScore]) -> None:
    """Say of each clip whether its predictions fit the truth of the frame beside far better."""
    for clip, members in by_group([mask.pair.clip for mask in masks], masks).items():
        compared = [(mask.region_j, *mask.beside) for mask in members if mask.beside is not None]
        if len(compared) < _SHIFTED:
            continue
        own, *shifted = np.array(compared).T
        for fits, number in zip(shifted, ("lower", "higher"), strict=True):
            if fits.mean() > own.mean() + _SHIFTED_GAIN and (fits > own).mean() > _SHIFTED_SHARE:
                _log.warning(
                    "%s: predictions numbered one %s fit the truth far better (IoU %.2f, not "
                    "%.2f): if the one counts from 0 and the other from 1, rename one",
                    *(clip, number, fits.mean(), own.mean()),
                )


def check_names(truth: Path, pairs: Sequence[Pair]) -> None:
    """Refuse clips whose names cannot begin those of their pictures."""
    with FaultCollector(TableError) as faults:
        for clip in dict.fromkeys(pair.clip for pair in pairs):
            if not is_plain_name(clip):
                faults.add(
                    truth,
                    f"the clip name {clip!r} cannot begin that of a picture",
                    "a name without slashes that does not begin with a dot",
                    "rename the clip, or set overlay_interval=0",
                )
