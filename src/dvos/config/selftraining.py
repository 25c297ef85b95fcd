"""Settings of ``dvos pseudo-label`` and ``dvos rounds``.

What a field affects: by default what the network predicts; ``labels`` what is made of that;
``probe`` the fit of the feature probe; ``provenance`` only what is noted of the labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import (
    AFFECTS_NOTHING,
    Count,
    Fraction,
    Intensity,
    Natural,
    Scheduler,
    Settings,
    Shard,
    free,
    setting,
)
from dvos.config.prediction import (
    Checkpoint,
    Device,
    Input,
    NetworkBatch,
    Precision,
    ReferenceInterval,
    Tile,
)


class FilterSettings(Settings):
    """Criteria by which a prediction becomes a label; what fails them is unknown."""

    object_threshold: float = setting(
        0.5, "mean probability from which a pixel is object", gt=0, le=1
    )
    background_threshold: float = setting(
        0.1, "mean probability of background at most, if the probe does not object", ge=0, lt=0.5
    )
    probe_object: Fraction = setting(
        0.9,
        "probability by the feature probe above which a pixel is object although its mean is below"
        " object_threshold",
        was=".opinion_object",
    )
    probe_background: Fraction = setting(
        0.2,
        "probability by the feature probe up to which a pixel may be background",
        was=".opinion_background",
    )
    opening: Natural = setting(
        13,
        "diameter in pixels of the ellipse that must fit into what is object by the feature probe"
        " alone; 0 asks nothing",
    )
    decide_boundary_band: bool = setting(
        True,
        "what is unknown, but too thin for that ellipse, is background: else the next network"
        " draws objects too large",
        was=".decide_rims",
    )
    max_std: float = setting(
        0.5,
        "largest standard deviation over the views of a pixel with a label; 0.5 allows any",
        was=".max_spread",
        ge=0,
        le=0.5,
    )
    min_consistency: Fraction = setting(
        1.0,
        "least share of the neighbouring frames that see a pixel and put it on the same side; 0"
        " asks none",
        was=".min_agreement",
    )
    trust_unseen: bool = setting(True, "a pixel no neighbouring frame sees may have a label")
    min_known: Fraction = setting(0.5, "least share of a frame that is object or background")
    min_object: Fraction = setting(0.0, "least share of a frame that is object; never none")

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        for name, low, high in (
            ("object_threshold", "background_threshold", self.object_threshold),
            ("probe_object", "probe_background", self.probe_object),
        ):
            least = getattr(self, low)
            if high <= least:
                raise ValueError(f"{name} is {high}; give a number above {low} ({least})")
        return self


class PseudoLabelOptions(Settings):
    """How frames are predicted and filtered; shared by ``pseudo-label`` and ``rounds``."""

    scales: list[float] = setting(
        [0.5, 0.71, 1.0, 1.41], "sizes of a frame that the network sees, of its own", min_length=1
    )
    flips: Literal["none", "horizontal", "all"] = setting(
        "horizontal",
        "mirror images seen at each scale: none, left-right, or left-right, up-down and both;"
        " horizontal doubles the cost, all quadruples it",
    )
    neighbours: list[int] = setting(
        [-1, 1],
        "offsets of the frames that a frame is compared with along the optical flow; [] for none",
        affects="labels",
    )
    interval: Count = setting(1, "every so many frames one is looked at", affects="labels")
    probe: bool = setting(
        True,
        "ask a feature probe, too: a linear classifier of the network's own features, fitted on"
        " what it is sure of in the unlabelled data",
        affects="probe",
        was=".opinion",
    )
    probe_frames: Count = setting(
        64,
        "frames, spread evenly over the input, that the feature probe is fitted on",
        affects="probe",
        was=".survey_frames",
        le=4096,
    )
    filter: FilterSettings = setting(
        FilterSettings(), "when a prediction is a label", affects="labels", was=".accept"
    )
    device: Device = "auto"
    precision: Precision = "auto"
    batch: NetworkBatch = 0
    tile: Tile = 0
    reference_interval: ReferenceInterval = None
    intensity: Annotated[Intensity, Field(json_schema_extra=AFFECTS_NOTHING)] = "auto"
    pan_step: Natural = setting(4, "pixels the simulated pan over a photo moves per frame")
    frame_format: Literal["jpg", "png"] = setting(
        "jpg", "how the frames of video files are stored for training", affects="labels"
    )
    pictures: Natural = free(0, "accepted frames drawn into overlays/, spread evenly over all")
    seed: Natural = setting(123, "seed of the pans' directions and of the probe's samples")

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        for scale in self.scales:
            if not 0 < scale <= 8:
                raise ValueError(f"scales holds {scale}; give sizes above 0, at most 8")
        if len(set(self.scales)) < len(self.scales):
            raise ValueError("scales holds a size twice; give each once")
        if 0 in self.neighbours or len(set(self.neighbours)) < len(self.neighbours):
            raise ValueError("neighbours holds 0 or an offset twice; give each other frame once")
        if any(abs(offset) > 16 for offset in self.neighbours):
            raise ValueError("neighbours holds an offset above 16, too far to follow; give less")
        return self


class PseudoLabelSettings(PseudoLabelOptions):
    """What is labelled, with which network, and where the labels go."""

    # Files count by what they hold, which the fingerprint of the work tells apart.
    input: Annotated[Input, Field(json_schema_extra={"affects": "provenance"})]
    checkpoint: Checkpoint
    out: Path = free(Path("pseudo"), "folder for masks, tables and pseudo_labels.json")
    stills: bool = setting(
        False, "the images are photos, each predicted as a simulated pan", affects="provenance"
    )
    round: Count = free(1, "number of the round, noted in pseudo_labels.json")
    shard: Shard = None
    scheduler: Scheduler = None


class UnlabelledSettings(Settings):
    """Unlabelled video or photos."""

    input: Path = Field(
        description="video file, folder of frames, of videos or of clips, or CSV, as for predict"
    )
    stills: bool = setting(False, "the images are photos, each a simulated pan")


class RoundsSettings(Settings):
    """Train, then predict, filter and train again, while validation gains."""

    out: Path = free(Path("rounds"), "folder for everything the rounds make")
    unlabelled: list[UnlabelledSettings] = Field(
        min_length=1, description="what is predicted, e.g. [{input: field.mp4}]"
    )
    train: dict[str, Any] = Field(
        description="settings of dvos train, without out and resume, e.g. "
        "{data: {stills: {folders: [labelled]}}}"
    )
    retrain: dict[str, Any] = setting({}, "what differs from train after the first training")
    intensity: Intensity = "auto"
    pseudo_label: PseudoLabelOptions = setting(
        PseudoLabelOptions(), "how frames are predicted and filtered"
    )
    # More of them go on from the last.
    rounds: Count = free(3, "rounds of predicting, filtering and training again")
    start: Path | None = setting(
        None, "trained network that predicts first; null: round 0 trains it"
    )
    start_from: Literal["previous", "scratch"] = setting(
        "previous",
        "what each round's training starts from: the weights of the round before, or those that"
        " train names",
    )
    pseudo_share: float = setting(
        0.5, "share of pseudo-labelled clips in a round's training", gt=0, lt=1
    )
    tolerance: Fraction = setting(
        0.01,
        "the rounds end when the validation Dice falls by more than this below the highest so far;"
        " the latest round that has not is kept as best",
    )
