"""Make the pictures of the documents from a demo run.

    make demo && .venv/bin/python docs/images/make.py demo-run

Everything shown is made by the program: the sample field, clips synthesised
from it, and what a network trained on them predicts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dvos.config.scene import SceneSettings
from dvos.media.frames import open_frames
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.synthesis.build import build_clip_generator

HERE = Path(__file__).parent
FRAME = 24
SIZE = (360, 480)


def method(run: Path) -> None:
    """A labelled still, cutouts, a synthetic frame, and a held-out frame as predicted."""
    still = sorted((run / "sample/annotated/images").glob("*.png"))[1]
    labels = read_mask(run / f"sample/annotated/masks/{still.stem}.nrrd")
    frames = sorted((run / "clips/VID_00000/Frames").glob("*.png"))
    masks = sorted((run / "clips/VID_00000/Masks").glob("*.png"))
    heldout = next(iter(open_frames(run / "sample/validation/heldout.mp4").frames(FRAME)))
    predicted = read_mask(run / f"heldout/heldout/{heldout.name}.png") > 0
    panels = [
        outline(read_image(still), labels),
        outline(read_image(frames[8]), read_mask(masks[8]) > 0),
        heldout.image,
        overlay(heldout.image, predicted),
    ]
    titles = ["labelled still", "synthetic clip, its exact mask", "unseen video", "prediction"]
    write_image(
        HERE / "method.jpg",
        contact_sheet([_cropped(p) for p in panels], columns=2, labels=titles),
        quality=88,
    )


def synthesis(run: Path) -> None:
    """The published way, ours, the photo, and instance ids."""
    tables = {
        "backgrounds": [run / "frames.csv"],
        "cutouts": [run / "cutouts.csv"],
        "distractors": [run / "distractors.csv"],
    }
    clips = [
        build_clip_generator(SceneSettings(preset=preset), seed=5, **tables).make(
            3, frames=1, size=SIZE
        )
        for preset in ("published", "wheat_green")
    ]
    still = sorted((run / "sample/annotated/images").glob("*.png"))[1]
    panels = [
        clips[0].frames[0],
        clips[1].frames[0],
        _cropped(read_image(still)),
        overlay(clips[1].frames[0], clips[1].instances[0], alpha=0.7),
    ]
    titles = ["preset: published", "preset: wheat_green", "a still of the field", "instance ids"]
    write_image(HERE / "synthesis.jpg", contact_sheet(panels, columns=2, labels=titles), quality=88)


def tracks(run: Path) -> None:
    """What the demo makes of its held-out video: each object in its colour, and the count."""
    height, width = SIZE
    frames = open_frames(run / "heldout/heldout.mp4").frames()
    first, *others = (
        Image.fromarray(frame.image[:height, :width]) for frame in frames if not frame.frame_index % 2
    )
    look = {"save_all": True, "append_images": others, "duration": 160, "loop": 0}
    first.save(HERE / "tracks.webp", quality=50, method=6, **look)


def _cropped(image: np.ndarray) -> np.ndarray:
    top, left = ((a - b) // 2 for a, b in zip(image.shape[:2], SIZE, strict=True))
    top, left = max(top, 0), max(left, 0)
    return image[top : top + SIZE[0], left : left + SIZE[1]]


if __name__ == "__main__":
    method(Path(sys.argv[1]))
    synthesis(Path(sys.argv[1]))
    tracks(Path(sys.argv[1]))
