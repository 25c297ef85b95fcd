"""Training of XMem: clips with masks of all frames, the pass over time, its objective."""
