"""What the page may ask for, checked, and pixels as it sends and is sent them."""

import operator
import reprlib
from functools import reduce
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model

from dvos.errors import Fault, UsageError
from dvos.formats.labels import Region, Size
from dvos.labelling.edits import runs_of
from dvos.media.mask import IGNORE

_Value = Annotated[int, Field(ge=0, le=IGNORE)]
_Object = Annotated[int, Field(ge=1, lt=IGNORE)]
_Corner = Annotated[int, Field(ge=0, le=2**20)]
_Objects = Annotated[list[_Value], Field(max_length=IGNORE)]
_Pairs = Annotated[list[tuple[_Object, _Value]], Field(max_length=IGNORE)]
_Place = Annotated[int, Field(ge=0, le=2**31)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Token = Annotated[str, Field(pattern="^[A-Za-z0-9-]{8,64}$")]
_Name = Annotated[str, Field(max_length=4096)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Runs(_Message):
    """Some pixels: run lengths in a box (top, left, bottom, right), outside first."""

    box: list[_Corner] = Field(min_length=4, max_length=4)
    runs: list[_Place] = Field(max_length=4_000_000)


_ONLY: Any = (_Objects | None, None)  # perhaps these ids alone
#: The kinds of edits of a frame, and what tells of each: a type, and of what may be left out None.
_EDITS: dict[str, dict[str, Any]] = {
    # Brush, eraser, polygon, unknown, perhaps over some ids only; a fresh value is no object's yet.
    "paint": {"region": Runs, "value": _Value, "only": _ONLY, "fresh": (bool, False)},
    "recolour": {"pairs": _Pairs},  # merge and delete: pairs of an id and what it becomes
    # An object parted along a line, or without one into its connected parts.
    "split": {"object": _Object, "line": (Runs | None, None), "first": _Object},
    # Objects of another frame, and those of a prediction, put where this one has background.
    "copy": {"source": _Place, "objects": _ONLY},
    "adopt": {"layer": _Place},
    # The object at a click is added, with a free id from ``object`` on, or what is none is cut.
    "click": {"x": _Corner, "y": _Corner, "take": bool, "object": _Object},
    "accept": {"least": _Share},  # all proposals with at least this score are added
    "undo": {},
    "redo": {},
}
#: Of each kind: the frame by name, its revision if the edit rests on what was seen there, a token.
_EVERY: dict[str, Any] = {"frame": _Name, "base": (int | None, None), "token": _Token}
_models = [
    create_model(kind, __base__=_Message, **{"kind": Literal[kind], **_EVERY, **of})
    for kind, of in _EDITS.items()
]
_any = (reduce(operator.or_, _models), Field(discriminator="kind"))
EDIT: Any = create_model("Edit", __base__=RootModel[Any], root=_any)


class ClipEdit(_Message):
    """An object of a clip through its frames: joined to another, given a new id, or deleted."""

    kind: Literal["join", "split", "delete", "undo"]
    clip: _Name
    token: _Token
    object: _Object = 1
    other: _Object | None = None
    start: _Place = 0


class Training(_Message):
    """How long to train."""

    minutes: int = Field(ge=1, le=10_000, description="a whole number from 1 to 10000")


class Export(_Message):
    """The format to write the labels in."""

    format: str = Field(pattern="^[a-z0-9_-]{1,32}$", description="the name of a format")


def refusal(kind: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with a message of a kind: the first field that is, in one line."""
    first = error.errors(include_url=False)[0]
    place, message = ".".join(map(str, first["loc"])) or "body", first["msg"]
    if first["type"] == "missing":
        return str(Fault(place, "is missing"))
    field = kind.model_fields.get(place)
    expected = (field and field.description) or message.removeprefix("Input should be ")
    # What is unknown or no JSON is told whole by the message.
    if expected == message:
        return str(Fault(place, message))
    return str(Fault(place, f"found {reprlib.repr(first['input'])}", expected))


def region_of(sent: Runs, size: Size) -> Region:
    """What was sent as a region of a mask of a size; a UsageError if it does not fit there."""
    top, left, bottom, right = sent.box
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise UsageError.at("box", str(sent.box), f"a box in {size[0]} x {size[1]} pixels")
    lengths = np.asarray(sent.runs, np.int64)
    area = (bottom - top) * (right - left)
    if (lengths > area).any() or int(lengths.sum()) != area:
        raise UsageError.at("runs", f"{len(lengths)} lengths", f"lengths that add up to {area}")
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return Region(top, left, inside.reshape(bottom - top, right - left))


def region_message(region: Region) -> dict[str, Any]:
    """A region as :class:`Runs` have it."""
    pairs = runs_of(region.mask.astype(np.uint16))
    lengths = pairs[:, 1].tolist()
    return {"box": [*map(int, region.box)], "runs": [0, *lengths] if pairs[0, 0] else lengths}
