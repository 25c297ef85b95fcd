"""``dvos fit``: the whole method on a user's own data, planned by what lies there.

Without labelled validation each still is predicted by a network that is trained on other folds.
"""

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dvos.config.base import merged
from dvos.config.labelling import ImportSettings
from dvos.config.selftraining import PseudoLabelOptions, RoundsSettings, UnlabelledSettings
from dvos.config.workflow import FitSettings
from dvos.files import check_given, file_digest, make_folder, stem_of, write_bytes, write_json
from dvos.formats.importing import import_labels
from dvos.formats.known import recognise
from dvos.runner.display import waiting
from dvos.runner.manifest import read_record
from dvos.scoring.summary import Scores
from dvos.selftraining.rounds import rounds
from dvos.tables import ClipRow, ImageRow, write_clips, write_images
from dvos.workflow import planning, steps
from dvos.workflow.data_folder import DataFolder, read_data_folder
from dvos.workflow.folds import part
from dvos.workflow.pipeline import (
    Pipeline,
    StageManifest,
    check_data,
    command_line,
    opened,
    with_intensity,
)
from dvos.workflow.planning import Plan, Speed, Survey
from dvos.workflow.starting import Start, check_start, check_training, choose_start

_log = logging.getLogger(__name__)

_ROUND_RATE = 5e-4  # learning rate of a round, which starts from a trained network
_FOLD_EPOCHS, _ROUND_EPOCHS = 3, 4  # of the training of a fold and of a round, at most


@dataclass(frozen=True)
class FitResult:
    """What a fit made."""

    plan: Plan  # What was chosen, and why.
    report: Path  # The HTML report.
    checkpoint: Path  # The network, ``best.safetensors``.
    scores: Scores | None  # Of validation or of cross-validation; None where nothing is labelled.
    overlays: tuple[Path, ...]  # Overlay videos of the targets.
    next_command: str  # What to type next.
    seconds: float  # Time of all stages over all starts.

    def __str__(self) -> str:
        lines = [*self.plan.lines, f"report      {self.report}"]
        if self.scores is not None:
            found = f"pooled Dice {self.scores.pooled_dice:.3f}"
            if interval := self.scores.intervals.get("pooled_dice"):
                found += f", {interval.low:.3f} to {interval.high:.3f}"
            how = f" in {self.plan.folds} folds" if self.plan.folds else ""
            lines.append(f"scores      {self.scores.out / 'scores.json'} ({found}{how})")
        lines.append(f"checkpoint  {self.checkpoint}")
        lines += [f"overlay     {overlay}" for overlay in self.overlays]
        lines.append(f"time        {self.seconds / 60:.1f} min")
        return "\n".join([*lines, f"next        {self.next_command}"])


def fit(settings: FitSettings) -> FitResult:
    """Plan, train, validate and report on a user's data, or go on where an earlier start stopped.

    A UsageError if there is nothing to learn from, or ``out`` holds a fit with other settings; an
    OutputError if something else stands there; another DvosError by a stage.
    """
    start = settings.start if isinstance(settings.start, Path) else None
    check_given([("FOLDER", settings.folder)], [("--start", start)])
    check_training(settings)
    data = read_data(settings)
    check_start(settings, labelled=bool(data.labelled))
    folder = steps.MethodFolder(make_folder(settings.out), "fit")
    with opened(folder, settings):
        check_data(folder, data)
        return _fit(settings, folder, data)


def read_data(settings: FitSettings) -> DataFolder:
    """The data folder of a fit; labels of another program become one, in ``out/imported``."""
    folder = settings.folder
    own = any((folder / name).exists() for name in ("annotated", "clips.csv"))
    found = recognise(folder) if folder.exists() and not own else None
    if found is None or found[0].name == "dvos":
        return read_data_folder(folder, "FOLDER", settings.void)
    out = settings.out / "imported"
    made = ImportSettings(source=folder, out=out, classes=settings.classes)
    _log.warning("%s", import_labels(made))
    return read_data_folder(out)


def _fit(given: FitSettings, folder: steps.MethodFolder, data: DataFolder) -> FitResult:
    """All stages, each of which goes on by itself where it stopped."""
    command = command_line("fit", given, {"folder": given.folder, "out": given.out})
    stages = StageManifest(folder.stages, command=command, seed=given.seed)
    survey, settings = None, with_intensity(given, data)
    if data.labelled:
        look = waiting("looks at the labelled pictures")(planning.look_at)
        survey = stages.run("look", lambda: look(data.labelled, settings.void), str)
    with waiting("tries the starter weights"):
        scale, unlabelled = survey.scale if survey else 1, [*data.photos, *data.unlabelled]
        start = choose_start(settings, data.labelled, scale, folder.start, unlabelled)
    begun = merged(start.training(len(data.labelled)), settings.train)
    settings = settings.model_copy(update={"train": begun})
    if survey:
        settings = planning.fitted(settings, survey)
    mixed = steps.with_data_mix(settings, data)
    run = Pipeline(mixed, folder, data, stages)
    backgrounds = run.prepare()
    plan = _plan(run, mixed, survey, backgrounds, start)
    train = merged(mixed.train, {"data": {"crop": plan.crop}})
    length = {"clips": plan.clips, "epochs": plan.epochs, "train": train}
    run = replace(run, settings=mixed.model_copy(update=length))
    checkpoint = start.path
    if data.labelled:
        run.train(backgrounds)
        checkpoint = folder.checkpoint
    if plan.rounds:
        checkpoint = _rounds(run, plan, backgrounds, checkpoint, start.larger)
    assert checkpoint is not None
    best = folder.best  # where it is easily found
    if not best.is_file() or file_digest(best) != file_digest(checkpoint):
        write_bytes(best, checkpoint.read_bytes())
    overlays = () if plan.targets == "later" else run.predict_targets(best, plan.targets)
    scores = run.validate(best, plan.held_out)
    if plan.folds:
        scores = cross_validate(replace(run, settings=settings), plan, backgrounds)
    return FitResult(
        plan=plan,
        report=run.report(settings.folder.name),
        checkpoint=best,
        scores=scores,
        overlays=overlays,
        next_command=_next_command(settings, folder, plan),
        seconds=stages.seconds,
    )


def _next_command(settings: FitSettings, folder: steps.MethodFolder, plan: Plan) -> str:
    source, out = "VIDEO", list[str]()
    if plan.targets == "later":
        source, out = str(settings.folder / "target"), ["--out", str(folder.predictions)]
    return shlex.join(
        ["dvos", "predict", source, "--checkpoint", str(folder.best), *out, "--overlay"]
    )


def _plan(
    run: Pipeline,
    settings: FitSettings,
    survey: Survey | None,
    backgrounds: list[Path],
    start: Start,
) -> Plan:
    """The plan of an earlier start, or what a few timed steps lead to."""
    plan = read_record(run.folder.plan, Plan)
    if plan is None:
        spent, begun = run.stages.seconds, time.monotonic()

        def planned(chosen: FitSettings, fold_clip: float | None = None) -> tuple[Plan, Speed]:
            timed = steps.build_timing(chosen, run.folder, run.data, backgrounds)
            with waiting("times a few steps of training"):
                speed = replace(planning.time_training(*timed), fold_clip=fold_clip)
            gone = spent + time.monotonic() - begun
            return planning.make_plan(chosen, run.data, survey, speed, start, spent=gone), speed

        def make() -> Plan:
            found, speed = planned(settings)
            larger = planning.with_larger_clips(settings, survey, found)
            return found if larger is settings else planned(larger, speed.clip)[0]

        plan = run.stages.run("plan", make, lambda found: "; ".join(found.lines))
        write_json(run.folder.plan, asdict(plan))
    for line in plan.lines:
        run.stages.announce(line)
    return plan


def _rounds(
    run: Pipeline, plan: Plan, backgrounds: list[Path], start: Path | None, larger: float
) -> Path:
    """Rounds of pseudo-labels, of pictures seen so much ``larger``; gives the best network."""
    data, folder = run.data, run.folder
    unlabelled = [UnlabelledSettings(input=path) for path in data.unlabelled]
    if data.photos:
        write_images(folder.photos, [ImageRow(photo) for photo in data.photos])
        unlabelled.append(UnlabelledSettings(input=folder.photos, stills=True))
    # Each round starts from the one before, and is not to stay there.
    own = merged(run.settings.train, {"start_share": 0.0})
    length = {"clips": plan.round_clips, "epochs": min(_ROUND_EPOCHS, plan.epochs)}
    settings = run.settings.model_copy(update={**length, "train": own})
    train = steps.training_options(settings, folder, data, backgrounds)
    options: dict[str, Any] = {
        "interval": plan.interval,
        "device": settings.device,
        "seed": settings.seed,
    }
    if larger != 1:
        options["scales"] = [round(scale * larger, 3) for scale in PseudoLabelOptions().scales]
    made = RoundsSettings(
        out=folder.rounds,
        unlabelled=unlabelled,
        start=start,
        train=merged({"optimiser": {"lr": _ROUND_RATE}}, train),
        rounds=plan.rounds,
        intensity=settings.intensity,
        pseudo_label=PseudoLabelOptions.model_validate(options),
    )
    return run.stages.run("rounds", lambda: rounds(made), str).best


def cross_validate(run: Pipeline, plan: Plan, backgrounds: Sequence[Path]) -> Scores | None:
    """Train on all folds but one, predict that one, score all together; None with a single one."""
    parts = part(run.data, plan.folds, run.folder.parts, run.settings)
    if len(parts) < 2:
        run.stages.announce("no cross-validation: a single picture with objects in one corner only")
        return None
    for number, held in enumerate(parts, 1):
        others = tuple(row for one in parts if one is not held for row in one)
        folder = steps.MethodFolder(make_folder(run.folder.folds / str(number)), "fold")
        data = DataFolder(run.data.folder, annotated=others)
        settings = steps.with_data_mix(run.settings, data)
        length = {"clips": plan.fold_clips, "epochs": min(_FOLD_EPOCHS, plan.epochs)}
        settings = settings.model_copy(update={**length, "preview_clips": 0})
        prefix = f"fold {number} of {len(parts)}: "
        fold = Pipeline(settings, folder, data, run.stages, prefix)
        fold.prepare()
        fold.train(list(backgrounds))
        write_images(folder.stills, [ImageRow(row.image) for row in held])
        name, places = f"{prefix}predict", (folder.checkpoint, [folder.stills], run.folder.heldout)
        told = f"{len(held)} stills"
        fold.predict(name, *places, told, stills=True, augment=plan.held_out)
    rows = [row for one in parts for row in one]
    truth = [ClipRow("", stem_of(row.image), 0, row.image, row.mask, label=1) for row in rows]
    write_clips(run.folder.truth, truth)
    return run.score(replace(run.data, validation_stills=(), validation_videos=()))
