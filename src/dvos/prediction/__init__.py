"""Masks, counts and scores of whole videos from a trained network."""
