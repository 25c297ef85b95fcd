"""What a prediction looks like, in a notebook and as an array."""

from __future__ import annotations

import cv2
import numpy as np

from dvos.media.overlay import OVERLAY_COLOUR
from dvos.prediction.predictor import FramePrediction


def _prediction() -> FramePrediction:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    probability = np.zeros((20, 30), np.float32)
    probability[5:15, 8:20] = 0.9
    return FramePrediction(0, 0.0, "f", image, probability, probability >= 0.5)


def test_the_picture_leaves_the_background_alone() -> None:
    found = _prediction()
    before = found.image.copy()
    picture = found.picture()
    assert (picture.dtype, picture.shape) == (np.uint8, (20, 30, 3))
    np.testing.assert_array_equal(picture[~found.mask], before[~found.mask])
    np.testing.assert_array_equal(found.image, before)
    assert (picture[5, 8:20] == OVERLAY_COLOUR).all()  # the border of the object
    assert (picture[found.mask] != before[found.mask]).any()


def test_colour_opacity_and_contours_can_be_chosen() -> None:
    found = _prediction()
    full = found.picture(colour=(1, 2, 3), alpha=1.0, contours=False)
    assert (full[found.mask] == (1, 2, 3)).all()
    none = found.picture(alpha=0.0, contours=False)
    np.testing.assert_array_equal(none, found.image)


def test_a_notebook_is_given_a_png_of_it() -> None:
    found = _prediction()
    data = np.frombuffer(found._repr_png_(), np.uint8)
    decoded = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decoded, found.picture())


def test_an_empty_mask_is_the_image_itself() -> None:
    found = _prediction()
    nothing = FramePrediction(
        0, 0.0, "f", found.image, found.probability * 0, np.zeros_like(found.mask)
    )
    np.testing.assert_array_equal(nothing.picture(), found.image)
