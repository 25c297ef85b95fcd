"""The atlas: all cutouts in one flat array, built once and, if they are many, kept on disk.

A kept one is mapped into memory, once for all processes, from a folder ``atlas-<digest>`` of the
cache, of paths, sizes and times of change. A cutout's alpha is hard: the atlas holds the distance
to its contour, so that each clip draws the edge as its settings say, over colours carried outward.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.files import digest, file_stamp, real_path, temporary_folder
from dvos.media.image import read_rgba
from dvos.synthesis import Bytes, Floats, Ints, Singles

BORDER = 5  # transparent pixels round a cutout on each level
LEVELS = 4  # sizes kept of each cutout: whole, half, quarter, eighth
CACHED_FROM = 1000  # atlases of at least this many cutouts are kept on disk

_STEPS = 16.0  # steps of the stored distance per texel
_TEXELS = "texels.bin"
_FORMAT = 1  # raise when the content of an atlas changes
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Atlas:
    """All N cutouts of a scene, whatever their role, on L levels, each half of the one before."""

    texels: Bytes  # uint8 (P, 4): R, G, B, and 128 + 16 * distance inside the contour in texels
    place: Ints  # int64 (N, L, 3): first texel, height, width
    area: Floats  # float64 (N,): pixels inside the contour
    length: Floats  # float64 (N,): longer side of the cutout, px
    colour: Floats  # float64 (N, 3): mean colour, 0..255
    source: Ints  # int64 (N,): number of the still it was cut from
    source_length: Floats  # float64 (N,): median length of that still's cutouts

    def __len__(self) -> int:
        return len(self.area)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapped atlas goes to another process by name, not by content.
        if isinstance(self.texels, np.memmap) and self.texels.filename is not None:
            return _load, (Path(str(self.texels.filename)).parent,)
        return Atlas, tuple(getattr(self, field.name) for field in fields(self))


def cache_folder() -> Path:
    """Folder for what can be made again: ``$DVOS_CACHE`` or the user's cache."""
    if given := os.environ.get("DVOS_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dvos"


def source_name(path: Path) -> str:
    """Name of the still a cutout or distractor came from, by its file's name."""
    return path.stem.split("_rlobj")[0]


def build_atlas(paths: Sequence[Path]) -> Atlas:
    """Decode cutouts and distractors, RGBA images, into an atlas, or map one that was kept.

    A MediaError with all images that cannot be read or hold no object.
    """
    if len(paths) >= CACHED_FROM:
        try:
            stamps = [[str(real_path(path)), *file_stamp(path)] for path in paths]
        except OSError as error:
            raise MediaError.at(error.filename, f"cannot be read ({error.strerror})") from error
        folder = cache_folder() / f"atlas-{digest([_FORMAT, *stamps])}"
        if folder.is_dir() or _keep(paths, folder):
            return _load(folder)
    parts = [np.zeros((0, 4), np.uint8)]
    arrays = _decode(paths, parts.append)
    return Atlas(texels=np.concatenate(parts), **arrays)


def _decode(paths: Sequence[Path], store: Callable[[Bytes], object]) -> dict[str, NDArray[Any]]:
    """The atlas's fields but the texels; ``store`` takes these (n, 4), level after level."""
    place = np.zeros((len(paths), LEVELS, 3), np.int64)
    area, length = np.zeros(len(paths)), np.zeros(len(paths))
    colour = np.zeros((len(paths), 3))
    used = 0
    with FaultCollector(MediaError) as faults:
        for n, path in enumerate(paths):
            rgba = faults.collect(read_rgba, path)
            levels = None if rgba is None else prepare_cutout(rgba)
            if levels is None and rgba is not None:
                faults.add(path, "no pixel is opaque", "an RGBA cutout", "remove its row")
            if levels is None:
                continue
            for k, level in enumerate(levels):
                place[n, k] = used, *level.shape[:2]
                store(level.reshape(-1, 4))
                used += level.shape[0] * level.shape[1]
            inside = levels[0][..., 3] > 128
            area[n] = max(int(np.count_nonzero(inside)), 1)
            length[n] = max(levels[0].shape[:2]) - 2 * BORDER
            colour[n] = levels[0][inside, :3].mean(0) if inside.any() else 128
    stills: dict[str, list[float]] = {}
    for path, longer in zip(paths, length.tolist(), strict=True):
        stills.setdefault(source_name(path), []).append(longer)
    numbers = {still: n for n, still in enumerate(stills)}
    medians = np.array([np.median(lengths) for lengths in stills.values()])
    source = np.array([numbers[source_name(path)] for path in paths], np.int64)
    arrays = (place, area, length, colour, source, medians[source])
    return dict(zip([field.name for field in fields(Atlas)][1:], arrays, strict=True))


def _keep(paths: Sequence[Path], folder: Path) -> bool:
    """Write an atlas folder, its texels straight to the disk; whether that could be done."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent) as temporary:
            with open(temporary / _TEXELS, "wb") as stream:
                arrays = _decode(paths, lambda texels: stream.write(texels.tobytes()))
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            temporary.rename(folder)
    except OSError as error:
        if folder.is_dir():  # another process was faster; its atlas is the same
            return True
        _LOG.warning(
            "the cutouts cannot be kept in %s (%s) and are decoded in every run; "
            "set DVOS_CACHE to a folder that can be written",
            *(folder.parent, error.strerror or error),
        )
        return False
    return True


def _load(folder: Path) -> Atlas:
    arrays = {f.name: np.load(folder / f"{f.name}.npy") for f in fields(Atlas)[1:]}
    # Copied on write, as kernels would be compiled anew for a read-only array; nothing is written.
    texels = np.memmap(folder / _TEXELS, np.uint8, "c").reshape(-1, 4)
    return Atlas(texels=texels, **arrays)


def prepare_cutout(rgba: Bytes) -> list[Bytes] | None:
    """Make the ``LEVELS`` (h, w, 4) of a cutout (H, W, 4), its object with an alpha of 128 or more.

    Straight R, G, B and 128 + 16 times the distance in texels inside the contour, with a border of
    ``BORDER``; each half of the one before. None if no pixel belongs to the object.
    """
    padded = np.pad(rgba, [(BORDER, BORDER), (BORDER, BORDER), (0, 0)])
    inside = padded[..., 3] >= 128
    if not inside.any():
        return None
    # The contour runs half-way between pixels inside and outside; smoothing takes out its stairs.
    mask = inside.astype(np.uint8)
    within = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    without, labels = cv2.distanceTransformWithLabels(
        1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    signed = np.where(inside, within - 0.5, 0.5 - without).astype(np.float32)
    distance = np.asarray(cv2.GaussianBlur(signed, (3, 3), 0.6), np.float32)
    # Each pixel outside takes the nearest one's colour inside.
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[inside]] = padded[inside, :3]
    # Rays of single pixels would show under a wide feather: smoothed outside.
    colour = np.where(inside[..., None], padded[..., :3], cv2.blur(colours[labels], (3, 3)))
    levels = [_packed(colour, distance)]
    coverage = np.clip(0.5 + distance, 0, 1)
    image = colour.astype(np.float32)
    for _ in range(LEVELS - 1):
        image, coverage, distance = _halved(image, coverage, distance)
        levels.append(_packed(np.clip(image + 0.5, 0, 255).astype(np.uint8), distance))
    return levels


def _halved(
    image: Singles, coverage: Singles, distance: Singles
) -> tuple[Singles, Singles, Singles]:
    """The next level: 2 x 2 means, colours weighed by what they cover; thin parts (awns) fade."""
    height, width = coverage.shape
    core = (slice(BORDER, height - BORDER), slice(BORDER, width - BORDER))
    even = [(0, (height - 2 * BORDER) % 2), (0, (width - 2 * BORDER) % 2)]
    cover = _mean2(np.pad(coverage[core], even))
    depth = _mean2(np.pad(distance[core], even, constant_values=-8)) / 2
    weight = np.pad(coverage[core], even) + np.float32(1e-3)
    colour = np.pad(image[core], [*even, (0, 0)], mode="edge")
    colour = _mean2(colour * weight[..., None]) / _mean2(weight)[..., None]
    # Near the contour the distance is that of the covered share.
    deep = np.where(cover > 0.5, np.maximum(depth, 0.5), np.minimum(depth, -0.5))
    depth = np.where((cover > 0) & (cover < 1), cover - np.float32(0.5), deep)
    around = [(BORDER, BORDER)] * 2
    # Beyond the core the distance falls off texel by texel.
    outside = np.pad(np.zeros_like(cover, np.uint8), around, constant_values=1)
    fall = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    colour = np.pad(colour, [*around, (0, 0)], mode="edge")
    return colour, np.pad(cover, around), np.pad(depth, around, mode="edge") - fall


def _mean2(values: Singles) -> Singles:
    total = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return (total / 4).astype(np.float32)


def _packed(colour: Bytes, distance: Singles) -> Bytes:
    depth = np.clip(np.rint(128 + _STEPS * distance), 1, 255).astype(np.uint8)
    depth[0], depth[-1], depth[:, 0], depth[:, -1] = 0, 0, 0, 0  # never drawn, whatever the feather
    return np.dstack([colour, depth])
