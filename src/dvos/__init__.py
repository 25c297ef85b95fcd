"""DVOS: dense-pattern video object segmentation.

Label a few stills; cut the objects out; composite them into exactly labelled
clips; train a video network; segment every frame of a video.

Importing the package is light: each name below is loaded when it is first
used. Every command of the command line but ``check`` and ``config`` is the
function of the same name here, with the same settings::

    import dvos

    dvos.extract_frames(videos="videos.csv", out="frames.csv")
    predictor = dvos.load_predictor("train/best.safetensors")
    for frame in predictor.segment("field.mp4"):
        print(frame.frame_index, frame.mask.mean())
"""

# ruff: noqa: F403, F405
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvos.api import *

    __version__: str

__all__ = [
    "__version__",
    "convert",
    "demo",
    "evaluate",
    "export",
    "extract_frames",
    "extract_objects",
    "fit",
    "import_labels",
    "label",
    "load_predictor",
    "predict",
    "pseudo_label",
    "report",
    "rounds",
    "score",
    "suggest",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("dvos")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
    if name in __all__:
        return getattr(import_module("dvos.api"), name)
    raise AttributeError(f"module 'dvos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
