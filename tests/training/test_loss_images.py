"""Losses of the reconstruction: figures by hand, gradients, limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from dvos.config.training import LossSettings
from dvos.errors import CheckpointError
from dvos.networks.spec import Normalisation
from dvos.training.losses import (
    PerceptualFeatures,
    load_perceptual_features,
    ms_ssim,
    scales_of,
)
from dvos.training.objective import ClipLoss, build_loss

IMAGE = ("mse", "mae", "ms_ssim", "gradient_difference")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def _loss(name: str, **more) -> ClipLoss:
    weights = dict.fromkeys(IMAGE, 0.0) | {"reconstruction": 1.0, name: 1.0} | more
    return build_loss(LossSettings(**weights), Normalisation(MEAN, STD))


def _value(loss: ClipLoss, name: str, made: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    logits = torch.zeros(len(made), 1, *made.shape[-2:])
    return loss(loss.sums(logits, logits, torch.ones_like(logits), made, query)).parts[name]


def _textured(size: int, seed: int = 0) -> torch.Tensor:
    """Smooth noise, (2, 3, size, size), 0..1."""
    noise = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # made - query is 1, 2, 0, -3 in each channel.
        ("mse", (1 + 4 + 0 + 9) / 4),
        ("mae", (1 + 2 + 0 + 3) / 4),
        # Query steps: down 2 and 4, across 1 and 3; made: down 1 and 1, across 2 and 0.
        ("gradient_difference", (1 + 3 + 1 + 3) / 4),
    ],
)
def test_values_by_hand(name, expected):
    query = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    made = query + torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    made, query = (x.expand(2, 3, 2, 2) for x in (made, query))
    assert _value(_loss(name), name, made, query).item() == pytest.approx(expected)


def test_similarity_of_flat_images_is_luminance_alone():
    one, other = torch.full((1, 1, 176, 176), 0.2), torch.full((1, 1, 176, 176), 0.6)
    luminance = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    # At the coarsest of five scales, whose weight is 0.1333.
    assert ms_ssim(one, other).item() == pytest.approx(luminance**0.1333, rel=1e-5)
    small = ms_ssim(one[..., :11, :11], other[..., :11, :11])
    # One scale has the weight of all five.
    assert small.item() == pytest.approx(luminance**1.0001, rel=1e-5)


def test_similarity_at_one_scale_by_hand():
    one, other = _textured(11, 1)[:1, :1].double(), _textured(11, 2)[:1, :1].double()
    places = torch.arange(11).double() - 5
    window = torch.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    m1, m2 = (window * one).sum(), (window * other).sum()
    v1, v2 = (window * (one - m1) ** 2).sum(), (window * (other - m2) ** 2).sum()
    covariance = (window * (one - m1) * (other - m2)).sum()
    luminance = (2 * m1 * m2 + 1e-4) / (m1**2 + m2**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (v1 + v2 + 9e-4)
    expected = (luminance * structure).clamp_min(1e-4) ** 1.0001
    assert ms_ssim(one.float(), other.float()).item() == pytest.approx(expected.item(), rel=1e-4)


def test_as_many_scales_as_the_window_fits_into():
    sizes = {8: 1, 11: 1, 21: 1, 22: 2, 44: 3, 88: 4, 175: 4, 176: 5, 1024: 5}
    assert {side: scales_of(side, 2 * side) for side in sizes} == sizes


@pytest.mark.parametrize("size", [7, 11, 40, 64, 176])
def test_similarity_falls_with_noise_and_is_one_for_equal_images(size):
    query = _textured(size)
    noise = torch.randn(query.shape, generator=torch.Generator().manual_seed(1))
    values = [ms_ssim(query + share * noise, query) for share in (0.0, 0.02, 0.1, 0.4)]
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    for better, worse in pairwise(values):
        assert (better > worse).all()


def test_similarity_is_of_colours_not_of_normalised_values():
    colours = _textured(32)
    other = _textured(32, 5)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    value = _value(_loss("ms_ssim"), "ms_ssim", (other - mean) / std, (colours - mean) / std)
    assert value.item() == pytest.approx(1 - ms_ssim(other, colours).mean().item(), abs=1e-5)


@pytest.mark.parametrize("name", IMAGE)
def test_each_loss_falls_along_its_gradient_to_nought(name):
    loss = _loss(name)
    query = _textured(32) * 4 - 2
    made = (query + _textured(32, 3) - 0.5).requires_grad_()
    begun = _value(loss, name, made, query)
    begun.backward()
    # The signs of a pixel's four steps may cancel out in gradient differences.
    assert (made.grad != 0).float().mean() > (0.5 if name == "gradient_difference" else 0.95)
    step = 0.01 * made.grad / made.grad.abs().max()
    assert _value(loss, name, made.detach() - step, query) < begun
    equal = query.clone().requires_grad_()
    ended = _value(loss, name, equal, query)
    ended.backward()
    assert ended.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(equal.grad).all()


def test_a_first_reconstruction_that_resembles_nothing_still_learns():
    query = _textured(64)
    made = torch.randn(query.shape, generator=torch.Generator().manual_seed(9)).requires_grad_()
    (1 - ms_ssim(made, query)).sum().backward()
    assert torch.isfinite(made.grad).all()
    assert made.grad.abs().max() > 0


def test_pixels_of_unknown_label_count_in_the_reconstruction():
    loss = _loss("mse")
    query = torch.zeros(1, 3, 8, 8)
    logits = torch.zeros(1, 1, 8, 8)
    unknown = loss(loss.sums(logits, logits, torch.zeros_like(logits), query + 2, query))
    assert unknown.parts["mse"].item() == pytest.approx(4)


def _vgg_file(path, *, prefix: str = "features.", scale: float = 0.1):
    """Weights of VGG16's shapes, drawn at random: a stand-in for the trained ones."""
    torch.manual_seed(0)
    state = {
        prefix + key.removeprefix("features."): torch.randn_like(value) * scale
        for key, value in PerceptualFeatures().state_dict().items()
    }
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return state


@pytest.mark.parametrize("prefix", ["features.", ""])
def test_perceptual_loss_from_a_file(tmp_path, prefix):
    path = tmp_path / "vgg16.pth"
    state = _vgg_file(path, prefix=prefix)
    loss = _loss("perceptual", perceptual_weights=path)
    query = _textured(16)
    made = (query + 0.2 * _textured(16, 4)).requires_grad_()
    value = _value(loss, "perceptual", made, query)
    value.backward()
    assert (made.grad != 0).all()
    assert _value(loss, "perceptual", query, query).item() == 0
    # The layers of torchvision's VGG16 up to relu3_3, one after another.
    layers = []
    for number in range(16):
        key = f"{prefix}{number}.weight"
        if key in state:
            convolution = torch.nn.Conv2d(*state[key].shape[1::-1], 3, padding=1)
            convolution.weight.data = state[key]
            convolution.bias.data = state[f"{prefix}{number}.bias"]
            layers.append(convolution)
        else:
            layers.append(torch.nn.MaxPool2d(2) if number in (4, 9) else torch.nn.ReLU())
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    imagenet = [torch.tensor(x).view(1, 3, 1, 1) for x in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]  # fmt: skip
    maps = [
        torch.nn.Sequential(*layers)((x * std + mean - imagenet[0]) / imagenet[1])
        for x in (made.detach(), query)
    ]
    assert maps[0].shape == (2, 256, 4, 4)
    assert value.item() == pytest.approx(((maps[0] - maps[1]) ** 2).mean().item(), rel=1e-4)


def test_the_trained_network_behind_the_perceptual_loss_is_never_trained(tmp_path):
    _vgg_file(tmp_path / "vgg16.pth")
    features = load_perceptual_features(tmp_path / "vgg16.pth")
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_perceptual_weights_that_are_missing_damaged_or_of_another_network(tmp_path):
    path = tmp_path / "vgg16.pth"
    with pytest.raises(CheckpointError, match=r"no such file.*vgg16-397923af.*losses.perceptual"):
        load_perceptual_features(path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_perceptual_features(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_perceptual_features(path)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"has no features\.0\.weight of VGG16"):
        load_perceptual_features(path)
