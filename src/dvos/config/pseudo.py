"""Settings of ``dvos pseudo-label``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings

__all__ = ["AcceptSettings", "PseudoLabelOptions", "PseudoLabelSettings"]


class AcceptSettings(Settings):
    """The rule by which a prediction becomes a label; what fails it is unknown."""

    object_threshold: float = Field(
        0.5, gt=0, le=1, description="mean probability from which a pixel is object"
    )
    background_threshold: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="mean probability up to which a pixel is background, if the second opinion "
        "does not object",
    )
    opinion_object: float = Field(
        0.9,
        ge=0,
        le=1,
        description="second opinion above which a pixel is object although its mean is below "
        "object_threshold",
    )
    opinion_background: float = Field(
        0.2, ge=0, le=1, description="second opinion up to which a pixel may be background"
    )
    opening: int = Field(
        13,
        ge=0,
        description="diameter in pixels of the ellipse that must fit into what is object by the "
        "second opinion alone; 0 asks nothing",
    )
    decide_rims: bool = Field(
        True,
        description="what is unknown, but too thin for that ellipse, is background: else the next "
        "network draws objects too large",
    )
    max_spread: float = Field(
        0.5,
        ge=0,
        le=0.5,
        description="largest standard deviation over the views of a pixel with a label; 0.5 "
        "allows any",
    )
    min_agreement: float = Field(
        1.0,
        ge=0,
        le=1,
        description="least share of the neighbouring frames that see a pixel and put it on the "
        "same side; 0 asks none",
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
            ("opinion_object", "opinion_background", self.opinion_object),
        ):
            least = getattr(self, low)
            if high <= least:
                raise ValueError(f"{name} is {high}; give a number above {low} ({least})")
        return self


class PseudoLabelOptions(Settings):
    """How frames are predicted and judged; shared by ``pseudo-label`` and ``rounds``."""

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
    )
    interval: int = Field(1, ge=1, description="every so many frames one is judged")
    opinion: bool = Field(
        True,
        description="ask a second opinion: a classifier of the network's own features, fitted on "
        "what it is sure of in the unlabelled data",
    )
    survey_frames: int = Field(
        64,
        ge=1,
        le=4096,
        description="frames, spread evenly over the input, that the second opinion is fitted on",
    )
    accept: AcceptSettings = Field(AcceptSettings(), description="when a prediction is a label")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on a GPU"
    )
    batch: int = Field(
        0, ge=0, description="frames the network takes at once; 0 = one on a CPU, four on a GPU"
    )
    tile: int = Field(
        0,
        ge=0,
        description="side in pixels of the tiles that larger frames are cut into; 0 = whole",
    )
    reference_interval: int | None = Field(
        None, ge=1, description="frames between reference frames; null = as trained"
    )
    pan_step: int = Field(4, ge=0, description="pixels the pan clip of a photo moves per frame")
    frame_format: Literal["jpg", "png"] = Field(
        "jpg", description="how the frames of video files are stored for training"
    )
    pictures: int = Field(
        0, ge=0, description="accepted frames drawn into overlays/, spread evenly over all"
    )
    seed: int = Field(
        123, ge=0, description="seed of the pan clips' directions and of the survey's samples"
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

    input: Path = Field(
        description="video file, folder of frames, of videos or of clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image"
    )
    checkpoint: Path = Field(description="trained network, as best.safetensors of a run folder")
    out: Path = Field(Path("pseudo"), description="folder for masks, tables and pseudo_labels.json")
    stills: bool = Field(
        False, description="the images are photos, each predicted as a pan clip of its own"
    )
    round: int = Field(1, ge=1, description="number of the round, noted in pseudo_labels.json")
