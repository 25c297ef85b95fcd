"""``dvos demo``: the whole method on the rendered sample field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.base import merged
from dvos.config.workflow import DemoSettings, MethodSettings
from dvos.errors import UsageError
from dvos.files import make_folder
from dvos.sample.field import make_sample_field
from dvos.workflow import steps
from dvos.workflow.data_folder import DataFolder, read_data_folder
from dvos.workflow.pipeline import (
    Pipeline,
    StageManifest,
    check_data,
    command_line,
    opened,
    with_intensity,
)
from dvos.workflow.starting import check_training, choose_start

# Training clips where the user names no number: what two cores make in the promised time.
_SAMPLE_CLIPS = 5_250
_DATA_CLIPS = 16_000
_SAMPLE_SYNTHETIC = 0.05  # one field, filmed alike: nothing unseen to gain on
# The sample field's stills show little of the soil that its videos are full of. Photos show theirs.
_SAMPLE_BACKGROUND = 0.15
# The sample field is one camera at one height: objects seen at other sizes and in other
# colours than the stills show would only take time, and what is kept of the start, too. Its heads
# are 14 pixels wide, and told apart better where they are larger; nothing is rebuilt of it.
_SAMPLE_TRAINING = {
    "data": {
        "scale": 1.4,
        "spatial": {"scale": (0.8, 1.25)},
        "colour": {"strength": 0.25},
        "degradation": {"strength": 0.25},
    },
    "losses": {"reconstruction": 0.0, "small_objects": 1.0},
    "start_share": 0.0,
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo made."""

    report: Path  # The HTML report.
    scores: Path | None  # ``scores.json``; None where nothing was labelled for validation.
    checkpoint: Path  # The trained network.
    overlays: tuple[Path, ...]  # Overlay videos of the targets.
    pooled_dice: float | None  # Pooled Dice on the validation data, if any.
    seconds: float  # Time of all stages over all starts.

    def __str__(self) -> str:
        lines = [f"report      {self.report}"]
        if self.scores is not None:
            lines.append(f"scores      {self.scores} (pooled Dice {self.pooled_dice:.3f})")
        lines.append(f"checkpoint  {self.checkpoint}")
        lines += [f"overlay     {overlay}" for overlay in self.overlays]
        return "\n".join([*lines, f"time        {self.seconds / 60:.1f} min"])


def demo(settings: DemoSettings) -> DemoResult:
    """Run the whole method, or go on where an earlier start stopped.

    A UsageError if the data folder lacks something, or ``out`` holds a demo with other settings, an
    OutputError if something else stands there, a RunError if another run is at work in ``out`` or
    in the folder of its training; another DvosError by a stage.
    """
    check_training(settings)
    data, places = None, dict[str, object](out=settings.out)
    if settings.data is not None:  # faults come before anything is written
        data, places["data"] = read_data_folder(settings.data, void=settings.void), settings.data
        if not data.labelled:
            remedy = "label some photos, or give it to dvos fit"
            raise UsageError.at(settings.data, "nothing in it is labelled", "annotated/", remedy)
    folder = steps.MethodFolder(make_folder(settings.out), "demo")
    with opened(folder, settings):
        command = command_line("demo", settings, places)
        stages = StageManifest(folder.stages, command=command, seed=settings.seed)
        if data is None:
            data = _make_sample(settings, folder, stages)
        else:
            stages.announce(f"dvos fit {settings.data} --out RUN sets itself by your data")
        check_data(folder, data)
        settings = with_intensity(settings, data)
        start = choose_start(settings, data.labelled, 1, folder.start)
        stages.announce(f"start: {start}")
        begun = start.training(len(data.labelled))
        run = Pipeline(_settled(settings, data, begun), folder, data, stages)
        backgrounds = run.prepare()
        run.train(backgrounds)
        # Mirror images would take three of the sample field's ten minutes.
        views = settings.augment or ("none" if settings.data is None else None)
        overlays = run.predict_targets(folder.checkpoint, views)
        scores = run.validate(folder.checkpoint, views)
        return DemoResult(
            report=run.report("the sample field" if settings.data is None else settings.data.name),
            scores=folder.root / "scores.json" if scores else None,
            checkpoint=folder.checkpoint,
            overlays=overlays,
            pooled_dice=scores.pooled_dice if scores else None,
            seconds=stages.seconds,
        )


def _make_sample(
    settings: DemoSettings, folder: steps.MethodFolder, stages: StageManifest
) -> DataFolder:
    """The sample field, as a user's data folder."""
    sample = settings.sample.model_copy(update={"seed": settings.seed, "workers": settings.workers})
    told = f"{sample.stills} stills, {sample.background_videos + 2} videos"
    stages.run("sample field", lambda: make_sample_field(folder.sample, sample), told)
    return read_data_folder(folder.sample)


def _settled(settings: DemoSettings, data: DataFolder, begun: dict[str, Any]) -> MethodSettings:
    """The settings with the data mix and the start; of the sample field, the looks it needs."""
    own, shares, clips = begun, None, _DATA_CLIPS
    if settings.data is None:
        own, clips = merged(begun, _SAMPLE_TRAINING), _SAMPLE_CLIPS
        shares = {"synthetic": _SAMPLE_SYNTHETIC, "background": _SAMPLE_BACKGROUND}
    settings = settings.model_copy(update={"train": merged(own, settings.train)})
    return steps.with_data_mix(settings, data, clips=clips, shares=shares)
