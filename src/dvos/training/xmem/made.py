"""Clips for XMem's training that are made: synthetic ones, and pans over labelled stills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import read_mask
from dvos.training.geometry import cut, resize_frame
from dvos.training.motion import PanMotion, Wind
from dvos.training.pans import PanDraw
from dvos.training.stills import LabelledStill, aims_of, pan_clip, read_labelled, scaled
from dvos.training.store import DecodedFiles
from dvos.training.synthetic import MadeClip
from dvos.training.xmem.clips import ObjectClip, draw_moments, ids_of, known_objects
from dvos.training.xmem.files import resize_ids

__all__ = ["MadeObjects", "MomentMaker", "NumberedStill", "PannedObjects", "load_numbered_still"]

# Clips are drawn from so many that a run never meets one twice by chance.
_CLIPS = 2**62


class MomentMaker(Protocol):
    """Something that makes some frames of clip k, always the same, and is picklable."""

    def make(
        self,
        clip_index: int,
        *,
        frames: int,
        size: tuple[int, int],
        times: Sequence[int] | None = None,
        scale: float = 1.0,
    ) -> MadeClip:
        """Make the frames ``times`` of a clip of ``frames`` frames, in that order."""
        ...


class MadeObjects:
    """Synthetic clips, an :class:`~dvos.training.xmem.clips.ObjectSource`.

    Args:
        maker: Makes the clips.
    """

    def __init__(self, maker: MomentMaker) -> None:
        self._maker = maker

    def sample(
        self,
        rng: np.random.Generator,
        *,
        frames: int,
        jump: int,
        size: tuple[int, int],
        scale: float,
    ) -> ObjectClip:
        """Make the frames drawn of a clip that is as long as they reach."""
        moments = draw_moments(rng, (frames - 1) * jump + 1, count=frames, jump=jump)
        first = min(moments)
        times = [moment - first for moment in moments]
        made = self._maker.make(
            int(rng.integers(_CLIPS)), frames=max(times) + 1, size=size, times=times, scale=scale
        )
        return ObjectClip(made.frames, made.instances)


@dataclass(frozen=True)
class NumberedStill:
    """A decoded still.

    Attributes:
        image: uint8 (H, W, 3).
        ids: uint16 (H, W).
        aims: int64 (N, 2), (row, column) of pixels spread over the objects.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.uint16]
    aims: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory taken, bytes."""
        return self.image.nbytes + self.ids.nbytes + self.aims.nbytes


def load_numbered_still(still: LabelledStill) -> NumberedStill:
    """Decode a still with the ids of its objects.

    Raises:
        MediaError: If a file cannot be read, photo and mask differ in size, or
            ids are too large.
    """
    image, ids = read_labelled(
        still, lambda path: ids_of(read_mask(path), path, still.ignore_value), np.uint16
    )
    if still.scale != 1:
        size = scaled(image, still.scale)
        image, ids = resize_frame(image, size), resize_ids(ids, size)
    return NumberedStill(image, ids, aims_of(known_objects(ids).astype(np.uint8)))


class PannedObjects:
    """Pan clips over stills, an :class:`~dvos.training.xmem.clips.ObjectSource`.

    The window's path says how far frames lie apart; ``jump`` has no part, as
    over a long path the window would leave what the first frame showed.

    Args:
        stills: The stills; each is drawn as often as any other.
        decoded: Where decoded stills are kept.
        motion: How the window moves.
        wind: How the frames sway.
        object_share: Share of the clips whose window is laid so that it holds
            an object, if the still has one.
    """

    def __init__(
        self,
        stills: Sequence[LabelledStill],
        decoded: DecodedFiles,
        *,
        motion: PanMotion,
        wind: Wind,
        object_share: float = 0.7,
    ) -> None:
        if not stills:
            raise ValueError("there are no stills")
        self._stills = tuple(stills)
        self._decoded = decoded
        self._pans = PanDraw(motion, wind, object_share)

    def sample(
        self,
        rng: np.random.Generator,
        *,
        frames: int,
        jump: int,
        size: tuple[int, int],
        scale: float,
    ) -> ObjectClip:
        """Draw a still, a window on it and a path, run through in either direction."""
        del jump
        chosen = self._stills[int(rng.integers(len(self._stills)))]
        still = self._decoded.get(("numbered", chosen), partial(load_numbered_still, chosen))
        photo = (still.ids.shape[0], still.ids.shape[1])
        pan = self._pans.draw(
            rng, photo=photo, aims=still.aims, frames=frames, size=size, scale=scale
        )
        seen = resize_frame(cut(still.image, pan.box), pan.whole)
        ids = resize_ids(cut(still.ids, pan.box), pan.whole)
        images = pan_clip(seen, pan.window, pan.path, pan.sway)
        masks = pan_clip(ids, pan.window, pan.path, pan.sway, interpolation=cv2.INTER_NEAREST)
        step = -1 if rng.random() < 0.5 else 1
        return ObjectClip(images[::step], masks[::step])
