"""The published network: its layers, its weights, and the same answers."""
