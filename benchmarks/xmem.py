"""Speed, memory and accuracy of XMem, as JSON with the machine's facts.

    python benchmarks/xmem.py [--published PATH] [--parts published objects sizes long accuracy]

- ``published``: one object, shorter side 384, beside the published code (``--published``, a
  checkout of hkchengrex/XMem), with the same weights. The two take turns, a few frames each, so
  that other work on the machine meets both alike. ``largest_difference`` is between probabilities;
  a place whose 30th and 31st likest elements are as like up to rounding may read either one.
- ``objects``: seconds and memory against the number of objects, 384 x 384 pixels.
- ``sizes``: against the size of the frames, one object.
- ``long``: memory over a long video, at a small size: what is remembered does not depend on it
  except for working memory, and long-term memory fills up as fast.
- ``accuracy``: Dice against the quality of the first mask, on clips with true masks
  (``--clip FRAMES:MASKS``, repeated), with the weights of ``--checkpoint``, and beside it the
  network of ``--finder``, which needs no first mask.

Without ``--checkpoint`` weights are random: speed does not depend on them. Each measurement has a
process of its own. Seconds are medians over frames; ``processor`` ones count the processor's time.
Peak memory is that of the frames alone, the network included (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Threads that wait must not take the cores from others; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARTS = ("published", "objects", "sizes", "long", "accuracy")
Step = Callable[[int], Tensor]


def fill(network: nn.Module) -> nn.Module:
    """Weights that are drawn from their names, so that two programs have the same."""
    state = network.state_dict()
    for key, tensor in state.items():
        rng, shape = np.random.default_rng(zlib.crc32(key.encode())), tuple(tensor.shape)
        if key.endswith("num_batches_tracked"):
            values: Any = np.zeros(shape)
        elif key.endswith("running_var"):
            values = 1 + 0.1 * np.abs(rng.standard_normal(shape))
        elif len(shape) >= 2:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            values = 1 + 0.1 * rng.standard_normal(shape)
        else:
            values = 0.1 * rng.standard_normal(shape)
        tensor.copy_(torch.as_tensor(values, dtype=tensor.dtype))
    return network.eval()


class Scene:
    """A blurred random field that drifts, and squares on it as first mask."""

    def __init__(self, height: int, width: int, objects: int) -> None:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((1, 3, height + 64, width + 64)).astype(np.float32)
        self._field = 3 * F.avg_pool2d(torch.from_numpy(noise), 5, 1, 2)[0]
        self._size = (height, width)
        ids = np.zeros((height, width), np.int64)
        # In a grid, so that every object is whole.
        columns = max(1, round((objects * width / height) ** 0.5))
        rows = -(-objects // columns)
        for index in range(objects):
            top, left = index // columns * height // rows, index % columns * width // columns
            side = max(4, min(height // rows, width // columns) * 2 // 3)
            ids[top : top + side, left : left + side] = index + 1
        self.mask = torch.from_numpy(ids == np.arange(1, objects + 1)[:, None, None]).float()

    def frame(self, index: int) -> Tensor:
        """(3, H, W); goes back and forth."""
        place = 63 - abs(index % 126 - 63)
        height, width = self._size
        return self._field[:, place : place + height, place // 2 : place // 2 + width].contiguous()


def our_step(scene: Scene) -> Step:
    from dvos.networks.xmem.engine import XMemEngine
    from dvos.networks.xmem.network import XMem

    with torch.no_grad():
        engine = XMemEngine(fill(XMem()).for_inference())
    return lambda index: engine.step(scene.frame(index), scene.mask if index == 0 else None)


def published_step(scene: Scene, checkout: str) -> Step:
    sys.path.insert(0, checkout)
    import model.resnet

    # The backbones would be downloaded only to be replaced.
    model.resnet.model_zoo.load_url = lambda *_, **__: {}
    model.resnet.load_weights_add_extra_dim = lambda *_, **__: None
    from inference.inference_core import InferenceCore
    from model.network import XMem

    config = {
        "top_k": 30, "mem_every": 5, "deep_update_every": -1, "enable_long_term": True,
        "enable_long_term_count_usage": True, "max_mid_term_frames": 10,
        "min_mid_term_frames": 5, "num_prototypes": 128, "max_long_term_elements": 10_000,
        "hidden_dim": 64,
    }  # fmt: skip
    torch.set_grad_enabled(False)
    core = InferenceCore(fill(XMem(config)), config)
    labels = list(range(1, len(scene.mask) + 1))
    core.set_all_labels(labels)

    def step(index: int) -> Tensor:
        first = index == 0
        return core.step(
            scene.frame(index), scene.mask if first else None, labels if first else None
        )

    return step


def status(field: str) -> float | None:
    """VmHWM or VmRSS of this process, MB; None where the system does not tell."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith(field)).split()[1]) / 1024
    return None


def work(arguments: argparse.Namespace) -> None:
    """The worker: answers each line, a number of frames, with what they took."""
    torch.set_num_threads(arguments.threads)
    scene = Scene(*arguments.size, arguments.objects[0])
    messages, sys.stdout = sys.stdout, sys.stderr
    checkout = arguments.published
    step = our_step(scene) if checkout is None else published_step(scene, checkout)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    index, kept = 0, []
    print("ready", file=messages, flush=True)
    for line in sys.stdin:
        wall, processor = [], []
        for _ in range(int(line)):
            started = time.perf_counter(), time.process_time()
            probability = step(index)
            wall.append(time.perf_counter() - started[0])
            processor.append(time.process_time() - started[1])
            index += 1
            if arguments.keep:
                kept.append(probability.numpy().copy())
        answer = {"wall": wall, "processor": processor, "rss": status("VmRSS")}
        print(json.dumps({**answer, "peak": status("VmHWM")}), file=messages, flush=True)
    if arguments.keep:
        np.save(arguments.keep, np.stack(kept))


class Worker:
    """A process that steps through a scene when told to."""

    def __init__(
        self,
        size: tuple[int, int],
        objects: int,
        threads: int,
        *,
        published: str | None = None,
        keep: Path | None = None,
    ) -> None:
        command = [sys.executable, __file__, "--worker", "--size", *map(str, size)]
        command += ["--objects", str(objects), "--threads", str(threads)]
        command += [] if published is None else ["--published", published]
        command += [] if keep is None else ["--keep", str(keep)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.peak: float | None = None
        self.rss: list[float | None] = []
        if self._answer() != "ready":
            raise SystemExit("a worker did not start; see its message above")

    def run(self, frames: int) -> None:
        """Go on by ``frames``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        answer = self._answer()
        if not answer:
            raise SystemExit("a worker stopped; see its message above")
        told = json.loads(answer)
        self.wall += told["wall"]
        self.processor += told["processor"]
        self.peak = told["peak"]
        self.rss.append(told["rss"])

    def close(self) -> dict[str, Any]:
        """End the process; give its figures, without the first frame."""
        self._process.communicate()
        wall, processor = statistics.median(self.wall[1:]), statistics.median(self.processor[1:])
        return {
            "seconds_per_frame": round(wall, 4),
            "processor_seconds_per_frame": round(processor, 4),
            "frames_per_second": round(1 / wall, 3),
            "peak_mb": None if self.peak is None else round(self.peak),
            "frames": len(self.wall),
        }

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def beside_published(arguments: argparse.Namespace) -> dict[str, Any]:
    size, turns = (384, 672), max(1, arguments.frames // 5)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "ours.npy", Path(folder) / "published.npy"]
        workers = [Worker(size, 1, arguments.threads, keep=files[0])]
        if arguments.published:
            theirs = {"published": arguments.published, "keep": files[1]}
            workers.append(Worker(size, 1, arguments.threads, **theirs))
        for _ in range(turns):
            for worker in workers:
                worker.run(5)
        figures = [worker.close() for worker in workers]
        result: dict[str, Any] = {"size": size, "ours": figures[0]}
        if len(workers) == 2:
            ours, theirs = (np.load(file) for file in files)
            result["published"] = figures[1]
            differences = np.abs(ours - theirs).max(axis=(1, 2, 3))
            result["largest_difference"] = float(differences.max())
            result["median_largest_difference_of_a_frame"] = float(np.median(differences))
            result["frames_beyond_1e-4"] = int((differences > 1e-4).sum())
            for name in ("seconds_per_frame", "processor_seconds_per_frame"):
                result[f"times_faster_{name}"] = round(figures[1][name] / figures[0][name], 3)
    return result


def against(
    sizes: list[tuple[int, int]], objects: list[int], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for size in sizes:
        for count in objects:
            worker = Worker(size, count, arguments.threads)
            # Beyond 50 frames memories are full; a few tell enough of the speed with many objects.
            for _ in range(2 if count >= 100 else 4):
                worker.run(6)
            yield {"size": size, "objects": count, **worker.close()}


def long_video(arguments: argparse.Namespace) -> dict[str, Any]:
    worker = Worker((96, 160), 1, arguments.threads)
    rss = {}
    for done in range(0, arguments.long_frames, 100):
        worker.run(100)
        rss[done + 100] = None if worker.rss[-1] is None else round(worker.rss[-1])
    return {"rss_mb": rss, **worker.close()}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float((2 * (one & other).sum() + 1) / (one.sum() + other.sum() + 1))


def first_masks(truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A true mask (H, W), made worse."""
    objects, labels = cv2.connectedComponents(truth.astype(np.uint8))
    missed = truth.copy()
    if objects > 3:
        gone = rng.permutation(np.arange(1, objects))[: max(1, round(0.3 * (objects - 1)))]
        missed[np.isin(labels, gone)] = False
    else:
        columns = np.flatnonzero(truth.any(0))
        missed[:, columns[: round(0.3 * len(columns))]] = False
    thickness = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    half_width = float(np.median(thickness[truth]))
    return {"true": truth, "eroded": thickness > 0.75 * half_width, "with misses": missed}


class TrueClip:
    """Frames from the first with a true mask on, and those masks by frame name."""

    def __init__(self, frames: str, masks: str) -> None:
        from dvos.media.mask import MASK_SUFFIXES, read_mask
        from dvos.media.video import open_frames

        self._source = open_frames(Path(frames))
        files = [path for path in sorted(Path(masks).iterdir()) if path.suffix in MASK_SUFFIXES]
        self._truths = {path.stem: read_mask(path) > 0 for path in files}
        first = next(frame for frame in self._source if frame.name in self._truths)
        self._begin = first.frame_index
        self.first_mask = self._truths[first.name]

    def follow(self, predictor: Any, frames: int) -> tuple[float, np.ndarray]:
        """Mean Dice over the frames behind the first, and the mask found in the first."""
        names: list[str] = []

        def images() -> Iterator[np.ndarray]:
            for frame, _ in zip(self._source.frames(self._begin), range(frames), strict=False):
                names.append(frame.name)
                yield frame.image

        found, first = [], self.first_mask
        for place, one in enumerate(predictor.segment(images())):
            if place == 0:
                first = one.mask
            elif names[place] in self._truths:
                found.append(dice(one.mask, self._truths[names[place]]))
        return float(np.mean(found)), first


def accuracy(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from dvos.prediction.predictor import load_predictor

    finder = load_predictor(arguments.finder, "cpu") if arguments.finder else None
    for paths in arguments.clip:
        clip = TrueClip(*paths.rsplit(":", 1))
        starts = first_masks(clip.first_mask, np.random.default_rng(0))
        if finder is not None:
            alone, starts["by the other network"] = clip.follow(finder, arguments.frames)
            yield {"clip": paths, "first_mask": "none: the other network", "dice": alone}
        for quality, mask in starts.items():
            row = {"clip": paths, "first_mask": quality, "first_dice": dice(mask, clip.first_mask)}
            found = 0.0
            if mask.any():
                predictor = load_predictor(arguments.checkpoint, "cpu", first_mask=mask)
                found, _ = clip.follow(predictor, arguments.frames)
            yield {**row, "dice": found}


def machine(threads: int) -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", help="checkout of the published XMem")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["published"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=60, help="of a speed run or a clip")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--sides", type=int, nargs="+", default=[240, 384, 480, 720])
    parser.add_argument("--long-frames", type=int, default=2000)
    parser.add_argument("--checkpoint", help="XMem, for accuracy")
    parser.add_argument("--finder", help="network that needs no first mask, for accuracy")
    parser.add_argument("--clip", action="append", default=[], help="FRAMES:MASKS")
    parser.add_argument("--out", type=Path, help="file for the JSON; else it is printed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    if "accuracy" in arguments.parts and not (arguments.checkpoint and arguments.clip):
        parser.error("accuracy needs --checkpoint and at least one --clip")
    result: dict[str, Any] = {"machine": machine(arguments.threads)}
    sizes = [(side, side * 7 // 4) for side in arguments.sides]
    runs: dict[str, Callable[[], Any]] = {
        "published": lambda: [beside_published(arguments)],
        "objects": lambda: against([(384, 384)], arguments.objects, arguments),
        "sizes": lambda: against(sizes, [1], arguments),
        "long": lambda: [long_video(arguments)],
        "accuracy": lambda: accuracy(arguments),
    }
    for part in arguments.parts:
        # Kept as they come: the last figures take the longest.
        for found in runs[part]():
            result.setdefault(part, []).append(found)
            save(result, arguments.out)
    if arguments.out is None:
        print(json.dumps(result, indent=2))


def save(result: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
