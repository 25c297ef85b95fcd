"""Settings of ``dvos pseudo-label`` and ``dvos rounds``.

What a field affects: by default what the network predicts; ``labels`` what is made of that;
``probe`` the fit of the feature probe; ``provenance`` only what is noted of the labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import AFFECTS_NOTHING, Settings

_AFFECTS_LABELS: Final[dict[str, Any]] = {"affects": "labels"}
_AFFECTS_PROBE: Final[dict[str, Any]] = {"affects": "probe"}
_AFFECTS_PROVENANCE: Final[dict[str, Any]] = {"affects": "provenance"}


class FilterSettings(Settings):
    """Criteria by which a prediction becomes a label; what fails them is unknown."""

    object_threshold: float = Field(
        0.5, gt=0, le=1, description="mean probability from which a pixel is object"
    )
    background_threshold: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="mean probability up to which a pixel is background, if the feature probe "
        "does not object",
    )
    probe_object: float = Field(
        0.9,
        ge=0,
        le=1,
        description="probability by the feature probe above which a pixel is object although its "
        "mean is below object_threshold",
        json_schema_extra={"was": ".opinion_object"},
    )
    probe_background: float = Field(
        0.2,
        ge=0,
        le=1,
        description="probability by the feature probe up to which a pixel may be background",
        json_schema_extra={"was": ".opinion_background"},
    )
    opening: int = Field(
        13,
        ge=0,
        description="diameter in pixels of the ellipse that must fit into what is object by the "
        "feature probe alone; 0 asks nothing",
    )
    decide_boundary_band: bool = Field(
        True,
        description="what is unknown, but too thin for that ellipse, is background: else the next "
        "network draws objects too large",
        json_schema_extra={"was": ".decide_rims"},
    )
    max_std: float = Field(
        0.5,
        ge=0,
        le=0.5,
        description="largest standard deviation over the views of a pixel with a label; 0.5 "
        "allows any",
        json_schema_extra={"was": ".max_spread"},
    )
    min_consistency: float = Field(
        1.0,
        ge=0,
        le=1,
        description="least share of the neighbouring frames that see a pixel and put it on the "
        "same side; 0 asks none",
        json_schema_extra={"was": ".min_agreement"},
    )
    trust_unseen: bool = Field(
        True, description="a pixel that no neighbouring frame sees may have a label"
    )
    min_known: float = Field(
        0.5, ge=0, le=1, description="least share of a frame that must be object or background"
    )
    min_object: float = Field(
        0.0, ge=0, le=1, description="least share of a frame that must be object; never none"
    )

    @model_validator(mode="after")
    def _thresholds_fit(self) -> Self:
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

    scales: list[float] = Field(
        [0.5, 0.71, 1.0, 1.41],
        min_length=1,
        description="sizes at which the network sees each frame, relative to the frame's own",
    )
    flips: Literal["none", "horizontal", "all"] = Field(
        "horizontal",
        description="mirror images seen at each scale: none, left-right, or left-right, up-down "
        "and both; horizontal doubles the cost, all quadruples it",
    )
    neighbours: list[int] = Field(
        [-1, 1],
        description="offsets of the frames that a frame is compared with along the optical flow; "
        "[] for none",
        json_schema_extra=_AFFECTS_LABELS,
    )
    interval: int = Field(
        1,
        ge=1,
        description="every so many frames one is looked at",
        json_schema_extra=_AFFECTS_LABELS,
    )
    probe: bool = Field(
        True,
        description="ask a feature probe, too: a linear classifier of the network's own features, "
        "fitted on what it is sure of in the unlabelled data",
        json_schema_extra=_AFFECTS_PROBE | {"was": ".opinion"},
    )
    probe_frames: int = Field(
        64,
        ge=1,
        le=4096,
        description="frames, spread evenly over the input, that the feature probe is fitted on",
        json_schema_extra=_AFFECTS_PROBE | {"was": ".survey_frames"},
    )
    filter: FilterSettings = Field(
        FilterSettings(),
        description="when a prediction is a label",
        json_schema_extra=_AFFECTS_LABELS | {"was": ".accept"},
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:N or mps", json_schema_extra=AFFECTS_NOTHING
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on a GPU"
    )
    batch: int = Field(
        0,
        ge=0,
        description="frames the network takes at once; 0 = one on a CPU, four on a GPU",
        json_schema_extra=AFFECTS_NOTHING,
    )
    tile: int = Field(
        0,
        ge=0,
        description="side in pixels of the tiles that larger frames are cut into; 0 = whole",
    )
    reference_interval: int | None = Field(
        None, ge=1, description="frames between reference frames; null = as trained"
    )
    pan_step: int = Field(
        4, ge=0, description="pixels the simulated pan over a photo moves per frame"
    )
    frame_format: Literal["jpg", "png"] = Field(
        "jpg",
        description="how the frames of video files are stored for training",
        json_schema_extra=_AFFECTS_LABELS,
    )
    pictures: int = Field(
        0,
        ge=0,
        description="accepted frames drawn into overlays/, spread evenly over all",
        json_schema_extra=AFFECTS_NOTHING,
    )
    seed: int = Field(
        123, ge=0, description="seed of the pans' directions and of the feature probe's samples"
    )

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
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
    input: Path = Field(
        description="video file, folder of frames, of videos or of clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image",
        json_schema_extra=_AFFECTS_PROVENANCE,
    )
    checkpoint: Path = Field(
        description="trained network, as best.safetensors of a run folder",
        json_schema_extra=AFFECTS_NOTHING,
    )
    out: Path = Field(
        Path("pseudo"),
        description="folder for masks, tables and pseudo_labels.json",
        json_schema_extra=AFFECTS_NOTHING,
    )
    stills: bool = Field(
        False,
        description="the images are photos, each predicted as a simulated pan of its own",
        json_schema_extra=_AFFECTS_PROVENANCE,
    )
    round: int = Field(
        1,
        ge=1,
        description="number of the round, noted in pseudo_labels.json",
        json_schema_extra=AFFECTS_NOTHING,
    )


class UnlabelledSettings(Settings):
    """Unlabelled video or photos."""

    input: Path = Field(
        description="video file, folder of frames, of videos or of clips, or CSV, as for predict"
    )
    stills: bool = Field(False, description="the images are photos, each a simulated pan")


class RoundsSettings(Settings):
    """Train, then predict, filter and train again, while validation gains."""

    out: Path = Field(
        Path("rounds"),
        description="folder for everything the rounds make",
        json_schema_extra=AFFECTS_NOTHING,
    )
    unlabelled: list[UnlabelledSettings] = Field(
        min_length=1, description="what is predicted, e.g. [{input: field.mp4}]"
    )
    train: dict[str, Any] = Field(
        description="settings of dvos train, without out and resume, e.g. "
        "{data: {stills: {folders: [labelled]}}}"
    )
    retrain: dict[str, Any] = Field(
        {}, description="what differs from train in rounds after the first training"
    )
    pseudo_label: PseudoLabelOptions = Field(
        PseudoLabelOptions(), description="how frames are predicted and filtered"
    )
    rounds: int = Field(
        3,
        ge=1,
        description="rounds of predicting, filtering and training again",
        # More of them go on from the last.
        json_schema_extra=AFFECTS_NOTHING,
    )
    start: Path | None = Field(
        None, description="trained network that predicts first; null: round 0 trains it"
    )
    start_from: Literal["previous", "scratch"] = Field(
        "previous",
        description="what each round's training starts from: the weights of the round before, or "
        "those that train names",
    )
    pseudo_share: float = Field(
        0.5, gt=0, lt=1, description="share of pseudo-labelled clips in a round's training"
    )
    tolerance: float = Field(
        0.01,
        ge=0,
        le=1,
        description="the rounds end when the validation Dice falls by more than this below the "
        "highest so far; the latest round that has not is kept as best",
    )
