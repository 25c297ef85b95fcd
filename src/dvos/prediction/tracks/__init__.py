"""Objects followed over a clip: linking, the tables of tracks, totals and the ground seen."""

from dvos.prediction.tracks.clip import followed

__all__ = ["followed"]
