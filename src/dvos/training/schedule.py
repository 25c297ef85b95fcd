"""How a run is divided into epochs, steps and clips, and its learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dvos.config.training import ScheduleSettings, TrainingSettings


@dataclass(frozen=True)
class TrainingPlan:
    """Which clips each step uses.

    Step s uses clips s * batch to (s + 1) * batch - 1 of the run, whatever the number of devices,
    parts and processes, so that neither changes what is learnt and a run can go on at any step.
    """

    epochs: int  # Epochs of the run.
    clips_per_epoch: int  # Clips of an epoch; rounded up to whole batches.
    batch: int  # Clips of a step, over all devices and parts.
    accumulate: int = 1  # Parts of a batch that run one after another.

    @classmethod
    def of(cls, settings: TrainingSettings) -> TrainingPlan:
        """The plan of a run's settings."""
        return cls(settings.epochs, settings.clips_per_epoch, settings.batch, settings.accumulate)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.clips_per_epoch / self.batch)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def clips(self) -> int:
        """Clips of the run."""
        return self.steps * self.batch

    def parts(self, first_step: int, *, rank: int = 0, devices: int = 1) -> Iterator[list[int]]:
        """Clips of one device, part after part, from a step on to the end of the run."""
        share = self.batch // (self.accumulate * devices)
        for step in range(first_step, self.steps):
            for part in range(self.accumulate):
                first = step * self.batch + (part * devices + rank) * share
                yield list(range(first, first + share))


def rate_at(step: int, settings: ScheduleSettings, *, steps: int) -> float:
    """Factor of the learning rate at a step, from 0, of so many.

    A linear rise over the first ``warm_up`` of the steps; then half a cosine down to ``final``
    (Loshchilov and Hutter, 2017, arXiv 1608.03983), or steps: 1, multiplied by ``drop`` at each
    share of the run in ``drops``.
    """
    rise = round(settings.warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    if settings.shape == "steps":
        return float(settings.drop ** sum(step >= round(x * steps) for x in settings.drops))
    position = (step - rise) / max(steps - rise - 1, 1)
    falls = 0.5 * (1 + math.cos(math.pi * min(position, 1.0)))
    return settings.final + (1 - settings.final) * falls
