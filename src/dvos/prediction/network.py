"""A network out of its file: where it runs, how precisely, and how frames are shown to it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvos.config.base import checked_intensity
from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError, RunError, UsageError
from dvos.networks.devices import best_device, is_out_of_memory
from dvos.networks.spec import NetworkSpec, Normalisation, normalised
from dvos.networks.weights import load_network
from dvos.training.calibration import CENTRES, better_way

T = TypeVar("T", bound=PredictorOptions)

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network that is ready to predict, and what its file says, at least of normalisation."""

    path: Path
    network: Any  # in evaluation mode on ``device``, or what takes a module's place
    extra: Mapping[str, Any]  # JSON values of the file
    device: torch.device
    #: What its encoder sees in normalised frames (N, 3, H, W), as (N, C, h, w).
    features: Callable[[Tensor], Tensor] | None = None
    _normalisation: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        stored: Any = self.extra.get("normalisation")
        try:
            mean, std = [float(x) for x in stored["mean"]], [float(x) for x in stored["std"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            found = "does not say how frames are normalised"
            expected = "normalisation with mean and std in its metadata"
            remedy = "give the best.safetensors of a training run"
            raise CheckpointError.at(self.path, found, expected, remedy) from error
        finite = np.isfinite([*mean, *std]).all()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not finite:
            found = f"has the normalisation {stored}"
            raise CheckpointError.at(self.path, found, "three means and three positive stds")
        tensors = Normalisation(tuple(mean), tuple(std)).tensors(self.device)
        object.__setattr__(self, "_normalisation", tensors)

    @classmethod
    def read(cls, checkpoint: Path, device: str, spec: NetworkSpec) -> Self:
        """Read a network, of our own or of a published training."""
        place = choose_device(device)
        network, info = load_network(checkpoint, spec.network, device=place)
        extra = info.extra
        if spec.starts_from_masks and not extra.get("normalisation"):
            extra = {**extra, "normalisation": spec.normalisation.as_lists()}
        return cls(checkpoint, network, extra, place)

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels (..., H, W, 3) as the network was trained on, float32 (..., 3, H, W)."""
        return self.normalise(torch.from_numpy(pixels).to(self.device).movedim(-1, -3))

    def normalise(self, planes: Tensor) -> Tensor:
        """Colours 0..255 (..., 3, H, W) on the device as the network was trained on, float32."""
        return normalised(planes, *self._normalisation)

    def intensity(self, options: PredictorOptions) -> str:
        """What becomes of samples of more than 8 bit: as asked for, else as in training."""
        stored = self.extra.get("intensity")
        if options.intensity == "auto" and stored is not None:
            with suppress(ValueError, TypeError, AttributeError):
                return checked_intensity(stored)
        return options.intensity

    def at_own_scale(self, options: T) -> T:
        """The options with the scale that frames are resized by: ``scale`` times training's."""
        stored = self.extra.get("scale", 1.0)
        if isinstance(stored, bool) or not isinstance(stored, (int, float)) or not 0 < stored <= 8:
            raise CheckpointError.at(self.path, f"has the scale {stored!r}", "a number up to 8")
        return options.model_copy(update={"scale": options.scale * stored})

    def mixed_precision(self, options: PredictorOptions) -> torch.dtype | None:
        """Type that the network computes in where it may be less precise; None = float32."""
        if options.precision == "auto":
            return torch.bfloat16 if self.device.type == "cuda" else None
        return _PRECISIONS[options.precision]

    @property
    def tells_apart(self) -> bool:
        """Whether the network's objects are told apart better by what it says of them."""
        quality = self.extra.get("apart")
        return isinstance(quality, Mapping) and better_way(quality) == CENTRES

    @contextmanager
    def out_of_memory(self, where: str, remedy: str) -> Iterator[None]:
        """Turn what is raised where memory runs out into a :class:`RunError` with a remedy."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError.at(where, f"memory ran out on {self.device}", remedy=remedy) from error


def choose_device(device: str) -> torch.device:
    """The torch device of a name, or a UsageError; ``auto`` is the best one of this machine."""
    if device == "auto":
        return best_device()
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)  # asking for a number is what shows whether the device works
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = f"{device!r} is not available on this machine"
        expected = "auto, cpu, cuda, cuda:N or mps"
        raise UsageError.at("device", found, expected, "leave it at auto") from error
    return place
