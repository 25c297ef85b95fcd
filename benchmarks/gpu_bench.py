"""What the rows of ``benchmarks/gpu.py`` share: where they run, time, memory, small data."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

import gpu_paths
from dvos.config.network import NetworkSettings
from dvos.networks.weights import save_network
from dvos.registry import network_spec
from gpu_paths import write_atomically

MIB = 2**20


@dataclass(frozen=True)
class Bench:
    """What a row is given.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: Whether all is made so small that it only shows that the row works.
        work: A folder for all rows, in which earlier ones leave what later ones use.
        file: Where figures are kept as they come.
        seconds: What the row has at most; the process is killed after that.
        published: Checkout of the published DVOS, if any.
        published_xmem: Checkout of the published XMem, if any.
        data: Folder with ``annotated/`` and ``validation/``, if any.
        checkpoint: Trained network, if any was given.
    """

    device: str
    tiny: bool
    work: Path
    file: Path
    seconds: float = 60.0
    published: Path | None = None
    published_xmem: Path | None = None
    data: Path | None = None
    checkpoint: Path | None = None

    @cached_property
    def place(self) -> torch.device:
        return torch.device(self.device)

    def note(self, figures: dict[str, Any]) -> None:
        """Keep the figures so far: a row that runs out of time has those."""
        write_atomically(self.file, {"figures": figures})

    def synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def rate(self, run: Callable[[], object], count: int, *, seconds: float = 2.0) -> float:
        """How many of what ``run`` does ``count`` of are done in a second; after a warm-up."""
        run()
        if not self.tiny:
            run()
        self.synchronise()
        done, begun = 0, time.perf_counter()
        while not done or (not self.tiny and time.perf_counter() - begun < seconds):
            run()
            done += count
            # Else the host would run ahead by minutes of work.
            self.synchronise()
        return done / (time.perf_counter() - begun)

    def forget_peak(self) -> None:
        """Begin to count the peak of memory anew."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_mib(self) -> dict[str, int]:
        """Peak memory of the device's tensors, and what was taken for them; on a CPU resident."""
        if self.device == "cuda":
            return {
                "tensors": torch.cuda.max_memory_allocated() // MIB,
                "taken": torch.cuda.max_memory_reserved() // MIB,
            }
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []
        found = [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")]
        return {"resident": found[0]} if found else {}


def exact() -> None:
    """Let float32 be float32, and choices be the same in each run."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(0)


def machine(bench: Bench) -> dict[str, Any]:
    """Facts that all figures depend on."""
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "packages": gpu_paths.versions(),
        "torch_cuda": torch.version.cuda,
    }
    if bench.device == "cuda":
        device = torch.cuda.get_device_properties(0)
        facts["device"] = {
            "name": device.name,
            "count": torch.cuda.device_count(),
            "capability": f"{device.major}.{device.minor}",
            "memory_gib": round(device.total_memory / 2**30, 1),
            "multiprocessors": device.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return facts


def _driver() -> str | None:
    asked = "driver_version,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def fresh_checkpoint(bench: Bench, name: str = "dvos") -> Path:
    """An untrained network of the default shape; of the tiny bench a narrow one. Made once."""
    path = bench.work / f"{name}.safetensors"
    if path.is_file():
        return path
    torch.manual_seed(0)
    spec = network_spec(name)
    arguments = network_arguments(bench, name)
    network = spec.network(**arguments)
    _halve(network)
    extra = {"normalisation": spec.normalisation.as_lists()}
    save_network(path, network, name=name, arguments=arguments, extra=extra)
    return path


def network_arguments(bench: Bench, name: str = "dvos") -> dict[str, Any]:
    """What a network of the rows is built from; its encoder's statistics are frozen, as usual."""
    if not bench.tiny:
        made = network_spec(name).arguments(NetworkSettings(name=name), reconstructs=False)
        return made | ({"frozen_statistics": True} if name == "dvos" else {})
    if name == "paper":
        return {
            "references": 2,
            "base": 4,
            "multipliers": [1, 2],
            "latent": 8,
            "groups": 4,
            "hidden": 8,
        }
    narrow = {"encoder": "lite0", "channels": [4] * 5, "widths": [4] * 4, "references": 2}
    return narrow | {"frozen_statistics": True}


def _halve(network: nn.Module) -> None:
    """Let masks be neither empty nor full: an untrained head may be far from a half."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("heads.mask") and name.endswith("bias"):
                parameter.zero_()


def usual_checkpoint(bench: Bench) -> tuple[Path, str]:
    """The best network at hand for comparing masks, and where it is from."""
    trained = bench.work / "trained.safetensors"
    if bench.checkpoint is not None:
        return bench.checkpoint, "given"
    if trained.is_file():
        return trained, "trained by the row 'training data'"
    return fresh_checkpoint(bench), "untrained: its masks are noise, and no measure"


def field(size: tuple[int, int], objects: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo uint8 (H, W, 3) of bright ellipses on a dark, rough ground, and its mask 0/255."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.zeros((height, width, 3), np.float32)
    for step in (3, 12, 48):
        noise = rng.uniform(0, 90, (height // step + 2, width // step + 2, 3)).astype(np.float32)
        image += cv2.resize(noise, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[
            :height, :width
        ]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(objects):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(10, 22)), int(rng.integers(5, 10))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(mask, centre, axes, angle, 0, 360, 255, -1)
        colour = tuple(float(x) for x in np.array([190, 170, 80]) + rng.uniform(-30, 30, 3))
        cv2.ellipse(image, centre, axes, angle, 0, 360, colour, -1)
    image += rng.normal(0, 6, image.shape)
    return np.clip(cv2.blur(image, (2, 2)), 0, 255).astype(np.uint8), mask


def moving(count: int, size: tuple[int, int], objects: int = 150) -> Iterator[np.ndarray]:
    """Frames of a field that moves to the left, 2 pixels a frame, back and forth."""
    wide, _ = field((size[0], size[1] + 200), objects, 0)
    for index in range(count):
        left = 200 - abs(200 - 2 * index % 400)
        yield np.ascontiguousarray(wide[:, left : left + size[1]])
