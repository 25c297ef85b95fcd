"""The sections of the page on one run that show pictures of its data and of what was found."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from dvos.config.scoring import ReportSettings
from dvos.errors import FaultCollector, MediaError, TableError
from dvos.media.image import image_size
from dvos.media.overlay import caption, id_colours
from dvos.reporting import pictures
from dvos.reporting.contents import ClipFrame, ScoredMask, Shown, column
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.gather import RunContents, rows_of
from dvos.reporting.numbers import count_text, plural, score, significant
from dvos.reporting.pictures import Gallery, Photo, spread
from dvos.tables.cells import Cells

PLOTTED = 4  # clips with plots and pictures of their own
_CLIP_FRAMES = 5  # frames of a synthetic clip that are shown, as many as the network takes at once
_TRAIL = 30  # frames that a trail leads back over


def _shown(total: int, shown: int, noun: str) -> str:
    return plural(total, noun) if total <= shown else f"{shown} of {plural(total, noun)}"


def stills(run: RunContents, settings: ReportSettings) -> Shown:
    """Labelled stills."""
    shown, gallery = settings.stills, Gallery()

    def draw(image: Path, mask: Path) -> Photo:
        words = f"Labelled still {image.name} with its objects outlined"
        drawn = pictures.outlined(image, mask, settings.picture_width, run.scores.void)
        return Photo([(drawn, words)], image.name)

    for index in spread(len(run.stills), shown):
        gallery.add(draw, *run.stills[index])
    text = _shown(len(run.stills), shown, "still")
    return {"gallery": gallery, "shown": text} if run.stills and shown else None


def cutouts(run: RunContents, settings: ReportSettings) -> Shown:
    """Sheets of cutouts and of distractors."""
    shown, gallery = settings.sprites, Gallery()

    def draw(name: str, paths: Sequence[Path]) -> Photo:
        chosen = [paths[index] for index in spread(len(paths), shown)]
        words = f"Sheet of {len(chosen)} {name}s on grey"
        drawn = pictures.sheet(chosen, min(settings.picture_width, pictures.LOOKED_AT))
        return Photo([(drawn, words)], _shown(len(paths), shown, name))

    if not shown or not (run.cutouts or run.distractors):
        return None
    for name, paths in (("cutout", run.cutouts), ("distractor", run.distractors)):
        if paths:
            gallery.add(draw, name, paths)
        else:
            gallery.notes.append(f"{name}s: there is no {name}s.csv that names any")
    return {"gallery": gallery}


def clips(run: RunContents, settings: ReportSettings) -> Shown:
    """Frames of synthetic clips, with and without their labels."""
    side, galleries = settings.picture_width // 2, []

    def draw(clip: str, t: int, frame: ClipFrame) -> Photo:
        place = f"{frame.fid} of {clip}"
        images = [(pictures.plain(frame.image, side), f"Synthetic frame {place}")]
        if frame.mask is not None:
            words = f"Frame {place} with its labelled objects coloured"
            images.append((pictures.tinted(frame.image, frame.mask, side), words))
        return Photo(images, f"t{t}: frame {frame.fid}")

    for index in spread(len(run.clips), settings.clips):
        name, frames = list(run.clips.items())[index]
        ordered = sorted(frames, key=lambda frame: frame.fid)
        gallery = Gallery()
        for t, place in enumerate(spread(len(ordered), _CLIP_FRAMES)):
            gallery.add(draw, name, t, ordered[place])
        galleries.append((f"Clip {name}, {plural(len(frames), 'frame')}", gallery))
    text = _shown(len(run.clips), settings.clips, "clip")
    return {"galleries": galleries, "shown": text} if galleries else None


def best_to_worst(run: RunContents, settings: ReportSettings) -> Shown:
    """The scored frames with the highest, the middle and the lowest Dice."""

    def draw(rank: str, one: ScoredMask) -> Photo:
        assert one.prediction is not None  # those without one are not ranked
        image = None if one.image is None else pictures.scored_frame(one.image)
        side = settings.picture_width
        frame, judged = pictures.compared(image, one.mask, one.prediction, side, run.scores.void)
        name = one.image.name if isinstance(one.image, Path) else one.mask.stem
        images = [(judged, f"{rank} frame, {name}: hits, misses and false alarms coloured")]
        if frame is not None:
            images.insert(0, (frame, f"{rank} frame, {name}, as it is"))
        return Photo(images, f", IoU {score(one.iou)}. {name}", f"{rank}: Dice {score(one.dice)}")

    ranked = [one for one in run.scored if one.dice is not None and one.prediction]
    ranked.sort(key=lambda one: -(one.dice or 0.0))
    gallery = Gallery()
    # Of one or two masks there is no middle, and of one no worst.
    middle = len(ranked) // 2
    for rank, place, least in (("Best", 0, 1), ("Median", middle, 3), ("Worst", -1, 2)):
        if len(ranked) >= least:
            gallery.add(draw, rank, ranked[place])
    return {"gallery": gallery} if ranked else None


def film(run: RunContents, settings: ReportSettings) -> Shown:
    """Frames of the predicted clips, evenly apart, and photos."""
    shown, side = settings.film_frames, settings.picture_width
    clips = list(run.counts)[:PLOTTED] if shown else []
    each = max(1, shown // max(1, len(clips)))
    gallery, masks_only = Gallery(), False

    def draw(path: Path, words: str, caption: str) -> Photo:
        return Photo([(pictures.plain(path, side), words)], caption)

    for clip in clips:
        masks = run.frame_masks.get(clip, [])
        if clip in run.videos:
            try:
                _add_film(gallery, run, clip, each, side)
            except MediaError as error:
                gallery.notes += map(str, error.faults)
        elif masks and not run.overlays:
            masks_only = True
            for path in (masks[index] for index in spread(len(masks), each)):
                gallery.add(draw, path, f"Predicted mask {path.name}, objects in white", path.name)
    for path in (run.overlays[index] for index in spread(len(run.overlays), shown)):
        gallery.add(draw, path, f"Photo {path.stem} with predicted objects coloured", path.stem)
    filled = gallery.photos or gallery.notes
    return {"gallery": gallery, "masks_only": masks_only} if filled else None


def _add_film(gallery: Gallery, run: RunContents, clip: str, count: int, side: int) -> None:
    rows = run.counts[clip]
    # The overlay video has one frame a row, whatever the first frame index is.
    places = spread(len(rows["frame_index"]), count)
    frames = pictures.film(run.videos[clip], places, side)
    for place in places:
        if place not in frames:
            name = run.videos[clip].name
            gallery.notes.append(f"{name}: frame {place} is not in the overlay video")
            continue
        time, found = (column(rows, name)[place] for name in ("time_s", "count"))
        index = f"{rows['frame_index'][place]:.0f}"
        parts = [f"frame {index}"]
        parts += [f"{significant(time)} s"] if math.isfinite(time) else []
        parts += [f"count {count_text(found)}"] if math.isfinite(found) else []
        words = f"Frame {index} of {clip} with predicted objects coloured"
        gallery.photos.append(Photo([(frames[place], words)], ", ".join(parts)))


def followed(run: RunContents, settings: ReportSettings) -> Shown:
    """Totals of all clips, and of some how long tracks are and their trails on a frame."""
    gallery, plots = Gallery(), []
    clips = [one.clip for one in run.totals if not one.region and one.clip in run.frame_masks]
    with FaultCollector(TableError) as faults:
        for clip in clips[:PLOTTED]:
            tracks = rows_of(run.predicted / f"{clip}.tracks.csv", ("frames",), faults)
            # How many tracks were seen in so many frames or more.
            lengths = Counter(int(row.real("frames") or 0) for row in tracks)
            longest = max(lengths, default=0)
            lasting = [*accumulate(lengths[n] for n in range(longest, 0, -1))][::-1]
            line = Series("tracks", [*map(float, range(1, longest + 1))], [*map(float, lasting)])
            title, ends = f"Tracks seen in so many frames or more, {clip}", (0.0, None)
            drawn = line_plot([line], title=title, x_label="frames", y_limits=ends, whole_x=True)
            plots.append((clip, [drawn]))
            table = run.predicted / f"{clip}.objects.csv"
            seen = rows_of(table, ("frame_index", "track", "centre_x", "centre_y"), faults)
            if seen and settings.film_frames and not faults:
                gallery.add(_trails, run, clip, seen, settings.picture_width)
    shown = {"totals": run.totals, "plots": plots, "gallery": gallery, "clips": clips}
    return shown if run.totals else None


def _trails(run: RunContents, clip: str, seen: Sequence[Cells], side: int) -> Photo:
    """The middle frame, the way of each of its objects to there, and the total of each region."""
    masks, video = run.frame_masks[clip], run.videos.get(clip)
    rows = run.counts[clip]["frame_index"]
    place = len(rows if video else masks) // 2
    index = int(rows[place])
    frames = {} if video is None else pictures.film(video, {place}, side)
    image = frames.get(place) if video else pictures.plain(masks[place], side)
    if image is None:
        raise MediaError.at(video or masks[place], f"has no frame {place}")
    drawn: pictures.UInt8 = np.ascontiguousarray(image)
    scale, thin = drawn.shape[1] / image_size(masks[0])[1], pictures.strokes(drawn)
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
        cv2.polylines(drawn, [points], False, colour, 2 * thin, cv2.LINE_AA, 4)
    for total in run.totals:
        if total.clip == clip and total.region in places and total.region:
            x, y = np.mean(places[total.region], axis=0)
            text = f"{total.region}: {total.numbers['distinct']:.0f}"
            start = (int(x) - 4 * thin * len(text), int(y))
            caption(drawn, text, 10 * thin, start)
    words = f"Frame {index} of {clip} with the way of each object before it"
    return Photo([(drawn, words)], f"{clip}, frame {index}")
