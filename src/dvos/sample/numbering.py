"""Which random stand each file of the sample shows."""

from __future__ import annotations

__all__ = ["HELDOUT_SCENE", "TARGET_SCENE"]

#: Stills count from 0; the videos' numbers lie beyond any number of stills and
#: give stands of middling ripeness.
TARGET_SCENE, HELDOUT_SCENE = 10_001, 10_003
