"""The one clip of frames and ids, and its sources: stills, files, synthetic scenes."""
