"""Sections on what the network was taught with: stills, cutouts, synthetic clips, their shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dvos.reporting.contents import ClipFrame, RunContents, Still
from dvos.reporting.figures import bar
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.numbers import count_text, percent
from dvos.reporting.pictures import outlined, plain, sheet, spread, tinted
from dvos.reporting.reading import as_number
from dvos.reporting.section import Gallery, Section, photo

__all__ = ["clips_section", "cutouts_section", "diet_section", "stills_section"]

#: Frames of a clip that are shown, as many as the network takes at once.
_CLIP_FRAMES = 5


def stills_section(contents: RunContents, *, shown: int, width: int) -> Section:
    """The labelled stills with the outline of each object."""
    stills = contents.stills
    gallery = Gallery("two")
    for index in spread(len(stills), shown):
        gallery.add(_still, stills[index], width)
    return Section(
        "stills",
        "Labelled stills",
        f"What training starts from: {_shown(len(stills), shown, 'still')}, with outlines"
        " round the labelled objects.",
        gallery.render() if stills and shown else None,
        "there is no annotated.csv that names labelled stills",
    )


def _still(still: Still, width: int) -> Html:
    name = still.image.name
    words = f"Labelled still {name} with its objects outlined"
    return photo([(outlined(still.image, still.mask, width), words)], name)


def cutouts_section(contents: RunContents, *, shown: int, width: int) -> Section:
    """Cutouts and distractors, a sheet each."""
    gallery = Gallery("two")
    for name, paths in (("cutout", contents.cutouts), ("distractor", contents.distractors)):
        if paths and shown:
            gallery.add(_sheet, name, paths, shown, width)
        elif shown:
            gallery.note(f"{name}s: there is no {name}s.csv that names any")
    given = shown and (contents.cutouts or contents.distractors)
    return Section(
        "cutouts",
        "Cutouts and distractors",
        "Cutouts are the labelled objects, cut out to be pasted onto background. Distractors"
        " are patches of the same shapes without an object: they teach the network that shape"
        " and paste marks alone make none.",
        gallery.render() if given else None,
        "there is neither cutouts.csv nor distractors.csv",
    )


def _sheet(name: str, paths: Sequence[Path], shown: int, width: int) -> Html:
    chosen = [paths[index] for index in spread(len(paths), shown)]
    caption = f"{_shown(len(paths), shown, name)}".capitalize()
    return photo([(sheet(chosen, width=width), f"Sheet of {len(chosen)} {name}s on grey")], caption)


def clips_section(contents: RunContents, *, shown: int, width: int) -> Section:
    """Frames of synthetic clips with their exact masks."""
    clips: dict[str, list[ClipFrame]] = {}
    for frame in contents.clip_frames:
        clips.setdefault(frame.clip, []).append(frame)
    names = list(clips)
    parts: list[Html] = []
    for index in spread(len(names), shown):
        frames = sorted(clips[names[index]], key=lambda frame: frame.fid)
        gallery = Gallery("strip")
        for t, place in enumerate(spread(len(frames), _CLIP_FRAMES)):
            gallery.add(_clip_frame, t, frames[place], width // 2)
        heading = element("h3", f"Clip {names[index]}, {count_text(len(frames))} frames")
        parts.append(join(heading, gallery.render()))
    return Section(
        "clips",
        "Synthetic clips",
        f"Cutouts and distractors moving over background, {_shown(len(names), shown, 'clip')}:"
        " above the frame the network sees, below it the label that comes with it for nothing.",
        join(parts) if parts else None,
        "there is no clips.csv that names stored clips",
    )


def _clip_frame(t: int, frame: ClipFrame, width: int) -> Html:
    pictures = [(plain(frame.image, width), f"Synthetic frame {frame.fid} of {frame.clip}")]
    if frame.mask is not None:
        words = f"Frame {frame.fid} of {frame.clip} with its labelled objects coloured"
        pictures.append((tinted(frame.image, frame.mask, width), words))
    return photo(pictures, f"t{t}: frame {frame.fid}")


def diet_section(contents: RunContents) -> Section:
    """How many training clips each source gave."""
    sources = _sources(contents.facts.get("clips_by_source"))
    total = sum(sources.values())
    body = None
    if total:
        rows = [
            (
                name.replace("_", " "),
                count_text(number),
                percent(number / total),
                bar(number / total),
            )
            for name, number in sources.items()
        ]
        header = ("Source", "Clips", "Share", "")
        shown = table("Clips the network was trained on, by source", header, rows, numeric=(1, 2))
        body = join(shown, paragraph(f"{count_text(total)} clips in all."))
    return Section(
        "diet",
        "Training diet",
        "What share of the training clips came from each source: stills shown as panning"
        " clips, synthetic clips, or others.",
        body,
        "run.json of the training does not say how many clips came from each source",
    )


def _sources(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    numbers = {str(name): as_number(number) for name, number in value.items()}
    return {name: number for name, number in numbers.items() if number is not None and number >= 0}


def _shown(total: int, shown: int, noun: str) -> str:
    things = f"{count_text(total)} {noun}" + ("" if total == 1 else "s")
    return things if total <= shown else f"{shown} of {things}"
