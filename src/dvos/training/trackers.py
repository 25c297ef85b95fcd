"""Experiment trackers beside records.csv: TensorBoard, Weights & Biases, MLflow.

Each is an extra package, imported only where it is asked for. A run that goes on is the same run in
the tracker too: ``trackers.json`` in the run folder keeps what it is called there. A tracker that
fails while the run is under way costs its own records only: training goes on, with a warning.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import TypeAdapter

from dvos.config.base import flattened, plain_values
from dvos.config.show import settings_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, Fault, FaultCollector, RunError
from dvos.files import make_folder, real_path, write_json
from dvos.locks import open_file
from dvos.training.run_folder import RunFolder

_LOGGER = logging.getLogger(__name__)
_PROJECT = "dvos"
#: MLflow takes this many parameters in one call.
_MLFLOW_BATCH = 100


class TrackedRun(NamedTuple):
    """A run that begins, or goes on after so many epochs as ``known``, a tracker's identity."""

    folder: RunFolder
    settings: TrainingSettings
    epochs: int
    known: str


class _Tracker(ABC):
    """A place that shows how runs go."""

    title: ClassVar[str]
    package: ClassVar[str]
    identity = ""  # What the tracker calls the run, to find it again; may be empty.

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None: ...

    @abstractmethod
    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Record the finite values of an epoch, by column of records.csv; epochs count from 1."""

    @abstractmethod
    def finish(self, pictures: Sequence[Path], *, completed: bool) -> None:
        """End the run, with predictions of the best epoch, after its end or an error."""


class _TensorBoard(_Tracker):
    """Event files in ``tensorboard/`` of the run folder; they do not know how a run ended.

    TensorBoard's own writer has a thread of its own, which tells a full disk by a traceback.
    """

    title, package = "TensorBoard", "tensorboard"

    def __init__(self, run: TrackedRun) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from torch.utils.tensorboard.summary import text

        # TensorBoard reads the files of a folder in the order of their names.
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{platform.node()}.{os.getpid()}.{rest:09d}"
        path = make_folder(run.folder.tensorboard) / name
        self._handle = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        self._epoch = run.epochs
        try:
            self._write(0, file_version="brain.Event:2")
        except OSError:
            os.close(self._handle)
            path.unlink()
            raise
        if run.epochs:
            # What an earlier start wrote of an epoch that is trained again is hidden.
            self._write(run.epochs + 1, session_log=SessionLog(status=SessionLog.START))
        else:
            config = f"```yaml\n{settings_yaml(run.settings)}```"
            self._write(0, summary=text("config", config))  # type: ignore[no-untyped-call]

    def _write(self, step: int, **event: Any) -> None:
        """Add an event, one field of TensorBoard's ``Event``, a ``Summary`` for instance."""
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard import RecordWriter

        record = io.BytesIO()
        data = Event(wall_time=time.time(), step=step, **event).SerializeToString()
        RecordWriter(record).write(data)
        size, rest = os.fstat(self._handle).st_size, record.getbuffer()
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            # Of what follows half a record nothing would be read.
            with suppress(OSError):
                os.ftruncate(self._handle, size)
            raise

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        for name, value in values.items():
            self._write(epoch, summary=scalar(_grouped(name), value))  # type: ignore[no-untyped-call]
        self._epoch = epoch

    def finish(self, pictures: Sequence[Path], *, completed: bool) -> None:  # noqa: ARG002
        from torch.utils.tensorboard.summary import image

        from dvos.media.image import read_image

        try:
            for number, picture in enumerate(pictures):
                tag, pixels = f"predictions/clip_{number:02d}", read_image(picture)
                summary = image(tag, pixels, dataformats="HWC")  # type: ignore[no-untyped-call]
                self._write(self._epoch, summary=summary)
        finally:
            os.close(self._handle)


class _WeightsAndBiases(_Tracker):
    """A run of Weights & Biases; without an account set ``WANDB_MODE=offline``."""

    title, package = "Weights & Biases", "wandb"

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=real_path(run.folder.path).name,
            dir=str(run.folder.path),
            config=plain_values(run.settings),
            id=run.known or None,
            resume="allow" if run.known else None,
            allow_val_change=True,
        )
        self.identity = str(self._run.id)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self._run.log({_grouped(name): value for name, value in values.items()}, step=epoch)

    def finish(self, pictures: Sequence[Path], *, completed: bool) -> None:
        for number, picture in enumerate(pictures):
            self._run.summary[f"predictions/clip_{number:02d}"] = self._wandb.Image(str(picture))
        self._run.finish(exit_code=0 if completed else 1)


class _Mlflow(_Tracker):
    """A run of MLflow; without ``MLFLOW_TRACKING_URI``, in ``mlflow.db`` of the current folder."""

    title, package = "MLflow", "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if run.known:
            self.identity = run.known
            self._client.update_run(run.known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        created = self._client.create_run(number, run_name=real_path(run.folder.path).name)
        self.identity = str(created.info.run_id)
        self._client.log_text(self.identity, settings_yaml(run.settings), "config.yaml")
        flat = flattened(plain_values(run.settings))
        params = [Param(key, str(value)[:500]) for key, value in flat.items()]
        for first in range(0, len(params), _MLFLOW_BATCH):
            self._client.log_batch(self.identity, params=params[first : first + _MLFLOW_BATCH])

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self.identity, _grouped(name), value, step=epoch)

    def finish(self, pictures: Sequence[Path], *, completed: bool) -> None:
        for picture in pictures:
            self._client.log_artifact(self.identity, str(picture), "predictions")
        self._client.set_terminated(self.identity, "FINISHED" if completed else "FAILED")


_KINDS: dict[str, type[_Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
    "mlflow": _Mlflow,
}


@dataclass
class Trackers:
    """All trackers of a run, by the name settings use; none of them can stop it."""

    opened: dict[str, _Tracker] = field(default_factory=dict)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Tell all of them of an epoch."""
        self._tell(lambda tracker: tracker.epoch(epoch, values), f"epoch {epoch}")

    def finish(self, pictures: Iterable[Path], *, completed: bool) -> None:
        """End the run in all of them."""
        found = [picture for picture in pictures if picture.is_file()]
        self._tell(lambda tracker: tracker.finish(found, completed=completed), "the end")
        self.opened = {}

    def _tell(self, tell: Callable[[_Tracker], None], what: str) -> None:
        for name, tracker in self.opened.items():
            try:
                tell(tracker)
            except Exception as error:
                # A tracker may fail in any way its server, its disk or its network can.
                message = "%s did not take %s (%s); records.csv has it"
                _LOGGER.warning(message, _KINDS[name].title, what, _reason(error))


def check_trackers(names: Iterable[str]) -> None:
    """Raise a ConfigError with a fault for each tracker whose package, not imported, is absent."""
    with FaultCollector(ConfigError) as faults:
        for name in dict.fromkeys(names):
            package = _KINDS[name].package
            # What was put into sys.modules by hand has no spec.
            known = package in sys.modules
            if (sys.modules[package] if known else importlib.util.find_spec(package)) is None:
                found = f"{name} is asked for, but the package {package} is not installed"
                remedy = f'pip install "dvos[{name}]", or leave {name} out of trackers'
                faults.add("trackers", found, "", remedy)


def open_trackers(settings: TrainingSettings, folder: RunFolder, *, epochs: int) -> Trackers:
    """Begin or go on with a run in its trackers; a RunError with a fault for each that fails."""
    record = folder.trackers
    known: dict[str, str] = {}
    try:
        if record.is_file():
            known = TypeAdapter(dict[str, str]).validate_json(record.read_bytes())
    except (OSError, ValueError):
        _LOGGER.warning("%s cannot be read: trackers take this for another run", record)
    opened: dict[str, _Tracker] = {}
    faults = []
    for name in dict.fromkeys(settings.trackers):
        try:
            opened[name] = _KINDS[name](TrackedRun(folder, settings, epochs, known.get(name, "")))
        except Exception as error:
            found = f"{name} does not start ({_reason(error)})"
            remedy = f"see to its server, account or environment, or leave {name} out of trackers"
            faults.append(Fault("trackers", found, "", remedy))
    if faults:
        Trackers(opened).finish([], completed=False)
        raise RunError(faults)
    identities = {name: tracker.identity for name, tracker in opened.items() if tracker.identity}
    if identities.items() - known.items():
        write_json(record, known | identities)
    return Trackers(opened)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _grouped(column: str) -> str:
    """``train/loss`` of ``train_loss``: trackers draw what stands before a slash together."""
    if column in ("dice", "iou"):
        return f"val/{column}"
    group, _, name = column.partition("_")
    return f"{group}/{name}" if group in ("train", "val") else column
