"""Row ``parity`` of ``benchmarks/gpu.py``: the same numbers on the device as on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import dvos
from dvos.config.training import TrainingSettings
from dvos.prediction.predictor import Views
from dvos.registry import network_spec
from gpu_bench import Bench, exact, fresh_checkpoint, moving, network_arguments

#: What float32 on the device may differ by from float32 on the CPU, in probability.
CLOSE = 1e-4


def parity(bench: Bench) -> dict[str, Any]:
    """Of each network: largest difference in probability, and of a step of training."""
    exact()
    figures: dict[str, Any] = {}
    for name, size in (("dvos", (360, 640)), ("paper", (256, 256))):
        path = fresh_checkpoint(bench, name)
        frames = list(moving(4, (64, 96)) if bench.tiny else moving(6, size))
        figures[name] = of_network(bench, path, frames)
        bench.note(figures)
        figures[name]["training step"] = of_step(bench, name)
        bench.note(figures)
    figures["xmem"] = of_xmem(bench)
    return figures


def of_network(bench: Bench, path: Path, frames: list[np.ndarray]) -> dict[str, Any]:
    """Whole frames, tiles, and views of several scales and mirror images."""
    tile = 64 if bench.tiny else 160

    def segmented(device: str, **options: Any) -> np.ndarray:
        predictor = dvos.load_predictor(path, device, precision="float32", **options)
        return np.stack([frame.probability for frame in predictor.segment(frames)])

    def viewed(device: str, **options: Any) -> np.ndarray:
        predictor = dvos.load_predictor(path, device, precision="float32", **options)
        views = Views((0.71, 1.0), "horizontal")
        found = predictor.segment_views(frames[:3], views)
        both = []
        for frame in found:
            assert frame.std is not None
            both += [frame.probability, frame.std]
        return np.stack(both)

    return {
        "whole frames": between(bench, segmented),
        "tiles": between(bench, segmented, tile=tile),
        "batch of 3": between(bench, segmented, batch=3),
        "mirror images and scales": between(bench, segmented, augment="flips_and_scales"),
        "views": between(bench, viewed),
    }


def between(bench: Bench, run: Callable[..., np.ndarray], **options: Any) -> dict[str, float]:
    """The largest difference between the CPU and the device, and how many values lie beyond."""
    return difference(run("cpu", **options), run(bench.device, **options))


def difference(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    apart = np.abs(one.astype(np.float64) - other)
    return {"largest": float(apart.max()), "share_beyond": float((apart > CLOSE).mean())}


def of_xmem(bench: Bench) -> dict[str, Any]:
    """Objects followed long enough to fill working memory, consolidate it and forget."""
    from dvos.networks.xmem.engine import XMemEngine
    from dvos.networks.xmem.memory import MemorySettings
    from dvos.networks.xmem.network import XMem
    from xmem import fill
    from xmem_scenes import Scene

    height, width, frames = (32, 48, 6) if bench.tiny else (128, 192, 24)
    scene = Scene(height, width, 2 if bench.tiny else 5)
    memory = MemorySettings(
        mem_every=1,
        min_mid_term_frames=2,
        max_mid_term_frames=4,
        prototypes=8 if bench.tiny else 32,
        long_term_max=16 if bench.tiny else 128,
        top_k=10,
    )
    network = fill(XMem())
    found = {}
    with torch.inference_mode():
        for device in ("cpu", bench.device):
            own = network.to(device).for_inference()
            engine = XMemEngine(own, settings=memory)
            mask = scene.mask.to(device)
            steps = (
                engine.step(scene.frame(index).to(device), mask if index == 0 else None)
                for index in range(frames)
            )
            found[device] = np.stack([one.cpu().numpy() for one in steps])
    by_frame = np.abs(found["cpu"] - found[bench.device]).max(axis=(1, 2, 3))
    return {
        "long-term memory": difference(found["cpu"], found[bench.device]),
        # Two places that are alike up to rounding may change ranks among those read.
        "median_of_frames": float(np.median(by_frame)),
        "frames": frames,
    }


def of_step(bench: Bench, name: str) -> dict[str, float]:
    """Loss and length of the gradient, as shares of the CPU's."""
    spec = network_spec(name)
    side, clips = (64, 2) if bench.tiny else (128, 4)
    # The published network wants no settings but its own here: its loss is that of ours.
    settings = TrainingSettings.model_validate(
        {"out": bench.work / "none", "network": {"name": name}}
    )
    objective = spec.objective(settings, spec.normalisation)
    arguments = network_arguments(bench, name)
    network = spec.network(**_with_reconstruction(name, arguments, settings))
    network.train()
    frames = torch.randn(clips, arguments["references"] + 1, 3, side, side)
    target = (torch.rand(clips, 1, side, side) > 0.7).float()
    batch = {"frames": frames, "target": target, "weight": torch.ones_like(target)}
    found = []
    for device in ("cpu", bench.device):
        network = network.to(device)
        network.zero_grad()
        on_device = {key: value.to(device) for key, value in batch.items()}
        torch.manual_seed(0)
        loss, _ = objective(network, on_device, step=0, devices=1, add=lambda values: values)
        loss.backward()
        found.append((float(loss.detach()), gradient_norm(network)))
    (loss, length), (other_loss, other_length) = found
    return {
        "loss": abs(other_loss / loss - 1),
        "gradient": abs(other_length / length - 1),
    }


def _with_reconstruction(
    name: str, arguments: dict[str, Any], settings: TrainingSettings
) -> dict[str, Any]:
    if settings.losses.reconstruction == 0:
        return arguments
    if name == "paper":
        return arguments | {"reconstructs": True}
    return arguments | {"heads": {"mask": 1, "reconstruction": 3}}


def gradient_norm(network: nn.Module) -> float:
    gradients: Iterable[torch.Tensor] = (
        parameter.grad for parameter in network.parameters() if parameter.grad is not None
    )
    return float(sum((grad.double() ** 2).sum() for grad in gradients)) ** 0.5
