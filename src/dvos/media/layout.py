"""What lies in a folder: the one reader of files, labelled stills and clips by their names.

What a system leaves beside data is passed over silently; what cannot be opened, such as a link to a
disk that is not mounted, is listed as a file: who reads it tells. A mask bears the name of its
frame, or that name with ``_frame-`` written ``_mask-``, each accented letter as one character.
"""

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from dvos.errors import FaultCollector, MediaError, UsageError, shortened
from dvos.files import absent, composed, real_path, stem_of
from dvos.tables import STORE_SUFFIX

T = TypeVar("T")
# ASCII digits only: \d also matches characters that int() refuses.
_NUMBERS = re.compile("([0-9]+)")
_log = logging.getLogger(__name__)

#: Folders of masks beside a folder ``images``, the preferred one first.
MASK_FOLDERS = ("head_mask", "masks")
#: Endings (lower case) of the files that count as images, masks and videos in a folder.
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp"}
)
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".nrrd"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts"}
    | {".wmv", ".asf", ".3gp", ".3g2", ".flv", ".f4v", ".ogv", ".mxf", ".vob", ".m2v", ".y4m"}
)
#: Those of pictures and recordings that are not read, which whoever lists a folder is told.
_UNREAD = frozenset(
    {".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".dcm", ".nii"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".insv", ".lrv"}
    | {".czi", ".nd2", ".lif", ".lsm", ".svs", ".ims", ".stk", ".pgm", ".ppm", ".pbm", ".pnm"}
)

#: What systems leave in folders besides hidden files, in lower case.
_SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "@recycle"}
    | {"__macosx", "$recycle.bin", "system volume information", "lost+found"}
)


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder with one of the endings, in natural order; none if it is no folder."""
    return [folder / name for name, _ in _names(folder, suffixes)]


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order; none if it is no folder.

    A MediaError if a link without an ending leads nowhere: all files of a folder are missing.
    """
    entries = list(filter(_may_be_folder, _entries(folder)))
    with FaultCollector(MediaError) as faults:
        for path in (folder / entry.name for entry in entries if entry.is_symlink()):
            if not path.suffix and not os.path.exists(path):  # noqa: PTH110
                faults.add(path, absent(path), "a folder", "mount it, or remove the link")
    paths = (folder / entry.name for entry in entries)
    return [path for path in paths if os.path.isdir(path)]  # noqa: PTH112


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, if any, in natural order; a MediaError if there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise MediaError.at(folder, found, "a folder of images", "check the path")
    return list_files(folder, IMAGE_SUFFIXES)


def inner_folder(folder: Path, name: str) -> Path | None:
    """The folder of that name (in lower case) inside, however it is spelt."""
    return next((sub for sub in list_folders(folder) if sub.name.lower() == name), None)


def natural_key(name: str) -> tuple[list[Any], str]:
    """Sort key under which numbers in names compare as numbers."""
    # Every second part is a number, in all names, so that each is compared with its like.
    parts: list[Any] = _NUMBERS.split(name.casefold())
    parts[1::2] = map(int, parts[1::2])
    # The name itself settles ties such as 01.png and 1.png, the same everywhere.
    return parts, name


def evenly(items: Sequence[T], most: int) -> list[T]:
    """So many of the items at most, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * most)] for place in range(most)]


def path_kind(path: Path) -> Literal["folder", "table", "store", "image", "video", "missing"]:
    """What a path names, by its ending; a file of any other ending may be a video."""
    if not path.is_file():
        return "folder" if path.is_dir() else "missing"
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "table" if suffix == ".csv" else "store" if suffix == STORE_SUFFIX else "video"


def frame_name(mask_name: str) -> str:
    """Name of the frame that a mask of that name (without ending) labels."""
    return mask_name.replace("_mask-", "_frame-")


def before_editing(folder: Path) -> Path:
    """The folder where masks of another one are kept as they were before a person changed them."""
    return folder.with_name(f"{folder.name}_before_editing")


def left_by_system(name: str) -> bool:
    """Whether a file or folder of this name is no data: a hidden one, or what systems leave."""
    return name[0] == "." or name.lower() in _SYSTEM


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    # The functions of os.path answer also for what the system refuses to look at.
    if not os.path.isdir(folder):  # noqa: PTH112
        return []
    try:
        # They know what they are: of some ten thousand files, none is asked for.
        with os.scandir(folder) as found:
            entries = {entry.name: entry for entry in found if not left_by_system(entry.name)}
    except OSError as error:
        problem = f"cannot be listed ({error.strerror})"
        raise MediaError.at(folder, problem, remedy="check its permissions") from error
    if "clips.csv" in entries:  # clips of dvos synthesize, with its contact sheet
        entries.pop("preview.png", None)
    return sorted(entries.values(), key=lambda entry: natural_key(entry.name))


def _names(folder: Path, suffixes: Collection[str]) -> Iterator[tuple[str, str]]:
    """Names of the files with one of the endings, which is told in lower case, in natural order."""
    unread = []
    for entry in _entries(folder):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix in suffixes and _is_file(entry):
            yield entry.name, suffix
        elif suffix in _UNREAD:
            unread.append(entry.name)
    if unread:
        _tell_unread(folder, shortened(unread))


@cache  # so that it is told once for a folder
def _tell_unread(folder: Path, names: str) -> None:
    _log.warning("%s: left out, not read: %s; save them as PNG, JPEG or MP4", folder, names)


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() or entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or something that cannot be opened."""
    try:
        return stat.S_ISREG(entry.stat().st_mode) if entry.is_symlink() else entry.is_file()
    except OSError:
        return True


def pair_stills(folder: Path, faults: FaultCollector) -> list[tuple[Path, Path]]:
    """Photo and mask of each labelled still of a folder, in the photos' natural order.

    A fault is added for each that lacks the other, second mask of a still, and folder without any.
    """
    expected = "a folder with images and masks"
    if not folder.is_dir():
        faults.add(folder, "no such folder", expected)
        return []
    photos = folder / "images"
    images = faults.collect(list_images, photos)
    if images == []:
        faults.add(photos, "holds no images", "labelled photos")
    mask_folder = next((folder / n for n in MASK_FOLDERS if (folder / n).is_dir()), None)
    if mask_folder is None:
        faults.add(folder, f"has no folder {' or '.join(MASK_FOLDERS)}", expected)
    if not images or mask_folder is None:
        return []
    files = sorted(list_files(mask_folder, MASK_SUFFIXES))
    masks = {stem_of(path): path for path in files}
    for path in (one for one in files if masks[stem_of(one)] != one):
        faults.add(masks[stem_of(path)], f"the still has a mask already, {path.name}")
    faults.collect(check_stems, images, masks)
    tell_lone(images, masks, "mask", mask_folder, faults)
    tell_lone(masks.values(), {stem_of(image) for image in images}, "photo", photos, faults)
    return [(image, masks[stem_of(image)]) for image in images if stem_of(image) in masks]


def check_stems(paths: Iterable[Path], labelled: Collection[str]) -> None:
    """A MediaError with a fault for each file whose label, by its stem, is also that of another."""
    first: dict[str, Path] = {}
    with FaultCollector(MediaError) as faults:
        for path, stem in ((path, stem_of(path)) for path in paths):
            if stem in labelled and first.setdefault(stem, path) is not path:
                found = f"{first[stem].name} beside it has the same label"
                faults.add(path, found, "a label of its own", "rename or remove one of the two")


def tell_lone(
    paths: Iterable[Path], stems: Collection[str], what: str, folder: Path, faults: FaultCollector
) -> None:
    """A fault for each path whose stem is not among those of its partners in a folder."""
    lone = [path for path in paths if stem_of(path) not in stems]
    unread = {stem_of(Path(one.name)): one.name for one in (_entries(folder) if lone else ())}
    for path in lone:
        found = f"no {what} of that name in {folder}"
        if stem_of(path) in unread:
            found += f", {unread[stem_of(path)]} is of a kind that is not read"
        faults.add(path, found, "", "add it or remove it")


class FileIndex:
    """The files of a folder by clip (None outside a clip's folder) and frame name.

    The folder holds the files itself, a folder for each clip (the files in it or in its own
    ``inner``, in lower case), or a folder ``inner`` of such folders; those named in ``beside`` are
    no clips where they stand beside files. Of files of one name a PNG is taken, else the first by
    ending, of lower-case ``suffixes``. A UsageError if there is no such folder.
    """

    def __init__(
        self, folder: Path, suffixes: Iterable[str], *, inner: str, beside: Collection[str] = ()
    ) -> None:
        if not folder.is_dir():
            raise UsageError.at(folder, "no such folder", remedy="check the path")
        self.files: dict[tuple[str | None, str], Path] = {}
        ordered = sorted(suffixes, key=lambda suffix: (suffix != ".png", suffix))
        self._order = {suffix: place for place, suffix in enumerate(ordered)}
        self._add(None, folder)
        within = inner_folder(folder, inner)
        if not self.files and within is not None:
            folder = within
            self._add(None, folder)
        passed_over = beside if self.files else ()
        for clip in list_folders(folder):
            if clip.name in passed_over:
                continue
            self._add(composed(clip.name), clip)
            if (own := inner_folder(clip, inner)) is not None:
                self._add(composed(clip.name), own)
        self._by_name: dict[str, list[tuple[str | None, Path]]] = {}
        for (clip_of_file, name), path in self.files.items():
            self._by_name.setdefault(name, []).append((clip_of_file, path))

    def exact(self, clip: str | None, name: str) -> Path | None:
        """The file of that clip and frame name."""
        return self.files.get((clip, name))

    def named(self, name: str) -> list[tuple[str | None, Path]]:
        """Clip and file of all files of that frame name."""
        return self._by_name.get(name, [])

    def _add(self, clip: str | None, folder: Path) -> None:
        for name, suffix in _names(folder, self._order):
            key = (clip, frame_name(composed(name[: -len(suffix)])))
            present = self.files.get(key)
            if present is None or self._order[suffix] < self._order[present.suffix.lower()]:
                self.files[key] = folder / name


@dataclass(frozen=True)
class ClipPlace:
    """Where the frames of a clip lie."""

    name: str
    path: Path
    kind: Literal["folder", "video", "store"]


def find_clip_places(folder: Path) -> list[ClipPlace]:
    """Find the clips of a folder, in natural order.

    It holds frames; or clips of any kind side by side: videos, clip stores, and folders, each of
    frames (in itself or in its own ``Frames``) or of videos or clip stores; or, inside a folder
    ``frames``, clips each a folder of frames. Beside a video no folder is a clip that bears its
    name or is named after masks or frames: that is what was made of it; nor is one that is named
    after masks beside a folder ``images``, whose labels they are. A MediaError if it holds nothing
    of that, or images and videos or clip stores.
    """
    images, files = list_images(folder), _lone_clips(folder)
    if images and files:
        counts = Counter("videos" if place.kind == "video" else "clip stores" for place in files)
        held = [f"{len(images)} images", *(f"{count} {kind}" for kind, count in counts.items())]
        found = f"holds {' and '.join(held)}"
        raise MediaError.at(folder, found, "one kind", "move the others elsewhere")
    if images:
        return [ClipPlace(clip_name(folder), folder, "folder")]
    inner = None if files else inner_folder(folder, "frames")
    if inner is not None and list_images(inner):
        return [ClipPlace(clip_name(inner), inner, "folder")]
    names = {place.name for place in files}
    labelled = inner_folder(folder, "images") is not None
    clips = list(files)
    for sub in list_folders(inner or folder):
        place = sub if list_images(sub) else inner_folder(sub, "frames")
        made = composed(sub.name) in names or sub.name.lower() == "frames" or is_of_masks(sub)
        if place is not None and list_images(place):
            if not ((files and made) or (labelled and is_of_masks(sub))):
                clips.append(ClipPlace(composed(sub.name), place, "folder"))
        elif not made and inner is None and not (sub / ".progress").exists():
            clips += _lone_clips(sub)
    if not clips:
        found = "holds no frame, no video, no clip store and no folder of frames"
        raise MediaError.at(folder, found, "one of these", "point INPUT at them")
    top = inner or folder
    return sorted(clips, key=lambda clip: natural_key(clip.path.relative_to(top).parts[0]))


def _lone_clips(folder: Path) -> list[ClipPlace]:
    """The clips of a folder that are one file each, without what dvos synthesize draws of its own.

    That is a clip's overlay video: ``overlay`` beside its ``Frames``, or of its store's name.
    """
    stores = {stem_of(path): path for path in list_files(folder, {STORE_SUFFIX})}
    videos = {path: stem_of(path) for path in list_files(folder, VIDEO_SUFFIXES)}
    drawn = set(stores)
    if "overlay" in videos.values() and (frames := inner_folder(folder, "frames")):
        drawn |= {"overlay"} if list_images(frames) else set()
    found = [ClipPlace(name, path, "video") for path, name in videos.items() if name not in drawn]
    return found + [ClipPlace(name, path, "store") for name, path in stores.items()]


def is_of_masks(folder: Path) -> bool:
    """Whether a folder's name says that it holds masks, not frames."""
    return "mask" in folder.name.lower()


def clip_name(folder: Path) -> str:
    """Name of the clip whose frames lie in a folder; of the one around it for ``frames``."""
    folder = real_path(folder)
    return composed(folder.parent.name if folder.name.lower() == "frames" else folder.name)
