"""``dvos suggest``: which frames to label next.

One after the other is taken that is farthest from all labelled and taken ones, by what an encoder
sees (Gonzalez 1985; Sener and Savarese, ICLR 2018, arXiv 1708.00489), its distance weighted by how
uncertain a checkpoint is of it. Importing this module loads no torch.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.labelling import SuggestSettings
from dvos.errors import UsageError
from dvos.files import check_given, refuse_foreign
from dvos.labelling.documents import Frame, open_document
from dvos.labelling.features import FeatureExtractor, Singles
from dvos.media.image import resized
from dvos.prediction.features import FeatureReader
from dvos.runner.display import progress
from dvos.tables import write_rows

Doubles = NDArray[np.float64]

COLUMNS = ("rank", "clip", "frame", "distance", "uncertainty")
_SIDE = 320  # longer side that a frame is looked at, pixels
#: Weight of a frame's distance where it is the least uncertain of all; of the most, 1.
_CERTAIN = 0.5
_LEAST_STD = 1e-6
_SURE = 1e-7  # a probability nearer to 0 or 1 has no entropy to speak of


@dataclass(frozen=True)
class Suggestion:
    """A frame worth labelling."""

    clip: str  # empty for a photo
    frame: str
    #: From the nearest frame that is labelled or comes before it, in standard deviations of a
    #: feature; 0 of the first where nothing is labelled.
    distance: float
    uncertainty: float | None  # mean entropy of the probability, bits a pixel, if there is one


@dataclass(frozen=True)
class SuggestResult:
    """The frames to label next, the first one first."""

    suggestions: tuple[Suggestion, ...]
    looked_at: int  # frames that were read
    labelled: int  # of them, those that have a label
    table: Path  # the file they are listed in

    def __str__(self) -> str:
        by = "distance" if self.suggestions[0].uncertainty is None else "distance and uncertainty"
        lines = [f"{self.looked_at} frames looked at, {self.labelled} of them labelled; by {by}:"]
        for rank, one in enumerate(self.suggestions, start=1):
            lines.append(f"{rank:4d}  {' '.join(filter(None, (one.clip, one.frame)))}")
        return "\n".join([*lines, f"written to {self.table}"])


def suggest(settings: SuggestSettings) -> SuggestResult:
    """List the frames to label next; a UsageError if there are none."""
    check_given([("INPUT", settings.input)], [("--checkpoint", settings.checkpoint)])
    out = settings.out
    own = out.is_file() and out.read_bytes().startswith(",".join(COLUMNS).encode())
    if out.exists() and not own:
        refuse_foreign([out], "dvos suggest")
    document = open_document(settings.input, None, settings.intensity)
    frames = document.frames[:: settings.every]
    given = document.root == document.path  # a prediction that nobody corrected is no label
    labelled = np.array([(x.label or x.mask).is_file() or bool(given and x.given) for x in frames])
    if labelled.all():
        found, remedy = f"all {len(frames)} frames are labelled", "add photos or videos"
        raise UsageError.at(settings.input, found, "frames without labels", remedy)
    extractor = FeatureExtractor.open(settings.checkpoint, settings.device)
    looks = _look(frames, extractor)
    looked = list(progress(looks, description="look", total=len(frames), unit="frame"))
    unsure = None if settings.checkpoint is None else np.array([one for _, one in looked])
    chosen = farthest(np.stack([one for one, _ in looked]), labelled, unsure, settings.count)
    suggestions = []
    for frame, (index, distance) in ((frames[one[0]], one) for one in chosen):
        uncertainty = None if unsure is None else round(float(unsure[index]), 5)
        suggestions.append(Suggestion(frame.clip, frame.name, round(distance, 4), uncertainty))
    write_rows(out, COLUMNS, ((rank, *astuple(one)) for rank, one in enumerate(suggestions, 1)))
    return SuggestResult(tuple(suggestions), len(frames), int(labelled.sum()), out)


def farthest(
    features: Singles, labelled: NDArray[np.bool_], uncertainty: Doubles | None, count: int
) -> list[tuple[int, float]]:
    """Choose frames far from those that are labelled, and from each other: index and distance.

    Features are (N, D), uncertainty is of any scale. Where none is labelled, the first is the most
    uncertain one, or the one nearest to the mean. Of equals the earlier frame is taken.
    """
    spread = features.std(0) + np.float32(_LEAST_STD)
    points = (features - features.mean(0)) / spread

    def away(place: Singles) -> Doubles:
        return np.sqrt(np.mean(np.square(points - place), 1, dtype=np.float64))

    weight = np.ones(len(points))
    if uncertainty is not None and len(points) > 1:
        order = np.searchsorted(np.sort(uncertainty), uncertainty) / (len(points) - 1)
        weight = _CERTAIN + (1 - _CERTAIN) * order
    chosen: list[tuple[int, float]] = []
    distance = np.full(len(points), np.inf)
    for index in np.flatnonzero(labelled).tolist():
        distance = np.minimum(distance, away(points[index]))
    taken = labelled.copy()
    while len(chosen) < count and not taken.all():
        score = distance * weight
        if np.isinf(distance).all():
            score = -away(np.zeros_like(points[0])) if uncertainty is None else uncertainty
        index = int(np.where(taken, -np.inf, score).argmax())
        chosen.append((index, float(distance[index]) if np.isfinite(distance[index]) else 0.0))
        distance = np.minimum(distance, away(points[index]))
        taken[index] = True
    return chosen


def _look(frames: Sequence[Frame], extractor: FeatureExtractor) -> Iterator[tuple[Singles, float]]:
    """What each frame looks like, float32 (D,), and how uncertain it is, bits a pixel."""
    for _, clip in itertools.groupby(frames, lambda frame: frame.clip or frame.name):
        pictures = (frame.picture.read() for frame in clip)
        if extractor.predictor is None:
            yield from ((_pooled(image, extractor.reader), 0.0) for image in pictures)
        else:
            for told in extractor.predictor.segment(pictures):
                sure = np.clip(told.probability.astype(np.float64), _SURE, 1 - _SURE)
                entropy = -(sure * np.log2(sure) + (1 - sure) * np.log2(1 - sure)).mean()
                yield _pooled(told.image, extractor.reader), float(entropy)


def _pooled(image: NDArray[np.uint8], reader: FeatureReader) -> Singles:
    """Mean and deviation over a frame of each channel that an encoder sees, float32 (2 * C,)."""
    small = resized(image, min(1.0, _SIDE / max(image.shape[:2])))
    pieces = [piece.values for piece in reader.pieces(small)]
    seen = np.concatenate([values.reshape(len(values), -1) for values in pieces], 1)
    return np.concatenate([seen.mean(1), seen.std(1)])
