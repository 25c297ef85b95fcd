"""Settings of ``dvos fit`` and ``dvos demo``, and of the embedded sample field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dvos.config import base
from dvos.config.base import Count, Fraction, Natural, Settings, Weights, Workers, free, setting
from dvos.config.labelling import Classes
from dvos.config.prediction import Augment
from dvos.config.scene import SceneSettings
from dvos.config.training import TrainingValues

Side = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]


class SampleSettings(Settings):
    """A field of wheat rendered from a seed, in files such as a user brings."""

    seed: Natural = setting(123, "other seeds give other fields")
    size: tuple[Side, Side] = setting((480, 640), "[height, width] of all pictures, even numbers")
    frame_rate: float = setting(20.0, "frames a second of all videos", ge=1, le=120)
    stills: Count = setting(5, "labelled stills")
    background_videos: Count = setting(3, "videos of bare field")
    background_frames: Count = setting(60, "frames in each background video")
    target_frames: Count = setting(90, "frames of the unlabelled target video")
    heldout_frames: Count = setting(48, "frames of the labelled held-out video")
    workers: Workers = 0


class MethodSettings(Settings):
    """What the whole method takes, on a user's data as on the sample field."""

    intensity: base.Intensity = "auto"
    void: base.Void = "auto"
    scene: SceneSettings = setting(SceneSettings(), "what the synthetic clips show")
    start: Literal["imagenet"] | Weights | None = setting(
        None, "network to start from, wheat or imagenet; null: wheat where it knows the objects"
    )
    clips: Count | None = setting(None, "training clips in all; null: what suits data and time")
    epochs: Count = setting(12, "epochs they are parted into; in little time dvos fit takes fewer")
    synthetic_share: Fraction | None = setting(
        None, "of clips with pasted cutouts; null: 1/n with n < 10 stills, at most 1/2"
    )
    background_share: Fraction | None = setting(
        None, "share of clips of bare background; null: the share that measured best"
    )
    preview_clips: Natural = setting(3, "synthetic clips also written to disk")
    min_object_size: Count = setting(64, "smallest object in pixels cut out; of small ones less")
    train: TrainingValues = setting({}, "further settings of train, as {data: {crop: 192}}")
    augment: Augment | None = setting(
        None, "views averaged; null: mirror images, of photos in sizes, as far as there is time"
    )
    seed: Natural = setting(123, "of everything that is drawn")
    workers: Workers = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "auto, cpu, cuda or mps")

    def _faults(self) -> Iterator[str]:
        if (self.synthetic_share or 0) + (self.background_share or 0) > 1:
            yield "synthetic_share and background_share add up to more than 1; lower one of them"


class DemoSettings(MethodSettings):
    """The whole method in one command, on the rendered sample field."""

    out: Path = free(Path("demo-run"), "folder for everything the demo makes")
    data: Path | None = setting(None, "data folder of your own; null: the sample field")
    sample: SampleSettings = setting(SampleSettings(), "the sample field, where data is null")


class FitSettings(MethodSettings):
    """The whole method on a user's own data, planned by what lies there and by the time given."""

    folder: Path = Field(description="data folder, or videos or photos; see docs/how-to/fit.md")
    out: base.Place = Field(description="folder for everything that is made")
    classes: Classes = None
    minutes: float = setting(
        20.0, "time for all of it, validation and report included", gt=0, le=1e6
    )
    folds: Natural | None = setting(None, "parts in cross-validation; 0: none; null: by time")
    rounds: Natural | None = setting(None, "rounds of pseudo-labels; null: 1 with unlabelled/")

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.folds == 1:
            yield "folds is 1; give 0 for none, or at least 2"
