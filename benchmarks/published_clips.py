"""Times the published clip data on request, for ``benchmarks/clip_data.py``.

    PYTHON published_clips.py CHECKOUT TABLE PACKAGES

PYTHON is an interpreter with the published requirements; packages that it lacks
are looked for in the folder PACKAGES, and what the data code imports without
need is stood in for. For each line "SEED CLIPS" read, that many clips of TABLE
are decoded, augmented and collated by the published classes, with the shipped
training settings, and a line of JSON is written: processor seconds of each.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import random
import sys
import time
from types import ModuleType
from unittest import mock

UNNEEDED = {
    *("IPython", "SimpleITK", "einops", "icecream", "matplotlib", "omegaconf"),
    *("pytorch_msssim", "seaborn", "torchmetrics", "torchvision", "wandb"),
}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages that only other parts of the published code use."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002 (the protocol's)
        if name.partition(".")[0] in UNNEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec) -> ModuleType:
        module = mock.MagicMock(name=spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module) -> None:
        pass


def build(table: str):
    """The training data set of the shipped configuration, without its loader."""
    import numpy as np
    import torch

    # A default argument of its loader asks for the first GPU when it is imported.
    with mock.patch.object(torch, "device"):
        import data
    import transformations
    import utilities

    mean, std = (0.45829801, 0.46257378, 0.4352858), (0.21251279, 0.18627654, 0.2033325)
    spatial = transformations.get_main_spatial_transformations(256, 256, mean, std)["TRAIN"]
    colour = transformations.get_pixel_level_transformations()["TRAIN"]
    return data.VideoDataset(
        metadata=data.VideoMetadata(
            file_paths=[table],
            VID="VID",
            FID="FID",
            image_loader=utilities.ImageLoader(dtype=np.uint8, clip=False, scaler=False),
            mask_loader=utilities.MaskLoader(dtype=np.uint8, binary=True),
        ),
        references_size=4,
        pixel_level_transformer=transformations.ColorTransformations(transforms=colour),
        spatial_level_transformer=transformations.SpatialTransformations(
            num_extra_images=4, include_mask=True, transforms=spatial
        ),
    )


def timed(dataset, seed: int, clips: int) -> list[float]:
    """Processor seconds of each clip, its part of collating them included."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what the published transformations draw from)
    items, seconds = [], []
    for _ in range(clips):
        started = time.process_time()
        items.append(dataset[random.randrange(len(dataset))])
        seconds.append(time.process_time() - started)
    started = time.process_time()
    dataset.collate(items)
    share = (time.process_time() - started) / clips
    return [second + share for second in seconds]


def main() -> None:
    checkout, table, packages = sys.argv[1:]
    sys.path.insert(0, checkout)
    sys.path.append(packages)
    sys.meta_path.append(StandIns())
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    dataset = build(table)
    # The published loaders print nothing, but their libraries may.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        seed, clips = map(int, line.split())
        answers.write(json.dumps(timed(dataset, seed, clips)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
