"""Views of a stream: one size of its frames in some mirror images, cut into tiles, and averaged.

Tensor letters: B frames of a batch, T frames of a window (references, then the query), C channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dvos.formats.labels import Size
from dvos.networks.devices import AtOnce
from dvos.networks.spec import Outputs
from dvos.prediction.tiles import Tile, tile_grid, tile_weight
from dvos.training.displacement import moved

#: Mirror images, as the dimensions of (B, C, H, W) that are turned round.
Flips = tuple[tuple[int, ...], ...]
FLIPS: dict[str, Flips] = {"none": ((),), "horizontal": ((), (3,)), "all": ((), (3,), (2,), (2, 3))}


class StreamingNetwork(Protocol):
    """A network whose frames are encoded one by one and decoded in windows of references."""

    references: int

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised, to maps (B, C, h, w)."""

    def decode(
        self, features: Sequence[Sequence[Tensor]], size: Size, *, reconstruct: bool = True
    ) -> Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""


class Found(NamedTuple):
    """What a network found in the frames of a batch."""

    probability: Tensor  # (B, h, w) at the size of the view
    #: Of further heads by name, (B, C, h, w), of the plain view: what they mean may turn with it.
    others: Mapping[str, Tensor]

    def last(self, count: int) -> "Found":
        """The same of the last ``count`` frames of the batch."""
        first = len(self.probability) - count
        others = {name: maps[first:] for name, maps in self.others.items()}
        return Found(self.probability[first:], others)

    def moved(self, x: float, y: float) -> "Found":
        """The same moved by x to the right and y down, in sides of the view."""

        def there(maps: Tensor) -> Tensor:
            return moved(maps, x * maps.shape[-1], y * maps.shape[-2])

        others = {name: there(maps) for name, maps in self.others.items()}
        return Found(there(self.probability), others)

    @classmethod
    def joined(cls, parts: Sequence["Found"]) -> "Found":
        """The same of all frames of a batch, from what was found in parts of it."""
        if len(parts) == 1:
            return parts[0]
        others = {x: torch.cat([part.others[x] for part in parts]) for x in parts[-1].others}
        return cls(torch.cat([part.probability for part in parts]), others)


@dataclass(frozen=True, eq=False)
class View:
    """One size of a video in some mirror images, with features for each tile and image."""

    size: Size
    flips: Flips
    tiles: list[Tile]
    weights: list[Tensor]
    caches: list["FeatureCache"]

    @classmethod
    def open(
        cls, size: Size, flips: Flips, tiling: tuple[int, int], device: torch.device
    ) -> "View":
        """A view without features yet; ``tiling`` is the tiles' side, 0 for none, and overlap."""
        tiles = tile_grid(size, *tiling)
        weights = [torch.from_numpy(tile_weight(t, size, tiling[1])).to(device) for t in tiles]
        caches = [FeatureCache() for _ in range(len(tiles) * len(flips))]
        return cls(size, flips, tiles, weights, caches)


@dataclass(eq=False)
class WindowDecoder:
    """Segments batches of frames in a view, parted where memory does not suffice."""

    network: StreamingNetwork  # whose place another that gives the same may take
    interval: int  # frames from each reference to the next
    autocast: torch.dtype | None  # what it computes in where it may be less precise
    at_once: AtOnce

    def segment(self, view: View, frames: Tensor, indices: list[int], queries: list[int]) -> Found:
        """What is found in ``queries``, the last of normalised frames (B, 3, H, W), of a view."""
        found: list[Found] = []

        def run(part: slice) -> None:
            own = indices[part]
            wanted = [index for index in queries if index in own]
            found.append(self._fitting(view, frames[part], own, wanted))

        self.at_once.run(len(indices), run)
        # Of frames that only later ones refer to there is nothing to join.
        return Found.joined([each for each in found if len(each.probability)] or found[-1:])

    def _fitting(self, view: View, frames: Tensor, indices: list[int], queries: list[int]) -> Found:
        """As :meth:`segment`, of frames that fit into memory."""
        total = torch.zeros((len(queries), *view.size), device=frames.device)
        weight = torch.zeros(view.size, device=frames.device)
        others: Mapping[str, Tensor] = {}
        caches = iter(view.caches)
        for tile, tile_weights in zip(view.tiles, view.weights, strict=True):
            rows = slice(tile.top, tile.top + tile.height)
            columns = slice(tile.left, tile.left + tile.width)
            weight[rows, columns] += tile_weights * len(view.flips)
            part = frames[..., rows, columns]
            for flip in view.flips:
                mirrored = part.flip(flip) if flip else part
                outputs = self._part(next(caches), mirrored, indices, queries)
                if outputs is None:
                    continue
                found = outputs.mask_logits.float().sigmoid()
                upright = found.flip(flip) if flip else found
                total[:, rows, columns] += upright[:, 0] * tile_weights
                # A network with further heads sees to tiles itself: there is one here.
                others = others if flip else getattr(outputs, "others", {})
        return Found(total / weight, others)

    def _part(
        self, cache: "FeatureCache", part: Tensor, indices: list[int], queries: list[int]
    ) -> Outputs | None:
        """Outputs of the queries among a batch of tiles (B, 3, H, W); None if there are none."""
        is_mixed = self.autocast is not None
        with torch.autocast(part.device.type, dtype=self.autocast, enabled=is_mixed):
            cache.add(indices, self.network.encode(part))
            if not queries:
                return None
            # Frame indices of the references, oldest first, and the query.
            steps = range(self.network.references, -1, -1)
            windows = [[query - step * self.interval for step in steps] for query in queries]
            size = (part.shape[-2], part.shape[-1])
            return self.network.decode(cache.windows(windows), size, reconstruct=False)


@dataclass(eq=False)
class FeatureCache:
    """Features of the latest frames of one view."""

    _features: dict[int, list[Tensor]] = field(default_factory=dict)

    def add(self, indices: list[int], features: list[Tensor]) -> None:
        """Keep the maps (B, C, h, w) of the frames ``indices``."""
        for place, index in enumerate(indices):
            self._features[index] = [maps[place : place + 1] for maps in features]

    def windows(self, windows: list[list[int]]) -> list[list[Tensor]]:
        """For each scale T maps (B, C, h, w) of several windows."""
        chosen = [[self._features[self._nearest(i)] for i in window] for window in windows]
        # T times the maps of the B windows' frames at that step; a single one is not copied.
        steps = list(zip(*chosen, strict=True))
        return [
            [
                step[0][scale] if len(step) == 1 else torch.cat([maps[scale] for maps in step])
                for step in steps
            ]
            for scale in range(len(chosen[0][0]))
        ]

    def drop_before(self, index: int) -> None:
        """Forget what no window from now on, which begin at ``index`` or later, needs."""
        oldest = self._nearest(index)
        for key in [key for key in self._features if key < oldest]:
            del self._features[key]

    def _nearest(self, index: int) -> int:
        # The frame itself, or, where it could not be read, the one before it;
        # the first frame stands in for those before the beginning.
        earlier = [key for key in self._features if key <= index]
        return max(earlier) if earlier else min(self._features)
