"""Networks: layers, whole networks and their weights; plain keyword arguments only."""

# Before torch: a Ctrl-C while torch loads NumPy is lost, and NumPy left in halves.
import numpy  # noqa: F401
