"""From the user's files to material for synthesis: frames, cutouts, distractors."""
