"""The losses of training: those of the mask, those of the reconstruction, and their sum."""
