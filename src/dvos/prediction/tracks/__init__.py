"""Objects followed over a clip: linking, the tables of tracks, totals and the ground seen."""

from dvos.prediction.tracks.stream import followed

__all__ = ["followed"]
