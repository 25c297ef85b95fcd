"""What all settings share: strictness, and a documented default for every key."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """Base of all settings models.

    Unknown keys are faults, values are immutable once checked, and every
    field carries a description, from which ``dvos config show`` makes the
    comments of its YAML.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
