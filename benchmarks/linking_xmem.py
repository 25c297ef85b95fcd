"""XMem beside grouping and linking: the same clips and scores, and the cost by number of objects.

Discs on a noisy ground drift with a motion of their own. XMem is given the true objects of the
first frame and follows them; grouping and linking are given, of every frame, the true mask and
offsets to centres that are off by a tenth of a radius, as a network would tell them, whose own time
is the same for any number of objects and not counted. Without a checkpoint XMem's weights are
random: its time does not depend on them, and there are no scores of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dvos.config.scoring import ScoringSettings
from dvos.media.grouping import ObjectMaps
from dvos.media.mask import write_label_image, write_mask
from dvos.networks.xmem.engine import XMemEngine
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.objects import find_objects
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.state import LinkedFrame
from dvos.scoring.tracks import score_tracks
from xmem import our_network

SIZE = (192, 256)
MEASURES = ("DET", "SEG", "TRA", "HOTA", "IDF1", "id_switches")

Numbers = NDArray[np.int32]


def clip(count: int, frames: int) -> Iterator[tuple[NDArray[np.float32], Numbers, Any]]:
    """Frame (3, H, W), normalised, true ids and centres (N, 2) of a few discs to some hundred."""
    rng = np.random.default_rng(count)
    columns = max(1, round((count * SIZE[1] / SIZE[0]) ** 0.5))
    rows = -(-count // columns)
    pitch = min(SIZE[1] / columns, SIZE[0] / rows)
    place = np.array([(k % columns + 0.5, k // columns + 0.5) for k in range(count)]) * pitch
    motion = rng.uniform(-0.04, 0.04, place.shape) * pitch
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for t in range(frames):
        ids = np.zeros(SIZE, np.int32)
        for number, (at_x, at_y) in enumerate(place + t * motion, 1):
            ids[(x - at_x) ** 2 + (y - at_y) ** 2 <= (0.38 * pitch) ** 2] = number
        image = 1.5 * (ids > 0) + rng.normal(0, 0.4, (3, *SIZE))
        yield image.astype(np.float32), ids, place + t * motion


def ours(count: int, frames: int) -> Iterator[tuple[Numbers, float]]:
    """Tracks of each frame, and the seconds of a core that it took."""
    rng, linker = np.random.default_rng(0), Linker()
    y, x = np.mgrid[: SIZE[0] : 2, : SIZE[1] : 2] + 0.5
    found: list[tuple[list[LinkedFrame], float]] = []
    for _, ids, centre in clip(count, frames):
        half, small = np.vstack([[0, 0], centre]), ids[::2, ::2]
        radius = np.sqrt(np.count_nonzero(ids) / count / np.pi)
        offset = np.stack([half[small][..., 0] - x, half[small][..., 1] - y]) / 2
        told = (offset + rng.normal(0, 0.05 * radius, offset.shape)).astype(np.float32)
        maps = ObjectMaps(told, np.zeros_like(told))
        began = time.process_time()
        probability = (ids > 0).astype(np.float32)
        objects = find_objects(ids > 0, probability, CountCalibration(), minimum_area=4, maps=maps)
        settled = linker.push(objects)
        found.append((settled, time.process_time() - began))
    found[-1][0].extend(linker.finish())
    for settled, seconds in found:
        for linked in settled:
            # As prediction writes them: an object that several tracks share is parted.
            labels = linked.objects.labels
            yield np.append(0, linked.ids)[labels].astype(np.int32), seconds


def xmem(count: int, frames: int, checkpoint: str | None) -> Iterator[tuple[Numbers, float]]:
    """Likewise, by XMem."""
    engine = XMemEngine(our_network(checkpoint, double=False))
    for t, (image, ids, _) in enumerate(clip(count, frames)):
        given = torch.from_numpy(ids == np.arange(1, count + 1)[:, None, None]) if t == 0 else None
        began = time.process_time()
        with torch.inference_mode():
            found = engine.step(torch.from_numpy(image), given)
        seconds = time.process_time() - began
        yield found.argmax(0).numpy().astype(np.int32), seconds


def scored(count: int, frames: int, found: Sequence[Numbers]) -> dict[str, Any]:
    """Scores of tracks, as ``dvos score --tracks`` has them."""
    with tempfile.TemporaryDirectory() as folder:
        truth, out = Path(folder, "truth"), Path(folder, "out")
        for t, ((_, ids, _), labels) in enumerate(zip(clip(count, frames), found, strict=True)):
            write_mask(truth / f"clip/f{t:03}.png", ids.astype(np.uint16))
            write_mask(out / f"clip/f{t:03}.png", labels > 0)
            write_label_image(out / f"clip/tracks/f{t:03}.png", labels)
        (out / "clip.tracks.csv").write_text("id,parent\n")
        scores = score_tracks(ScoringSettings(truth=truth, predictions=out, tracks=True), truth)
    return {name: scores[name] for name in MEASURES}


def beside_xmem(counts: Sequence[int], frames: int, checkpoint: str | None) -> list[dict[str, Any]]:
    """A row for each number of objects and each of the two."""
    list(ours(4, 4))  # loops are compiled
    rows = []
    for count in counts:
        theirs = xmem(count, frames, checkpoint)
        for name, made in (("grouping and linking", ours(count, frames)), ("XMem", theirs)):
            labels, seconds = zip(*made, strict=True)
            known = name != "XMem" or checkpoint is not None
            rows.append(
                {
                    "method": name,
                    "objects": count,
                    # The first frame begins everything.
                    "core_milliseconds_a_frame": round(1000 * float(np.median(seconds[1:])), 1),
                    **(scored(count, frames, labels) if known else {}),
                }
            )
    return rows


def plot_cost(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Time of a frame by the number of objects, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        x, y = ([row[key] for row in own] for key in ("objects", "core_milliseconds_a_frame"))
        axes.loglog(x, y, "o-", label=name)
    axes.set_xlabel("objects")
    axes.set_ylabel("milliseconds of a core, a frame")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
