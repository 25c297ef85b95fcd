"""Where the results of clips go, and what stands in the way: asked before anything is written."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from dvos import files
from dvos.errors import FaultCollector, MediaError, UsageError, shortened
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.prediction.inputs import ClipInput
from dvos.prediction.tracks.clip import may_replace
from dvos.runner.manifest import ClipManifest

_log = logging.getLogger(__name__)


class ClipWork(Protocol):
    """What is to be done with the frames of a clip."""

    clip: ClipInput
    outcome: ClassVar[tuple[str, ...]]  # attributes that tell, after :meth:`run`, what was made

    def manifest(self) -> ClipManifest:
        """What of it is finished; raises a MediaError if a file of the clip is gone."""

    def places(self) -> Sequence[Path]:
        """The folder of its masks, then the other files and folders that are made of it."""

    def run(self) -> Iterator[None]:
        """Do what is left, a step for each frame; raises a MediaError if one cannot be read."""


def check_places(
    clips: Sequence[ClipInput], out: Path, places: Callable[[ClipInput], Iterable[Path]]
) -> None:
    """Refuse an output folder in which results, at ``places``, would replace a clip's frames."""
    with FaultCollector(UsageError) as faults:
        for clip in clips:
            written = {files.real_path(place) for place in places(clip)}
            for path in clip.files:
                if written & {files.real_path(path), files.real_path(path).parent}:
                    found = f"the results of clip {clip.name!r} would replace its frames, as {path}"
                    faults.add(out, found, "a folder apart from the input", "choose another --out")
                    break


def check_names_apart(work: Sequence[ClipWork], shared: Iterable[Path] = ()) -> None:
    """Refuse clips of whose results one would take the place of another's, or of a shared file."""
    owners, clashes = dict.fromkeys(shared, ""), dict[tuple[str, str], Path]()
    places = [(place, one.clip.name) for one in work for place in one.places()]
    for place, name in places:
        owners.setdefault(place, name)
    for place, name in places:
        # A folder of another clip holds nothing of this one, either.
        for owner in {owners[place], owners.get(place.parent, name)} - {name}:
            clashes.setdefault((owner, name), place)
    with FaultCollector(UsageError) as faults:
        for (owner, name), place in clashes.items():
            other = f"that of {owner!r}" if owner else "a table of all clips"
            found = f"a result of clip {name!r} would take the place of {other}"
            faults.add(place, found, "a name that leaves room", "rename the clip")


def check_names_free(work: Sequence[ClipWork]) -> None:
    """Refuse a clip whose name stands for something else in the output folder.

    Cameras number their files from 1 on every card, and a folder of true masks is soon given by
    mistake. Where the files of the same place have changed, a line tells that results are replaced.
    """
    foreign: list[Path] = []
    replaced: list[str] = []
    with FaultCollector(UsageError) as faults:
        for one in work:
            try:
                manifest = one.manifest()
            except MediaError:
                continue  # reported when the clip's turn comes
            theirs = (place for place in one.places() if not may_replace(manifest, place))
            foreign += filter(_holds_images, theirs)
            if (other := manifest.other) is not None:
                clip, remedy = one.clip, "choose another --out, or rename it"
                found = f"the output folder holds the results of a clip {clip.name!r} from {other}"
                faults.add(clip.source, found, "a name of its own for each clip", remedy)
            if manifest.replaced:
                replaced.append(str(one.clip.source))
    files.refuse_foreign(foreign, "this command")
    if replaced:
        _log.warning(
            "%s: not the files that the output folder holds results of (edited since, or from"
            " another card): the earlier results are replaced; to keep them, stop and choose"
            " another --out",
            shortened(replaced),
        )


def _holds_images(place: Path) -> bool:
    """Whether a file is there, or a folder with images in it."""
    if not place.is_dir():
        return os.path.lexists(place)
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in place.iterdir())
