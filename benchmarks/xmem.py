"""Speed, memory and accuracy of XMem, as JSON with the machine's facts.

    python benchmarks/xmem.py [--published PATH] [--parts published objects sizes long accuracy]

- ``published``: one object, shorter side 384, beside the published code (``--published``, a
  checkout of hkchengrex/XMem), with the same weights. The two take turns, a few frames each, so
  that other work on the machine meets both alike. ``differences`` are between probabilities, of
  the two programs and, with ``--double FRAMES``, of either from itself and the other in float64:
  a place whose 30th and 31st likest elements are as like up to rounding may read either one, in
  either program.
- ``objects``: seconds and memory against the number of objects, 384 x 384 pixels.
- ``sizes``: against the size of the frames, one object.
- ``long``: memory over a long video, at a small size: what is remembered does not depend on it
  except for working memory, and long-term memory fills up as fast.
- ``accuracy``: Dice against the quality of the first mask, on clips with true masks
  (``--clip FRAMES:MASKS``, repeated), with the weights of ``--checkpoint``, and beside it the
  network of ``--finder``, which needs no first mask; ``--plot FILE`` draws it.

Without ``--checkpoint`` weights are random; speed does not depend on them. The first ``--clip``,
where there is one, is what ``published`` runs over. Each measurement has a
process of its own. Seconds are medians over frames; ``processor`` ones count the processor's time.
Peak memory is that of the frames alone, the network included (Linux). Threads wait as
``OMP_WAIT_POLICY`` says, else passively.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# As the command line of dvos has it; read when torch loads. Spinning threads are slow as soon as
# anything else runs, in either program.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from facts import machine
from xmem_accuracy import accuracy, plot_accuracy
from xmem_scenes import AnyScene, ClipScene, Scene

if TYPE_CHECKING:
    from dvos.networks.xmem.network import XMem

PARTS = ("published", "objects", "sizes", "long", "accuracy")
Step = Callable[[int], Tensor]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def fill(network: AnyModule) -> AnyModule:
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


def our_network(checkpoint: str | None, double: bool, device: str = "cpu") -> XMem:
    """As prediction has it: of a file's weights, or random ones, made ready for inference."""
    from dvos.networks.xmem.network import XMem
    from dvos.registry import load_network

    network = fill(XMem()) if checkpoint is None else load_network(Path(checkpoint))[0]
    assert isinstance(network, XMem)
    network = network.to(device)
    # Norms are folded; convolutions are packed in float32 only.
    return (network.double() if double else network).for_inference(consume=True)


def our_step(scene: AnyScene, checkpoint: str | None, double: bool, device: str = "cpu") -> Step:
    from dvos.networks.xmem.engine import XMemEngine

    engine = XMemEngine(our_network(checkpoint, double, device))
    if double:
        # The engine asks for float32 by name; here that is float64.
        tensor: Any = torch.Tensor
        tensor.float, torch.float32 = tensor.double, torch.float64
    mask = scene.mask.float().to(device)

    def step(index: int) -> Tensor:
        return engine.step(scene.frame(index).float().to(device), mask if index == 0 else None)

    return step


def published_step(
    scene: AnyScene,
    checkout: str,
    checkpoint: str | None,
    double: bool,
    device: str = "cpu",
) -> Step:
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
    network = XMem(config)
    if checkpoint is None:
        fill(network)
    else:
        network.load_state_dict(load_file(checkpoint))
    kind = torch.float64 if double else torch.float32
    core = InferenceCore(network.to(device, kind).eval(), config)
    torch.set_default_dtype(kind)
    mask = scene.mask.to(device, kind)
    labels = list(range(1, len(scene.mask) + 1))
    core.set_all_labels(labels)

    def step(index: int) -> Tensor:
        first = index == 0
        frame = scene.frame(index).to(device, kind)
        return core.step(frame, mask if first else None, labels if first else None)

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
    height, width = arguments.size
    scene: AnyScene = (
        ClipScene(arguments.clip[0])
        if arguments.clip
        else Scene(height, width, arguments.objects[0])
    )
    messages, sys.stdout = sys.stdout, sys.stderr
    checkout = arguments.published
    weights = (arguments.checkpoint, arguments.double > 0)
    step = (
        our_step(scene, *weights) if checkout is None else published_step(scene, checkout, *weights)
    )
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    index = 0
    print("ready", file=messages, flush=True)
    # Written as they come: kept in memory they would count.
    with open(arguments.keep, "wb") if arguments.keep else nullcontext() as kept:
        for line in sys.stdin:
            wall, processor = [], []
            for _ in range(int(line)):
                started = time.perf_counter(), time.process_time()
                probability = step(index)
                wall.append(time.perf_counter() - started[0])
                processor.append(time.process_time() - started[1])
                index += 1
                if kept:
                    np.save(kept, probability.numpy())
            answer = {"wall": wall, "processor": processor, "rss": status("VmRSS")}
            print(json.dumps({**answer, "peak": status("VmHWM")}), file=messages, flush=True)


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
        given: Sequence[str] = (),
    ) -> None:
        command = [sys.executable, __file__, "--worker", "--size", *map(str, size)]
        command += ["--objects", str(objects), "--threads", str(threads)]
        command += [] if published is None else ["--published", published]
        command += [] if keep is None else ["--keep", str(keep)]
        command += given
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
    size = (384, 672)
    given = ["--checkpoint", arguments.checkpoint] if arguments.checkpoint else []
    given += ["--clip", arguments.clip[0]] if arguments.clip else []
    programs = {"ours": None, "published": arguments.published}
    if not arguments.published:
        del programs["published"]
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {"clip": arguments.clip[0]} if arguments.clip else {"size": size}
        result["weights"] = arguments.checkpoint or "random"
        for double in (0, arguments.double) if arguments.double else (0,):
            workers = {}
            for name, checkout in programs.items():
                keep = Path(folder) / f"{name}{' in float64' if double else ''}.npy"
                rest = [*given, "--double", str(double)]
                worker = Worker(
                    size, 1, arguments.threads, published=checkout, keep=keep, given=rest
                )
                workers[name] = worker
            for _ in range(max(1, (double or arguments.frames) // 5)):
                for worker in workers.values():
                    worker.run(5)
            figures = {name: worker.close() for name, worker in workers.items()}
            result.update({} if double else figures)
        result["differences"] = differences(Path(folder))
    if "published" in result:
        for name in ("seconds_per_frame", "processor_seconds_per_frame"):
            result[f"times_faster_{name}"] = round(
                result["published"][name] / result["ours"][name], 3
            )
    return result


def read_kept(path: Path) -> NDArray[Any]:
    """What a worker wrote frame after frame, as one array, frames first."""
    frames = []
    with open(path, "rb") as stream:
        while stream.peek(1):
            frames.append(np.load(stream))
    return np.stack(frames)


def differences(folder: Path) -> list[dict[str, Any]]:
    """Between the probabilities that each two programs kept, over the frames both have."""
    kept = {path.stem: read_kept(path) for path in sorted(folder.glob("*.npy"))}
    found = []
    for one, other in combinations(kept, 2):
        frames = min(len(kept[one]), len(kept[other]))
        largest = np.abs(kept[one][:frames] - kept[other][:frames]).max(axis=(1, 2, 3))
        found.append(
            {
                "between": [one, other],
                "largest": float(largest.max()),
                "median_largest_of_a_frame": float(np.median(largest)),
                "frames_beyond_1e-4": int((largest > 1e-4).sum()),
                "frames": frames,
            }
        )
    return found


def against(
    sizes: list[tuple[int, int]], objects: list[int], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for size in sizes:
        for count in objects:
            worker = Worker(size, count, arguments.threads)
            # With many objects a few frames tell enough of the speed; else two are remembered.
            for _ in range(1 if count >= 100 else 3):
                worker.run(3 if count >= 500 else 6)
            yield {"size": size, "objects": count, **worker.close()}


def long_video(arguments: argparse.Namespace) -> dict[str, Any]:
    worker = Worker((96, 160), 1, arguments.threads)
    rss = {}
    for done in range(0, arguments.long_frames, 100):
        worker.run(100)
        rss[done + 100] = None if worker.rss[-1] is None else round(worker.rss[-1])
    return {"rss_mb": rss, **worker.close()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", help="checkout of the published XMem")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["published"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=60, help="of a speed run or a clip")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--sides", type=int, nargs="+", default=[240, 384, 480, 720])
    parser.add_argument("--long-frames", type=int, default=2000)
    parser.add_argument("--checkpoint", help="XMem; needed for accuracy")
    parser.add_argument("--finder", help="network that needs no first mask, for accuracy")
    parser.add_argument("--clip", action="append", default=[], help="FRAMES:MASKS")
    parser.add_argument("--double", type=int, default=0, help="frames to run in float64 as well")
    parser.add_argument("--plot", type=Path, help="picture of the accuracy, .svg or .png")
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
    result: dict[str, Any] = {"machine": machine("torch") | {"threads": arguments.threads}}
    sizes = [(side, side * 7 // 4) for side in arguments.sides]
    runs: dict[str, Callable[[], Any]] = {
        "published": lambda: [beside_published(arguments)],
        "objects": lambda: against([(384, 384)], arguments.objects, arguments),
        "sizes": lambda: against(sizes, [1], arguments),
        "long": lambda: [long_video(arguments)],
        "accuracy": lambda: accuracy(
            arguments.clip,
            checkpoint=arguments.checkpoint,
            finder_checkpoint=arguments.finder,
            frames=arguments.frames,
        ),
    }
    for part in arguments.parts:
        # Kept as they come: the last figures take the longest.
        for found in runs[part]():
            result.setdefault(part, []).append(found)
            save(result, arguments.out)
    if arguments.plot is not None and "accuracy" in result:
        plot_accuracy(result["accuracy"], arguments.plot)
    if arguments.out is None:
        print(json.dumps(result, indent=2))


def save(result: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
