"""Every command as one function, with the command's name and settings.

Each takes a checked settings object, or ``config`` (a YAML file), ``overrides``
(``a.b=value`` texts) and the settings' own names as keywords; a keyword whose
value is ``None`` counts as not given. Nested settings are given as mappings::

    dvos.train(out="run", epochs=3, network={"name": "dvos"})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvos.config.base import Settings
from dvos.config.load import load_settings
from dvos.config.registry import settings_model

if TYPE_CHECKING:
    from dvos.extraction.objects import ObjectsResult
    from dvos.prediction.evaluate import EvaluationResult
    from dvos.prediction.predict import PredictResult
    from dvos.scoring.score import Scores
    from dvos.selftraining.label import PseudoLabelResult
    from dvos.selftraining.rounds import RoundsResult
    from dvos.synthesis.write import SynthesisResult
    from dvos.training.convert import ConvertResult
    from dvos.training.loop import TrainResult
    from dvos.workflow.pipeline import DemoResult

__all__ = [
    "convert",
    "demo",
    "evaluate",
    "extract_frames",
    "extract_objects",
    "predict",
    "pseudo_label",
    "report",
    "rounds",
    "score",
    "synthesize",
    "train",
]


def extract_frames(settings: Settings | None = None, /, **options: Any) -> Path:
    """Write the frames of videos; give the path of their table."""
    result: Path = _call("extract frames", "extraction.frames", settings, options)
    return result


def extract_objects(settings: Settings | None = None, /, **options: Any) -> ObjectsResult:
    """Cut objects and distractors out of labelled stills."""
    result: ObjectsResult = _call("extract objects", "extraction.objects", settings, options)
    return result


def synthesize(settings: Settings | None = None, /, **options: Any) -> SynthesisResult:
    """Composite cutouts over backgrounds into labelled clips."""
    result: SynthesisResult = _call("synthesize", "synthesis.write", settings, options)
    return result


def train(settings: Settings | None = None, /, **options: Any) -> TrainResult:
    """Train a network; give its run folder and best checkpoint."""
    result: TrainResult = _call("train", "training.run", settings, options)
    return result


def convert(settings: Settings | None = None, /, **options: Any) -> ConvertResult:
    """Write published weights as a file of ours, or any weights as ONNX."""
    result: ConvertResult = _call("convert", "training.convert", settings, options)
    return result


def evaluate(settings: Settings | None = None, /, **options: Any) -> EvaluationResult:
    """Predict labelled clips with a checkpoint and score them."""
    result: EvaluationResult = _call("evaluate", "prediction.evaluate", settings, options)
    return result


def predict(settings: Settings | None = None, /, **options: Any) -> PredictResult:
    """Segment videos, folders or tables of frames."""
    result: PredictResult = _call("predict", "prediction.predict", settings, options)
    return result


def pseudo_label(settings: Settings | None = None, /, **options: Any) -> PseudoLabelResult:
    """Accept predictions on unlabelled video as labels for the next training."""
    result: PseudoLabelResult = _call("pseudo-label", "selftraining.label", settings, options)
    return result


def rounds(settings: Settings | None = None, /, **options: Any) -> RoundsResult:
    """Train, then predict, accept and train again, while validation gains."""
    result: RoundsResult = _call("rounds", "selftraining.rounds", settings, options)
    return result


def score(settings: Settings | None = None, /, **options: Any) -> Scores:
    """Score predicted masks against true ones."""
    result: Scores = _call("score", "scoring.score", settings, options)
    return result


def report(settings: Settings | None = None, /, **options: Any) -> Path:
    """Write the HTML report of a run."""
    result: Path = _call("report", "reporting.html", settings, options, function="write_report")
    return result


def demo(settings: Settings | None = None, /, **options: Any) -> DemoResult:
    """Run the whole method, on the sample field or on a folder of real data."""
    result: DemoResult = _call("demo", "workflow.pipeline", settings, options)
    return result


def _call(
    command: str,
    module: str,
    settings: Settings | None,
    options: dict[str, Any],
    *,
    function: str | None = None,
) -> Any:
    if settings is None:
        config: Path | None = options.pop("config", None)
        overrides: Sequence[str] = options.pop("overrides", None) or ()
        settings = load_settings(
            settings_model(command), config=config, overrides=overrides, options=options
        )
    elif options:
        raise TypeError("give a settings object or keywords, not both")
    name = function or command.replace(" ", "_").replace("-", "_")
    target: Callable[[Settings], Any] = getattr(import_module(f"dvos.{module}"), name)
    return target(settings)
