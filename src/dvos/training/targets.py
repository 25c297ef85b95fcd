"""What a network learns from a clip: the last frame's mask, or all objects of all frames."""

from __future__ import annotations

from dvos.config.training import TrainingSettings
from dvos.training.xmem.datasets import IGNORED

__all__ = ["IGNORED_CLASS", "QueryTarget", "Target", "TrackTarget"]

#: Class of pixels that do not count, as :func:`torch.nn.functional.cross_entropy` has it.
IGNORED_CLASS = IGNORED


class QueryTarget:
    """The mask of a clip's last frame, the query.

    Items have frames float32 (T, 3, H, W), target float32 (1, H, W), 0 or 1, and weight float32
    (1, H, W), 0 where the label is unknown, else the weight of the clip's source.

    Args:
        settings: Of the run.
        references: Frames before the query; ``network.references`` by default.
    """

    def __init__(self, settings: TrainingSettings, *, references: int | None = None) -> None:
        self.settings = settings
        self.references = settings.network.references if references is None else references


class TrackTarget:
    """The objects of all frames of a clip, those of the first being given.

    Items have frames float32 (T, 3, H, W); target int64 (T, H, W), 0 background, i the i-th
    object, :data:`IGNORED_CLASS` unknown; of training clips also count int64 (), objects there
    are, at least 1, and memory int64 (T, R), frames remembered when frame t is segmented.

    Args:
        settings: Of the run.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings


Target = QueryTarget | TrackTarget
