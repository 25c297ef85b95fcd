"""Speed and memory of synthesis on one core, as JSON with the machine's facts.

    python benchmarks/synthesis.py --out synthesis.json
    python benchmarks/synthesis.py --published PATH --published-python PYTHON

What is measured, in memory:

- ``published_preset``: 160 sprites of 35..65 x 70..130 px at 1024 x 1024.
- ``published_preset_to_store``: the same written to a clip store, with masks.
- ``on_the_fly``: five-frame 256 x 256 clips at a wheat-like density, all
  effects of the ``wheat_green`` preset, without augmentation.
- ``on_the_fly_augmented``: the same as training items, augmentation included.
- ``workers``: the same by one process and by two.
- ``memory``: of a process from clip 10 to clip 500.
- ``published_simulator``: with ``--published``, a checkout of the published
  repository, on the same cutouts in the same run. ``--published-python`` is
  the interpreter of an environment that has its requirements.

``processor`` figures count the processor's time, which other work on the
machine hardly touches; ``wall`` is what the clock said.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvos.config.scene import SceneSettings
from dvos.config.training import TrainingSettings
from dvos.media.clip_store import ClipStoreWriter
from dvos.networks.spec import Normalisation
from dvos.synthesis.build import ClipGenerator, build_clip_generator
from dvos.tables import ImageRow, write_images
from dvos.training.data import build_training_clips
from dvos.training.targets import QueryTarget
from facts import machine

SPRITES = 80  # of each role
SIDE = 1024

# Stands in for what the published simulator imports but does not need here.
PUBLISHED_DRIVER = """
import json, random, sys, time, types
checkout, tables = sys.argv[1], json.loads(sys.argv[2])
sprites, frames, side = map(int, sys.argv[3:])
for name in ("torch", "torchvision", "torchvision.utils", "icecream", "SimpleITK"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torch"].Tensor = object
sys.modules["torchvision.utils"].draw_segmentation_masks = None
sys.modules["icecream"].ic = print
sys.path.insert(0, checkout + "/simulation")
import numpy as np
from box import Box
import cv2
cv2.setNumThreads(1)
import simulator
from data import BackgroundDataset, FakePatchDataset, RealObjectDataset
random.seed(1)
np.random.seed(1)
shipped = Box.from_yaml(filename=checkout + "/simulation/configs/simulator.yaml")
video = simulator.VideoSimulation(
    BackgroundDataset([tables["backgrounds"]]),
    RealObjectDataset([tables["cutouts"]]),
    FakePatchDataset([tables["distractors"]]),
    video_height=side, video_width=side, num_required_frames=frames,
    num_reals_per_frame=(sprites, sprites), num_fakes_per_frame=(sprites, sprites),
    frame_movement_range=shipped.Frame.FRAME_MOVEMENT_RANGE,
    node_movement_range=shipped.Frame.NODE_MOVEMENT_RANGE,
    recovery_variance=shipped.Frame.RECOVERY_VARIANCE,
    trfms_confs=shipped.Transformations,
    allow_leave_frame=shipped.Frame.ALLOW_LEAVE_FRAME,
    recovery_area_expansion=shipped.Frame.RECOVERY_AREA_EXPANSION,
    change_direction_p=shipped.Frame.CHANGE_DIRECTION_PROBABILITY,
)
wall, processor = time.perf_counter(), time.process_time()
images, masks = video()
wall, processor = time.perf_counter() - wall, time.process_time() - processor
import tempfile
from skimage import io
writing, writing_processor = time.perf_counter(), time.process_time()
with tempfile.TemporaryDirectory() as folder:  # as its simulator.py writes them
    for number, (frame, mask) in enumerate(zip(images, masks)):
        io.imsave(f"{folder}/frame-{number}.png", frame)
        io.imsave(f"{folder}/mask-{number}.png", mask, check_contrast=False)
writing = time.perf_counter() - writing
writing_processor = time.process_time() - writing_processor
print(json.dumps({
    "frames": len(images), "wall_s": wall, "processor_s": processor,
    "disk_wall_s": wall + writing, "disk_processor_s": processor + writing_processor,
}))
"""


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def make_material(folder: Path, frames: int) -> dict[str, Path]:
    """Write elliptic cutouts, distractors and background frames with their tables."""
    rng = np.random.default_rng(0)
    paths: dict[str, list[Path]] = {"cutouts": [], "distractors": [], "backgrounds": []}
    for kind, suffix in (("cutouts", ""), ("distractors", "_fkobj0000")):
        for n in range(100):
            height, width = int(rng.integers(70, 131)), int(rng.integers(35, 66))
            alpha = np.zeros((height, width), np.uint8)
            cv2.ellipse(
                alpha, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 255, -1
            )
            path = folder / f"still_rlobj{n:04d}{suffix}.png"
            cv2.imwrite(str(path), np.dstack([_texture(rng, height, width), alpha]))
            paths[kind].append(path)
    wide = _texture(rng, SIDE + 60, SIDE + 60 + 2 * frames)
    for n in range(frames):
        path = folder / f"film_{n:06d}.png"
        cv2.imwrite(str(path), wide[:, 2 * n : 2 * n + SIDE + 60], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        paths["backgrounds"].append(path)
    tables = {}
    for kind, images in paths.items():
        tables[kind] = folder / f"{kind}.csv"
        write_images(tables[kind], [ImageRow(image) for image in images])
    return tables


def build(tables: dict[str, Path], **scene: Any) -> ClipGenerator:
    return build_clip_generator(
        SceneSettings.model_validate(scene),
        backgrounds=[tables["backgrounds"]],
        cutouts=[tables["cutouts"]],
        distractors=[tables["distractors"]],
        seed=1,
    )


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Things done per second of ``work``, which returns their number."""
    wall, processor = time.perf_counter(), time.process_time()
    count = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"per_s_wall": count / wall, "per_s_processor": count / processor, "count": count}


def best(work: Callable[[], int], rounds: int) -> dict[str, float]:
    """The best of some rounds, which other work on the machine hindered least."""
    return max((timed(work) for _ in range(rounds)), key=lambda r: r["per_s_processor"])


def published_preset(tables: dict[str, Path], frames: int) -> dict[str, float]:
    amounts = {"objects": [SPRITES] * 2, "distractors": [SPRITES] * 2}
    maker = build(tables, preset="published", population=amounts)
    maker.make(0, frames=frames, size=(SIDE, SIDE), times=[0])

    def work() -> int:
        maker.make(1, frames=frames, size=(SIDE, SIDE))
        return frames

    work()
    return best(work, 3)


# Heads of some 20 by 45 px over three tenths of the frame, as in field photos
# at the scale that networks are trained at.
_WHEAT_LIKE = {
    "preset": "wheat_green",
    "population": {
        "objects": [0.3, 0.3],
        "distractors": [0.15, 0.15],
        "foreground": [0.04, 0.04],
    },
    "appearance": {"size": [45, 45], "scale": [0.7, 1.3]},
}


def to_store(tables: dict[str, Path], frames: int, folder: Path) -> dict[str, float]:
    """The clip of ``published_preset`` into the clip store, masks included."""
    amounts = {"objects": [SPRITES] * 2, "distractors": [SPRITES] * 2}
    maker = build(tables, preset="published", population=amounts)
    maker.make(0, frames=frames, size=(SIDE, SIDE), times=[0])

    def work() -> int:
        clip = maker.make(1, frames=frames, size=(SIDE, SIDE))
        path = folder / "clip.dvclip"
        with ClipStoreWriter(path, size=(SIDE, SIDE)) as store:
            for image, ids in zip(clip.frames, clip.instances, strict=True):
                store.write(image, ids)
        return frames

    work()
    return best(work, 3)


def _wheat_like(tables: dict[str, Path]) -> ClipGenerator:
    return build(tables, **_WHEAT_LIKE)


def _clips(maker: ClipGenerator, first: int, count: int) -> int:
    cv2.setNumThreads(1)
    for k in range(first, first + count):
        maker.make(k, frames=5, size=(256, 256))
    return count


def on_the_fly(tables: dict[str, Path], clips: int) -> dict[str, float]:
    maker = _wheat_like(tables)
    _clips(maker, 0, clips)  # decodes the backgrounds
    return best(lambda: _clips(maker, 0, clips), 3)


def on_the_fly_augmented(tables: dict[str, Path], clips: int) -> dict[str, float]:
    """The same as training gets them: scaled, turned, recoloured, degraded, as float tensors."""
    material = {kind: [table] for kind, table in tables.items()}
    data = {"synthetic": {"scene": _WHEAT_LIKE, **material}, "crop": 256}
    settings = TrainingSettings.model_validate({"out": "unused", "data": data, "seed": 1})
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    items = build_training_clips(settings, QueryTarget(settings, references=4), normalisation)

    def work() -> int:
        for k in range(clips):
            items[k]
        return clips

    work()
    return best(work, 3)


_MAKER: list[ClipGenerator] = []


def _start_worker(maker: ClipGenerator) -> None:
    _MAKER.append(maker)
    _decode_backgrounds(maker)
    _clips(maker, 0, 3)


def _work(first: int, count: int) -> float:
    """Processor seconds that some clips took."""
    start = time.process_time()
    _clips(_MAKER[0], first, count)
    return time.process_time() - start


def _decode_backgrounds(maker: ClipGenerator) -> None:
    store = maker.store
    for background in range(len(store.backgrounds)):
        for frame in range(len(store.backgrounds[background].frames)):
            store.frame(background, frame, 0)


def workers(tables: dict[str, Path], clips: int) -> dict[str, float]:
    """Clips per second by one process and by two, once they run.

    ``two_against_one_processor`` is what two cores of their own would give:
    what one clip costs the processor may rise when two are made at a time.
    """
    maker = _wheat_like(tables)
    rates = {}
    for number in (1, 2):
        with ProcessPoolExecutor(number, initializer=_start_worker, initargs=(maker,)) as pool:
            firsts = range(0, 2 * clips, 5)
            counts = [min(5, 2 * clips - first) for first in firsts]
            list(pool.map(_work, firsts, counts))
            wall = time.perf_counter()
            seconds = sum(pool.map(_work, firsts, counts))
            rates[f"clips_per_s_{number}"] = 2 * clips / (time.perf_counter() - wall)
            rates[f"clips_per_processor_s_{number}"] = 2 * clips / seconds
    for name, factor in (("s", 1), ("processor_s", 2)):
        one, two = (rates[f"clips_per_{name}_{number}"] for number in (1, 2))
        rates[f"two_against_one_{'wall' if name == 's' else 'processor'}"] = factor * two / one
    return rates


def memory(tables: dict[str, Path]) -> dict[str, float]:
    """Memory of this process at clip 10 and its highest up to clip 500, MB."""
    maker = _wheat_like(tables)
    _decode_backgrounds(maker)  # what the cache will hold in the end
    _clips(maker, 0, 10)
    early = _resident()
    highest = early
    for first in range(10, 500, 10):
        _clips(maker, first, 10)
        highest = max(highest, _resident())
    return {"mb_at_clip_10": early, "mb_highest_to_clip_500": highest, "growth_mb": highest - early}


def _resident() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def published_simulator(
    checkout: Path, python: str, tables: dict[str, Path], frames: int
) -> dict[str, Any]:
    """Time the published simulator in its own interpreter."""
    driver = [python, "-c", PUBLISHED_DRIVER, str(checkout.resolve())]
    names = json.dumps({kind: str(path.with_suffix(".abs.csv")) for kind, path in tables.items()})
    for path in tables.values():  # it does not look beside its table
        rows = path.read_text().splitlines()
        full = [rows[0], *(str(path.parent / row) for row in rows[1:])]
        path.with_suffix(".abs.csv").write_text("\n".join(full) + "\n")
    sizes = [str(SPRITES), str(frames), str(SIDE)]
    done = subprocess.run([*driver, names, *sizes], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "per_s_wall": result["frames"] / result["wall_s"],
        "per_s_processor": result["frames"] / result["processor_s"],
        "disk_per_s_wall": result["frames"] / result["disk_wall_s"],
        "disk_per_s_processor": result["frames"] / result["disk_processor_s"],
        "count": result["frames"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of synthesis, as JSON.")
    parser.add_argument("--frames", type=int, default=40, help="length of the 1024 x 1024 clip")
    parser.add_argument("--clips", type=int, default=100, help="number of 256 x 256 clips")
    parser.add_argument("--published", type=Path, help="checkout of the published repository")
    parser.add_argument("--published-python", default=sys.executable, help="its interpreter")
    parser.add_argument("--published-frames", type=int, default=12)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, Any] = {"machine": machine("numpy", "numba")}
    with tempfile.TemporaryDirectory() as folder:
        tables = make_material(Path(folder), given.frames)
        result["published_preset"] = published_preset(tables, given.frames)
        result["published_preset_to_store"] = to_store(tables, given.frames, Path(folder))
        result["on_the_fly"] = on_the_fly(tables, given.clips)
        result["on_the_fly_augmented"] = on_the_fly_augmented(tables, given.clips)
        result["workers"] = workers(tables, given.clips)
        result["memory"] = memory(tables)
        if given.published:
            theirs = published_simulator(
                given.published, given.published_python, tables, given.published_frames
            )
            result["published_simulator"] = theirs
            if "failed" not in theirs:
                for name, ours, kind in (
                    ("times_published", "published_preset", "per_s_processor"),
                    (
                        "times_published_to_disk",
                        "published_preset_to_store",
                        "disk_per_s_processor",
                    ),
                ):
                    result[name] = result[ours]["per_s_processor"] / theirs[kind]
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
