"""How training clips are changed: geometry, colours, quality, noise."""
