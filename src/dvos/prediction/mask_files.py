"""Which mask files a clip starts from.

Accepted, for a clip ``field`` with the frames ``field_000000``, ...:

- one file, for its first frame or the frame it is named after;
- a folder with ``field.png``, or with ``field/<frame>.png`` (also in a folder
  ``masks`` of either), as the published evaluation has it;
- a folder that holds the clip's masks itself, where there is one clip only.

A mask named ``..._mask-00000`` belongs to the frame ``..._frame-00000``, as the
published training has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.errors import MediaError, UsageError
from dvos.media.layout import MASK_SUFFIXES, frame_name, inner_folder, list_files, natural_key


@dataclass(frozen=True)
class MaskFiles:
    """Mask files of a clip, at least one.

    Attributes:
        first: For the first frame, whatever its name; None if all are by name.
        named: By name of the frame, in the order of the frames.
    """

    first: Path | None
    named: dict[str, Path]

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file, in the order of the frames."""
        return (*(() if self.first is None else (self.first,)), *self.named.values())


def find_masks(
    path: Path, clip: str, *, frame_names: Sequence[str] | None = None, alone: bool = True
) -> MaskFiles:
    """Find the masks of a clip.

    Args:
        path: File or folder, as the module says.
        clip: Name of the clip.
        frame_names: Of its frames, in order; None of a video file, whose
            frames are named ``<clip>_<six digits>``.
        alone: Whether it is the only clip.

    Raises:
        UsageError: If there is no such path.
        MediaError: If the clip has no mask there, or none of its frames' names.
    """
    belongs, order = _belonging(clip, frame_names)
    if path.is_file():
        if not alone:
            raise MediaError.at(
                path,
                "is one mask, and there are several clips",
                "a folder with <clip>.png or <clip>/<frame>.png",
                "give the folder of their first masks",
            )
        return _by_name([path], belongs, order, folder=path)
    if not path.is_dir():
        raise UsageError.at(path, "no such file or folder", remedy="check --first-mask")
    inner = inner_folder(path, "masks")
    bases = [path] if inner is None else [path, inner]
    for base in bases:
        if found := _of_clip(base, clip):
            return _by_name(found, belongs, order, folder=found[0].parent)
    if alone:
        for base in bases:
            if found := list_files(base, MASK_SUFFIXES):
                return _by_name(found, belongs, order, folder=base)
    raise MediaError.at(
        path,
        f"holds no mask of the clip {clip!r}",
        f"{clip}.png, or a folder {clip} with masks named like the frames",
        "add its first mask, or take the clip out of the input",
    )


def _of_clip(base: Path, clip: str) -> list[Path]:
    folder = base / clip
    if folder.is_dir():
        inner = inner_folder(folder, "masks") or folder
        return list_files(folder, MASK_SUFFIXES) or list_files(inner, MASK_SUFFIXES)
    return [path for path in list_files(base, MASK_SUFFIXES) if path.stem == clip][:1]


def _belonging(
    clip: str, frame_names: Sequence[str] | None
) -> tuple[Callable[[str], bool], Callable[[str], object]]:
    """Whether a name is a frame's, and what puts names in the order of the frames."""
    if frame_names is None:
        pattern = re.compile(rf"{re.escape(clip)}_\d{{6,}}")
        return lambda name: pattern.fullmatch(name) is not None, natural_key
    places = {name: place for place, name in enumerate(frame_names)}
    return places.__contains__, places.__getitem__


def _by_name(
    paths: Sequence[Path],
    belongs: Callable[[str], bool],
    order: Callable[[str], object],
    *,
    folder: Path,
) -> MaskFiles:
    named: dict[str, Path] = {}
    for path in paths:
        for name in (path.stem, frame_name(path.stem)):
            if belongs(name):
                named.setdefault(name, path)
                break
    if named:
        return MaskFiles(None, {name: named[name] for name in sorted(named, key=order)})  # type: ignore[arg-type]
    if len(paths) == 1:
        return MaskFiles(paths[0], {})
    raise MediaError.at(
        folder,
        f"holds {len(paths)} masks, none of which has the name of a frame, as {paths[0].name}",
        "masks named like their frames, or a single one",
        "rename them",
    )
