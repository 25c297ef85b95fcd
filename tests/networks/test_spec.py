from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dvos.networks.spec import Normalisation, normalised
from dvos.prediction.network import LoadedNetwork
from dvos.training.datasets import images_of, planes_of


def test_training_and_prediction_show_a_network_the_very_same_numbers():
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    frames = np.random.default_rng(5).integers(0, 256, (2, 6, 9, 3), np.uint8)
    extra = {"normalisation": normalisation.as_lists()}
    loaded = LoadedNetwork(Path("a"), nn.Identity(), extra, torch.device("cpu"))
    shown = normalised(planes_of(frames), *normalisation.tensors())
    assert torch.equal(shown, loaded.normalised(frames))
    value = (frames[1, 4, 7] / 255 - normalisation.mean) / normalisation.std
    np.testing.assert_allclose(shown[1, :, 4, 7], value, rtol=1e-5, atol=1e-6)
    assert np.array_equal(images_of(shown, normalisation), frames)
