"""Speed of prediction beside the published network, as JSON with the machine's facts.

    python benchmarks/prediction_published.py --published PATH --published-python PYTHON
        [--device cuda]

The published configuration (4 references, 256 x 256 frames, 22.9 million
parameters) on a stream of random frames, float32:

- ``published``: the published classes, which encode the four references anew
  for every query and always reconstruct it. With ``--published``, a checkout
  of the published repository; ``--published-python`` is an interpreter that
  has torch.
- ``paper``: ours with the same weights, each frame encoded once, the mask alone.
- ``paper_whole``: ours without a stream, every window from its frames.
- ``dvos``: the compact network, whose time does not depend on its weights.

Ours run in an environment as the command ``dvos predict`` makes it, which keeps
freed memory; the published classes in that of whoever starts this.

Each repeat runs all of them in turn, so that other work on the machine meets
all alike. Figures are medians; ``processor`` ones count the processor's time.
``largest_difference`` is between the mask logits of ``paper`` and ``published``.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read when torch loads. Threads that wait must not take the cores from others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np
import torch
from torch import nn

from dvos.cli.main import keep_memory
from dvos.config.network import NetworkSettings
from dvos.registry import network_spec
from facts import machine

REFERENCES = 4
Run = Callable[[], np.ndarray | None]

# Stands in for what the published classes import but do not need here. It
# answers every line with the seconds of one run over all queries.
PUBLISHED_DRIVER = """
import json, sys, time, types
checkout, folder, threads, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
for name in ("icecream", "box", "wandb"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["icecream"].ic = print
sys.modules["box"].Box = dict
sys.path.insert(0, checkout + "/DVOSCode")
import numpy as np
import torch
torch.set_num_threads(threads)
torch.backends.cudnn.allow_tf32 = False
from model import Decoder, Encoder, Heads, UNet
noise = types.SimpleNamespace(
    INIT_ALPHA=3.0, INIT_BETA=18.0, BETA_REDUCTION_COEFF=2.0, TIMESTEPS=1000, APPLY=False
)
widths = (4, 8, 16, 32)
network = UNet(
    Encoder(3, 256, 2, 4, widths, 4), Decoder(256, 4, widths, 2, 4, 4, noise), Heads(16, 32, 4)
).eval()
network.load_state_dict(torch.load(folder + "/weights.tar", weights_only=True))
network.to(device)
frames = [x[None].to(device) for x in torch.from_numpy(np.load(folder + "/frames.npy"))]
def run():
    with torch.no_grad():
        return [network(frames[q - 4 : q])[1] for q in range(4, len(frames))]
np.save(folder + "/published.npy", torch.cat(run()).cpu().numpy())
print("ready", flush=True)
for _ in sys.stdin:
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = [time.perf_counter() - wall, time.process_time() - processor]
    print(json.dumps(seconds), flush=True)
"""


class Published:
    """The published network in a process of its own."""

    def __init__(
        self, python: str, checkout: Path, folder: Path, threads: int, device: str
    ) -> None:
        command = [python, "-c", PUBLISHED_DRIVER, str(checkout), str(folder), str(threads), device]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"},
        )
        if self._answer() != "ready":
            raise SystemExit("the published network did not start; see its message above")

    def __call__(self) -> tuple[float, float]:
        """Wall and processor seconds of one run."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        wall, processor = json.loads(self._answer())
        return wall, processor

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def timed(run: Run) -> Callable[[], tuple[float, float]]:
    """A function that runs ``run`` and gives wall and processor seconds."""

    def seconds() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - wall, time.process_time() - processor

    return seconds


def stream(network: Any, frames: torch.Tensor) -> Run:
    """Each frame encoded once; the frames before the first query beforehand."""
    size = (frames.shape[-2], frames.shape[-1])
    with torch.inference_mode():
        first = [network.encode(frames[n : n + 1]) for n in range(REFERENCES)]

    @torch.inference_mode()
    def run() -> np.ndarray:
        ring, found = list(first), []
        for query in range(REFERENCES, len(frames)):
            ring.append(network.encode(frames[query : query + 1]))
            window = [list(maps) for maps in zip(*ring, strict=True)]
            found.append(network.decode(window, size, reconstruct=False).mask_logits)
            ring.pop(0)
        return torch.cat(found).cpu().numpy()

    return run


def whole(network: nn.Module, frames: torch.Tensor) -> Run:
    """Every window from its frames."""

    @torch.inference_mode()
    def run() -> np.ndarray:
        queries = range(REFERENCES, len(frames))
        windows = (frames[None, query - REFERENCES : query + 1] for query in queries)
        return torch.cat([network(window).mask_logits for window in windows]).cpu().numpy()

    return run


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    side = arguments.size
    frames = torch.randn(REFERENCES + arguments.queries, 3, side, side)
    device = torch.device(arguments.device)
    torch.backends.cudnn.allow_tf32 = False
    paper: nn.Module = network_spec("paper").network().eval()
    report: dict[str, Any] = {
        "machine": machine("torch") | {"threads": arguments.threads},
        "size": [side, side],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(paper.state_dict(), folder / "weights.tar")
        np.save(folder / "frames.npy", frames.numpy())
        frames = frames.to(device)
        last = torch.channels_last
        paper = paper.to(device=device, memory_format=last)  # type: ignore[call-overload]
        spec = network_spec("dvos")
        dvos: Any = spec.network(**spec.arguments(NetworkSettings(), reconstructs=False)).to(device)
        runs = {
            "paper": stream(paper, frames),
            "paper_whole": whole(paper, frames),
            "dvos": stream(dvos.for_inference(), frames),
        }
        logits = {key: run() for key, run in runs.items()}  # warms up, too
        timers = {key: timed(run) for key, run in runs.items()}
        published = None
        if arguments.published:
            published = Published(
                arguments.published_python,
                arguments.published,
                folder,
                arguments.threads,
                arguments.device,
            )
            timers["published"] = published
            theirs = np.load(folder / "published.npy")
            report["largest_difference"] = float(np.abs(logits["paper"] - theirs).max())
            report["largest_logit"] = float(np.abs(theirs).max())
        seconds: dict[str, list[tuple[float, float]]] = {key: [] for key in timers}
        for _ in range(arguments.repeats):
            for key, timer in timers.items():
                seconds[key].append(timer())
        if published:
            published.close()
    for place, kind in enumerate(("wall", "processor")):
        rates = {
            key: arguments.queries / statistics.median(times[place] for times in seconds[key])
            for key in seconds
        }
        report[f"frames_per_{kind}_second"] = {key: round(rate, 3) for key, rate in rates.items()}
        if "published" in rates:
            report[f"{kind}_ratio_to_published"] = {
                key: round(rate / rates["published"], 2) for key, rate in rates.items()
            }
    return report


def main() -> None:
    keep_memory(["predict"])  # starts this anew
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the frames")
    parser.add_argument("--queries", type=int, default=3, help="queries of a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--published", type=Path, help="checkout of the published repository")
    parser.add_argument("--published-python", default=sys.executable, help="its interpreter")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="file for the JSON; standard output if left out")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments), indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
