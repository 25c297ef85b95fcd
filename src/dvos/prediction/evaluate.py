"""``dvos evaluate``: predict labelled clips and score the masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvos.config.prediction import EvaluationSettings
from dvos.config.scoring import ScoringSettings
from dvos.errors import UsageError
from dvos.prediction.predict import LoadPredictor, PredictResult, predict_clips
from dvos.scoring.score import Scores, score

__all__ = ["EvaluationResult", "evaluate"]


@dataclass(frozen=True)
class EvaluationResult:
    """What ``dvos evaluate`` made.

    Attributes:
        prediction: Masks and counts, in ``predictions`` of the output folder.
        scores: Scores of the masks; ``scores.missing`` lists labelled frames
            that got none.
    """

    prediction: PredictResult
    scores: Scores

    def __str__(self) -> str:
        return f"{self.prediction}\n{self.scores}"


def evaluate(settings: EvaluationSettings, load: LoadPredictor) -> EvaluationResult:
    """Predict the frames of labelled clips and score them against their masks.

    Writes ``predictions/`` as :func:`~dvos.prediction.predict.predict` does,
    and ``scores.csv``, ``scores.json`` and pictures as
    :func:`~dvos.scoring.score.score` does. Every frame of a clip is
    predicted, as later ones refer to earlier ones; the labelled are scored.

    Args:
        settings: What is predicted and scored, and how.
        load: Loads the network of the checkpoint.

    Raises:
        UsageError: If the frames of a truth folder are not given.
        DvosError: As predicting and scoring do.
    """
    source = settings.input or _frames_beside(settings.truth)
    prediction = predict_clips(settings, source, settings.out / "predictions", load)
    scores = score(
        ScoringSettings(
            truth=settings.truth,
            predictions=prediction.out,
            out=settings.out,
            frames=settings.frames,
            images=None if source.suffix.lower() == ".csv" else source,
            overlay_interval=settings.overlay_interval,
            domain=settings.domain,
            # Photos follow each other in no order of time.
            temporal=not settings.stills,
            seed=settings.seed,
        )
    )
    return EvaluationResult(prediction, scores)


def _frames_beside(truth: Path) -> Path:
    """The input where only the truth is given: its own CSV, or its ``frames`` folders."""
    if not truth.is_dir():
        return truth
    folders = [truth, *(sub for sub in truth.iterdir() if sub.is_dir())]
    if any(sub.name.lower() == "frames" for folder in folders for sub in folder.iterdir()):
        return truth
    raise UsageError.at(
        "input",
        f"not given, and {truth} holds no folder named frames",
        "the frames that the true masks belong to",
        "give them with --set input=FOLDER",
    )
