"""Settings of ``dvos pseudo-label`` and ``dvos rounds``.

A field affects what the network predicts, or ``labels`` what is made of that, ``probe`` the fit of
the feature probe, ``provenance`` only what is noted of the labels.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dvos.config import base, prediction
from dvos.config.base import Count, Fraction, Natural, Settings, free, setting
from dvos.config.training import TrainingValues

_labels = partial(setting, affects="labels")
_probe = partial(setting, affects="probe")
_Std = Annotated[float, Field(ge=0, le=0.5)]


class FilterSettings(Settings):
    """Criteria by which a prediction becomes a label; what fails them is unknown."""

    object_threshold: float = setting(0.5, "mean probability that makes a pixel object", gt=0, le=1)
    background_threshold: float = setting(
        0.1, "mean probability of background at most", ge=0, lt=0.5
    )
    probe_object: Fraction = setting(0.9, "probability by the probe from which it is object, too")
    probe_background: Fraction = setting(0.2, "probability by the probe to which it may be ground")
    opening: Natural = setting(13, "width in pixels of what is object by the probe alone; 0: any")
    decide_boundary_band: bool = setting(True, "unknown but thinner than opening is background")
    max_std: _Std = setting(0.5, "largest deviation over the views; 0.5: any")
    min_consistency: Fraction = setting(1.0, "least share of neighbours on the same side; 0: any")
    trust_unseen: bool = setting(True, "a pixel no neighbouring frame sees may have a label")
    min_known: Fraction = setting(0.5, "least share of a frame that is object or background")
    min_object: Fraction = setting(0.0, "least share of a frame that is object; never none")

    def _faults(self) -> Iterator[str]:
        for name, low, high in (
            ("object_threshold", "background_threshold", self.object_threshold),
            ("probe_object", "probe_background", self.probe_object),
        ):
            least = getattr(self, low)
            if high <= least:
                yield f"{name} is {high}; give a number above {low} ({least})"


class PseudoLabelOptions(Settings):
    """How frames are predicted and filtered; shared by ``pseudo-label`` and ``rounds``."""

    scales: list[float] = setting(
        [0.5, 0.71, 1.0, 1.41], "sizes of a frame that the network sees, of its own", min_length=1
    )
    flips: Literal["none", "horizontal", "all"] = setting(
        "horizontal", "mirror images at each scale: none, left-right (twice the cost), or all four"
    )
    neighbours: list[int] = _labels([-1, 1], "frames to compare with along the flow; [] for none")
    interval: Count = _labels(1, "every so many frames one is looked at")
    probe: bool = _probe(True, "ask a linear classifier of the network's own features, too")
    probe_frames: Annotated[Count, Field(le=4096)] = _probe(
        64, "frames, spread evenly, that the feature probe is fitted on"
    )
    filter: FilterSettings = _labels(FilterSettings(), "when a prediction is a label")
    device: prediction.Device = "auto"
    precision: prediction.Precision = "auto"
    batch: prediction.NetworkBatch = 0
    tile: prediction.Tile = 0
    reference_interval: prediction.ReferenceInterval = None
    intensity: base.FreeIntensity = "auto"
    pan_step: Natural = setting(4, "pixels the simulated pan over a photo moves per frame")
    frame_format: Literal["jpg", "png"] = _labels("jpg", "how the frames of videos are stored")
    pictures: Natural = free(0, "accepted frames drawn into overlays/, spread evenly over all")
    seed: Natural = setting(123, "seed of the pans' directions and of the probe's samples")

    def _faults(self) -> Iterator[str]:
        for scale in self.scales:
            if not 0 < scale <= 8:
                yield f"scales holds {scale}; give sizes above 0, at most 8"
        if len(set(self.scales)) < len(self.scales):
            yield "scales holds a size twice; give each once"
        if 0 in self.neighbours or len(set(self.neighbours)) < len(self.neighbours):
            yield "neighbours holds 0 or an offset twice; give each other frame once"
        if any(abs(offset) > 16 for offset in self.neighbours):
            yield "neighbours holds an offset above 16, too far to follow; give less"


class PseudoLabelSettings(PseudoLabelOptions):
    """What is labelled, with which network, and where the labels go."""

    # Files count by what they hold, which the fingerprint of the work tells apart.
    input: Annotated[prediction.Input, Field(json_schema_extra={"affects": "provenance"})]
    checkpoint: prediction.Checkpoint
    out: Path = free(Path("pseudo"), "folder for masks, tables and pseudo_labels.json")
    stills: bool = setting(False, "photos, each a simulated pan", affects="provenance")
    round: Count = free(1, "number of the round, noted in pseudo_labels.json")
    shard: base.Shard = None
    scheduler: base.Scheduler = None


class UnlabelledSettings(Settings):
    """Unlabelled video or photos."""

    input: Path = Field(description="video, folder of frames, videos or clips, or CSV")
    stills: bool = setting(False, "the images are photos, each a simulated pan")


class RoundsSettings(Settings):
    """Train, then predict, filter and train again, while validation gains."""

    out: Path = free(Path("rounds"), "folder for everything the rounds make")
    unlabelled: list[UnlabelledSettings] = Field(
        min_length=1, description="what is predicted, e.g. [{input: field.mp4}]"
    )
    train: TrainingValues = Field(description="settings of train: {data: {stills: {folders: [a]}}}")
    retrain: TrainingValues = setting({}, "what differs from train after the first training")
    intensity: base.Intensity = "auto"
    pseudo_label: PseudoLabelOptions = setting(PseudoLabelOptions(), "how frames are labelled")
    # More of them go on from the last.
    rounds: Count = free(3, "rounds of predicting, filtering and training again")
    start: base.Weights | None = setting(
        None, "network that predicts first; null: round 0 trains it"
    )
    start_from: Literal["previous", "scratch"] = setting(
        "previous", "weights that each round starts from: the round before's, or those of train"
    )
    pseudo_share: float = setting(0.5, "share of pseudo-labelled clips in training", gt=0, lt=1)
    tolerance: Fraction = setting(0.01, "they end when validation Dice falls so far below its best")
