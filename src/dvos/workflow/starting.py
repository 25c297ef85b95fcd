"""What a run starts from: a network that is given, the starter weights, or ImageNet weights.

What is chosen is kept in the run's folder, so that a run that was stopped goes on from the same.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dvos.config.base import STARTERS, merged, named_weights
from dvos.config.network import NetworkSettings
from dvos.config.prediction import PredictorOptions
from dvos.config.training import chosen_faults, load_training
from dvos.config.workflow import FitSettings, MethodSettings
from dvos.errors import CheckpointError, ConfigError, Fault, FaultCollector, MediaError, UsageError
from dvos.files import write_json
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.frames import open_frames
from dvos.media.mask import mask_ids
from dvos.media.mask_values import IGNORE
from dvos.prediction.predictor import KnowsItsData
from dvos.prediction.scale import FEWEST, whole_areas
from dvos.registry import check_network, network_spec, spec_of
from dvos.runner.manifest import read_record
from dvos.tables import StillRow

_log = logging.getLogger(__name__)

_TRIED = 8  # labelled pictures that the starter weights are tried on, evenly spread
_LARGEST_SIDE = 1024  # pixels a side; of larger ones the middle is looked at
_KNOWN = 0.5  # pooled Dice from which they are taken to know such objects
#: Area, pixels, below which the starter weights see objects better in larger pictures: so much
#: larger, at most, up to this longest side; docs/research/experiments.md has the figures.
_WELL_SEEN, _MOST_LARGER, _LARGEST_LABELLED = 2000.0, 2.0, 4096
#: Of a network that follows what a first mask shows.
_NEEDS_MASKS = (
    "starts from a first mask, which nothing here gives",
    "a network that segments without one, as 'dvos' or 'paper'",
    "see docs/how-to/xmem.md for dvos train and dvos predict",
)
#: Labelled pictures that teach as much as the network started from knows: with n of them it keeps
#: a share of 3 / (3 + n) in the weights; docs/research/experiments.md has the figures.
_WORTH = 3


@dataclass(frozen=True)
class Start:
    """What a fit starts from."""

    #: File of the network, or a name of the starter weights; None for ImageNet's in the encoder.
    weights: str | None
    reason: str  # Why.
    #: Whether the labelled pictures look like those that the network has learnt from.
    alike: bool = True
    larger: float = 1.0  # In how many times their size unlabelled pictures are labelled.

    def __str__(self) -> str:
        return f"{self.weights or 'ImageNet weights in the encoder'}: {self.reason}"

    @property
    def path(self) -> Path | None:
        """The file; a ValueError where the starter weights are not in this installation."""
        return None if self.weights is None else named_weights(Path(self.weights))

    def training(self, labelled: int) -> dict[str, Any]:
        """Settings of ``dvos train`` by which it starts from the network.

        ``labelled`` is the number of pictures that it learns from. A CheckpointError if the network
        cannot be used.
        """
        from dvos.networks.weights import read_network_info

        path = self.path
        if path is None:
            return {}
        info = read_network_info(path)
        network: dict[str, Any] = {"name": info.name, "weights": path.absolute()}
        if info.name == "dvos":
            shape = info.arguments
            network |= {name: shape[name] for name in ("encoder", "references") if name in shape}
            inner = ("channels", "widths", "fused", "fusion")
            network["dvos"] = {name: shape[name] for name in inner if name in shape}
        settings: dict[str, Any] = {"network": network}
        if labelled and self.alike:
            settings["start_share"] = round(_WORTH / (_WORTH + labelled), 3)
        scale = info.extra.get("scale")
        return settings | ({"data": {"scale": scale}} if scale else {})


def _starter() -> Path | None:
    """The starter weights, if this installation has them."""
    with suppress(ValueError):
        return named_weights(Path(STARTERS[0]))
    return None


def check_training(settings: MethodSettings) -> None:
    """Refuse, before anything is done, what ``train`` sets and no training of the run can take.

    A network that starts from masks, such as XMem, could not predict anything without one.
    """
    begun: dict[str, Any] = {}
    if isinstance(settings.start, Path):
        spec = spec_of(settings.start)
        if spec is not None and spec.starts_from_masks:
            raise CheckpointError.at(settings.start, *_NEEDS_MASKS)
        begun = Start(str(settings.start), "").training(1)
    elif settings.start is None and "network" not in settings.train:
        begun = {"network": {"weights": Path(STARTERS[0]).absolute()}}  # it may be chosen
    own = {key: value for key, value in settings.train.items() if key not in ("out", "resume")}
    with FaultCollector(ConfigError) as faults:
        faults.extend(chosen_faults("train", settings.train, "the run"))
        values = merged({**begun, "out": Path("train")}, own)
        training = faults.collect(load_training, values, "train")
        if training is not None:
            faults.extend(_network_faults(training.network))


def _network_faults(settings: NetworkSettings) -> list[Fault]:
    """What keeps a fit from training the network that is set."""
    try:
        check_network(settings)
    except ConfigError as error:
        return [replace(fault, where=f"train.{fault.where}") for fault in error.faults]
    starts_from_masks = network_spec(settings.name).starts_from_masks
    return [Fault("train.network", *_NEEDS_MASKS)] if starts_from_masks else []


def check_start(settings: FitSettings, *, labelled: bool) -> None:
    """Refuse, before anything is made, that nothing is labelled and no network labels it."""
    if labelled or isinstance(settings.start, Path):
        return
    if settings.start == "imagenet" or _starter() is None:
        found = "nothing in it is labelled, and no network is given to start from"
        expected = "labels, or --start CHECKPOINT that labels it"
        remedy = "label two photos (annotated/images, annotated/masks), or give --start"
        raise UsageError.at(settings.folder, found, expected, remedy)
    _log.warning(
        "nothing is labelled and no network is given: the starter weights %s label it, which learnt"
        " from rendered fields alone; two photos labelled by you teach more",
        STARTERS[0],
    )


def choose_start(
    settings: MethodSettings,
    labelled: Sequence[StillRow],
    scale: float,
    kept: Path,
    unlabelled: Sequence[Path] = (),
) -> Start:
    """The network that is given; else what the ``labelled`` pictures say for.

    The starter weights, if they find what is labelled without having seen any of it, the network
    seeing the pictures at a ``scale`` of their own size, or if nothing is. The choice is ``kept``
    in a file, and read from it; with it how large the ``unlabelled`` photos and videos are best
    seen. A MediaError if a picture or a mask cannot be read.
    """
    if isinstance(settings.start, Path):
        return Start(str(settings.start), "it is given, and knows more than its encoder alone")
    if settings.start == "imagenet":
        return Start(None, "as asked for")
    if labelled and "network" in settings.train:
        return Start(None, "the network is set (train.network)")
    start = read_record(kept, Start)
    if start is None:
        weights = _starter()
        if not labelled:
            larger = 1.0 if weights is None else _seen_larger(weights, unlabelled, settings)
            reason = "nothing is labelled, and they find heads without"
            start = Start(STARTERS[0], reason, larger=larger)
        elif weights is None:
            start = Start(None, "this installation has no starter weights")
        else:
            some = labelled[:: -(-len(labelled) // _TRIED)]
            found, alike = _tried(weights, some, scale, settings)
            says = f"{STARTERS[0]} finds the labelled objects with Dice {found:.2f}"
            says += " before any training"
            if found < _KNOWN:
                start = Start(None, f"{says}, too few")
            else:
                says += "" if alike else ", in pictures unlike its own: none of its weights stay"
                start = Start(STARTERS[0], says, alike)
        write_json(kept, asdict(start))
    return start


def _tried(
    weights: Path, rows: Sequence[StillRow], scale: float, settings: MethodSettings
) -> tuple[float, bool]:
    """What a network makes of the middle of labelled pictures, each seen alone.

    Given are pooled Dice of its masks, and whether at least half of the pictures are like what it
    has learnt from, or it does not know.
    """
    from dvos.registry import predictor_of

    predictor = predictor_of(weights, PredictorOptions(device=settings.device, scale=scale))
    both = total = 0
    novelties = []
    for row in rows:
        image = read_image_at(row.image)
        truth = mask_ids(read_mask_at(row.mask, settings.void), where=row.mask)
        part = _middle(truth.shape)
        seen = np.ascontiguousarray(image[part])
        (found,) = predictor.segment([seen])
        novelties.append(predictor.novelty(seen) if isinstance(predictor, KnowsItsData) else None)
        known, true = truth[part] != IGNORE, truth[part] != 0
        both += int(np.count_nonzero(found.mask & true & known))
        total += int(np.count_nonzero(found.mask & known) + np.count_nonzero(true & known))
    told = [novelty for novelty in novelties if novelty is not None]
    return 2 * both / total if total else 0.0, not told or float(np.median(told)) <= 1


def _seen_larger(weights: Path, pictures: Sequence[Path], settings: MethodSettings) -> float:
    """In how many times their size photos and videos are seen best, by the objects found in some.

    Of what cannot be read, which is told of when its turn comes, and where little is found: 1.
    """
    from dvos.registry import predictor_of

    predictor = predictor_of(weights, PredictorOptions(device=settings.device))
    images = []
    for path in pictures[:: -(-len(pictures) // _TRIED) or 1]:
        with suppress(MediaError, StopIteration):
            images.append(next(iter(open_frames(path, settings.intensity))).image)
    parts = (np.ascontiguousarray(image[_middle(image.shape)]) for image in images)
    areas = whole_areas(predictor, parts)
    if len(areas) < FEWEST:
        return 1.0
    longest = float(max(side for image in images for side in image.shape[:2]))
    most = min(_MOST_LARGER, _LARGEST_LABELLED / longest)
    return round(max(1.0, min(most, _WELL_SEEN / float(np.median(areas)))), 2)


def _middle(shape: Sequence[int]) -> tuple[slice, slice]:
    """The part of a picture that is looked at."""
    from dvos.training.clips.validation import middle_box

    box = middle_box((shape[0], shape[1]), _LARGEST_SIDE)
    return np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
