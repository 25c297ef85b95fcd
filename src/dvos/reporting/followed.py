"""What a report shows of objects that were followed: totals, how long they were seen, trails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from dvos.config.scoring import ReportSettings
from dvos.errors import FaultCollector, MediaError, TableError
from dvos.reporting.contents import RunContents, Shown
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.pictures import Gallery, Photo, UInt8, film, plain
from dvos.tables.cells import Cells, read_cells

#: Clips with a picture and a plot of their own.
_SHOWN = 4
#: Frames that a trail leads back over.
_TRAIL = 30


def followed_section(run: RunContents, settings: ReportSettings) -> Shown:
    """Totals of all clips, and of some how long tracks are and their trails on a frame."""
    gallery, plots = Gallery(), []
    clips = [one.clip for one in run.totals if not one.region and one.clip in run.frame_masks]
    with FaultCollector(TableError) as faults:
        for clip in clips[:_SHOWN]:
            tracks = _rows(run.predicted / f"{clip}.tracks.csv", ("frames",), faults)
            plots.append((clip, [_lifetimes(clip, [row.real("frames") or 0 for row in tracks])]))
            table = run.predicted / f"{clip}.objects.csv"
            columns = ("frame_index", "track", "centre_x", "centre_y")
            seen = _rows(table, columns, faults)
            if seen and settings.film_frames and not faults:
                gallery.add(_trails, run, clip, seen, settings.picture_width)
    shown = {"totals": run.totals, "plots": plots, "gallery": gallery, "clips": clips}
    return shown if run.totals else None


def _rows(path: Path, columns: Sequence[str], faults: FaultCollector) -> list[Cells]:
    if not path.is_file():
        return []
    return list(read_cells(path, columns, faults, allow_empty=True, whole=True))


def _lifetimes(clip: str, frames: Sequence[float]) -> Any:
    """How many tracks were seen in so many frames or more."""
    lengths = Counter(int(one) for one in frames)
    longest = max(lengths, default=0)
    lasting = [*accumulate(lengths[n] for n in range(longest, 0, -1))][::-1]
    line = Series("tracks", [float(n) for n in range(1, longest + 1)], [float(n) for n in lasting])
    title = f"Tracks seen in so many frames or more, {clip}"
    return line_plot([line], title=title, x_label="frames", y_limits=(0.0, None), whole_x=True)


def _trails(run: RunContents, clip: str, seen: Sequence[Cells], width: int) -> Photo:
    """The middle frame, the way of each of its objects to there, and the total of each region."""
    import cv2

    from dvos.media.image import image_size
    from dvos.media.overlay import id_colours

    masks, video = run.frame_masks[clip], run.videos.get(clip)
    rows = run.counts[clip]["frame_index"]
    place = len(rows if video else masks) // 2
    index = int(rows[place])
    image = film(video, {place}, width).get(place) if video else plain(masks[place], width)
    if image is None:
        raise MediaError.at(video or masks[place], f"has no frame {place}")
    drawn: UInt8 = np.ascontiguousarray(image)
    scale = drawn.shape[1] / image_size(masks[0])[1]
    ways: dict[int, list[tuple[float, float]]] = {}
    places: dict[str, list[tuple[float, float]]] = {}
    here = set()
    for row in seen:
        frame, track = row.real("frame_index"), int(row.real("track") or 0)
        if frame is None or not track or not index - _TRAIL <= frame <= index:
            continue
        at = (scale * (row.real("centre_x") or 0.0), scale * (row.real("centre_y") or 0.0))
        ways.setdefault(track, []).append(at)
        if frame == index:
            here.add(track)
            places.setdefault(row.cells.get("region", ""), []).append(at)
    colours = id_colours()
    for track in sorted(here):
        points = np.rint(np.array(ways[track]) * 16).astype(np.int32)[:, None]
        colour = colours[track % len(colours)].tolist()
        cv2.polylines(drawn, [points], False, colour, 2, cv2.LINE_AA, 4)
    totals = {one.region: one for one in run.totals if one.clip == clip and one.region}
    for region, points_of in places.items():
        if region in totals:
            x, y = np.mean(points_of, axis=0)
            text = f"{region}: {totals[region].numbers['distinct']:.0f}"
            for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(drawn, text, (int(x) - 4 * len(text), int(y)), 0, 0.5, colour, thick)
    words = f"Frame {index} of {clip} with the way of each object before it"
    return Photo([(drawn, words)], f"{clip}, frame {index}")
