"""The stages of the whole method, each of which goes on by itself where it stopped."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from dvos.config.base import Settings, plain_values
from dvos.config.prediction import Augment, PredictionSettings
from dvos.config.scoring import ReportSettings
from dvos.config.show import Move, check_run_settings
from dvos.config.workflow import MethodSettings
from dvos.errors import FaultCollector, RunError
from dvos.extraction.frames import extract_frames
from dvos.extraction.objects import extract_objects
from dvos.files import make_folder, refuse_foreign, stem_of, write_json
from dvos.media.intensity import settled
from dvos.prediction.predict import predict
from dvos.registry import predictor_for, training_spec
from dvos.reporting.html import write_report
from dvos.reporting.numbers import duration
from dvos.runner.display import waiting
from dvos.runner.manifest import read_record
from dvos.runner.shards import taken
from dvos.scoring.score import score
from dvos.scoring.summary import Scores
from dvos.synthesis.write import synthesize
from dvos.workflow import steps
from dvos.workflow.data_folder import DataFolder

R = TypeVar("R")

_CHECK_SECONDS = 3.0  # what a stage takes to find its work done, which its time leaves out


def command_line(command: str, settings: Settings, places: dict[str, object]) -> str:
    """The command that makes a run again: its places as options, and what is not the default."""
    words = ["dvos", command]
    for name, value in places.items():
        words += [f"--{name}", str(value)] if name != "folder" else [str(value)]
    given = settings.model_dump(exclude_defaults=True, exclude=set(places))
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
    """The stages of a run in ``stages.json``: order, times over all starts, and what they said."""

    def __init__(self, path: Path, *, command: str, seed: int) -> None:
        self._path = path
        record = read_record(path, StageRecord) or StageRecord(command, seed, _now())
        self._record = replace(record, command=command, seed=seed, finished=None)

    def run(self, name: str, work: Callable[[], R], note: str | Callable[[R], str]) -> R:
        """Do one stage and note its time, also if it is interrupted, and what came of it."""
        stages = self._record.stages
        stage = next((stage for stage in stages if stage.name == name), None)
        if stage is None:
            stage = Stage(name)
            stages.append(stage)
        self.announce(f"{name} ...")
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
        self.announce(f"{name}: {stage.note} ({duration(stage.seconds)})")
        return result

    def announce(self, line: str) -> None:
        """Tell what begins and ends."""
        print(line, file=sys.stderr, flush=True)

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


@contextmanager
def opened(folder: steps.MethodFolder, settings: Settings) -> Iterator[None]:
    """Keep others out of a run's folder, and see that it is this run's."""
    # All stages, and the folder of the training, which others could begin a run of their own in.
    with taken(folder.root):
        if not folder.settings.exists():
            refuse_foreign(folder.makes(), f"dvos {folder.settings.stem}")
        check_run_settings(folder.settings, settings)
        with taken(make_folder(folder.train)):
            yield


def check_data(folder: steps.MethodFolder, data: DataFolder) -> None:
    """Keep fingerprints of what a run learns from; a RunError if it was begun with other data.

    Targets are not among it, and may come and go; nor are labelled videos, which are scored anew.
    """
    from dvos.training.fingerprints import KnownFiles, content_digests, files_at, other_files

    out = folder.root.absolute()
    with waiting("compares the data with those of an earlier start"):
        files = content_digests(file for path in data.learnt_from() for file in files_at(path))
    known = read_record(folder.data, KnownFiles)
    if known is not None and (folder.plan.exists() or (folder.train / "config.yaml").exists()):
        with FaultCollector(RunError) as faults:
            for place, what in other_files(files, known.files, Move.of(Path(known.out), out)):
                found = f"{what} since the run in {folder.root} began"
                faults.add(place, found, "", "choose another --out, or delete the folder")
    elif known is not None and known.files != files:
        # They were chosen, and made, by other pictures.
        folder.start.unlink(missing_ok=True)
        shutil.rmtree(folder.clips, ignore_errors=True)
    write_json(folder.data, asdict(KnownFiles(str(out), files)))


def with_intensity(settings: steps.M, data: DataFolder) -> steps.M:
    """The settings with one intensity for all: cutouts are pasted over frames as they look."""
    images = [*(still.image for still in data.labelled), *data.background_stills]
    found = settled(settings.intensity, images)
    return settings if found == "full" else settings.model_copy(update={"intensity": found})


@dataclass(frozen=True)
class Pipeline:
    """The stages of one run: each is done, or found done."""

    settings: MethodSettings  # Nothing that the run needs is left open in them.
    folder: steps.MethodFolder  # Where everything goes.
    data: DataFolder  # What it works on.
    stages: StageManifest  # Told of each stage.
    prefix: str = ""  # Stands before the stages' names.

    def prepare(self) -> list[Path]:
        """Backgrounds, cutouts, and some synthetic clips to look at; gives the backgrounds' tables.

        Without labelled stills there is nothing to cut out and to make clips of.
        """
        settings, folder, stages = self.settings, self.folder, self.stages
        backgrounds = steps.write_input_tables(folder, self.data)
        if videos := self.data.background_videos:
            frames = steps.build_frames(settings, folder)
            told = f"frames of {len(videos)} background videos"
            stages.run("extract frames", lambda: extract_frames(frames), told)
        if self.data.annotated:
            objects = steps.build_objects(settings, folder)
            stages.run(f"{self.prefix}extract objects", lambda: extract_objects(objects), str)
            if settings.preview_clips:
                clips = steps.build_synthesis(settings, folder, backgrounds)
                told = f"{settings.preview_clips} clips on disk, to look at"
                stages.run("synthesize", lambda: synthesize(clips), told)
        return backgrounds

    def train(self, backgrounds: list[Path]) -> None:
        """The network, on what was made."""
        from dvos.training.run import train_for

        plan = steps.build_training(self.settings, self.folder, self.data, backgrounds)
        spec = training_spec(plan.network)
        self.stages.run(f"{self.prefix}train", lambda: train_for(plan, spec), str)

    def predict(
        self,
        name: str,  # of the stage
        checkpoint: Path,
        sources: Iterable[Path],
        out: Path,
        told: str,
        *,
        stills: bool = False,
        augment: Augment | None = None,
    ) -> None:
        """Masks, counts and overlay videos of each video, or of photos as simulated pans.

        They are the mean of the views of ``augment``, None for the best ones.
        """
        plans = [
            PredictionSettings(
                input=source,
                checkpoint=checkpoint,
                out=out,
                overlay=True,
                stills=stills,
                augment=augment or steps.views_of(self.settings, stills=stills)[0],
                **self.settings.model_dump(include={"intensity", "device"}),
            )
            for source in sources
        ]
        self.stages.run(name, lambda: [predict(plan, predictor_for) for plan in plans], told)

    def predict_targets(self, checkpoint: Path, augment: Augment | None = None) -> tuple[Path, ...]:
        """Masks and counts of the unlabelled videos; gives their overlay videos."""
        targets, out = self.data.targets, self.folder.predictions
        if targets:
            told = f"{len(targets)} target video(s)"
            self.predict("predict", checkpoint, targets, out, told, augment=augment)
        return tuple(out / f"{stem_of(video)}.mp4" for video in targets)

    def validate(self, checkpoint: Path, augment: Augment | None = None) -> Scores | None:
        """Predictions of what is labelled for validation, and their scores, if there is any."""
        stills, videos = self.data.validation_stills, self.data.validation_videos
        if stills:
            sources, told = [stills[0].image.parent], f"{len(stills)} stills"
        elif videos:
            sources, told = [one.video for one in videos], f"{len(videos)} video(s)"
        else:
            return None
        name, out, of_stills = "predict held-out", self.folder.heldout, bool(stills)
        self.predict(name, checkpoint, sources, out, told, stills=of_stills, augment=augment)
        return self.score(self.data)

    def score(self, data: DataFolder) -> Scores:
        """Scores of what was predicted of ``data``."""

        def told(found: Scores) -> str:
            return f"pooled Dice {found.pooled_dice:.3f}, mean {found.mean_dice:.3f}"

        scoring = steps.build_scoring(self.settings, self.folder, data)
        return self.stages.run("score", lambda: score(scoring), told)

    def report(self, subject: str) -> Path:
        """The page that shows it all."""
        videos = self.data.validation_videos
        frames = videos[0].video.parent if videos else None
        plan = ReportSettings(run=self.folder.root, title=f"DVOS on {subject}", frames=frames)
        report = self.stages.run("report", lambda: write_report(plan), lambda path: path.name)
        self.stages.finish()
        write_report(plan)  # again: it shows the stages' times, its own among them
        return report
