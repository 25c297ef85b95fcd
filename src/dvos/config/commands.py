"""The commands: what each does, and which settings it takes."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import string
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dvos.errors import DvosError, UsageError

if TYPE_CHECKING:  # it takes longer to load than ``dvos --help`` may
    from dvos.config.base import Settings


@dataclass(frozen=True)
class Command:
    """What is known of a command without loading its settings."""

    settings: str  # Its model, as module:Class of dvos.config.
    # What does it, as module:function of dvos, and the class of its result, there or module:Class.
    work: tuple[str, str]
    summary: str  # What it does, in one sentence.
    argument: str | None = None  # The setting that may be given without its name.
    rest: str | None = None  # The setting that takes what follows it on the command line.
    function: str = ""  # Name of its function, where that is not its own.
    example: str = ""  # What may follow ``dvos`` and its name.
    then: str = ""  # What one does next, with {0} for its result; told when it is done
    needs: str = ""  # if the result has this, and some of it, where not all results lead there.
    # Names under which settings of its sections are options of their own: dotted keys.
    short: Mapping[str, str] = field(default_factory=dict)


COMMANDS: dict[str, Command] = {
    "extract frames": Command(
        "extraction:FramesSettings",
        ("extraction.frames:extract_frames", "pathlib:Path"),
        "Write every n-th frame of each video; list them in a CSV.",
        "inputs",
        example="soil.mp4 --interval 10 --out backgrounds.csv",
        then="dvos synthesize --set backgrounds={0:list} --set cutouts='[cutouts.csv]' --out clips",
    ),
    "extract objects": Command(
        "extraction:ObjectsSettings",
        ("extraction.objects:extract_objects", "ObjectsResult"),
        "Cut labelled objects, and look-alike patches that are none, out of stills.",
        "folder",
        example="annotated --min-object-size 64",
        then="dvos synthesize --set backgrounds='[frames.csv]' --set cutouts={0.cutouts:list}"
        " --set distractors={0.distractors:list} --out clips",
        needs="cutout_count",
    ),
    "synthesize": Command(
        "scene:SynthesisSettings",
        ("synthesis.write:synthesize", "SynthesisResult"),
        "Composite cutouts over backgrounds into exactly labelled clips.",
        example="--set backgrounds=[frames.csv] --set cutouts=[cutouts.csv] --out clips --preview",
        then="dvos train --set data.clips.tables={0.whole:list} --out run",
        needs="whole",
    ),
    "train": Command(
        "training:TrainingSettings",
        ("training.run:train", "dvos.training.records:TrainResult"),
        "Train a network from stills, clips, or clips synthesised on the fly.",
        example="--stills annotated --validation validation --epochs 12 --out run",
        then="dvos predict VIDEO --checkpoint {0.best:network}",
        short={
            "stills": "data.stills.folders",
            "clips": "data.clips.folders",
            "validation": "data.validation.stills.folders",
            "crop": "data.crop",
            "weights": "network.weights",
            "lr": "optimiser.lr",
        },
    ),
    "evaluate": Command(
        "prediction:EvaluationSettings",
        ("prediction.predict:evaluate", "EvaluationResult"),
        "Predict labelled clips with a checkpoint and score them.",
        "input",
        example="clips.csv --checkpoint run/best.safetensors --out evaluation",
        then="dvos report {0.out}",
    ),
    "predict": Command(
        "prediction:PredictionSettings",
        ("prediction.predict:predict", "PredictResult"),
        "Segment every frame; write masks, counts and overlay videos.",
        "input",
        example="field.mp4 --checkpoint run/best.safetensors --out masks --overlay",
        then="dvos report {0.out}",
    ),
    "pseudo-label": Command(
        "selftraining:PseudoLabelSettings",
        ("selftraining.label:pseudo_label", "PseudoLabelResult"),
        "Accept predictions on unlabelled video or photos as labels for training.",
        "input",
        example="field.mp4 --checkpoint run/best.safetensors --out pseudo",
        then="dvos train{0.provenance:config} --set {0.setting}={0.table:list} --out another",
        needs="accepted",
    ),
    "rounds": Command(
        "selftraining:RoundsSettings",
        ("selftraining.rounds:rounds", "RoundsResult"),
        "Train, then predict unlabelled video, accept labels and train again.",
        example="--config rounds.yaml",
        then="dvos predict VIDEO --checkpoint {0.best:network}",
    ),
    "score": Command(
        "scoring:ScoringSettings",
        ("scoring.score:score_command", "ScoreResult"),
        "Score predicted masks against true ones.",
        example="--truth truth --predictions masks --out scores",
        then="dvos report {0.out}",
        needs="masks",
    ),
    "report": Command(
        "scoring:ReportSettings",
        ("reporting.html:write_report", "pathlib:Path"),
        "Write figures, plots and pictures of a run, or of several, as one HTML file.",
        "run",
        "compare",
        example="run",
        then="open {0} in a browser",
    ),
    "import": Command(
        "labelling:ImportSettings",
        ("formats.importing:import_labels", "ImportResult"),
        "Turn labels of another program (COCO, CVAT, labelme ...) into a data folder.",
        "source",
        function="import_labels",
        example="annotations.json --out data",
    ),
    "export": Command(
        "labelling:ExportSettings",
        ("formats.importing:export", "ExportResult"),
        "Write predictions, or any labels, in another program's format.",
        "predictions",
        example="masks --format coco --out coco",
    ),
    "convert": Command(
        "prediction:ConvertSettings",
        ("prediction.convert:convert", "ConvertResult"),
        "Write published weights as a file of ours, or any weights as ONNX (--out model.onnx).",
        "checkpoint",
        example="run/best.safetensors --out model.onnx",
        then="dvos predict VIDEO --checkpoint {0.out:network}",
    ),
    "label": Command(
        "labelling:LabelSettings",
        ("labelling.command:label", "pathlib:Path"),
        "Open a page in the browser to label, correct and train again.",
        "input",
        example="data",
    ),
    "suggest": Command(
        "labelling:SuggestSettings",
        ("labelling.suggest:suggest", "SuggestResult"),
        "List the frames to label next: unlike those labelled, and uncertain.",
        "input",
        example="field.mp4 --count 12",
    ),
    "fit": Command(
        "workflow:FitSettings",
        ("workflow.fit:fit", "FitResult"),
        "Plan, train, validate and report on your own data, in the minutes given.",
        "folder",
        example="plot --out run --minutes 20",
    ),
    "demo": Command(
        "workflow:DemoSettings",
        ("workflow.demo:demo", "DemoResult"),
        "Run the whole method: cut, synthesise, train, predict, score, report.",
        example="--data wheat --out run",
        then="dvos predict VIDEO --checkpoint {0.checkpoint:network}",
    ),
}


def next_step(command: Command, result: Any) -> str:
    """What one does next with a result, as a shell takes it; empty where it leads nowhere yet."""
    left = getattr(result, "missing", 0)  # a number of clips, of a shard; scores list masks
    is_whole = not isinstance(left, int) or left == 0
    if isinstance(result, Path):  # the table of a shard, while others have to do theirs
        is_whole = re.search(r"_shard-\d+-of-\d+$", result.stem) is None
    leads_on = not command.needs or bool(getattr(result, command.needs, None))
    return _ForShell().format(command.then, result) if is_whole and leads_on else ""


class _ForShell(string.Formatter):
    """Puts values into a line of a shell.

    With ``:list`` as YAML's list of one; with ``:network`` a network and what it cannot predict
    without; with ``:config``, of ``pseudo_labels.json``, the settings its network was trained by.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "list":
            import yaml

            style: Any = {"default_flow_style": True, "allow_unicode": True, "width": 10**6}
            return shlex.quote(yaml.safe_dump([str(value)], **style).strip())
        if format_spec == "config":
            config = _settings_of_training(Path(value))
            return f" --config {shlex.quote(str(config))}" if config else ""
        masks = " --first-mask MASK" if format_spec and _starts_from_masks(Path(value)) else ""
        return shlex.quote(str(value)) + masks


def _settings_of_training(provenance: Path) -> Path | None:
    """Settings that the network of pseudo-labels was trained by; None where they are not there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        run = Path(json.loads(provenance.read_bytes())["checkpoint"]["path"]).parent
        # The network of a fit lies in its folder, a copy of that in its training.
        places = (run / "config.yaml", run / "train/config.yaml")
        return next((place for place in places if place.is_file()), None)
    return None


def _starts_from_masks(checkpoint: Path) -> bool:
    """Whether a network follows the objects of a first mask; it was loaded, and torch with it."""
    with suppress(DvosError):
        spec = import_module("dvos.registry").spec_of(checkpoint)
        return spec is not None and spec.starts_from_masks
    return False


def function_name(command: str) -> str:
    """Name of the function of a command in :mod:`dvos.api`."""
    return COMMANDS[command].function or command.replace(" ", "_").replace("-", "_")


def settings_model(command: str) -> type[Settings]:
    """The settings model of ``command``, also of ``extract-frames``; a UsageError without one."""
    known = {name.replace("-", " "): each for name, each in COMMANDS.items()}
    plain = " ".join(command.replace("-", " ").replace(".", " ").split())
    if plain not in known:
        near = difflib.get_close_matches(plain, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(COMMANDS)}"
        raise UsageError.at(command, "no such command", remedy=hint)
    module, cls = known[plain].settings.split(":")
    return cast("type[Settings]", getattr(import_module(f"dvos.config.{module}"), cls))


def guess_command(values: Mapping[str, Any]) -> str:
    """The command that knows most of the top-level keys; a UsageError if none knows any.

    Of several it is the one that finds the fewest faults besides missing values, then the one that
    lacks the fewest required keys.
    """
    from pydantic import ValidationError

    def fit(command: str) -> tuple[int, int, int]:
        model = settings_model(command)
        fields, faults = model.model_fields, 0
        required = {name for name, field in fields.items() if field.is_required()}
        try:
            model.model_validate(values)
        except ValidationError as error:
            faults = sum(item["type"] != "missing" for item in error.errors(include_url=False))
        return len(values.keys() & fields.keys()), -faults, -len(required - values.keys())

    best = max(COMMANDS, key=fit)
    if not fit(best)[0]:
        found = f"no command has any of the keys {', '.join(map(str, values)) or '(none)'}"
        raise UsageError(f"{found}; name the command: one of {', '.join(COMMANDS)}")
    return best
