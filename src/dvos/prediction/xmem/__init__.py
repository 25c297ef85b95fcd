"""Prediction with XMem: clips followed from a first mask, behind the common protocol."""
