"""Synthetic clips: cutouts moved over backgrounds, with complete truth."""
