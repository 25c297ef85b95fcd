"""What the page may ask for, checked, and the edits that it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dvos.labelling import edits
from dvos.labelling.edits import Box, Edit, Ids, Region
from dvos.media.mask import IGNORE

_Value = Annotated[int, Field(ge=0, le=IGNORE)]
_Object = Annotated[int, Field(ge=1, lt=IGNORE)]
_Corner = Annotated[int, Field(ge=0, le=2**20)]
_Objects = Annotated[list[_Value], Field(max_length=IGNORE)]
_Place = Annotated[int, Field(ge=0, le=2**31)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Runs(_Message):
    """Some pixels: run lengths in a box (top, left, bottom, right), outside first."""

    box: list[_Corner] = Field(min_length=4, max_length=4)
    runs: list[_Place] = Field(max_length=4_000_000)

    def region(self, ids: Ids) -> Region:
        """As a region of a mask."""
        top, left, bottom, right = self.box
        return Region.of_runs((top, left, bottom, right), self.runs, ids.shape)


class _Edit(_Message):
    """An edit of a frame, given by its name, at a revision; ``token`` names it."""

    frame: str = Field(max_length=4096)
    base: int
    token: str = Field(pattern="^[A-Za-z0-9-]{8,64}$")


class Paint(_Edit):
    """Brush, eraser, polygon and unknown."""

    kind: Literal["paint"]
    region: _Runs
    value: _Value
    only: _Objects | None = None

    def edit(self, ids: Ids) -> Edit:
        """What it makes of a mask."""
        return edits.paint(ids, self.region.region(ids), self.value, self.only)


class Recolour(_Edit):
    """Merge and delete: pairs of an id and what it becomes."""

    kind: Literal["recolour"]
    pairs: list[tuple[_Object, _Value]] = Field(max_length=IGNORE)

    def edit(self, ids: Ids) -> Edit:
        """What it makes of a mask."""
        return edits.recolour(ids, dict(self.pairs))


class Split(_Edit):
    """An object parted along a line, or without one into its connected parts."""

    kind: Literal["split"]
    object: _Object
    line: _Runs | None = None
    first: _Object

    def edit(self, ids: Ids) -> Edit:
        """What it makes of a mask."""
        line = None if self.line is None else self.line.region(ids)
        return edits.split(ids, self.object, line, self.first)


class Copy(_Edit):
    """Objects of another frame, or of its prediction, put where this one has background."""

    kind: Literal["copy"]
    source: _Place
    objects: _Objects | None = None


class Adopt(_Edit):
    """The objects of a prediction, put where this frame has background."""

    kind: Literal["adopt"]
    layer: _Place


class PointAt(_Edit):
    """A click: the object there is proposed and added, or what is none is cut."""

    kind: Literal["click"]
    x: _Corner
    y: _Corner
    take: bool
    object: _Object


class Accept(_Edit):
    """All proposals with at least this score are added."""

    kind: Literal["accept"]
    least: _Share


class Step(_Edit):
    """Undo or redo."""

    kind: Literal["undo", "redo"]


AnyEdit = Annotated[
    Paint | Recolour | Split | Copy | Adopt | PointAt | Accept | Step, Field(discriminator="kind")
]
EDIT: TypeAdapter[AnyEdit] = TypeAdapter(AnyEdit)


class ClipEdit(_Message):
    """An object of a clip through its frames: joined to another, given a new id, or deleted."""

    kind: Literal["join", "split", "delete", "undo"]
    clip: str = Field(max_length=4096)
    token: str = Field(pattern="^[A-Za-z0-9-]{8,64}$")
    object: _Object = 1
    other: _Object | None = None
    start: _Place = 0


class Training(_Message):
    """How long to train."""

    minutes: Annotated[int, Field(ge=1, le=10_000)]


class Export(_Message):
    """The format to write the labels in."""

    format: str = Field(pattern="^[a-z0-9_-]{1,32}$")


def runs_of(ids: Ids) -> NDArray[np.uint32]:
    """A mask as runs: uint32 (N, 2), the id and the length of each, row by row."""
    flat = ids.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(np.append(starts, flat.size))
    return np.stack([flat[starts].astype("<u4"), lengths.astype("<u4")], axis=1)


def region_message(box: Box, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A region as the page and :class:`_Runs` have it."""
    pairs = runs_of(mask.astype(np.uint16))
    lengths = pairs[:, 1].tolist()
    return {"box": [*map(int, box)], "runs": [0, *lengths] if pairs[0, 0] else lengths}
