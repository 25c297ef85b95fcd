"""What ``benchmarks/gpu.py`` is held to, beside what it measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Frames a second of the network alone at 1920 x 1080, by what the device's name holds.
_ALONE = {"H200": 400, "H100": 330}


def at(value: Any, *keys: str) -> Any:
    """What lies in nested mappings; None where there is nothing."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with its figure and whether it is reached; those without a figure are left out.

    Figures of a tiny run reach nothing, and none are given.
    """
    if report["tiny"]:
        return []
    figures = {name: row.get("figures", {}) for name, row in report["rows"].items()}
    found: list[dict[str, Any]] = []

    def compare(
        what: str, figure: float | None, wanted: float, reached: Callable[[float, float], bool]
    ) -> None:
        if figure is not None:
            ok = bool(reached(figure, wanted))
            found.append({"what": what, "figure": figure, "to_reach": wanted, "reached": ok})

    def at_least(what: str, figure: float | None, wanted: float) -> None:
        compare(what, figure, wanted, lambda a, b: a >= b)

    def at_most(what: str, figure: float | None, wanted: float) -> None:
        compare(what, figure, wanted, lambda a, b: a <= b)

    at_most("largest difference from the CPU, float32", _apart(figures.get("parity")), 1e-4)
    fast = figures.get("fast default")
    at_least("Dice of the default's masks with float32's", at(fast, "dice"), 0.998)
    at_most("counts of the default differ from float32's by", at(fast, "counts_differ_by"), 0.005)
    file = figures.get("file")
    decoding = at(file, "decoding_alone_frames_per_second")
    at_least(
        "file to masks and counts, 1920 x 1080, frames/s (250, or what decoding alone gives)",
        at(file, "second", "frames_per_second"),
        min(250, decoding or 250),
    )
    device = str(at(figures.get("machine"), "device", "name"))
    wanted = next((rate for name, rate in _ALONE.items() if name in device), _ALONE["H100"])
    alone = at(figures.get("network alone"), "1920 x 1080")
    rates = [at(row, "frames_per_second") for row in (alone or {}).values()]
    at_least("the network alone, 1920 x 1080, frames/s", max(rates, default=None), wanted)
    step = at(figures.get("step"), "batch 32, crop 256", "clips_per_second")
    at_least("a training step alone, batch 32, crop 256, clips/s", step, 1600)
    data = figures.get("training data")
    at_least("training with its data, crop 256, clips/s", at(data, "clips_per_second"), 1000)
    at_most("seconds to the first step", at(data, "first_step_s"), 10)
    at_most("wheat, 0.917: finished after s", _finished(figures.get("wheat"), 0.917), 75)
    at_most("wheat, 0.925: finished after s", _finished(figures.get("wheat long"), 0.925), 300)
    _compare_xmem(figures, at_least, at_most)
    return found


def _apart(parity: Any) -> float | None:
    """The largest of all differences."""
    if not isinstance(parity, dict):
        return None
    own = [value for key, value in parity.items() if key in ("largest", "loss", "gradient")]
    inner = [_apart(value) for value in parity.values() if isinstance(value, dict)]
    return max([*own, *(one for one in inner if one is not None)], default=None)


def _finished(run: Any, dice: float) -> float | None:
    """Seconds from the command to the finished run, where its weights are good enough."""
    best = at(run, "best_dice")
    return at(run, "finished_s") if best is not None and best >= dice else None


def _compare_xmem(
    figures: dict[str, Any],
    at_least: Callable[[str, float | None, float], None],
    at_most: Callable[[str, float | None, float], None],
) -> None:
    ours, theirs = figures.get("xmem"), figures.get("published xmem")
    for objects, wanted in (("1", 1.5), ("10", 2.0), ("100", 4.0)):
        best = [
            max(
                (at(row, "frames_per_second") for row in (at(each, objects) or {}).values()),
                default=None,
            )
            for each in (ours, theirs)
        ]
        ratio = best[0] / best[1] if best[0] and best[1] else None
        at_least(f"XMem, {objects} objects, times as fast as published", ratio, wanted)
    peaks = [at(row, "peak_mib", "tensors") for row in (at(ours, "100") or {}).values()]
    known = [peak for peak in peaks if peak is not None]
    at_most("XMem, 100 objects, MiB", min(known, default=None), 8 * 1024)
