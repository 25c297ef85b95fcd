"""How well predicted masks agree with the truth: overlap, boundaries, counts and their spread."""
