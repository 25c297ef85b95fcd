"""Clip k of a mixture of sources: drawn, changed, always the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from dvos.training.clips import ClipSample, ClipSource
from dvos.training.colour_jitter import ColourJitter
from dvos.training.degradation import Degradation
from dvos.training.spatial import SpatialJitter

__all__ = ["ClipMixture", "Shares"]


class Shares:
    """Names drawn by their shares.

    Args:
        shares: Of each name; those above 0 are made to add up to 1. In the
            order of the names, so that the order of a file does not matter.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.names = sorted(name for name, share in shares.items() if share > 0)
        if not self.names:
            raise ValueError("no source has a share")
        weights = np.array([shares[name] for name in self.names], np.float64)
        self._edges = np.cumsum(weights / weights.sum())

    @property
    def parts(self) -> dict[str, float]:
        """The share of each name; they add up to 1."""
        parts = np.diff(self._edges, prepend=0.0)
        return {name: float(part) for name, part in zip(self.names, parts, strict=True)}

    def draw(self, rng: np.random.Generator) -> int:
        """Place in ``names`` of a name drawn."""
        chosen = int(np.searchsorted(self._edges, rng.random(), side="right"))
        # The last edge may fall short of 1 by rounding.
        return min(chosen, len(self.names) - 1)


class ClipMixture:
    """Endless augmented clips from several sources.

    Clip k depends on the arguments below and k alone: any process, in any
    order, gives the same bytes.

    Args:
        sources: The sources by name.
        shares: Share of each, see :class:`Shares`.
        frames: Frames of a clip, the query included.
        size: (height, width) of the clips, pixels.
        seed: Of all draws.
        spatial: What the geometry is drawn from.
        colour: What the colours are drawn from.
        degradation: What the quality is drawn from.
    """

    def __init__(
        self,
        sources: Mapping[str, ClipSource],
        shares: Mapping[str, float],
        *,
        frames: int,
        size: tuple[int, int],
        seed: int,
        spatial: SpatialJitter,
        colour: ColourJitter,
        degradation: Degradation,
    ) -> None:
        self._shares = Shares({name: shares.get(name, 0) for name in sources})
        self._names = self._shares.names
        self._sources = [sources[name] for name in self._names]
        self._frames = frames
        self._size = size
        self._seed = seed
        self._spatial = spatial
        self._colour = colour
        self._degradation = degradation

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source that is used; they add up to 1."""
        return self._shares.parts

    def source_of(self, k: int) -> str:
        """Name of the source of clip ``k``, without making the clip."""
        return self._names[self._draw(k)[1]]

    def count(self, indices: Sequence[int]) -> dict[str, int]:
        """How many of these clips each source gives."""
        counts = Counter(self.source_of(k) for k in indices)
        return {name: counts[name] for name in self._names}

    def stream(self, k: int, number: int) -> np.random.Generator:
        """A further stream of draws of clip ``k``, apart from what the clip is drawn from.

        Args:
            k: The clip.
            number: Of the stream.
        """
        sequence = np.random.SeedSequence([self._seed, k], spawn_key=(number,))
        return np.random.default_rng(sequence)

    def raw(self, k: int) -> ClipSample:
        """Clip ``k`` with its geometry, before colours and quality change."""
        return self._spatial_sample(self._draw(k))

    def sample(self, k: int) -> ClipSample:
        """Clip ``k``: frames uint8 (T, H, W, 3) and target uint8 (H, W)."""
        draw = self._draw(k)
        sample = self._spatial_sample(draw)
        frames = self._colour.apply(draw[0], sample.frames)
        return ClipSample(self._degradation.apply(draw[0], frames), sample.target)

    def _draw(self, k: int) -> tuple[np.random.Generator, int]:
        if k < 0:
            raise IndexError(f"clip {k}: clips count from 0")
        rng = np.random.default_rng([self._seed, k])
        return rng, self._shares.draw(rng)

    def _spatial_sample(self, draw: tuple[np.random.Generator, int]) -> ClipSample:
        rng, chosen = draw
        geometry = self._spatial.draw(rng, self._size)
        sample = self._sources[chosen].sample(
            rng, frames=self._frames, size=geometry.canvas, scale=geometry.scale
        )
        return geometry.apply(sample)
