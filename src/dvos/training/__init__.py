"""Training: clip data and its augmentation, losses, the loop, checkpoints."""

import numpy  # noqa: F401 - before torch, see dvos.networks
