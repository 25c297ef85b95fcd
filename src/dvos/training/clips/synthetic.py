"""Synthetic clips, made on the fly, as a source of training clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dvos.training.clips.clip import Clip, ClipRequest, draw_moments, merge_objects, query_clip

if TYPE_CHECKING:
    # Its compiler takes seconds to load: only those who make clips pay.
    from dvos.synthesis.clip import ClipGenerator, SyntheticClip


#: Training draws clips below this number, so many that a run never meets one twice by chance
#: (2e6 draws of 2**62 collide with a chance of 4e-7); validation takes those from it on.
FIRST_VALIDATION_CLIP = 2**62


def as_clip(made: SyntheticClip, *, every_frame: bool) -> Clip:
    """A rendered clip with the ids of every frame, or of the last alone with objects as one."""
    if not every_frame:
        return query_clip(made.frames, merge_objects(made.instances[-1]))
    return Clip(made.frames, made.instances, np.ones(len(made.frames), np.bool_), True)


class SyntheticClips:
    """Endless synthetic clips, a :class:`~dvos.training.clips.clip.ClipSource`.

    Args:
        generator: Makes the clips, drawn at the scale asked for from the start.
    """

    def __init__(self, generator: ClipGenerator) -> None:
        self._generator = generator

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Make a clip; with ``jump`` some frames of one that is as long as they reach."""
        length, times = request.frames, None
        if request.jump is not None:
            reach = (request.frames - 1) * request.jump + 1
            moments = draw_moments(rng, reach, count=request.frames, jump=request.jump)
            times = [moment - min(moments) for moment in moments]
            length = max(times) + 1
        made = self._generator.make(
            int(rng.integers(FIRST_VALIDATION_CLIP)),
            frames=length,
            size=request.size,
            times=times,
            scale=request.scale,
        )
        return as_clip(made, every_frame=request.every_frame)
