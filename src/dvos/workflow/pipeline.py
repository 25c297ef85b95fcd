"""``dvos demo``: data, frames, objects, synthesis, training, prediction, scores, report.

Every stage goes on by itself where it stopped.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from dvos.config.base import plain_values
from dvos.config.prediction import PredictionSettings
from dvos.config.scoring import ReportSettings
from dvos.config.show import check_run_settings
from dvos.config.workflow import DemoSettings
from dvos.files import make_folder, refuse_foreign, stem_of, write_json
from dvos.media.intensity import settled
from dvos.runner import read_record, taken
from dvos.scoring.score import Scores
from dvos.workflow import steps
from dvos.workflow.data_folder import DataFolder, read_data_folder

R = TypeVar("R")

# A stage that only finds its work done takes about this long; adding it to the
# time of the stage would say nothing.
_CHECK_SECONDS = 3.0


@dataclass(frozen=True)
class DemoResult:
    """What a demo made.

    Attributes:
        report: The HTML report.
        scores: ``scores.json``; None where nothing was labelled for validation.
        checkpoint: The trained network.
        overlays: Overlay videos of the targets.
        pooled_dice: Pooled Dice on the validation data, if any.
        seconds: Time of all stages over all starts.
    """

    report: Path
    scores: Path | None
    checkpoint: Path
    overlays: tuple[Path, ...]
    pooled_dice: float | None
    seconds: float

    def __str__(self) -> str:
        lines = [f"report      {self.report}"]
        if self.scores is not None:
            lines.append(f"scores      {self.scores} (pooled Dice {self.pooled_dice:.3f})")
        lines.append(f"checkpoint  {self.checkpoint}")
        lines += [f"overlay     {overlay}" for overlay in self.overlays]
        return "\n".join([*lines, f"time        {self.seconds / 60:.1f} min"])


def demo(settings: DemoSettings) -> DemoResult:
    """Run the whole method, or go on where an earlier start stopped.

    Args:
        settings: Of the demo; those of its stages are made from them.

    Raises:
        UsageError: If the data folder lacks something, or ``out`` holds a demo
            with other settings.
        OutputError: If something stands there that no demo made.
        RunError: If another run is at work in ``out`` or in the folder of its training.
        DvosError: Whatever a stage finds wrong.
    """
    if settings.data is not None:
        read_data_folder(settings.data)  # faults come before anything is written
    folder = steps.DemoFolder(make_folder(settings.out))
    # All stages, and the folder of the training, which others could begin a run of their own in.
    with taken(folder.root):
        if not folder.settings.exists():
            refuse_foreign(folder.makes(), "dvos demo")
        check_run_settings(folder.settings, settings)
        with taken(make_folder(folder.train)):
            return _run_stages(settings, folder)


def _run_stages(settings: DemoSettings, folder: steps.DemoFolder) -> DemoResult:
    """All stages, each of which goes on by itself where it stopped."""
    stages = StageManifest(folder.stages, command=_command(settings), seed=settings.seed)
    data = _find_data(settings, folder, stages)
    run = _Run(_with_intensity(settings, data), folder, data, stages)
    run.train(run.make_material())
    overlays = run.predict_targets()
    scores = run.score()
    return DemoResult(
        report=run.report(),
        scores=folder.root / "scores.json" if scores else None,
        checkpoint=folder.checkpoint,
        overlays=overlays,
        pooled_dice=scores.pooled_dice if scores else None,
        seconds=stages.seconds,
    )


def _find_data(
    settings: DemoSettings, folder: steps.DemoFolder, stages: StageManifest
) -> DataFolder:
    """The user's data folder, or that of the sample field."""
    if settings.data is not None:
        return read_data_folder(settings.data)
    from dvos.sample.field import make_sample_field

    chosen = {"seed": settings.seed, "workers": settings.workers}
    sample = settings.sample.model_copy(update=chosen)
    told = f"{sample.stills} stills, {sample.background_videos + 2} videos"
    stages.run("sample field", lambda: make_sample_field(folder.sample, sample), told)
    return read_data_folder(folder.sample)


def _with_intensity(settings: DemoSettings, data: DataFolder) -> DemoSettings:
    """The settings with one intensity for all: cutouts are pasted over frames as they look."""
    images = [*(still.image for still in data.annotated), *data.background_stills]
    found = settled(settings.intensity, images)
    return settings if found == "full" else settings.model_copy(update={"intensity": found})


@dataclass(frozen=True)
class _Run:
    """The stages of one demo: each is done, or found done."""

    settings: DemoSettings
    folder: steps.DemoFolder
    data: DataFolder
    stages: StageManifest

    def make_material(self) -> list[Path]:
        """Frames, cutouts and some clips to look at; gives the tables of backgrounds."""
        from dvos.extraction.frames import extract_frames
        from dvos.extraction.objects import extract_objects
        from dvos.synthesis.write import synthesize

        settings, folder = self.settings, self.folder
        backgrounds = steps.write_input_tables(folder, self.data)
        if videos := self.data.background_videos:
            frames = steps.build_frames(settings, folder)
            told = f"frames of {len(videos)} background videos"
            self.stages.run("extract frames", lambda: extract_frames(frames), told)
        objects = steps.build_objects(settings, folder)
        self.stages.run("extract objects", lambda: extract_objects(objects), str)
        if settings.preview_clips:
            clips = steps.build_synthesis(settings, folder, backgrounds)
            told = f"{settings.preview_clips} clips on disk, to look at"
            self.stages.run("synthesize", lambda: synthesize(clips), told)
        return backgrounds

    def train(self, backgrounds: list[Path]) -> None:
        """The network, on what was made."""
        from dvos.registry import training_spec
        from dvos.training.run import train

        plan = steps.build_training(self.settings, self.folder, self.data, backgrounds)
        self.stages.run("train", lambda: train(plan, training_spec(plan.network)), str)

    def _predict(self, name: str, plan: PredictionSettings, told: str) -> None:
        from dvos.prediction.predict import predict
        from dvos.registry import predictor_for

        self.stages.run(name, lambda: predict(plan, predictor_for), told)

    def predict_targets(self) -> tuple[Path, ...]:
        """Masks and counts of the unlabelled videos; gives their overlay videos."""
        targets = self.data.targets
        if targets:
            plan = steps.build_target(self.settings, self.folder, self.data)
            self._predict("predict", plan, f"{len(targets)} target video(s)")
        return tuple(self.folder.predictions / f"{stem_of(video)}.mp4" for video in targets)

    def score(self) -> Scores | None:
        """Predictions of what is labelled for validation, and their scores, if there is any."""
        from dvos.scoring.score import score

        stills, videos = self.data.validation_stills, self.data.validation_videos
        if not stills and not videos:
            return None
        plan = steps.build_heldout(self.settings, self.folder, self.data)
        held_out = f"{len(stills)} stills" if stills else f"{len(videos)} video(s)"
        self._predict("predict held-out", plan, held_out)
        scoring = steps.build_scoring(self.settings, self.folder, self.data)
        return self.stages.run(
            "score",
            lambda: score(scoring),
            lambda found: f"pooled Dice {found.pooled_dice:.3f}, mean {found.mean_dice:.3f}",
        )

    def report(self) -> Path:
        """The page that shows it all."""
        from dvos.reporting.html import write_report

        data, videos = self.settings.data, self.data.validation_videos
        plan = ReportSettings(
            run=self.folder.root,
            title=f"DVOS on {'the sample field' if data is None else data.name}",
            frames=videos[0].video.parent if videos else None,
        )
        report = self.stages.run("report", lambda: write_report(plan), lambda path: path.name)
        self.stages.finish()
        # The page shows the stages' times, its own among them, so it is written again.
        write_report(plan)
        return report


def _command(settings: DemoSettings) -> str:
    """The command that makes this run again: its options, and what else is not the default."""
    words = ["dvos", "demo", "--out", str(settings.out)]
    if settings.data is not None:
        words += ["--data", str(settings.data)]
    given = settings.model_dump(exclude_defaults=True, exclude={"out", "data"})
    for key, value in plain_values(given).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join(words)


@dataclass
class Stage:
    """One stage in ``stages.json``: its time over all starts, and what came of it."""

    name: str
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    note: str = ""
    starts: int = 0
    finished: bool = False


@dataclass
class StageRecord:
    """``stages.json``: what was run, and its stages in order; times are in UTC."""

    command: str
    seed: int
    started: str
    finished: str | None = None
    stages: list[Stage] = field(default_factory=list)


class StageManifest:
    """The stages of a demo: their order, times and what they said, kept in ``stages.json``.

    The times are those over all starts, so that the report of a run that was
    interrupted tells the same story as that of an unbroken one.

    Args:
        path: The ``stages.json`` to go on with or to begin.
        command: What the user typed, for the report.
        seed: The run's seed, for the report.
        announce: Called with a line as each stage begins and ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: str,
        seed: int,
        announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._path = path
        self._announce = announce
        record = read_record(path, StageRecord) or StageRecord(command, seed, _now())
        self._record = replace(record, command=command, seed=seed, finished=None)

    def run(self, name: str, work: Callable[[], R], note: str | Callable[[R], str]) -> R:
        """Do one stage and note its time, also if it is interrupted.

        Args:
            name: Its name, shown and stored.
            work: Does it, or finds it done.
            note: What came of it in a few words, or what tells it.
        """
        stages = self._record.stages
        stage = next((stage for stage in stages if stage.name == name), None)
        if stage is None:
            stage = Stage(name)
            stages.append(stage)
        self._announce(f"{name} ...")
        begun = time.monotonic()
        stage.starts += 1
        was_finished, stage.finished = stage.finished, False
        try:
            result = work()
            stage.note = note if isinstance(note, str) else note(result)
            stage.finished = True
        finally:
            seconds = time.monotonic() - begun
            if not was_finished or seconds > _CHECK_SECONDS:
                stage.seconds = round(stage.seconds + seconds, 2)
            write_json(self._path, asdict(self._record))
        minutes, rest = divmod(round(stage.seconds), 60)
        clock = f"{minutes} min {rest:02d} s" if minutes else f"{stage.seconds:.1f} s"
        self._announce(f"{name}: {stage.note} ({clock})")
        return result

    def finish(self) -> None:
        """Note that all stages are done."""
        self._record.finished = _now()
        write_json(self._path, asdict(self._record))

    @property
    def seconds(self) -> float:
        """Time of all stages together, over all starts."""
        return sum(stage.seconds for stage in self._record.stages)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
