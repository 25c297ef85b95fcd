"""``dvos score``: predicted masks against true ones, to tables and pictures."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos import errors, files
from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, Fault, FaultCollector, UsageError, check_size
from dvos.files import stem_of, write_json
from dvos.formats.importing import take_truth
from dvos.formats.known import is_foreign
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.image import resized, write_image
from dvos.media.layout import MASK_SUFFIXES, list_files
from dvos.media.mask import object_pixels, read_mask
from dvos.media.overlay import overlay
from dvos.media.video import VideoFile
from dvos.runner.shards import taken_folder
from dvos.scoring.aggregate import figures
from dvos.scoring.hand_counts import HandCounts, compare_counts, earlier_scores
from dvos.scoring.instances import read_counts, read_probabilities
from dvos.scoring.match import Pair, name_domains, pair_up, true_masks, video_of, videos_by_clip
from dvos.scoring.measure import MaskScore, instance_file, measure_pairs
from dvos.scoring.stability import measure_stability
from dvos.scoring.summary import Scores, by_clip, drawn_again, intervals_of, score_domains
from dvos.scoring.tracks import score_tracks
from dvos.tables import CountRow, write_rows
from dvos.tables.cells import read_cells

_log = logging.getLogger(__name__)

#: What comes of the command: without true masks the agreement of counts alone.
ScoreResult = Scores | HandCounts

#: Longer side of each panel of a picture; enough to judge by, small enough for a report.
_PANEL = 768
_GAP = 6
#: What is scored where a prediction is missing.
_MISSING_REMEDY = "it was scored as an empty mask; predict it, or leave it out of the truth"
_NO_OBJECTS_REMEDY = "its objects were scored as not found; predict it with instances"

#: Masks of a clip, gain in IoU and share of masks from which numbers seem to be one off.
_SHIFTED, _SHIFTED_GAIN, _SHIFTED_SHARE = 6, 0.1, 0.9

#: What is written of any scores.
FILES = (
    *("scores.json", "scores.csv", "scores_by_mask.csv"),
    *("best.png", "median.png", "worst.png"),
)

#: Columns of ``scores_by_mask.csv``.
_COLUMNS = (
    *("clip", "frame", "domain", "dice", "iou", "precision", "recall", "region_j", "boundary_f"),
    *("temporal_stability", "true_count", "predicted_count", "objects_hit"),
)


def score_command(settings: ScoringSettings) -> ScoreResult:
    """``dvos score``: against true masks, as :func:`score`, against counts by hand, or both."""
    named = ("truth", "predictions", "images", "counts")
    files.check_given((f"--{name}", getattr(settings, name)) for name in named)
    if settings.truth is None:
        return compare_counts(settings)
    if is_foreign(settings.truth):
        truth = take_truth(settings.truth, settings.classes, settings.out / "truth")
        settings = settings.model_copy(update={"truth": truth})
    return score(settings)


def score(settings: ScoringSettings) -> Scores:
    """Score predictions and write ``scores.csv``, ``scores.json`` and pictures.

    A missing prediction is scored as an empty mask and listed in the result's ``missing``. Before
    anything is written a UsageError, TableError or MediaError tells what cannot be scored, an
    OutputError that scores of another truth or files of a user would be replaced.
    """
    truth = settings.truth
    if truth is None:
        raise UsageError.at("truth", "not given", "a folder of true masks or a CSV")
    truths = true_masks(truth, frames=settings.frames, images=settings.images)
    pairs = name_domains(pair_up(truths, settings.predictions), settings.domain)
    check_unicode(pairs)
    if settings.overlay_interval:
        check_names(truth, pairs)
    shown = pairs[:: settings.overlay_interval] if settings.overlay_interval else []
    overlays = [f"overlays/{pair.clip}_{pair.name}.png" for pair in shown]
    others = [*overlays, *(["tracks.json"] if settings.tracks else [])]
    check_apart(settings.out, truth, pairs)
    check_out(settings.out, truth, settings.frames, others)
    with taken_folder(settings.out):
        scores = _scored(settings, truth, pairs, overlays)
        _write_tables(scores)
        ranked = [mask.pair for mask in sorted(scores.masks, key=lambda mask: mask.dice)]
        chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        pictures = {settings.out / f"{name}.png": pair for name, pair in chosen.items()}
        _write_pictures(pictures | dict(zip(scores.overlays, shown, strict=True)), settings)
    return scores


def truth_place(out: Path, truth: Path) -> str:
    """Where a truth lies, from a folder of scores: both may be moved together."""
    return files.composed(Path(os.path.relpath(truth, out)).as_posix())


def check_apart(out: Path, truth: Path, pairs: Sequence[Pair]) -> None:
    """Refuse a folder of scores whose pictures would lie among the masks that are scored."""
    masks = (path for pair in pairs for path in (pair.truth, pair.prediction) if path is not None)
    folders = {files.real_path(path) for path in {truth, *(path.parent for path in masks)}}
    if not folders.isdisjoint(files.real_path(path) for path in (out, out / "overlays")):
        expected, remedy = "a folder apart from them", "choose another --out"
        raise UsageError.at(out, "holds the masks that are scored", expected, remedy)


def check_out(out: Path, truth: Path, frames: str, others: Iterable[str] = ()) -> None:
    """Refuse a folder of scores with a user's files, or scores of another truth.

    ``scores.json``, which is written first, tells what is scoring's own.
    """
    earlier = earlier_scores(out, "scores.json", ("masks", "mean_dice"))
    if earlier is None:
        files.refuse_foreign((out / name for name in (*FILES, *others)), "dvos score")
        return
    known = earlier.get("truth")  # which earlier releases did not tell
    if not isinstance(known, str) or known in ("", truth_place(out, truth)):
        return
    new = {files.real_path(one.truth) for one in true_masks(truth, frames=frames, images=None)}
    with suppress(DvosError), FaultCollector() as faults:
        rows = read_cells(out / "scores.csv", ("Image", "Mask"), faults, allow_empty=True)
        if all(files.real_path(out / mask) in new for row in rows if (mask := row.raw("Mask"))):
            return
    found = f"holds the scores of another truth, {os.path.normpath(out / known)}"
    remedy = "choose another --out for each, or score both at once as one table or folder"
    raise errors.OutputError.at(out / "scores.json", found, f"those of {truth}, or none", remedy)


def check_unicode(pairs: Sequence[Pair]) -> None:
    """Refuse, before anything is measured, files that a table of scores cannot name."""
    with FaultCollector(errors.MediaError) as faults:
        for pair in pairs:
            for path in (pair.image, pair.truth, pair.prediction):
                if path is not None and not str(path).isascii():
                    faults.collect(files.check_file_name, path, str(path))


def tell_shifted(masks: Sequence[MaskScore]) -> None:
    """Say of each clip whether its predictions fit the truth of the frame beside far better."""
    for clip, members in by_clip(masks).items():
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
    with FaultCollector(errors.TableError) as faults:
        for clip in dict.fromkeys(pair.clip for pair in pairs):
            if not files.is_plain_name(clip):
                found = f"the clip name {clip!r} cannot begin that of a picture"
                expected = "a name without slashes that does not begin with a dot"
                faults.add(truth, found, expected, "rename the clip, or set overlay_interval=0")


def _scored(
    settings: ScoringSettings, truth: Path, pairs: Sequence[Pair], overlays: Sequence[str]
) -> Scores:
    """Every figure; ``overlays`` are the names of the pictures that will be drawn."""
    tracks = score_tracks(settings, truth) if settings.tracks else None
    by_hand = compare_counts(settings) if settings.counts is not None else None
    masks, ranked_by = _ranked(_measure(settings, pairs))
    tell_shifted(masks)
    seed, level = settings.seed, settings.confidence
    return Scores(
        masks=tuple(masks),
        intervals=intervals_of(drawn_again(masks, [seed, 0]), level),
        ranked_by=ranked_by,
        by_domain=score_domains(masks, seed=seed, level=level) if pairs[0].domain else None,
        missing=(*_missing(masks, settings.predictions), *_untracked(masks, tracks)),
        out=settings.out,
        overlays=tuple(settings.out / name for name in overlays),
        tracks=tracks,
        by_hand=by_hand,
        truth=truth_place(settings.out, truth),
        void=settings.void,
    )


def _measure(settings: ScoringSettings, pairs: Sequence[Pair]) -> list[MaskScore]:
    masks, steady = measure_pairs(pairs, settings), measure_stability(pairs, settings)
    table = settings.predictions / "counts.csv"
    counts = read_counts(table) if table.is_file() else None
    scores = []
    for place, mask in enumerate(masks):
        clip, frame = mask.pair.clip, mask.pair.name
        counted = None if counts is None else counts.get((clip, frame))
        if counts is None and mask.objects is not None:
            counted = CountRow(clip, -1, count=mask.objects.predicted, frame=frame)
        scores.append(replace(mask, followed=steady.get(place), predicted_count=counted))
    return scores


def _ranked(masks: Sequence[MaskScore]) -> tuple[list[MaskScore], str]:
    """How sure each predicted object is: by probability where all clips have it, else by area."""
    read = cache(lambda clip: read_probabilities(clip.parent / f"{clip.name}.objects.csv") or {})
    by_probability: list[MaskScore] = []
    for mask in masks:
        path = instance_file(mask.pair) if mask.objects and mask.objects.predicted else None
        if mask.objects and path:
            sure, ids = read(path.parent.parent).get(stem_of(path), {}), mask.objects.ids.tolist()
            if not sure.keys() >= {*ids}:
                by_area = [
                    replace(one, ranks=one.objects.areas.astype(np.float64)) if one.objects else one
                    for one in masks
                ]
                return by_area, "area"
            mask = replace(mask, ranks=np.array([sure[one] for one in ids]))
        by_probability.append(mask)
    return by_probability, "mean_probability"


def _missing(masks: Sequence[MaskScore], predictions: Path) -> list[Fault]:
    """Faults: masks without prediction, then without objects, then clips without counts."""
    hints = {
        clip: _numbering_hint([mask.pair for mask in members], predictions)
        for clip, members in by_clip(masks).items()
    }
    without, objectless = [], []
    for mask in masks:
        pair = mask.pair
        if pair.prediction is None:
            expected = str(predictions / pair.clip / f"{pair.name}.png")
            remedy = hints[pair.clip] or _MISSING_REMEDY
            without.append(Fault(str(pair.truth), "has no prediction", expected, remedy))
        # Ids of the mask itself are not looked at where instance masks are used.
        elif mask.objects is not None and mask.predicted_ids is None:
            path, found = instance_file(pair), "has no predicted instance mask"
            if path and not path.is_file():
                objectless.append(Fault(str(pair.truth), found, str(path), _NO_OBJECTS_REMEDY))
    table, uncounted = predictions / "counts.csv", []
    counted = [one for one in masks if one.true_count is not None and one.pair.prediction]
    for clip, members in by_clip(counted).items():
        missing = sum(one.predicted_count is None for one in members)
        if missing and table.is_file():
            found = f"has no row for {missing} of {len(members)} frames of the clip {clip}"
            remedy = "their counts were left out; predict the clip into this folder again"
            uncounted.append(Fault(str(table), found, "a row for each frame", remedy))
    return [*without, *objectless, *uncounted]


def _untracked(masks: Sequence[MaskScore], tracks: Mapping[str, Any] | None) -> Iterator[Fault]:
    """Faults: frames without predicted tracks, but for those without any prediction."""
    without = {(mask.pair.clip, mask.pair.name) for mask in masks if mask.pair.prediction is None}
    for clip, found in (tracks or {"clips": {}})["clips"].items():
        for name in found["missing"]:
            if (clip, name) not in without:
                expected, remedy = "a label image of its tracks", "predict the clip again"
                yield Fault(f"{clip}/{name}", "has no predicted tracks", expected, remedy)


def _numbering_hint(pairs: Sequence[Pair], predictions: Path) -> str:
    """What a clip looks like whose truth and predictions count from different numbers."""
    if all(pair.prediction for pair in pairs):
        return ""
    folder = next((p.prediction.parent for p in pairs if p.prediction), predictions / pairs[0].clip)
    both = [pair.name for pair in pairs], map(stem_of, list_files(folder, MASK_SUFFIXES))
    true, found = (
        {int(number[0]) for name in names if (number := re.search(r"[0-9]+$", name))}
        for names in both
    )
    if len(true) < len(pairs) or not any(
        {number - shift for number in true} <= found
        and shift in (min(true) - min(found), max(true) - max(found))
        for shift in (1, -1)
    ):
        return ""
    return (
        f"the truth is numbered {min(true)} to {max(true)}, the predictions {min(found)} to "
        f"{max(found)}: if both count the same frames, rename one, as each mask was compared with "
        "that of the frame beside it; if not, this one was scored as an empty mask"
    )


def _write_tables(scores: Scores) -> None:
    # First, as it tells that the others are scoring's own.
    write_json(scores.out / "scores.json", scores.as_json())
    rows: list[tuple[object, ...]] = [
        (one.pair.image or one.pair.name, one.pair.truth, one.pair.prediction, one.iou, one.dice)
        for one in scores.masks
    ]
    rows.append(("Mean", None, None, scores.mean_iou, scores.mean_dice))
    write_rows(scores.out / "scores.csv", ("Image", "Mask", "Pred", "IoU", "Dice"), rows)
    alone = figures(np.array([mask.tally for mask in scores.masks]))
    found = (alone[name].tolist() for name in ("precision", "recall"))
    details = [
        (
            *(mask.pair.clip, mask.pair.name, mask.pair.domain, mask.dice, mask.iou),
            *(precision, recall, mask.region_j, mask.boundary_f),
            mask.followed.prediction if mask.followed else None,
            mask.true_count,
            mask.predicted_count.count if mask.predicted_count else None,
            mask.objects.hits if mask.objects else None,
        )
        for mask, precision, recall in zip(scores.masks, *found, strict=True)
    ]
    write_rows(scores.out / "scores_by_mask.csv", _COLUMNS, details)
    if scores.tracks is not None:
        write_json(scores.out / "tracks.json", scores.tracks)


def _write_pictures(chosen: Mapping[Path, Pair], settings: ScoringSettings) -> None:
    """A picture for each chosen pair: frame (black where there is none), truth and prediction."""
    videos = videos_by_clip(settings.images)
    write = partial(_write_picture, void=settings.void)
    wanted: dict[Path, dict[str, list[tuple[Path, Pair]]]] = {}
    for path, pair in chosen.items():
        video = video_of(pair.clip, videos)
        if pair.image is not None:
            write(path, pair, read_image_at(pair.image), pair.image)
        elif video is not None:
            wanted.setdefault(video, {}).setdefault(pair.name, []).append((path, pair))
        else:
            write(path, pair, None, pair.truth)
    for video, names in wanted.items():
        for frame in VideoFile(video):
            for path, pair in names.pop(frame.name, []):
                write(path, pair, frame.image, video)
            if not names:
                break
        for path, pair in chain.from_iterable(names.values()):
            write(path, pair, None, video)


def _write_picture(
    path: Path, pair: Pair, image: NDArray[np.uint8] | None, where: Path, *, void: str
) -> None:
    true = object_pixels(read_mask_at(pair.truth, void))
    found = np.zeros_like(true)
    if pair.prediction:
        found = object_pixels(read_mask(pair.prediction))
    frame = np.zeros((*true.shape, 3), np.uint8) if image is None else image
    remedy = f"it is the frame {pair.name}; give the right frames, the scores are complete"
    check_size(where, frame.shape, true.shape, f"its mask {pair.truth}", remedy)
    factor = min(1.0, _PANEL / max(true.shape))
    panels = [resized(one, factor) for one in (frame, overlay(frame, true), overlay(frame, found))]
    gap = np.full((panels[0].shape[0], _GAP, 3), 255, np.uint8)
    write_image(path, np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))
