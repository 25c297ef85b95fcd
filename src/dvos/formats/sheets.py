"""What every writer goes through: pictures under plain names, objects numbered and drawn."""

import filecmp
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, OutputError, check_size
from dvos.files import atomic_path, composed, make_folder
from dvos.formats.labels import UNKNOWN, LabelledObject, LabelledSource, Notes, Picture, Region
from dvos.media.image import read_image, write_image
from dvos.media.video import VideoFile, VideoFrame

#: What a name does not keep: what would be a path or steer a terminal, and what is no Unicode.
_ODD = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]+')
#: Bytes of a name in UTF-8: file systems hold 255, and what tells the kind of a file comes after.
_LONGEST = 150
#: What is wrong with a place where something else stands.
TAKEN = ("is there with other content", "", "choose another --out, or move it")


@dataclass(frozen=True, eq=False)
class Sheet:
    """A picture on its way into a file."""

    source: LabelledSource  # that it is of; takes notes
    picture: Picture
    video: str  # plain name of its video; empty for a photo
    name: str  # plain name of its file, without ending
    objects: Callable[[], Iterable[LabelledObject]]
    numbers: Sequence[int]  # of these, from 1; UNKNOWN of regions of unknown label
    films: "Films"  # that frames without a file of their own are taken from

    def place_file(self, folder: Path) -> str:
        """Have the picture in a folder, if it is known; gives its name there.

        Its file is linked or copied, a frame of a video file becomes a PNG. A MediaError if that
        cannot be decoded, an OutputError if something else has its name.
        """
        source = self.picture.path
        if self.picture.is_in_film:
            path = folder / f"{self.name}.png"
            put(path, self.films.read(self.picture), write_image, read_image)
            return path.name
        if source is None:
            self.source.notes.add("pictures that were not found: give --images", self.picture.name)
            return f"{self.name}{PurePosixPath(self.picture.name).suffix or '.png'}"
        path = folder / f"{self.name}{source.suffix}"
        if os.path.lexists(path):
            with suppress(OSError):
                if path.is_file() and filecmp.cmp(source, path, shallow=False):
                    return path.name
            raise OutputError.at(path, *TAKEN)
        make_folder(folder)
        try:
            os.link(source.resolve(), path)
        except OSError:  # another disk, or a file system without such names
            with atomic_path(path) as temporary:
                shutil.copyfile(source, temporary)
        return path.name

    def shapes(self, *, unknown: bool = False) -> Iterator[tuple[LabelledObject, int, Region]]:
        """Its objects with their numbers and pixels, perhaps unknown regions; others are noted."""
        for place, (one, number) in enumerate(zip(self.objects(), self.numbers, strict=True)):
            region = one.draw()
            if region.area and (unknown or not one.unknown):
                yield one, number, region
                continue
            note = "objects without a pixel inside their picture, left out"
            if region.area:
                note = "regions of unknown label, which the format cannot hold, left out"
            self.source.notes.add(note, self.picture.name, place)

    def labels(self, void: int | None = None) -> NDArray[np.int32]:
        """Its label image, int32 (H, W), 0 background, ``void`` unknown; without that it is noted.

        Of objects that overlap that of higher z, else the smaller, lies on top, unknown below all.
        """
        labels, notes = np.zeros(self.picture.size, np.int32), self.source.notes
        shapes = list(self.shapes(unknown=void is not None))
        shapes.sort(key=lambda one: (not one[0].unknown, one[0].z, -one[2].area))
        under: set[int] = set()
        for _, number, region in shapes:
            inside = labels[region.window]
            under |= {*np.unique(inside[region.mask]).tolist()} - {0, UNKNOWN, number}
            inside[region.mask] = number
        for number in under:
            if not (labels == number).any():
                note = "objects wholly under others, which a label image cannot hold"
                notes.add(note, self.picture.name, number)
        if under:
            note = "pictures with objects over others; on top lies the higher z, else the smaller"
            notes.add(note, self.picture.name)
        if void is not None:
            labels[labels == UNKNOWN] = void
        return labels


class Films:
    """Frames of video files, of which one is open: each is gone through once if asked in order."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._next = 0

    def read(self, picture: Picture) -> NDArray[np.uint8]:
        """The frame that a picture is, uint8 RGB (H, W, 3); a MediaError if it is another's."""
        film, number = picture.film, picture.frame
        assert film is not None
        if film != self._path or number < self._next:
            self._path, self._frames = film, VideoFile(film).frames(number)
        frame = next((one for one in self._frames if one.frame_index >= number), None)
        self._next = number + 1
        if frame is None or frame.frame_index != number:
            found = f"has no frame {number}, which is labelled"
            raise MediaError.at(film, found, "the video that was labelled")
        check_size(film, frame.image.shape[:2], picture.size, "the mask of its frame")
        return frame.image


def put(
    path: Path, value: Any, write: Callable[[Path, Any], None], read: Callable[[Path], Any]
) -> None:
    """Write a file, or see that it is there already and the same."""
    if not path.exists():
        write(path, value)
    elif not np.array_equal(read(path), value):
        raise OutputError.at(path, *TAKEN)


Layout = Literal["folders", "flat", "videos"]


def sheets(source: LabelledSource, most: int, layout: Layout = "folders") -> Iterator[Sheet]:
    """The pictures of a source, photos first, then video by video; ``most`` is the highest number.

    Names differ in each video (folders) or among all pictures (flat), or each photo is a video of
    its own (videos). A MediaError if a photo or video has more objects than numbers.
    """
    films = Films()
    videos: dict[str, list[Picture]] = {}
    for picture in source.pictures:
        videos.setdefault(picture.video, []).append(picture)
    photos = videos.pop("", [])
    ordered = [sorted(each, key=lambda one: one.frame) for each in videos.values()]
    folders = plain_names(list(videos), whole=True)
    names = [plain_names([one.name for one in each]) for each in (photos, *ordered)]
    if layout == "flat":
        every = iter(plain_names([one.name for each in (photos, *ordered) for one in each]))
        names = [[next(every) for _ in each] for each in names]
    scopes = [("", [photo], [name]) for photo, name in zip(photos, names[0], strict=True)]
    scopes += zip(folders, ordered, names[1:], strict=True)
    for video, pictures, own in scopes:
        given = [picture.objects for picture in pictures]
        if not video:
            # Of a photo they are asked for once: they may have to be read.
            given = [partial(tuple, (*given[0](),))]
        where = f"{source.path} {video or own[0]}"
        numbers = _numbers((each() for each in given), source.notes, most, where)
        video = own[0] if layout == "videos" and not video else video
        for picture, name, objects, each in zip(pictures, own, given, numbers, strict=True):
            yield Sheet(source, picture, video, name, objects, each, films)


def labelled(every: Iterable[Sheet], *, gaps: bool = True) -> Iterator[Sheet]:
    """Those of labelled pictures; others are left out and noted.

    Of a format whose videos have no ``gaps`` each frame stays, and is noted: as one of no objects.
    So are frames between that are not there, such as those that a prediction left out.
    """
    shown = "frames that are not labelled, which the format shows without objects"
    video, following = "", 0
    for sheet in every:
        picture, notes = sheet.picture, sheet.source.notes
        kept = picture.labelled or bool(picture.video and not gaps)
        if not picture.labelled:
            note = shown if kept else "pictures that are not labelled, left out"
            notes.add(note, picture.name)
        if picture.video and not gaps:
            for absent in range(following, picture.frame) if picture.video == video else ():
                notes.add(shown, picture.video, absent)
            video, following = picture.video, picture.frame + 1
        if kept:
            yield sheet


def videos_of(source: LabelledSource, most: int) -> Iterator[tuple[str, Iterator[Sheet]]]:
    """The pictures of a source, a video after the other; each photo is one of its own."""
    return groupby(sheets(source, most, "videos"), lambda sheet: sheet.video)


def _numbers(
    objects: Iterable[Iterable[LabelledObject]], notes: Notes, most: int, where: str
) -> list[list[int]]:
    """Numbers, from 1, of a photo's or a video's objects; those given stay if they all fit."""
    # 0 is the background: it and what is below it are no ids.
    given = [
        [UNKNOWN if one.unknown else one.id if (one.id or 0) > 0 else None for one in each]
        for each in objects
    ]
    told = {id_ for each in given for id_ in each if id_ is not None and id_ != UNKNOWN}
    renamed = {id_: id_ for id_ in told}
    if max(told, default=0) > most:
        notes.add("pictures whose ids are too high for the format, numbered anew", where)
        renamed = {id_: number for number, id_ in enumerate(sorted(told), 1)}
    taken = set(renamed.values())
    free = (number for number in count(1) if number not in taken)
    renamed[UNKNOWN] = UNKNOWN
    numbers = [[next(free) if id_ is None else renamed[id_] for id_ in each] for each in given]
    if max((number for each in numbers for number in each), default=0) > most:
        raise MediaError.at(where, f"more than {most} objects", f"at most {most}", "part it")
    return numbers


def plain_names(given: Sequence[str], *, whole: bool = False) -> list[str]:
    """Names for files without their endings, or for ``whole`` names of folders, no two alike.

    The last part of each; where several are the same, the folders above it stand before it.
    """
    paths = [PurePosixPath(composed(name).replace("\\", "/")) for name in given]
    parts = [(*path.parts[:-1], path.name if whole else path.stem) for path in paths]
    names = [_plain(part[-1:]) for part in parts]
    for depth in range(2, max(map(len, parts), default=0) + 2):
        # File systems may not tell letters of either case apart.
        times = Counter(name.casefold() for name in names)
        for place, (name, path) in enumerate(zip(names, paths, strict=True)):
            if times[name.casefold()] > 1:
                ending = path.suffix.replace(".", "_") if depth > len(parts[place]) else ""
                names[place] = _plain(parts[place][-depth:], ending)
    seen: set[str] = set()
    for place, name in enumerate(names):
        unlike = (f"{name}_{number}" if number > 1 else name for number in count(1))
        names[place] = next(one for one in unlike if one.casefold() not in seen)
        seen.add(names[place].casefold())
    return names


def _plain(parts: Sequence[str], ending: str = "") -> str:
    kept = _ODD.sub("_", "_".join(part for part in parts if part not in ("/", ".", "..")))
    name = f"{kept.strip().lstrip('.') or 'picture'}{_ODD.sub('_', ending)}"
    # Of a character that is cut in two nothing stays.
    return name.encode()[-_LONGEST:].decode(errors="ignore").strip().lstrip(".") or "picture"
