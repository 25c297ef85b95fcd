"""One suite for all predictors: the compact network, and XMem."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("predictor_contract")

from predictor_contract import SIZE, PredictorContract  # noqa: E402
from xmem_clips import ColourXMem, squares, xmem_predictor  # noqa: E402

from dvos.api import load_predictor  # noqa: E402
from dvos.prediction.predictor import Predictor  # noqa: E402


class TestDvos(PredictorContract):
    @pytest.fixture
    def predictor(self, checkpoint: Path) -> Predictor:
        return load_predictor(checkpoint, "cpu")


class TestDvosInBatches(PredictorContract):
    @pytest.fixture
    def predictor(self, checkpoint: Path) -> Predictor:
        return load_predictor(checkpoint, "cpu", batch=3, reference_interval=2)


class TestXMemOfOneObject(PredictorContract):
    @pytest.fixture
    def predictor(self) -> Predictor:
        return xmem_predictor(ColourXMem(), squares(SIZE))


class TestXMemOfSeveralObjects(PredictorContract):
    @pytest.fixture
    def predictor(self) -> Predictor:
        masks = {0: squares(SIZE, 2), 3: squares(SIZE, 3)}
        return xmem_predictor(ColourXMem(), masks, frames="new", objects_at_once=2)
