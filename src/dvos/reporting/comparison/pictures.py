"""The same frames as each run segments them, worst differences first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dvos.reporting.comparison.match import Matched
from dvos.reporting.comparison.runs import Run
from dvos.reporting.contents import ScoredMask
from dvos.reporting.frames import VideoPlace
from dvos.reporting.markup import Html, element, join
from dvos.reporting.numbers import score
from dvos.reporting.pictures import compared, scored_frame, shrink
from dvos.reporting.results import legend
from dvos.reporting.section import Gallery, Section, photo

__all__ = ["frames_section"]


def frames_section(
    runs: Sequence[Run], matched: Sequence[Matched], *, shown: int, width: int
) -> Section:
    """Frames on which the runs differ most."""
    ranked = sorted((one for one in matched if one.complete), key=lambda one: -one.spread)
    parts: list[Html] = []
    for one in ranked[:shown]:
        told = f"{one.name}: Dice differs by {score(one.spread)}"
        parts.append(join(element("h3", told), _frame(runs, one, width)))
    return Section(
        "frames",
        "The same frames, run by run",
        "The frames scored in all runs on which their Dice differs most, greatest difference"
        " first: the frame as it is, then in grey with each run's prediction against the truth.",
        join(legend(), parts) if parts else None,
        "no frame with a Dice is in the scores.csv of every run",
    )


def _frame(runs: Sequence[Run], one: Matched, width: int) -> Html:
    gallery = Gallery("versus")
    read: list[npt.NDArray[np.uint8]] = []

    def plain(image: Path | VideoPlace) -> Html:
        # Read once for all runs: to find a frame in a video, all before it are decoded.
        read.append(scored_frame(image))
        small = np.asarray(shrink(read[0], width), np.uint8)
        return photo([(small, f"{one.name}, as it is")], "the frame as it is")

    image = next((mask.image for mask in one.masks if mask.image is not None), None)
    if image is not None:
        gallery.add(plain, image)
    for run, mask in zip(runs, one.masks, strict=True):
        if mask.prediction is None:
            gallery.note(f"{run.label}: has no prediction of {one.name}")
        else:
            gallery.add(_judged, run, one, mask, mask.prediction, read, width)
    return gallery.render()


def _judged(
    run: Run,
    one: Matched,
    mask: ScoredMask,
    prediction: Path,
    read: Sequence[npt.NDArray[np.uint8]],
    width: int,
) -> Html:
    _, judged = compared(read[0] if read else None, mask.mask, prediction, width)
    words = f"{one.name} in run {run.letter}: hits, misses and false alarms coloured"
    told = join(element("strong", f"{run.letter}: Dice {score(mask.dice)}"), f", {run.name}")
    return photo([(judged, words)], told)
