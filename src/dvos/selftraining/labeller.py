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

    Raises:
        CheckpointError: If the checkpoint cannot be used, or shows no features for a probe.
        UsageError: If there is no such device.
    """

    def __init__(self, settings: PseudoLabelSettings) -> None:
        shared = ("device", "precision", "batch", "tile", "reference_interval", "intensity")
        options = PredictorOptions(**{name: getattr(settings, name) for name in shared})
        self._settings = settings
        predictor = predictor_of(settings.checkpoint, options)
        #: How many frames before a frame its prediction depends on.
        self.context = predictor.context
        #: What becomes of images' samples of more than 8 bit.
        self.intensity = predictor.intensity
        self._predictor = predictor
        self._views = Views(tuple(settings.scales), settings.flips)
        self._reader = (
            features_of(settings.checkpoint, settings.device, tile=settings.tile)
            if settings.probe
            else None
        )
        self._probe: Probe | None = None

    def view(self, source: AnyFrames, *, start: int) -> Generator[FramePrediction, None, None]:
        """Predict frames in every view, from the frame ``start`` on."""
        yield from self._predictor.segment_views(source, self._views, start=start)

    def fit_probe(self, clips: Sequence[ClipInput]) -> ProbeRecord:
        """Fit the probe on frames of all clips, or take up the one that is there, and use it.

        Of several runs on one folder that begin at once one fits it, and the others wait.
        """
        out, reader = self._settings.out, self._reader
        if reader is None:
            (out / PROBE).unlink(missing_ok=True)
            return NO_PROBE
        fingerprint, context = fingerprint_of(self._settings, "result"), self.context
        with exclusive(out, "probe"):
            probe, record = probe_for(
                clips, self._settings, fingerprint, view=self.view, reader=reader, context=context
            )
        self._probe = None if probe is None else partial(probe.of_frame, reader=reader)
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
    """Work for a worker: to fit the probe on clips, or with a fingerprint to label one."""

    settings: PseudoLabelSettings  # Of the run, with absolute paths.
    clips: tuple[ClipInput, ...]
    fingerprint: str = ""  # As of :class:`ClipJob`.
    probe: str | None = None  # Its digest; None where there is none.


# Of this process: what it loaded last.
_loaded: dict[tuple[str, str], Labeller] = {}
# A worker may have several threads, and its device room for one clip.
_at_work = threading.Lock()


def do_on_worker(task: LabelTask) -> Row:
    """The ``record`` of a fit; of a label rows, damage, and ``error`` if the clip is unreadable."""
    key = (file_digest(task.settings.checkpoint), task.settings.model_dump_json())
    with _at_work:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = Labeller(task.settings)
        labeller = _loaded[key]
        if not task.fingerprint:
            return {"record": labeller.fit_probe(task.clips)}
        labeller.load_probe(task.probe)
        job, error = labeller.job(task.clips[0], task.fingerprint), None
        try:
            for _ in run_alone(job):
                pass
        except MediaError as unreadable:
            error = unreadable
        told = {"rows": job.rows, "damage": job.damage, "intensity": job.intensity}
        return told | {"error": error}


def _outcomes(tasks: dict[str, LabelTask], told: str) -> Generator[tuple[str, Any], None, None]:
    """What the workers of the cluster that the settings name made of named tasks.

    Raises:
        DvosError: What stopped a worker, or the cluster.
    """
    scheduler = next(iter(tasks.values())).settings.scheduler if tasks else None
    if scheduler is None:
        return
    running = run_on_cluster(scheduler, do_on_worker, [*tasks.items()], description=told)
    with closing(running) as outcomes:
        for name, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield name, outcome


def fit_on_cluster(settings: PseudoLabelSettings, clips: Sequence[ClipInput]) -> ProbeRecord:
    """:meth:`Labeller.fit_probe` by a worker of the cluster that settings name."""
    ((_, outcome),) = _outcomes({"probe": LabelTask(settings, tuple(clips))}, "fit probe")
    record: ProbeRecord = outcome["record"]
    return record


def label_on_cluster(
    settings: PseudoLabelSettings, jobs: Sequence[ClipJob], fingerprint: str, probe: str | None
) -> None:
    """Label clips on a cluster, by the probe of a digest; the jobs take up what was done.

    Raises:
        MediaError: With the faults of all clips that could not be read, after all others are done.
        DvosError: What else stopped a worker, or the cluster.
    """
    by_name = {job.clip.name: job for job in jobs}
    tasks = {
        name: LabelTask(settings, (job.clip,), fingerprint, probe) for name, job in by_name.items()
    }
    with FaultCollector(MediaError) as faults:
        for name, outcome in _outcomes(tasks, "pseudo-label"):
            job = by_name[name]
            job.rows, job.damage = outcome["rows"], outcome["damage"]
            job.intensity = outcome["intensity"]
            if outcome["error"] is not None:
                faults.extend(outcome["error"].faults)
