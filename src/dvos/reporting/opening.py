"""What the page on one run opens with: the moving overlay, and the figures that sum it up."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress

from dvos.errors import MediaError
from dvos.reporting.contents import Found, Measure, RunContents, Shown, known, known_figures
from dvos.reporting.numbers import count_text, mean, percent, plural, significant, span
from dvos.reporting.pictures import moving

#: Figures that the page opens with.
_HEADLINE = 3
#: Plots whose totals are told beside that of all.
_MOST_PLOTS = 8

#: Of a figure its name, its value and what it means.
Figure = tuple[str, str, str]

#: The scores that say most of how far masks and counts can be trusted.
_JUDGED = {
    "pooled_dice": "overlap of masks and truth: 1 is perfect, 0 is none",
    "count_mae": "so many objects a frame the count is off, on average",
    "instance_f1": "single objects found, none invented: 1 is perfect",
}


def opening_section(run: RunContents) -> Shown:
    """The overlay, three figures with their meaning, and what to beware of."""
    overall, found = run.scores.values, known_figures(run.scores)
    means = [*mean_figures(run)]
    if not (found or means or "masks" in overall):
        return None
    shown = None
    for video in [*run.videos.values()][:1]:
        with suppress(MediaError):  # told beside the frames of the video
            shown = moving(video)
    return {
        "run": run,
        "moving": shown,
        "figures": [*_totals(run), *_judged(found), *means][:_HEADLINE],
        "frames": _frames(run),
        "next": _next(run),
        "overall": overall,
        # Its frames are alike: their spread says nothing of other videos.
        "one_video": len(run.scores.clips) == 1 and (overall.get("masks") or 0) > 1,
    }


def _judged(found: dict[Measure, Found]) -> Iterator[Figure]:
    by_key = {one.key: (one, *figure) for one, figure in found.items()}
    for key, meaning in _JUDGED.items():
        if key in by_key:
            measure, value, ends = by_key[key]
            yield measure.name, measure.text(value), meaning + (f"; {ends.note}" if ends else "")


def mean_figures(run: RunContents) -> Iterator[Figure]:
    """Means over all frames, of which none is surer than a frame: they share their errors."""
    pooled = {
        name: [value for clip in run.counts.values() for value in known(clip, name)]
        for name in ("count", "count_smooth", "count_low", "count_high", "density", "coverage")
    }
    over, smooth = f"over {plural(_frames(run), 'frame')}", pooled["count_smooth"]
    if pooled["count"]:
        low, high = (significant(mean(pooled[f"count_{end}"])) for end in ("low", "high"))
        text = f"{f'interval {low} to {high}; ' if smooth else ''}found: "
        text += f"{span(pooled['count'], count_text)} {over}"
        yield "Count, mean", significant(mean(smooth or pooled["count"])), text
    for name, title, meaning, write in (
        ("density", "Density, mean", "objects a square metre", significant),
        ("coverage", "Coverage, mean", "of the picture", percent),
    ):
        if values := pooled[name]:
            yield title, write(mean(values)), f"{meaning}, {span(values, write)} {over}"


def _totals(run: RunContents) -> Iterator[Figure]:
    """Distinct objects of the one clip that was followed, and of its plots."""
    clips = [one for one in run.totals if not one.region]
    if len(clips) != 1:
        return
    distinct, low, high = (count_text(clips[0].numbers[x]) for x in ("distinct", "low", "high"))
    text = f"in the whole of {clips[0].clip}, each counted once; 95 % interval {low} to {high}"
    plots = [f"{x.region} {count_text(x.numbers['distinct'])}" for x in run.totals if x.region]
    if 0 < len(plots) <= _MOST_PLOTS:
        text += f"; by plot: {', '.join(plots)}"
    yield "Objects in all", distinct, text


def _next(run: RunContents) -> str:
    """What to type next, with the network of the run."""
    best = next((x.path for x in run.files if x.path.name == "best.safetensors"), None)
    if best is None:
        return ""
    words = ("dvos", "predict", "VIDEO", "--checkpoint", str(best), "--overlay")
    own = "\ndvos fit FOLDER --out RUN  # the same on photos and videos of your own"
    return shlex.join(words) + (own if run.rendered else "")


def _frames(run: RunContents) -> int:
    return sum(len(clip["frame_index"]) for clip in run.counts.values())
