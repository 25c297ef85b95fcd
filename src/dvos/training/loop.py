"""The training loop: steps, validation, best and last weights, and going on after a stop.

Clip k is the same in every process, step s uses clips that depend on s alone, and each step seeds
the generators anew: a run that was killed and goes on from ``last.ckpt`` ends, on a CPU with the
same numbers of processes and threads, with the same bits as an unbroken one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.utils.data import Dataset

from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, RunError
from dvos.files import write_json
from dvos.networks.weights import misfit, read_state, save_network
from dvos.runner.display import note, open_display, waiting
from dvos.training import networks, records
from dvos.training.calibration import calibrate_checkpoint, calibrate_tracks
from dvos.training.clips.files import FrameClip
from dvos.training.datasets import TrainingClips, batches_of, draw_prediction, normalised_batch
from dvos.training.devices import cpu_threads, explained, loader_workers
from dvos.training.objective import Measures, Objective
from dvos.training.run_folder import RESUME_OFF, RunFolder, write_state
from dvos.training.step import Accumulation, PendingLosses, TrainingStep, compile_for_training
from dvos.training.trackers import Trackers

Clips = Dataset[dict[str, Tensor]]

_LOGGER = logging.getLogger(__name__)


class RunClips(NamedTuple):
    """What a run learns from and is measured by."""

    training: Clips  # endless, the same whenever they are read
    validation: Clips | None
    #: Gives some of the pictures that are learnt from as they are, when all is learnt.
    labelled: Callable[[], Clips] | None = None
    #: Gives the labelled clips that the run is judged by and does not learn from.
    judged: Callable[[], Sequence[FrameClip]] = list


class Training:
    """One run: network, optimiser, average and how far they are.

    Settings tell ``workers`` and ``optimiser`` (``highest_lr`` in each group) by default.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        trained: networks.TrainedNetwork,
        objective: Objective,
        clips: RunClips,
        folder: RunFolder,
        fabric: Any,
        workers: int | None = None,
        optimiser: torch.optim.Optimizer | None = None,
    ) -> None:
        plan = records.TrainingPlan.of(settings)
        if plan.batch % (plan.accumulate * fabric.world_size):
            parts = f"{plan.accumulate} parts on {fabric.world_size} devices"
            found = f"is {plan.batch}, which {parts} do not divide"
            raise RunError.at("batch", found, remedy="give a multiple")
        self.settings, self.plan = settings, plan
        self.trained, self.objective = trained, objective
        self.training, self.validation, self._labelled, self._judged = clips
        self.folder, self.fabric = folder, fabric
        self.workers = loader_workers(settings, fabric.device) if workers is None else workers
        self.network = trained.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own, self.frozen = networks.build_optimiser(trained, settings.optimiser)
        networks.leave_without_gradient(self.network, objective.unlearnt)
        self.optimiser = optimiser or own
        self.accumulation = Accumulation(
            self.network, parts=plan.accumulate, batch=plan.batch, devices=fabric.world_size
        )
        module, wrapped = fabric.setup(self.network, self.optimiser)
        self._take_step = TrainingStep(
            settings, fabric, module, wrapped, objective, self._add, self.accumulation
        )
        self._pending = PendingLosses(objective.names, fabric.device)
        self._plainly: Callable[[], AbstractContextManager[object]] = nullcontext
        share, started = settings.start_share, settings.network.weights
        start = read_state(started) if share and started else {}
        self.average = networks.WeightAverage(self.network, settings.ema_decay, (start, share))
        self.trackers = Trackers()
        self.progress = records.RunProgress()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what an earlier start wrote to last.ckpt; a CheckpointError if damaged."""
        try:
            self.progress = TypeAdapter(records.RunProgress).validate_python(state["progress"])
            if misfit(self.network.state_dict(), state["network"]):
                raise ValueError("weights of another network")
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            networks.check_moments(self.optimiser)
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            # What is missing or of another type surfaces wherever it is looked at first.
            raise CheckpointError.at(self.folder.state, "damaged", remedy=RESUME_OFF) from error
        # A run that was finished goes on where it got more epochs, or patience.
        self.progress.finished = self._is_over()
        if self.progress.best_epoch:
            self.folder.check_best()

    def run(self) -> records.TrainResult:
        """Train to the end of the plan or of patience; a RunError if the loss or memory fails."""
        self._write_metadata("running")
        try:
            # A run killed between its last state and its last metadata has no step left.
            if not self.progress.finished:
                self._run()
            if self.fabric.is_global_zero:
                if self.fabric.world_size > 1 and self.fabric.device.type == "cpu":
                    # The other processes leave their cores.
                    torch.set_num_threads(cpu_threads(self.settings.threads, processes=1) or 1)
                best, spec, device = self.folder.best, self.trained.spec, self.fabric.device
                with self.fabric.autocast():
                    calibrate_checkpoint(
                        best,
                        self.validation,
                        self.training,
                        self._labelled and self._labelled(),
                        seen=self.plan.clips,
                        build=spec.network,
                        segment=self.objective.segment,
                        device=device,
                    )
                calibrate_tracks(best, spec, self._judged(), device)
        except KeyboardInterrupt:
            if self.fabric.is_global_zero:
                records.tell_what_is_kept(self.folder.state)
            raise
        except (MemoryError, RuntimeError, EOFError, ConnectionError, ValueError) as error:
            plan = replace(self.plan, accumulate=self.accumulation.passes)
            raise explained(error, plan) from error
        finally:
            epoch, drawn = self.progress.best_epoch, range(self.settings.pictures)
            pictures = [self.folder.picture(epoch, number) for number in drawn]
            self.trackers.finish(pictures, completed=self.progress.finished)
        self._write_metadata("finished")
        return self.folder.result(already_finished=False)

    def _run(self) -> None:
        plan, state, fabric = self.plan, self.progress, self.fabric
        left, device = plan.steps - state.step, fabric.device
        self._plainly = compile_for_training(self.network, self.settings.compile, left, device)
        parts = plan.parts(state.step, rank=fabric.global_rank, devices=fabric.world_size)
        clips, pin = self.training, device.type == "cuda"
        if pin and isinstance(clips, TrainingClips):
            clips = clips.as_bytes()
            mean, std = self.trained.normalisation.tensors(device)
            self._take_step.prepare = partial(normalised_batch, mean=mean, std=std)
        display = open_display("train", plan.steps, "step", state.step)
        with (
            display if fabric.is_global_zero else nullcontext() as advance,
            closing(batches_of(clips, parts, workers=self.workers, pin=pin)) as batches,
        ):
            note(state.said(plan))
            for step in range(state.step, plan.steps):
                begun = time.perf_counter()
                self._step(step, batches)
                seconds = time.perf_counter() - begun
                state.step = step + 1
                state.epoch_seconds += seconds
                state.training_seconds += seconds
                if state.step % plan.steps_per_epoch == 0:
                    self._end_epoch()
                elif self.settings.save_steps and state.step % self.settings.save_steps == 0:
                    self._save()
                note(state.said(plan))
                if advance is not None:
                    advance()
                if state.finished:
                    break

    def _step(self, step: int, batches: Iterator[dict[str, Tensor]]) -> None:
        seed = np.random.SeedSequence([self.settings.seed, step, self.fabric.global_rank])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        networks.set_rate(self.optimiser, self._rate(step))
        self.network.train()
        for module in self.frozen:
            module.eval()
        values = self._take_step(step, batches)
        if self._pending.add(step, values):
            self._look_at_losses()
        self.average.update(self.network)

    def _look_at_losses(self) -> None:
        bad = self._pending.take(self.progress.epoch_losses)
        if bad is not None:
            raise self._diverged(f"the loss is {bad[1]} at step {bad[0] + 1}")

    def _rate(self, step: int) -> float:
        return records.rate_at(step, self.settings.schedule, steps=self.plan.steps)

    def _end_epoch(self) -> None:
        self._look_at_losses()
        state, plan = self.progress, self.plan
        epoch = state.step // plan.steps_per_epoch
        rate = self.optimiser.defaults["lr"] * self._rate(state.step - 1)
        record: records.Record = {"epoch": epoch, "lr": rate}
        for name, value in state.epoch_losses.items():
            record[f"train_{name}"] = value / plan.steps_per_epoch
        with self.average.applied(self.network), self._plainly():
            self._check_weights()
            with waiting(f"validation after epoch {epoch}"):
                measures = self._validate()
            if measures is not None:
                record |= {f"val_{name}": value for name, value in measures.losses.items()}
                record |= {"dice": measures.dice, "iou": measures.iou}
            record["seconds"] = state.epoch_seconds
            state.records.append(record)
            state.epoch_losses, state.epoch_seconds = {}, 0.0
            if measures is None or measures.dice > state.best_dice:
                state.best_epoch = epoch
                if measures is not None:
                    state.best_dice, state.best_iou = measures.dice, measures.iou
                self._keep_best(epoch)
            if self.settings.keep_epochs and epoch % self.settings.keep_epochs == 0:
                self._write_weights(self.folder.kept(epoch), epoch)
        state.finished = self._is_over()
        chosen = [x for x in ("train_loss", "val_loss", "dice", "iou", "seconds") if x in record]
        told = ", ".join(f"{name} {record[name]:.4g}" for name in chosen)
        _LOGGER.info("epoch %d of %d: %s", epoch, plan.epochs, told)
        if self.fabric.is_global_zero:
            with waiting("draws losses.png"):
                self.folder.write_records(state.records, self.objective.names)
            finite = {name: value for name, value in record.items() if math.isfinite(value)}
            self.trackers.epoch(epoch, finite)
        self._save()
        self._write_metadata("running")

    def _is_over(self) -> bool:
        state = self.progress
        return records.is_over(self.settings, len(state.records), state.best_epoch)

    def _validate(self) -> Measures | None:
        if self.validation is None or not (count := len(self.validation)):  # type: ignore[arg-type]
            return None
        begun, fabric = time.perf_counter(), self.fabric
        own = range(fabric.global_rank, count, fabric.world_size)
        self.network.eval()
        with fabric.autocast():
            measures = self.objective.measure(
                self.network, self.validation, own, device=fabric.device, add=self._add
            )
        seconds = time.perf_counter() - begun
        self.progress.validation_seconds += seconds
        self.progress.epoch_seconds += seconds
        if not math.isfinite(measures.losses["loss"]):
            raise self._diverged("the validation loss is no number")
        return measures

    def _keep_best(self, epoch: int) -> None:
        self._write_weights(self.folder.best, epoch)
        if self.validation is None or not self.fabric.is_global_zero:
            return
        self.network.eval()
        count = min(self.settings.pictures, len(self.validation))  # type: ignore[arg-type]
        for number in range(count):
            item, path = self.validation[number], self.folder.picture(epoch, number)
            clip = self.objective.segment(self.network, item, self.fabric.device)
            draw_prediction(path, clip, self.trained.normalisation)

    def _write_weights(self, path: Path, epoch: int) -> None:
        """Write the network as it is, with what its epoch was measured at."""
        if not self.fabric.is_global_zero:
            return
        record = self.progress.records[-1]
        scores = {name: record[name] for name in ("dice", "iou") if name in record}
        trained, state = self.trained, self.network.state_dict()
        told = {"epoch": epoch, "seed": self.settings.seed} | scores
        normalisation = trained.normalisation.as_lists()
        extra = {"normalisation": normalisation, "training": told, **trained.extra}
        name, arguments = trained.spec.name, trained.arguments
        save_network(path, state, name=name, arguments=arguments, extra=extra)

    def _save(self) -> None:
        self._look_at_losses()
        self._check_weights()
        if self.fabric.is_global_zero:
            state = {
                "progress": asdict(self.progress),
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            }
            write_state(self.folder.state, state)
        self.fabric.barrier()

    def _write_metadata(self, status: str) -> None:
        if not self.fabric.is_global_zero:
            return
        state = self.progress
        clips = state.step * self.plan.batch
        metadata = {"started": records.now(), **self.folder.read_metadata(), "status": status}
        metadata |= {
            "updated": records.now(),
            "epochs": len(state.records),
            "steps": state.step,
            "clips": clips,
            "best": {"epoch": state.best_epoch, "dice": None, "iou": None},
            "seconds": {
                "training": round(state.training_seconds, 2),
                "validation": round(state.validation_seconds, 2),
            },
            "clips_per_second": round(clips / max(state.training_seconds, 1e-9), 3),
        }
        if state.best_dice > -math.inf:
            metadata["best"] |= {"dice": state.best_dice, "iou": state.best_iou}
        if status == "finished" and isinstance(self.training, TrainingClips):
            metadata["clips_by_source"] = self.training.count(range(clips))
        write_json(self.folder.metadata, metadata)

    def _add(self, values: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return values
        summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")
        return summed.to(values.device)

    def _check_weights(self) -> None:
        for key, value in self.network.state_dict().items():
            if not torch.isfinite(value).all():
                raise self._diverged(f"{key} is no longer finite")

    def _diverged(self, found: str) -> RunError:
        kept = f"; {self.folder.state} holds the last good state" * self.folder.state.is_file()
        return RunError.at(
            self.folder.path, found + kept, remedy="lower optimiser.lr and train into a new folder"
        )
