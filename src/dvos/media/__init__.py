"""Images, masks and videos in and out; overlays and colour. No torch here."""
