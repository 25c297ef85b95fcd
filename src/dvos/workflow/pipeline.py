"""``dvos demo``: data, frames, objects, synthesis, training, prediction, scores, report."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from dvos.config.base import plain_values
from dvos.config.report import ReportSettings
from dvos.config.show import check_run_settings
from dvos.config.workflow import DemoSettings
from dvos.files import make_folder
from dvos.scoring.score import Scores
from dvos.workflow import steps
from dvos.workflow.folder import DemoFolder
from dvos.workflow.layout import DataFolder, read_data_folder
from dvos.workflow.stages import StageBook

__all__ = ["DemoResult", "demo"]


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
        settings: See :class:`~dvos.config.workflow.DemoSettings`.

    Raises:
        UsageError: If the data folder lacks something, or ``out`` holds a demo
            with other settings.
        DvosError: Whatever a stage finds wrong.
    """
    if settings.data is not None:
        read_data_folder(settings.data)  # faults come before anything is written
    folder = DemoFolder(make_folder(settings.out))
    check_run_settings(folder.settings, settings)
    book = StageBook(
        folder.stages,
        command=_command(settings),
        seed=settings.seed,
        announce=lambda line: print(line, file=sys.stderr, flush=True),
    )
    data = _data(settings, folder, book)
    backgrounds = _material(settings, folder, data, book)
    _training(settings, folder, data, backgrounds, book)
    overlays = _target(settings, folder, data, book)
    scores = _scores(settings, folder, data, book)
    report = _report(settings, folder, data, book)
    return DemoResult(
        report=report,
        scores=folder.root / "scores.json" if scores else None,
        checkpoint=folder.checkpoint,
        overlays=overlays,
        pooled_dice=scores.pooled_dice if scores else None,
        seconds=book.seconds,
    )


def _data(settings: DemoSettings, folder: DemoFolder, book: StageBook) -> DataFolder:
    if settings.data is not None:
        return read_data_folder(settings.data)
    from dvos.sample.field import make_sample_field

    chosen = {"seed": settings.seed, "workers": settings.workers}
    sample = settings.sample.model_copy(update=chosen)
    book.run(
        "sample field",
        lambda: make_sample_field(folder.sample, sample),
        note=lambda _: (
            f"{settings.sample.stills} stills, {settings.sample.background_videos + 2} videos"
        ),
    )
    return read_data_folder(folder.sample)


def _material(
    settings: DemoSettings, folder: DemoFolder, data: DataFolder, book: StageBook
) -> list[Path]:
    from dvos.extraction.frames import extract_frames
    from dvos.extraction.objects import extract_objects
    from dvos.synthesis.write import synthesize

    backgrounds = folder.write_input_tables(data)
    if data.background_videos:
        book.run(
            "extract frames",
            lambda: extract_frames(steps.build_frames(settings, folder)),
            note=lambda _: f"frames of {len(data.background_videos)} background videos",
        )
    book.run(
        "extract objects",
        lambda: extract_objects(steps.build_objects(settings, folder)),
        note=str,
    )
    if settings.preview_clips:
        book.run(
            "synthesize",
            lambda: synthesize(steps.build_synthesis(settings, folder, backgrounds)),
            note=lambda _: f"{settings.preview_clips} clips on disk, to look at",
        )
    return backgrounds


def _training(
    settings: DemoSettings,
    folder: DemoFolder,
    data: DataFolder,
    backgrounds: list[Path],
    book: StageBook,
) -> None:
    from dvos.registry import training_spec
    from dvos.training.run import train

    plan = steps.build_training(settings, folder, data, backgrounds)
    book.run(
        "train",
        lambda: train(plan, training_spec(plan.network)),
        note=str,
    )


def _target(
    settings: DemoSettings, folder: DemoFolder, data: DataFolder, book: StageBook
) -> tuple[Path, ...]:
    if not data.targets:
        return ()
    from dvos.prediction.predict import predict

    book.run(
        "predict",
        lambda: predict(steps.build_target(settings, folder, data)),
        note=lambda _: f"{len(data.targets)} target video(s)",
    )
    return tuple(folder.predictions / f"{video.stem}.mp4" for video in data.targets)


def _scores(
    settings: DemoSettings, folder: DemoFolder, data: DataFolder, book: StageBook
) -> Scores | None:
    if not data.validation_stills and not data.validation_videos:
        return None
    from dvos.prediction.predict import predict
    from dvos.scoring.score import score

    book.run(
        "predict held-out",
        lambda: predict(steps.build_heldout(settings, folder, data)),
        note=lambda _: (
            f"{len(data.validation_stills)} stills"
            if data.validation_stills
            else f"{len(data.validation_videos)} video(s)"
        ),
    )
    return book.run(
        "score",
        lambda: score(steps.build_scoring(settings, folder, data)),
        note=lambda scores: f"pooled Dice {scores.pooled_dice:.3f}, mean {scores.mean_dice:.3f}",
    )


def _report(settings: DemoSettings, folder: DemoFolder, data: DataFolder, book: StageBook) -> Path:
    from dvos.reporting.html import write_report

    name = "the sample field" if settings.data is None else settings.data.name
    plan = ReportSettings(
        run=folder.root,
        title=f"DVOS on {name}",
        frames=data.validation_videos[0].video.parent if data.validation_videos else None,
    )
    report = book.run("report", lambda: write_report(plan), note=lambda path: path.name)
    book.finish()
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
