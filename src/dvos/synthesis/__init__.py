"""Synthetic clips: cutouts moved over background plates, with complete truth."""
