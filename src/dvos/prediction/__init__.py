"""Masks, counts and scores of whole videos from a trained network."""

import numpy  # noqa: F401 - before torch, see dvos.networks
