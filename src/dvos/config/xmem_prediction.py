"""Settings of predictions with XMem: what starts it, and what it remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dvos.config.base import Settings

__all__ = ["FirstMaskOptions", "XMemPredictionSettings"]


class XMemPredictionSettings(Settings):
    """How XMem follows objects; the published values. Other networks look at none of it."""

    size: int = Field(
        384,
        ge=0,
        description="larger frames are reduced to this shorter side for the network; 0 = never;"
        " a scale other than 1 takes its place",
    )
    objects: Literal["given", "union", "instances"] = Field(
        "given",
        description="what of a first mask is one object: each id as given (0/255 is one object),"
        " everything together, or each object that a mask without ids is split into",
    )
    frames: Literal["first", "new", "all"] = Field(
        "first",
        description="where a clip has masks for several frames: use the first, let later ones"
        " start objects that appear later, or let all of them correct the objects too",
    )
    objects_max: int = Field(
        2000, ge=1, le=65535, description="a first mask with more objects is refused"
    )
    minimum_area: int = Field(
        30,
        ge=1,
        description="of a mask that is split into objects, or found by a network, smaller pieces"
        " are no objects; pixels of the frame",
    )
    objects_at_once: int = Field(
        8, ge=1, description="objects the network takes at once; fewer need less memory"
    )
    memory_limit: float = Field(
        8.0,
        gt=0,
        description="gigabytes for what is remembered of the objects; with very many objects less"
        " is remembered of each, so as to stay below",
    )
    every: int = Field(5, ge=1, description="a frame is remembered every so many frames")
    working_min: int = Field(
        5, ge=1, description="frames that a consolidation leaves in working memory"
    )
    working_max: int = Field(
        10, ge=2, description="frames in working memory that set off a consolidation"
    )
    prototypes: int = Field(
        128, ge=1, description="elements of long-term memory made by a consolidation"
    )
    long_term: bool = Field(
        True,
        description="whether there is a long-term memory; without it all remembered frames stay in"
        " working memory, which grows with the video",
    )
    long_term_max: int = Field(10_000, ge=1, description="most elements of long-term memory")
    top_k: int = Field(30, ge=1, description="elements of memory read for each place of a frame")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.working_max <= self.working_min:
            raise ValueError("working_max must be more than working_min; raise it")
        if self.long_term_max < self.prototypes:
            raise ValueError("long_term_max must be at least prototypes; raise it")
        if self.objects == "instances" and self.frames != "first":
            raise ValueError(
                "objects=instances numbers each mask anew, so later masks cannot tell which object"
                " is which; leave frames at first, or give masks with ids"
            )
        return self


class FirstMaskOptions(Settings):
    """What XMem starts from."""

    first_mask: Literal["auto"] | Path | None = Field(
        None,
        description="of XMem, the mask that a clip starts from: a file, a folder with <clip>.png or"
        " <clip>/<frame>.png, or auto = what the network of first_mask_checkpoint finds",
    )
    first_mask_checkpoint: Path | None = Field(
        None, description="trained network (not XMem) that finds the first mask, where that is auto"
    )

    @field_validator("first_mask", mode="before")
    @classmethod
    def _auto_is_a_word(cls, value: Any) -> Any:
        return "auto" if value is not None and str(value) == "auto" else value

    @model_validator(mode="after")
    def _auto_has_a_network(self) -> Self:
        if self.first_mask == "auto" and self.first_mask_checkpoint is None:
            raise ValueError(
                "first_mask is auto; give the network that finds it as first_mask_checkpoint"
            )
        if self.first_mask_checkpoint is not None and self.first_mask != "auto":
            raise ValueError("first_mask_checkpoint is for first_mask=auto; leave it out")
        return self
