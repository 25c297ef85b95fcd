"""What every predictor offers, whatever its network; importing this module loads no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.frames import Frames
from dvos.media.grouping import ObjectMaps
from dvos.media.overlay import OVERLAY_ALPHA, OVERLAY_COLOUR, outline, overlay
from dvos.media.video import VideoFrame
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.inputs import ClipInput
from dvos.prediction.objects import FrameObjects, find_objects

#: ``auto``, a file or folder, a mask (H, W) of the first frame, or masks by frame index.
FirstMask = str | Path | NDArray[np.generic] | Mapping[int, NDArray[np.generic]]
#: Of probabilities that are kept in 16 bits, the highest level.
_HIGHEST_LEVEL = np.float32(2**16 - 1)
_LEAST_AREA = 30  # smaller objects, in pixels, are not counted, as by default of ``dvos predict``


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """One frame and what was found in it; arrays are (H, W), of the image's size."""

    frame_index: int  # from 0
    time_s: float  # since the first frame; NaN where the frames have no time stamps
    name: str  # of the frame, the stem of its mask's file
    image: NDArray[np.uint8]  # RGB (H, W, 3), as read
    probability: NDArray[np.float32]  # of object, in 0..1
    mask: NDArray[np.bool_]  # ``probability >= threshold``
    #: Ids of the mask's objects, the same in all frames, 0 background; None where not told apart.
    instances: NDArray[np.uint16] | None = None
    maps: ObjectMaps | None = None  # where the network says that objects are, to tell them apart
    #: Standard deviation of the probability over views; only of :meth:`Predictor.segment_views`.
    std: NDArray[np.float32] | None = None
    followed: FrameObjects | None = None  # the objects; of :func:`dvos.prediction.tracks.followed`
    calibration: CountCalibration | None = None  # what training learnt about objects
    threshold: float = 0.5  # of ``mask``

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        covered = f"{100 * self.mask.mean():.1f} % covered"
        return f"FramePrediction({self.name!r}, {width} x {height} pixels, {covered})"

    @cached_property
    def objects(self) -> FrameObjects:
        """The objects of the mask, told apart and measured, as ``dvos predict`` counts them."""
        return self.followed or self.measured(self.calibration or CountCalibration(), _LEAST_AREA)

    def measured(self, known: CountCalibration, minimum_area: int) -> FrameObjects:
        """The objects by what is ``known`` of them, those of so few pixels left out."""
        return find_objects(
            self.mask,
            self.probability,
            known,
            minimum_area=minimum_area,
            ids=self.instances,
            maps=self.maps,
            threshold=self.threshold,
        )

    @property
    def count(self) -> int:
        """Number of objects."""
        return self.objects.count

    def picture(
        self,
        *,
        colour: tuple[int, int, int] = OVERLAY_COLOUR,
        alpha: float = OVERLAY_ALPHA,
        contours: bool = True,
    ) -> NDArray[np.uint8]:
        """The image with the mask drawn over it, uint8 RGB (H, W, 3).

        ``alpha`` is the opacity of the tint, 0..1; with ``contours`` borders are drawn, too.
        """
        tinted = overlay(self.image, self.mask, colour=colour, alpha=alpha)
        return outline(tinted, self.mask, colour=colour) if contours else tinted

    def _repr_png_(self) -> bytes:
        """What a notebook shows: :meth:`picture` as a PNG."""
        _, encoded = cv2.imencode(".png", cv2.cvtColor(self.picture(), cv2.COLOR_RGB2BGR))
        return bytes(encoded)


class LevelPrediction(FramePrediction):
    """A prediction that came from a device in 16 bits a pixel: half of what float32 takes.

    What is asked for is made then, of many frames on the way by a thread that writes one of them.
    """

    _levels: NDArray[np.uint16]
    _told: NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        frame: VideoFrame,
        levels: NDArray[np.uint16],
        threshold: float,
        told: NDArray[np.float32] | None = None,
        calibration: CountCalibration | None = None,
    ) -> Self:
        """The prediction of a frame: probability (H, W) times 65,535 and output ``objects``."""
        made = object.__new__(cls)
        own = {"_levels": levels, "threshold": threshold, "_told": told}
        # What is not named here keeps the default of its field.
        vars(made).update(vars(frame) | own, calibration=calibration)
        return made

    @cached_property
    def maps(self) -> ObjectMaps | None:
        """As of every prediction, as the next two."""
        return None if self._told is None else ObjectMaps.of(self._told)

    @cached_property
    def probability(self) -> NDArray[np.float32]:
        """Of object."""
        return np.asarray(self._levels / _HIGHEST_LEVEL, np.float32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """``probability >= threshold``."""
        # The lowest level whose probability, rounded to float32 as above, reaches it.
        every = np.arange(2**16, dtype=np.uint16) / _HIGHEST_LEVEL
        return self._levels >= int(np.searchsorted(every, np.float32(self.threshold)))


@dataclass(frozen=True)
class Views:
    """Views of test-time augmentation: a frame at each size, in each mirror image."""

    scales: tuple[float, ...] = (1.0,)  # factors beside the predictor's own ``scale``
    flips: Literal["none", "horizontal", "all"] = "none"  # horizontal: left and right exchanged

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError("there must be a scale, and each above 0")


def thinned(frames: Iterator[VideoFrame], every: int) -> Iterator[VideoFrame]:
    """Frames 0, ``every``, 2 ``every``, ... of a clip."""
    return (frame for frame in frames if frame.frame_index % every == 0)


class Predictor(Protocol):
    """Segments videos of any length in constant memory."""

    context: int  # how many frames before a frame its network looks back at
    calibration: CountCalibration  # in pixels of the frames as they are given
    intensity: str  # of images' samples of more than 8 bit; see :mod:`dvos.media.intensity`
    tells_apart: bool  # whether it does so well enough for objects to be followed unasked

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame, in order; all must be of one size.

        From the frame ``start`` on, what was given in a run from the beginning is given again.
        A MediaError if frames cannot be read or change their size, a RunError if memory runs out.
        """

    def segment_views(
        self, video_or_frames: Frames, views: Views, *, start: int = 0
    ) -> Iterator[FramePrediction]:
        """As :meth:`segment`, in several views: ``probability`` is their mean, ``std`` is told.

        Views are compared at the frame's own size, in place of the options' own augmentation.
        Raises a UsageError if the network has no such views.
        """


@runtime_checkable
class KnowsItsData(Protocol):
    """What a predictor has besides that can tell how unlike its training data a picture is."""

    def novelty(self, image: NDArray[np.uint8]) -> float | None:
        """Distance of an RGB picture from the training data, unlike them above 1; None: unknown."""

    def at_scale(self, scale: float) -> Predictor:
        """The same predictor for frames that are resized by ``scale``, too."""


@runtime_checkable
class StartsFromMasks(Protocol):
    """What a predictor has besides that follows the objects of each clip's first mask."""

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The mask files that this clip is started from."""

    def of_clip(self, clip: ClipInput, *, alone: bool) -> Predictor:
        """The predictor of one clip, alone or of several, whose masks are found and looked at."""
