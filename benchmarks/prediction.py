"""What prediction is held to: memory, tiles, speed, batch and resume, as JSON with the machine.

    python benchmarks/prediction.py --checkpoint train/best.safetensors --out prediction.json

- ``memory``: peak resident memory of ``dvos predict``, each run in a process of
  its own, on a long and a short video of 1280 x 720. Frames come, are counted
  and are written at full size; for the network they are reduced by ``--scale``,
  which keeps the run short and leaves what could grow with the video as it is.
- ``tiles``: largest difference in probability between a frame in tiles and the
  whole frame.
- ``speed``: wall time of ``dvos predict`` over that of its network alone on the
  same frames, decoded, resized and on the device beforehand. Each repeat runs
  both in turn, so that other work on the machine meets both alike; the ratio is
  the median of the repeats' ratios. Processor time, which other work does not
  change, is given beside it.
- ``same``: whether masks are the same, byte for byte, with another batch, and
  everything that is written after kills at random moments. (Another batch may
  round the sixth digit of a mean probability otherwise.)

Without ``--checkpoint`` the network is freshly initialised, which changes no
figure but those of ``tiles``, as its probabilities are almost flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# Threads that wait must not take the cores from others; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import av
import cv2
import numpy as np
import torch

from dvos.api import load_predictor
from dvos.config.network import NetworkSettings
from dvos.config.prediction import PredictionSettings
from dvos.media.video import VideoFile
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import save_network
from dvos.prediction.predict import predict
from dvos.registry import load_network, network_spec, predictor_for
from facts import machine

SIZE = (720, 1280)
MEGABYTE = 1024 * 1024

# The kernel's own figure of the most this process ever held; that of the parent's
# resource usage would begin with what the parent held.
PREDICT = """
import sys
from dvos.api import predict
checkpoint, source, out, *options = sys.argv[1:]
predict(overrides=["checkpoint=" + checkpoint, "input=" + source, "out=" + out, *options])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def texture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise on several scales, uint8 RGB, wider than ``size`` by 400 pixels."""
    rng = np.random.default_rng(seed)
    height, width = size[0], size[1] + 400
    total = np.zeros((height, width, 3), np.float32)
    for step in (4, 16, 64):
        noise = rng.uniform(0, 1, (height // step + 3, width // step + 3, 3)).astype(np.float32)
        total += cv2.resize(noise, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[
            :height, :width
        ]
    return np.clip(total / 3 * 255, 0, 255).astype(np.uint8)


def moving(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames of a texture that moves to the left, 2 pixels a frame, back and forth."""
    wide = texture(size)
    for index in range(count):
        left = 400 - abs(400 - 2 * index % 800)
        yield np.ascontiguousarray(wide[:, left : left + size[1]])


def write_video(
    path: Path,
    count: int,
    size: tuple[int, int] = SIZE,
    images: Iterable[np.ndarray] | None = None,
) -> Path:
    """An H.264 video by the encoder's fastest setting, of a texture or of images given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for image in moving(count, size) if images is None else images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def start(checkpoint: Path, source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """``dvos predict`` in a process of its own; it prints its peak memory in kB at the end."""
    command = [sys.executable, "-c", PREDICT, str(checkpoint), str(source), str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def peak_bytes(checkpoint: Path, source: Path, out: Path, *options: str) -> int:
    """Peak resident memory of ``dvos predict``."""
    process = start(checkpoint, source, out, *options)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"dvos predict ended with {process.returncode}; run it by hand to see why")
    return int(printed.split()[-1]) * 1024


def measure_memory(checkpoint: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    peaks = {}
    for count in (options.short, options.frames):
        video = write_video(folder / f"{count}.mp4", count)
        settings = (f"scale={options.scale}", "device=cpu")
        peaks[count] = peak_bytes(checkpoint, video, folder / f"memory{count}", *settings)
        video.unlink()
    growth = peaks[options.frames] - peaks[options.short]
    return {
        "scale": options.scale,
        "peak_mb": {str(count): round(peak / MEGABYTE, 1) for count, peak in peaks.items()},
        "growth_mb": round(growth / MEGABYTE, 1),
        "target_mb": 100,
        "reached": growth < 100 * MEGABYTE,
    }


def measure_tiles(checkpoint: Path, tile: int) -> dict[str, Any]:
    differences = {}
    for height, width in ((720, 1280), (641, 359)):
        frames = list(moving(3, (height, width)))
        whole = load_predictor(checkpoint, "cpu").segment(frames)
        tiled = load_predictor(checkpoint, "cpu", tile=tile).segment(frames)
        differences[f"{width} x {height}"] = max(
            float(np.abs(one.probability - other.probability).max())
            for one, other in zip(whole, tiled, strict=True)
        )
    largest = max(differences.values())
    return {"tile": tile, "largest_difference": differences, "reached": largest <= 1e-3}


def network_alone(checkpoint: Path, images: list[np.ndarray]) -> Callable[[], None]:
    """A function that runs the network over frames that lie ready, and does nothing else."""
    loaded, info = load_network(checkpoint, device="cpu")
    if not isinstance(loaded, DvosNetwork):
        raise SystemExit(f"{checkpoint} holds a network of the kind {info.name!r}, not 'dvos'")
    network = loaded.for_inference()
    stored = info.extra["normalisation"]
    mean, std = (torch.tensor(stored[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    frames = [
        ((torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - mean) / std)
        for image in images
    ]
    size = (frames[0].shape[-2], frames[0].shape[-1])

    @torch.inference_mode()
    def run() -> None:
        ring: list[list[torch.Tensor]] = []
        for frame in frames:
            ring.append(network.encode(frame))
            ring = (ring[:1] * (network.references + 1) + ring)[-network.references - 1 :]
            window = [list(maps) for maps in zip(*ring, strict=True)]
            network.decode(window, size, reconstruct=False).mask_logits.sigmoid()

    return run


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def measure_speed(checkpoint: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    video = write_video(folder / "speed.mp4", options.timed)
    images = [frame.image for frame in VideoFile(video)]
    alone = network_alone(checkpoint, images)

    def whole(repeat: int) -> Callable[[], object]:
        out = folder / f"speed{repeat}"
        settings = PredictionSettings(checkpoint=checkpoint, input=video, out=out, device="cpu")
        return lambda: predict(settings, predictor_for)

    alone()
    pairs = [(timed(alone), timed(whole(repeat))) for repeat in range(options.repeats)]
    ratios = [[predicted[kind] / network[kind] for network, predicted in pairs] for kind in (0, 1)]
    ratio = statistics.median(ratios[0])
    return {
        "frames": options.timed,
        "network_seconds": [round(network[0], 2) for network, _ in pairs],
        "predict_seconds": [round(predicted[0], 2) for _, predicted in pairs],
        "wall_ratios": [round(one, 3) for one in ratios[0]],
        "wall_ratio": round(ratio, 3),
        "processor_ratio": round(statistics.median(ratios[1]), 3),
        "target_ratio": 1.15,
        "reached": ratio <= 1.15,
    }


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of all results, without the record of what is finished."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".progress" not in path.parts and path.name[0] != "."
    }


def kill_underway(process: subprocess.Popen[str], out: Path, *, more_masks: int) -> bool:
    """Kill a run a random moment after it wrote some masks; whether it was still running."""
    before = len(list(out.glob("same/*.png")))
    while process.poll() is None and len(list(out.glob("same/*.png"))) < before + more_masks:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.1))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def measure_same(checkpoint: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    video = write_video(folder / "same.mp4", options.same, (360, 640))
    settings = ("device=cpu", "instances=true", "run_lengths=true", "overlay=true")
    peak_bytes(checkpoint, video, folder / "unbroken", *settings)
    expected = contents(folder / "unbroken")
    peak_bytes(checkpoint, video, folder / "batch", *settings, "batch=3")
    random.seed(0)
    kills = sum(
        kill_underway(
            start(checkpoint, video, folder / "killed", *settings),
            folder / "killed",
            more_masks=random.randint(1, options.same // (options.kills + 1)),
        )
        for _ in range(options.kills)
    )
    peak_bytes(checkpoint, video, folder / "killed", *settings)
    found = {name: contents(folder / name) for name in ("batch", "killed")}
    changed = {
        name: sorted(key for key in expected | files if expected.get(key) != files.get(key))
        for name, files in found.items()
    }
    changed["batch"] = [name for name in changed["batch"] if name.endswith(".png")]
    return {
        "frames": options.same,
        "kills": kills,
        "files": len(expected),
        "masks_changed_by_batch": changed["batch"],
        "changed_by_kills": changed["killed"],
        "reached": not any(changed.values()),
    }


def fresh_checkpoint(path: Path) -> Path:
    """The default network, untrained."""
    torch.manual_seed(0)
    spec = network_spec("dvos")
    arguments = spec.arguments(NetworkSettings(), reconstructs=False)
    extra = {"normalisation": spec.normalisation.as_lists()}
    save_network(path, spec.network(**arguments), name="dvos", arguments=arguments, extra=extra)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="trained network of the kind 'dvos'")
    parser.add_argument("--frames", type=int, default=3000, help="of the long video")
    parser.add_argument("--short", type=int, default=100, help="frames of the short video")
    parser.add_argument("--scale", type=float, default=0.1, help="of the memory runs")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--timed", type=int, default=24, help="frames of a timed run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--same", type=int, default=40, help="frames of the runs that are killed")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--parts", nargs="+", default=["memory", "tiles", "speed", "same"], help="what to measure"
    )
    parser.add_argument("--out", type=Path, help="file for the JSON; standard output if left out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": machine("torch", "av") | {"threads": options.threads}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or fresh_checkpoint(folder / "fresh.safetensors")
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "tiles": lambda: measure_tiles(checkpoint, options.tile),
            "speed": lambda: measure_speed(checkpoint, folder, options),
            "same": lambda: measure_same(checkpoint, folder, options),
            "memory": lambda: measure_memory(checkpoint, folder, options),
        }
        for part, measure in parts.items():
            if part in options.parts:
                report[part] = measure()
                sys.stderr.write(f"{part}: {json.dumps(report[part])}\n")
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
