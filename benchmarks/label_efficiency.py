"""What labelled stills, synthetic clips and starter weights are worth, by the number of stills.

python benchmarks/label_efficiency.py --data FOLDER --out FOLDER

FOLDER holds annotated/ (images, head_mask or masks), backgrounds/ and validation/, as
``dvos demo --data`` takes it. The domain of a photo (its field, its institution) is what
--domain finds in its name. In each fold two domains are left out altogether, taken in a
circle so that each is left out twice; stills are drawn from the others in turn.

Arms: "stills" (simulated pans of the stills alone), "mixed" (with n stills a share of 1/n, at
most a half, of synthetic clips: cutouts pasted among the stills' own objects, a few over bare
backgrounds), "bare" (half synthetic clips, over bare backgrounds), "synthetic" (only such clips),
"empty" (stills, and a tenth bare backgrounds with empty masks). --starts: what a training starts
from, imagenet (the encoder's weights alone) or wheat (the starter weights); with 0 stills the
starter itself is scored, untrained. What is compared has the same
number of clips, and the last weights count: nothing is chosen on photos that are scored. Several
numbers of --clips, each a training of its own with its own schedule, show whether a gain lasts.

A run that is there is not made again, so the command goes on where it was stopped, and --part
I/N shares the runs between processes. The table, its intervals (photos drawn again, the same for
both arms of a difference) and a plot come with the last of them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dvos
from dvos.files import write_json
from dvos.tables import write_rows
from facts import machine

ARMS = ("stills", "mixed", "bare", "synthetic", "empty")
STARTS = ("imagenet", "wheat")
#: A number of stills: all there are.
ALL = -1
DRAWS = 2000

Photo = tuple[Path, Path]


@dataclass(frozen=True)
class Data:
    """The photos, their masks and the backgrounds."""

    stills: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    backgrounds: tuple[Path, ...]
    domain: re.Pattern[str]

    def domain_of(self, path: Path) -> str:
        found = self.domain.search(path.name)
        if found is None:
            raise SystemExit(f"{path}: --domain {self.domain.pattern!r} finds nothing in the name")
        return found[0]

    @property
    def domains(self) -> list[str]:
        return sorted({self.domain_of(image) for image, _ in self.stills})


@dataclass(frozen=True)
class Run:
    """One training: an arm, a number of stills, a fold, a number of clips, a start and a seed."""

    arm: str
    stills: int
    fold: int
    clips: int
    start: str
    seed: int

    @property
    def name(self) -> str:
        stills = told(self.stills)
        return f"{self.arm}_{stills}_{self.fold}_{self.clips}_{self.start}_{self.seed}"


def told(stills: int) -> int | str:
    """A number of stills as it is written."""
    return "all" if stills == ALL else stills


def read_data(folder: Path, domain: str) -> Data:
    def photos(part: str) -> tuple[Photo, ...]:
        masks = next(m for m in ("masks", "head_mask") if (folder / part / m).is_dir())
        by_stem = {path.stem: path for path in (folder / part / masks).iterdir()}
        images = sorted((folder / part / "images").iterdir())
        return tuple((image, by_stem[image.stem]) for image in images)

    return Data(
        photos("annotated"),
        photos("validation"),
        tuple(sorted((folder / "backgrounds").iterdir())),
        re.compile(domain),
    )


def left_out(data: Data, fold: int) -> set[str]:
    """Two neighbours in a circle of the domains."""
    names = data.domains
    return {names[fold % len(names)], names[(fold + 2) % len(names)]}


def draw_stills(data: Data, number: int, fold: int) -> list[Photo]:
    """Stills of the domains that are not left out, one domain after the other."""
    pool = [photo for photo in data.stills if data.domain_of(photo[0]) not in left_out(data, fold)]
    if number == ALL:
        return pool
    rng = np.random.default_rng([77, fold])
    names = sorted({data.domain_of(image) for image, _ in pool})
    rng.shuffle(names)
    piles = [[p for p in pool if data.domain_of(p[0]) == name] for name in names]
    for pile in piles:
        rng.shuffle(pile)  # type: ignore[arg-type]
    deepest = max(map(len, piles))
    ordered = [pile[k] for k in range(deepest) for pile in piles if k < len(pile)]
    return ordered[:number]


def make_material(data: Data, number: int, fold: int, out: Path) -> Path:
    """Tables of the stills, of their cutouts and of the backgrounds."""
    folder = out / f"material_{told(number)}_{fold}"
    stills = folder / "stills.csv"
    if not (folder / "cutouts.csv").is_file():
        rows = [(*photo, folder / "cut") for photo in draw_stills(data, number, fold)]
        bare = [p for p in data.backgrounds if data.domain_of(p) not in left_out(data, fold)]
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(stills, ("Image", "Mask", "OutDir"), rows)
        write_rows(folder / "bare.csv", ("Image",), [(path,) for path in bare])
        dvos.extract_objects(
            annotated=stills,
            cutouts=folder / "cutouts.csv",
            distractors=folder / "distractors.csv",
            instances="auto",
            min_object_size=64,
            cut_at_border=False,
            distractors_per_object=3,
            workers=1,
        )
    return folder


def count_rows(table: Path) -> int:
    return len(table.read_text(encoding="utf-8").splitlines()) - 1


def data_mix(run: Run, material: Path) -> dict[str, object]:
    """Sources of the training clips and their shares."""
    stills, bare = material / "stills.csv", material / "bare.csv"
    cut = {"cutouts": [material / "cutouts.csv"]}
    # The fewer the stills, the more they gain by being recombined.
    share = min(0.5, 1 / count_rows(stills))
    # As dvos demo does: a single still is not to be outweighed by bare backgrounds.
    scene = {"scene": {"plates": {"labelled": 1.0}}} if count_rows(stills) == 1 else {}
    over_bare = {"backgrounds": [bare], "distractors": [material / "distractors.csv"], **cut}
    arms: dict[str, dict[str, object]] = {
        "stills": {"shares": {"stills": 1}},
        "mixed": {
            "synthetic": {"backgrounds": [stills, bare], **cut, **scene},
            "shares": {"stills": 1 - share, "synthetic": share},
        },
        "bare": {"synthetic": over_bare, "shares": {"stills": 0.5, "synthetic": 0.5}},
        "synthetic": {"synthetic": over_bare, "shares": {"synthetic": 1}},
        "empty": {"empty": {"tables": [bare]}, "shares": {"stills": 0.9, "empty": 0.1}},
    }
    chosen = dict(arms[run.arm])
    if run.arm != "synthetic":
        chosen["stills"] = {"tables": [stills]}
    return chosen


def make_run(run: Run, data: Data, options: argparse.Namespace) -> dict[str, object]:
    """Train if there are stills, predict, count pixels; or read what an earlier start left."""
    folder: Path = options.out / run.name
    result = folder / "result.json"
    if result.is_file():
        done: dict[str, object] = json.loads(result.read_text())
        return done
    outside = left_out(data, run.fold)
    same = [p for p in data.validation if data.domain_of(p[0]) not in outside]
    unseen = [p for p in (*data.stills, *data.validation) if data.domain_of(p[0]) in outside]
    started = time.perf_counter()
    weights = train(run, same, options) if run.stills else Path(run.start)
    seconds = time.perf_counter() - started
    figures = {
        "run": asdict(run),
        "left_out": sorted(outside),
        "seconds": round(seconds, 1),
        "same": score_photos(weights, same, folder / "same"),
        "unseen": score_photos(weights, unseen, folder / "unseen"),
    }
    write_json(result, figures)
    return figures


def train(run: Run, same: Sequence[Photo], options: argparse.Namespace) -> Path:
    """The weights of a training."""
    folder: Path = options.out / run.name / "train"
    data = read_data(options.data, options.domain)
    material = make_material(data, run.stills, run.fold, options.out)
    # One epoch after another is scored on photos of the same domains for the curve alone;
    # what counts are the last weights.
    watched = material / "watched.csv"
    write_rows(watched, ("Image", "Mask"), same)
    start = [f"network.weights={run.start}"] if run.start != "imagenet" else []
    trained = dvos.train(
        out=folder,
        resume=folder.is_dir(),
        seed=1 + run.fold + 100 * run.seed,
        epochs=1,
        clips_per_epoch=run.clips,
        threads=options.threads,
        workers=1,
        pictures=0,
        device=options.device,
        data={**data_mix(run, material), "validation": {"stills": {"tables": [watched]}}},
        overrides=[*start, *options.set],
    )
    return trained.best


def score_photos(checkpoint: Path, photos: Sequence[Photo], out: Path) -> dict[str, list[int]]:
    """Pixels of each photo: found and true, found, true."""
    for kind, paths in (("images", [p[0] for p in photos]), ("masks", [p[1] for p in photos])):
        (out / kind).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, out / kind / path.name)
    found = dvos.evaluate(
        checkpoint=checkpoint,
        truth=out / "masks",
        input=out / "images",
        stills=True,
        frames="all",
        out=out / "scores",
        overlay_interval=0,
    )
    counts = {
        mask.pair.name: [mask.counts.intersection, mask.counts.predicted, mask.counts.truth]
        for mask in found.scores.masks
    }
    for part in ("images", "masks"):
        shutil.rmtree(out / part)
    return counts


def dice(counts: np.ndarray) -> float:
    both, found, true = counts.sum(0)
    return float(2 * both / (found + true))


def drawn_dice(counts: np.ndarray, seed: int) -> np.ndarray:
    """Pooled Dice of photos drawn again, (DRAWS,); equal seeds draw equal photos."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(counts), (DRAWS, len(counts)))
    both, found, true = counts[picks].sum(1).T
    return np.asarray(2 * both / np.maximum(found + true, 1))


def summarise(results: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """A row for each arm and start, by stills and clips: means over folds and seeds.

    Gains are over stills alone from ImageNet.
    """
    table: dict[tuple[int, int, str, str], dict[tuple[int, int], dict[str, object]]] = {}
    for result in results:
        run: dict[str, Any] = result["run"]  # type: ignore[assignment]
        cell = table.setdefault((run["stills"], run["clips"], run["start"], run["arm"]), {})
        cell[run["fold"], run["seed"]] = result
    rows: list[dict[str, object]] = []
    for (stills, clips, start, arm), folds in sorted(
        table.items(), key=lambda item: (item[0][0] % 100, *item[0][1:])
    ):
        row: dict[str, object] = {"stills": told(stills), "clips": clips}
        row |= {"start": start, "arm": arm, "folds": sorted(folds)}
        base = table.get((stills, clips, "imagenet", "stills"), {})
        for part in ("same", "unseen"):
            row[part] = summary(folds, base, part)
        rows.append(row)
    return rows


def summary(
    folds: dict[tuple[int, int], dict[str, object]],
    base: dict[tuple[int, int], dict[str, object]],
    part: str,
) -> dict[str, object]:
    def counts(result: dict[str, object]) -> np.ndarray:
        photos: dict[str, list[int]] = result[part]  # type: ignore[assignment]
        return np.array([photos[name] for name in sorted(photos)], np.float64)

    each = {fold: dice(counts(result)) for fold, result in folds.items()}
    draws = np.mean([drawn_dice(counts(found), fold) for (fold, _), found in folds.items()], axis=0)
    found: dict[str, object] = {
        "mean": float(np.mean(list(each.values()))),
        "interval": np.quantile(draws, [0.025, 0.975]).tolist(),
        "folds": {f"{fold}_{seed}": value for (fold, seed), value in each.items()},
    }
    common = sorted(set(folds) & set(base))
    if common:
        change = [
            drawn_dice(counts(folds[key]), key[0]) - drawn_dice(counts(base[key]), key[0])
            for key in common
        ]
        single = [dice(counts(folds[key])) - dice(counts(base[key])) for key in common]
        found["gain"] = float(np.mean(single))
        found["gain_interval"] = np.quantile(np.mean(change, axis=0), [0.025, 0.975]).tolist()
        found["gain_folds"] = single
    return found


def print_table(rows: Sequence[dict[str, object]]) -> None:
    print("| stills | clips | start | of what | same | unseen | gain on unseen |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        same, unseen = row["same"], row["unseen"]
        cells = [f"{p['mean']:.3f} ({p['interval'][0]:.2f} to {p['interval'][1]:.2f})"  # type: ignore[index]
                 for p in (same, unseen)]  # fmt: skip
        gain = ""
        baseline = (row["start"], row["arm"]) == ("imagenet", "stills")
        if "gain" in unseen and not baseline:  # type: ignore[operator]
            low, high = unseen["gain_interval"]  # type: ignore[index]
            gain = f"{unseen['gain']:+.3f} ({low:+.3f} to {high:+.3f})"  # type: ignore[index]
        names = [str(row[key]) for key in ("stills", "clips", "start", "arm")]
        print(f"| {' | '.join([*names, *cells, gain])} |")


def plot(rows: Sequence[dict[str, object]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Budgets of clips stand side by side; only points of one budget are joined.
    budgets = list(dict.fromkeys(row["clips"] for row in rows))
    counts = [
        (stills, clips)
        for clips in budgets
        for stills in dict.fromkeys(row["stills"] for row in rows if row["clips"] == clips)
    ]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, part in zip(axes, ("same", "unseen"), strict=True):
        drawn = [(start, arm) for start in STARTS for arm in ARMS]
        for number, (start, arm) in enumerate(drawn):
            label: str | None = f"{arm}, {start}"
            for clips in budgets:
                mine = [
                    row
                    for row in rows
                    if (row["start"], row["arm"], row["clips"]) == (start, arm, clips)
                ]
                if not mine:
                    continue
                x = np.array([counts.index((row["stills"], clips)) for row in mine])
                y = np.array([row[part]["mean"] for row in mine])  # type: ignore[index]
                ends = np.array([row[part]["interval"] for row in mine]).T  # type: ignore[index]
                axis.errorbar(
                    x + 0.05 * (number - 4.5),
                    y,
                    yerr=[y - ends[0], ends[1] - y],
                    label=label,
                    color=f"C{number}",
                    marker="o" if start == "imagenet" else "s",
                    linestyle="-" if start == "imagenet" else "--",
                    capsize=3,
                )
                label = None
        axis.set_xticks(range(len(counts)), [f"{stills}\n{clips:,}" for stills, clips in counts])
        axis.set_xlabel("labelled stills, training clips")
        axis.set_title(f"{part} domains")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("pooled Dice")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domain", default=r"domain\d+", help="regular expression in the names")
    parser.add_argument(
        "--stills", nargs="+", default=["0", "1", "2", "5", "all"], help="0: untrained"
    )
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each fold")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["stills", "mixed", "synthetic"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--clips", type=int, nargs="+", default=[1200], help="of a run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--part", default="1/1", help="I/N: make the I-th of N parts of the runs")
    parser.add_argument("--set", action="append", default=[], help="further settings of dvos train")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"skipped: {options.data} is not there")
    data = read_data(options.data, options.domain)
    part, parts = map(int, options.part.split("/"))
    # Fold by fold, so that the arms of a pair are complete early.
    runs = [
        Run(arm, stills, fold, clips, start, seed)
        for seed in range(options.seeds)
        for fold in range(options.folds)
        for clips in options.clips
        for stills in [ALL if number == "all" else int(number) for number in options.stills]
        for start in options.starts
        for arm in (options.arms if stills else options.arms[:1])
        # Nothing but the starter finds anything without stills.
        if stills or start != "imagenet"
    ]
    for run in runs[part - 1 :: parts]:
        make_run(run, data, options)
    done = [options.out / run.name / "result.json" for run in runs]
    rows = summarise([json.loads(path.read_text()) for path in done if path.is_file()])
    facts = {
        "benchmark": "label_efficiency",
        "settings": options.set,
        "rows": rows,
        "machine": machine("torch") | {"dvos": dvos.__version__},
    }
    write_json(options.out / "label_efficiency.json", facts)
    plot(rows, options.out / "label_efficiency.png")
    print_table(rows)


if __name__ == "__main__":
    main()
