"""Features of VGG16, in which a reconstruction and its query are compared.

The feature reconstruction loss of Johnson, Alahi and Fei-Fei (ECCV 2016, arXiv
1603.08155, section 3.2) with their layer relu3_3 of VGG16 (Simonyan and
Zisserman, 2015, arXiv 1409.1556). The weights are not part of this package:
give the file that torchvision publishes (``vgg16-397923af.pth``), or any PyTorch
state dict of the same keys.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError

__all__ = ["PerceptualFeatures", "load_perceptual_features"]

#: Convolutions up to relu3_3: number in torchvision's ``features``, channels in and out.
_CONVOLUTIONS = (
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
)
#: Convolutions that a 2 x 2 maximum comes before.
_AFTER_POOLING = (5, 10)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_EXPECTED = "a PyTorch state dict of VGG16, as vgg16-397923af.pth of torchvision"
_REMEDY = "give such a file, or set losses.perceptual to 0"


class PerceptualFeatures(nn.Module):
    """VGG16 up to relu3_3, never trained."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                str(number): nn.Conv2d(inputs, outputs, 3, padding=1)
                for number, inputs, outputs in _CONVOLUTIONS
            }
        )
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), False)
        self.requires_grad_(False)

    def forward(self, colours: Tensor) -> Tensor:
        """Map RGB 0..1 (B, 3, H, W), sides of 4 pixels and more, to (B, 256, H / 4, W / 4)."""
        x = (colours - self.mean) / self.std
        for number, _, _ in _CONVOLUTIONS:
            if number in _AFTER_POOLING:
                x = F.max_pool2d(x, 2)
            x = F.relu(self.features[str(number)](x))
        return x


def load_perceptual_features(path: Path) -> PerceptualFeatures:
    """Read VGG16 weights; what the file holds beyond relu3_3 is left aside.

    Args:
        path: A state dict of the whole network (``features.0.weight``) or of
            its features alone (``0.weight``).

    Raises:
        CheckpointError: If the file is missing, damaged or of another network.
    """
    if not path.is_file():
        raise CheckpointError.at(path, "no such file", _EXPECTED, _REMEDY)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise CheckpointError.at(
            path, "cannot be read as PyTorch weights", _EXPECTED, _REMEDY
        ) from error
    network = PerceptualFeatures()
    state = network.state_dict()
    if not isinstance(stored, dict):
        raise CheckpointError.at(path, f"holds a {type(stored).__name__}", _EXPECTED, _REMEDY)
    found = {key: stored.get(key, stored.get(key.removeprefix("features."))) for key in state}
    for key, value in state.items():
        tensor = found[key]
        if not isinstance(tensor, Tensor) or tensor.shape != value.shape:
            raise CheckpointError.at(path, f"has no {key} of VGG16", _EXPECTED, _REMEDY)
    network.load_state_dict(found)
    return network
