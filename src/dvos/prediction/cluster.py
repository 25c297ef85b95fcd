"""Clips predicted by the workers of a cluster, each of which loads the network once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.prediction import PredictionOptions
from dvos.errors import CheckpointError, FaultCollector, MediaError
from dvos.prediction.inputs import ClipInput
from dvos.prediction.job import ClipJob, run_alone
from dvos.prediction.predictor import Predictor, StartsFromMasks
from dvos.runner import run_on_cluster

#: Loads the network of ``options.checkpoint``; :func:`dvos.registry.predictor_for` does.
LoadPredictor = Callable[[PredictionOptions], Predictor]


@dataclass(frozen=True)
class ClipTask:
    """A clip to predict, wherever that is done: paths are absolute, ``load`` can be imported."""

    clip: ClipInput
    options: PredictionOptions
    load: LoadPredictor
    out: Path
    fingerprint: str
    alone: bool


def load_predictor(options: PredictionOptions, load: LoadPredictor) -> Predictor:
    """The predictor of options; of the scale ``auto`` at 1, from which it is measured."""
    if not options.checkpoint.is_file():
        raise CheckpointError.at(
            options.checkpoint, "no such file", "a trained network", "check --checkpoint"
        )
    plain = {"scale": 1.0} if options.scale == "auto" else {}
    return load(options.model_copy(update=plain))


# Of this process: the network that it loaded last.
_loaded: dict[tuple[str, str], Predictor] = {}
# A worker may have several threads, and its device room for one clip.
_at_work = threading.Lock()


def predict_clip(task: ClipTask) -> dict[str, Any]:
    """Predict what is left of a clip: the job's outcome, and ``error`` where it cannot be read."""
    with _at_work:
        key = (task.fingerprint, task.options.model_dump_json())
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = load_predictor(task.options, task.load)
        predictor = _loaded[key]
        if isinstance(predictor, StartsFromMasks):
            predictor = predictor.of_clip(task.clip, alone=task.alone)
        job = ClipJob(task.clip, predictor, task.options, task.out, task.fingerprint)
        error = None
        try:
            for _ in run_alone(job):
                pass
        except MediaError as unreadable:
            error = unreadable
        return job.outcome() | {"error": error}


def predict_on_cluster(address: str, jobs: Sequence[ClipJob], tasks: Sequence[ClipTask]) -> None:
    """Predict clips on a cluster; ``jobs`` take up what the workers did for the ``tasks`` alike.

    Raises:
        MediaError: With the faults of all clips that could not be read; the others are finished.
        DvosError: What else stopped a worker, or the cluster.
    """
    by_name = {job.clip.name: job for job in jobs}
    items = [(task.clip.name, task) for task in tasks]
    with (
        FaultCollector(MediaError) as faults,
        closing(run_on_cluster(address, predict_clip, items, description="predict")) as outcomes,
    ):
        for name, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            by_name[name].take_up(outcome)
            if outcome["error"] is not None:
                faults.extend(outcome["error"].faults)
