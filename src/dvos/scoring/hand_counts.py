"""Predicted counts against counts by hand: how well they agree, as a table, figures and a plot."""

import io
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvos import files
from dvos.config.scoring import ScoringSettings
from dvos.errors import FaultCollector, TableError, shortened
from dvos.files import composed, make_folder, refuse_foreign, stem_of, write_json, write_text
from dvos.scoring.instances import count_errors, read_counts, read_totals
from dvos.tables import write_rows
from dvos.tables.cells import Cells, read_cells

Doubles = NDArray[np.float64]

#: Differences lie within this many standard deviations of their mean in 95 of 100 cases.
_LIMITS = 1.96
_COLUMNS = ("clip", "Image", "by_hand", "predicted", "difference")


@dataclass(frozen=True)
class HandCounts:
    """Agreement with counts by hand (Bland and Altman 1986); see also ``instances.CountErrors``."""

    out: Path  # folder of ``counts_by_hand.csv``, ``.json`` and ``.svg``
    compared: int  # number of images or clips
    bias: float
    mae: float
    rmse: float  # root of the mean square difference
    relative_error: float | None
    r2: float | None
    #: Between which 95 % of differences lie, if they are normal; None of a single one.
    limits_of_agreement: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """The content of ``counts_by_hand.json``."""
        return {name: value for name, value in asdict(self).items() if name != "out"}

    def __str__(self) -> str:
        r2 = "" if self.r2 is None else f", r2 {self.r2:.3f}"
        return (
            f"{self.compared} counts by hand: bias {self.bias:+.2f}, MAE {self.mae:.2f}, "
            f"RMSE {self.rmse:.2f}{r2}: {self.out / 'counts_by_hand.json'}"
        )

    def plot(self, hand: Doubles, predicted: Doubles) -> str:
        """Predicted against counted, and differences with their limits, as SVG."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        top = 1.05 * max(float(hand.max()), float(predicted.max()), 1.0)
        left.plot([0, top], [0, top], color="0.6", linestyle="--")
        left.plot(hand, predicted, "o", color="#1f6f8b", markersize=4)
        left.set(xlabel="by hand", ylabel="predicted", xlim=(0, top), ylim=(0, top))
        right.plot((hand + predicted) / 2, predicted - hand, "o", color="#1f6f8b", markersize=4)
        right.axhline(self.bias, color="0.3")
        for limit in self.limits_of_agreement or ():
            right.axhline(limit, color="0.6", linestyle="--")
        right.set(xlabel="mean of both", ylabel="predicted - by hand")
        stream = io.StringIO()
        # Without a date and with names that do not vary: the same counts give the same file.
        with rc_context({"svg.hashsalt": "dvos"}):
            figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()


class _Count(NamedTuple):
    clip: str
    image: str
    number: float
    region: str = ""

    def __str__(self) -> str:
        return self.image or self.clip + (f" region {self.region}" if self.region else "")


class _Prediction(NamedTuple):
    clip: str
    frame: str  # empty: the distinct objects of the clip
    number: float
    region: str = ""  # of the clip


def compare_counts(settings: ScoringSettings) -> HandCounts:
    """Compare the counts of predictions with a table of counts by hand.

    A row names an image, whose count is that of its row in ``counts.csv``, or a clip, or a region
    of one, whose distinct objects ``totals.csv`` tells; of a clip of one frame that is the frame's
    count.
    """
    assert settings.counts is not None
    with FaultCollector(TableError) as faults:
        counted = [_row(cells) for cells in read_cells(settings.counts, ("count",), faults)]
    if not counted:
        raise TableError.at(settings.counts, "has no rows", "Image or clip, and count")
    predicted = _find(settings.counts, counted, settings.predictions)
    names = [f"counts_by_hand.{kind}" for kind in ("json", "csv", "svg")]
    if earlier_scores(settings.out, names[0], ("bias", "rmse")) is None:
        refuse_foreign((settings.out / name for name in names), "dvos score")
    out = make_folder(settings.out)
    hand = np.array([one.number for one in counted])
    found = agreement(hand, np.array(predicted), out)
    both = zip(counted, predicted, strict=True)
    rows = [(*one[:3], value, round(value - one.number, 4), one.region) for one, value in both]
    columns = (*_COLUMNS, *(["region"] if any(one.region for one in counted) else []))
    # First, as it tells whose the others are.
    write_json(out / "counts_by_hand.json", found.as_json())
    write_rows(out / "counts_by_hand.csv", columns, (row[: len(columns)] for row in rows))
    write_text(out / "counts_by_hand.svg", found.plot(hand, np.array(predicted)))
    return found


def earlier_scores(out: Path, name: str, keys: Collection[str]) -> dict[str, Any] | None:
    """What scoring has written into a JSON file of a folder, which has these keys; None if none."""
    try:
        found = files.parse_json((out / name).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= set(keys) else None


def agreement(hand: Doubles, predicted: Doubles, out: Path) -> HandCounts:
    """The figures of counts by hand and predicted ones, float64 (N,) each, N at least 1."""
    away, found = predicted - hand, count_errors(predicted, hand)
    reach = _LIMITS * float(away.std(ddof=1)) if len(away) > 1 else None
    return HandCounts(
        out=out,
        compared=found.frames,
        bias=found.bias,
        mae=found.mean_absolute_error,
        rmse=float(np.sqrt((away**2).mean())),
        relative_error=found.relative_error,
        r2=found.r2,
        limits_of_agreement=None if reach is None else (found.bias - reach, found.bias + reach),
    )


def _row(cells: Cells) -> _Count:
    image, clip, region = (
        composed(cells.text(name, required=False)) for name in ("Image", "clip", "region")
    )
    if image and region:
        cells.fault("region", repr(region), "none of an image", "name the clip, and no Image")
    if not image and not clip:
        cells.fault("Image", "empty, and so is clip", "the image or the clip that was counted")
    count = cells.real("count")
    if (count is None or count < 0) and "count" not in cells.bad:
        cells.fault("count", cells.text("count", required=False) or "empty", "a number from 0 on")
    return _Count(clip, image, count or 0.0, region)


def _find(table: Path, counted: list[_Count], predictions: Path) -> list[float]:
    """What was predicted for each row."""
    counts = read_counts(predictions / "counts.csv")
    by_frame: dict[str, list[_Prediction]] = {}
    by_clip: dict[tuple[str, str], list[_Prediction]] = {}
    for (clip, frame), row in counts.items():
        predicted = _Prediction(clip, frame, row.count or 0.0)
        by_frame.setdefault(frame, []).append(predicted)
        by_clip.setdefault((clip, ""), []).append(predicted)
    for (clip, region), (distinct, _, _) in read_totals(predictions / "totals.csv").items():
        by_clip[clip, region] = [_Prediction(clip, "", float(distinct), region)]
    found: list[float] = []
    taken: dict[_Prediction, int] = {}  # the row that each is compared with
    with FaultCollector(TableError) as faults:
        for number, one in enumerate(counted, 1):
            key, fault = _predicted(one, by_frame, by_clip)
            if key is not None and (earlier := taken.setdefault(key, number)) != number:
                what = f"frame {key.frame} of clip {key.clip}" if key.frame else f"clip {key.clip}"
                fault = f"would be compared with {what}, as {counted[earlier - 1]} is"
            if fault:
                remedy = f"predict it into {predictions}, or leave out the row"
                faults.add(f"{table}: {one}", fault, "one prediction", remedy)
            found.append(key.number if key else 0.0)
    return found


def _predicted(
    one: _Count,
    by_frame: Mapping[str, list[_Prediction]],
    by_clip: Mapping[tuple[str, str], list[_Prediction]],
) -> tuple[_Prediction | None, str]:
    """What was predicted for a row; else what is wrong with it."""
    if not one.image:
        frames = by_clip.get((one.clip, one.region), [])
        if len(frames) == 1:
            return frames[0], ""
        found = f"has {len(frames)} frames and no row in totals.csv: predict with tracks=true"
        return None, found if frames else "has no prediction"
    path = Path(one.image)
    # Names as they stand in counts.csv, with or without an ending, in the clip of their folder.
    known = by_frame.get(composed(path.name)) or by_frame.get(stem_of(path)) or []
    clip = one.clip or composed(path.parent.name)
    inside = [each for each in known if each.clip == clip]
    if len(inside) == 1:
        return inside[0], ""
    # A name alone tells a frame; a folder may be that of stills, which are clips of their own.
    named = one.clip or path.parent.name
    if len(known) == 1 and not one.clip and (not named or known[0].clip == known[0].frame):
        return known[0], ""
    clips = f" (of {shortened([each.clip for each in known])})" if known else ""
    return None, f"fits {len(inside if named else known)} predictions{clips}"
