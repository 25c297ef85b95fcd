"""The network and the feature probe of a labelling run, loaded where clips are labelled.

That is this process, or the workers of a cluster, which load them once each.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from dvos.config.base import values_affecting
from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import FaultCollector, MediaError, RunError
from dvos.files import digest, exclusive, file_digest
from dvos.media.frames import AnyFrames
from dvos.prediction.inputs import ClipInput
from dvos.prediction.job import run_alone
from dvos.prediction.predictor import FramePrediction, Views
from dvos.registry import features_of, predictor_of
from dvos.runner import Row, run_on_cluster
from dvos.selftraining.clip_job import ClipJob, Probe
from dvos.selftraining.probe import FeatureProbe
from dvos.selftraining.probe_fitting import NO_PROBE, PROBE, ProbeRecord, probe_for

#: Raised whenever the same input and settings give other labels than before.
_VERSION = 2


def fingerprint_of(settings: PseudoLabelSettings, *products: str) -> str:
    """Of the checkpoint, and of the settings that affect some products."""
    chosen = values_affecting(settings, *products)
    return digest([_VERSION, file_digest(settings.checkpoint), chosen])


class Labeller:
    """What labels clips: the network in every view, and the reader of its features.

    Args:
        settings: The network, its views, whether there is a probe, and where all goes.

    Raises:
        CheckpointError: If the checkpoint cannot be used, or shows no features for a probe.
        UsageError: If there is no such device.
    """

    def __init__(self, settings: PseudoLabelSettings) -> None:
        shared = ("device", "precision", "batch", "tile", "reference_interval", "intensity")
        options = PredictorOptions(**{name: getattr(settings, name) for name in shared})
        self._settings = settings
        self._predictor = predictor_of(settings.checkpoint, options)
        self._views = Views(tuple(settings.scales), settings.flips)
        self._reader = (
            features_of(settings.checkpoint, settings.device, tile=settings.tile)
            if settings.probe
            else None
        )
        self._probe: Probe | None = None

    @property
    def context(self) -> int:
        """How many frames before a frame its prediction depends on."""
        return self._predictor.context

    @property
    def intensity(self) -> str:
        """What becomes of images' samples of more than 8 bit."""
        return self._predictor.intensity

    def view(self, source: AnyFrames, *, start: int) -> Generator[FramePrediction, None, None]:
        """Predict frames in every view, from the frame ``start`` on."""
        yield from self._predictor.segment_views(source, self._views, start=start)

    def fit_probe(self, clips: Sequence[ClipInput]) -> ProbeRecord:
        """Fit the probe on frames of all clips, or take up the one that is there, and use it.

        Of several runs on one folder that begin at once one fits it, and the others wait.

        Raises:
            OutputError: If something cannot be written.
            RunError: If memory runs out.
        """
        out = self._settings.out
        if self._reader is None:
            (out / PROBE).unlink(missing_ok=True)
            return NO_PROBE
        fingerprint = fingerprint_of(self._settings, "result")
        with exclusive(out, "probe"):
            probe, record = probe_for(
                clips,
                self._settings,
                fingerprint,
                view=self.view,
                reader=self._reader,
                context=self.context,
            )
        self._probe = None if probe is None else partial(probe.of_frame, reader=self._reader)
        return record

    def load_probe(self, fitted: str | None) -> None:
        """Use the probe that another process fitted, by its digest; none by None.

        Raises:
            RunError: If the file holds another one.
        """
        self._probe = None
        if fitted is None:
            return
        path = self._settings.out / PROBE
        if not path.is_file() or file_digest(path) != fitted:
            remedy = "see that all machines have the same files, and run the same command again"
            raise RunError.at(path, "is not the probe that was fitted for this run", remedy=remedy)
        assert self._reader is not None
        self._probe = partial(FeatureProbe.load(path).of_frame, reader=self._reader)

    def job(self, clip: ClipInput, fingerprint: str) -> ClipJob:
        """The labelling of a clip; ``fingerprint`` as of :class:`ClipJob`."""
        return ClipJob(clip, self._settings, fingerprint, self.view, self._probe)


@dataclass(frozen=True)
class LabelTask:
    """Work for a worker."""

    settings: PseudoLabelSettings  # Of the run, with absolute paths.
    clips: tuple[ClipInput, ...]  # To fit the probe on, or the one to label.
    fingerprint: str = ""  # As of :class:`ClipJob`; of a fit none.
    probe: str | None = None  # Digest of the probe; None where there is none.


# Of this process: what it loaded last.
_loaded: dict[tuple[str, str], Labeller] = {}
# A worker may have several threads, and its device room for one clip.
_at_work = threading.Lock()


def _labeller(settings: PseudoLabelSettings) -> Labeller:
    key = (file_digest(settings.checkpoint), settings.model_dump_json())
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = Labeller(settings)
    return _loaded[key]


def fit_on_worker(task: LabelTask) -> dict[str, Any]:
    """Fit the probe; ``record`` is what it led to."""
    with _at_work:
        return {"record": _labeller(task.settings).fit_probe(task.clips)}


def label_on_worker(task: LabelTask) -> dict[str, Any]:
    """Label a clip: its rows and damage, and ``error`` where it cannot be read."""
    with _at_work:
        labeller = _labeller(task.settings)
        labeller.load_probe(task.probe)
        (clip,) = task.clips
        job = labeller.job(clip, task.fingerprint)
        error = None
        try:
            for _ in run_alone(job):
                pass
        except MediaError as unreadable:
            error = unreadable
        told = {"rows": job.rows, "damage": job.damage, "intensity": job.intensity}
        return told | {"error": error}


def fit_on_cluster(settings: PseudoLabelSettings, clips: Sequence[ClipInput]) -> ProbeRecord:
    """:meth:`Labeller.fit_probe` by a worker of the cluster that settings name.

    Raises:
        DvosError: What stopped the worker, or the cluster.
    """
    items = [("probe", LabelTask(settings, tuple(clips)))]
    (record,) = (
        outcome["record"] for _, outcome in _outcomes(settings, fit_on_worker, items, "fit probe")
    )
    found: ProbeRecord = record
    return found


def label_on_cluster(
    settings: PseudoLabelSettings, jobs: Sequence[ClipJob], fingerprint: str, probe: str | None
) -> None:
    """Label clips on a cluster; one that cannot be read does not cost the others.

    Args:
        settings: Of the run, with absolute paths.
        jobs: Of the clips; they take up what the workers did.
        fingerprint: As of :class:`ClipJob`.
        probe: Digest of the probe; None where there is none.

    Raises:
        MediaError: With the faults of all clips that could not be read.
        DvosError: What else stopped a worker, or the cluster.
    """
    by_name = {job.clip.name: job for job in jobs}
    items = [
        (name, LabelTask(settings, (job.clip,), fingerprint, probe))
        for name, job in by_name.items()
    ]
    with FaultCollector(MediaError) as faults:
        for name, outcome in _outcomes(settings, label_on_worker, items, "pseudo-label"):
            job = by_name[name]
            job.rows, job.damage = outcome["rows"], outcome["damage"]
            job.intensity = outcome["intensity"]
            if outcome["error"] is not None:
                faults.extend(outcome["error"].faults)


def _outcomes(
    settings: PseudoLabelSettings, function: Any, items: list[tuple[str, LabelTask]], told: str
) -> Generator[tuple[str, Row], None, None]:
    assert settings.scheduler is not None
    with closing(run_on_cluster(settings.scheduler, function, items, description=told)) as outcomes:
        for name, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield name, outcome
