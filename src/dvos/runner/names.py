"""Names of this program's results, given back where a copy has taken their accents apart.

Archives and the file systems of Macs may write an accented letter as two characters; what is looked
for would then not be found, and be made again beside what is there.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from dvos.files import composed, find_path

#: What is made of a clip bears its name, and one of these behind it.
_OF_CLIP = ("", ".mp4", ".jpg", ".json", ".objects.csv", ".tracks.csv", ".regions.csv", "_RES")
#: Folders of an output folder that hold what is made of its clips.
_HOLDERS = ("", "overlays", "masks", "frames")


def restore_names(
    folder: Path, is_own: Callable[[str], bool] = lambda _: True, *, below: bool = False
) -> None:
    """Rename what ``is_own``, and all ``below`` it, to composed names that are free."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            own = composed(name)
            if not is_own(own):
                continue
            path = folder / own
            if own != name and not os.path.lexists(path):
                (folder / name).rename(path)
            if below and path.is_dir() and not path.is_symlink():
                restore_names(path, below=True)


def restore_clips(out: Path) -> None:
    """Restore the names of all clips with a record of finished work in an output folder."""
    records = out / ".progress"
    restore_names(records)
    # A record escapes all that is not ASCII; most have none, and nothing is looked through.
    clips = []
    for path in records.glob("*.jsonl"):
        with suppress(OSError):  # told by whoever needs it
            if not path.name.isascii() or b"\\u" in path.read_bytes():
                clips.append(path.stem)
    own = {f"{clip}{ending}" for clip in clips for ending in _OF_CLIP}
    for holder in _HOLDERS if own else ():
        restore_names(out / holder, own.__contains__, below=True)


def names_on_disk(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Of names relative to a folder that are not ASCII, those under which the files lie, if any."""
    places: dict[str, tuple[Path, dict[str, str]]] = {}
    found: dict[str, str] = {}
    for name in names:
        if name.isascii():
            continue
        head, tail = os.path.split(name)
        if head not in places:
            place = find_path(folder, head, os.path.isdir) or Path(folder, head)
            inside = os.listdir(place) if place.is_dir() else []  # noqa: PTH208
            places[head] = place, {composed(one): one for one in inside} | {o: o for o in inside}
        place, inside_by_name = places[head]
        known = inside_by_name.get(tail) or inside_by_name.get(composed(tail), tail)
        found[name] = os.path.relpath(place / known, folder)
    return found
