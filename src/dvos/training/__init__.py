"""Training: clip data and its augmentation, losses, the loop, checkpoints."""
