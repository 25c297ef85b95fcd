"""Losses of the mask, and what is minimised: figures by hand, gradients, limits."""

from __future__ import annotations

import math

import pytest
import torch

from dvos.config.training import LossSettings
from dvos.networks.spec import Normalisation
from dvos.training.losses import over_devices, tensor_loss
from dvos.training.objective import ClipLoss, build_loss

MASK = ("bce", "dice", "iou", "tversky", "focal", "focal_tversky")
IMAGE = ("mse", "mae", "ms_ssim", "gradient_difference")
COLUMNS = dict(zip((*MASK, *IMAGE), (*MASK, *IMAGE), strict=True)) | {
    "dice": "soft_dice",
    "iou": "soft_iou",
}
NORMALISATION = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def _loss(**weights) -> ClipLoss:
    """A loss of these weights alone."""
    none = dict.fromkeys((*MASK, *IMAGE), 0.0) | {"reconstruction": 0.0}
    if any(name in weights for name in IMAGE):
        none["reconstruction"] = 1.0
    return build_loss(LossSettings(**(none | weights)), NORMALISATION)


def _batch(seed: int = 0, size: int = 8):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, size, size, generator=generator)
    target = (torch.rand(2, 1, size, size, generator=generator) > 0.6).float()
    weight = (torch.rand(2, 1, size, size, generator=generator) > 0.2).float()
    return logits, target, weight


# Probabilities 1/2 and 3/4 on a background and an object pixel: overlap 3/4,
# predicted 5/4, target 1; so false 1/2 and missed 1/4.
_LOGITS = torch.tensor([[[[0.0, math.log(3)]]]])
_TARGET = torch.tensor([[[[0.0, 1.0]]]])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"bce": 1}, (math.log(2) + math.log(4 / 3)) / 2),
        ({"dice": 1}, 1 - (2 * 0.75 + 1) / (1.25 + 1 + 1)),
        ({"iou": 1}, 1 - (0.75 + 1) / (1.5 + 1)),
        (
            {"tversky": 1, "tversky_alpha": 0.2, "tversky_beta": 0.6},
            1 - 1.75 / (0.75 + 0.2 * 0.5 + 0.6 * 0.25 + 1),
        ),
        (
            {"focal_tversky": 1, "tversky_alpha": 1, "tversky_beta": 1, "focal_tversky_gamma": 2},
            math.sqrt(1 - 1.75 / 2.5),
        ),
        (
            {"focal": 1, "focal_alpha": 0.25, "focal_gamma": 2},
            (0.75 * 0.5**2 * math.log(2) + 0.25 * 0.25**2 * math.log(4 / 3)) / 2,
        ),
        (
            {"focal": 1, "focal_alpha": None, "focal_gamma": 0},
            (math.log(2) + math.log(4 / 3)) / 2,
        ),
    ],
    ids=["bce", "dice", "iou", "tversky", "focal-tversky", "focal", "focal-is-bce"],
)
def test_values_by_hand(weights, expected):
    loss = _loss(**weights)
    parts = loss(loss.sums(_LOGITS, _TARGET, torch.ones_like(_TARGET)))
    assert parts.loss.item() == pytest.approx(expected, rel=1e-5)


def test_tversky_holds_dice_and_iou():
    batch = _batch()

    def value(**weights) -> float:
        loss = _loss(**weights)
        return loss(loss.sums(*batch)).loss.item()

    assert value(tversky=1, tversky_alpha=1, tversky_beta=1) == pytest.approx(value(iou=1))
    # Dice smooths 2 O by 1 where Tversky smooths O by 1: nearly, not exactly, the same.
    half = value(tversky=1, tversky_alpha=0.5, tversky_beta=0.5)
    assert half == pytest.approx(value(dice=1), abs=0.02)
    misses = value(tversky=1, tversky_alpha=0.1, tversky_beta=0.9)
    falses = value(tversky=1, tversky_alpha=0.9, tversky_beta=0.1)
    logits, target, weight = batch
    overlap = (torch.sigmoid(logits) * target * weight).sum()
    missed = (target * weight).sum() - overlap
    false = (torch.sigmoid(logits) * weight).sum() - overlap
    assert (misses > falses) == bool(missed > false)


@pytest.mark.parametrize("name", MASK)
def test_each_loss_of_the_mask_falls_along_its_gradient_to_nought(name):
    loss = _loss(**{name: 1})
    logits, target, weight = _batch()
    logits.requires_grad_()
    begun = loss(loss.sums(logits, target, weight)).loss
    begun.backward()
    gradient = logits.grad
    assert (gradient[weight == 1] != 0).all()
    # Towards object where the label says so, away from it elsewhere.
    assert ((gradient < 0) == (target == 1))[weight == 1].all()
    stepped = loss(loss.sums(logits - 0.1 * gradient / gradient.abs().max(), target, weight)).loss
    assert stepped < begun
    perfect = ((2 * target - 1) * 80).requires_grad_()
    ended = loss(loss.sums(perfect, target, weight)).loss
    ended.backward()
    assert ended.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(perfect.grad).all()


@pytest.mark.parametrize("name", MASK)
def test_pixels_of_unknown_label_have_no_say_and_no_gradient(name):
    loss = _loss(**{name: 1})
    logits, target, weight = _batch()
    logits.requires_grad_()
    value = loss(loss.sums(logits, target, weight)).loss
    value.backward()
    assert (logits.grad[weight == 0] == 0).all()
    other = torch.where(weight == 0, 255.0, target)
    moved = torch.where(weight == 0, logits.detach() + 3, logits.detach())
    assert loss(loss.sums(moved, other, weight)).loss.item() == value.item()


@pytest.mark.parametrize("name", MASK)
def test_a_batch_without_any_known_label_has_no_loss(name):
    loss = _loss(**{name: 1})
    logits, target, weight = _batch()
    logits.requires_grad_()
    value = loss(loss.sums(logits, target, torch.zeros_like(weight))).loss
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def _everything(generator: torch.Generator):
    """Logits, target, weight, reconstruction and query of two clips of 24 pixels."""
    logits, target, weight = _batch(1, 24)
    made, query = torch.randn(2, 2, 3, 24, 24, generator=generator).unbind(0)
    return logits, target, weight, made + query, query


@pytest.mark.parametrize("name", [*MASK, *IMAGE])
def test_every_weight_scales_the_gradient_of_its_loss(name):
    logits, target, weight, made, query = _everything(torch.Generator().manual_seed(0))

    def gradient(share: float) -> torch.Tensor:
        inputs = [x.clone().requires_grad_() for x in (logits, made)]
        weights = {"bce": 1.0, "mae": 1.0, "mask": 0.5, "reconstruction": 0.25}
        loss = _loss(**(weights | {name: share}))
        loss(loss.sums(inputs[0], target, weight, inputs[1], query)).loss.backward()
        return torch.cat([x.grad.flatten() for x in inputs])

    one, two, five = gradient(1), gradient(2), gradient(5)
    assert (two - one).abs().max() > 0
    torch.testing.assert_close(five - one, 4 * (two - one), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("group", ["mask", "reconstruction"])
def test_the_weights_of_the_two_sums_count(group):
    inputs = _everything(torch.Generator().manual_seed(0))
    made = inputs[3].clone().requires_grad_()
    logits = inputs[0].clone().requires_grad_()

    def gradients(share: float):
        loss = _loss(**{"bce": 1, "mse": 1, "mask": 1, group: share})
        parts = loss(loss.sums(logits, *inputs[1:3], made, inputs[4]))
        return torch.autograd.grad(parts.loss, (logits, made))

    (mask_1, made_1), (mask_3, made_3) = gradients(1), gradients(3)
    factors = (3, 1) if group == "mask" else (1, 3)
    torch.testing.assert_close(mask_3, factors[0] * mask_1)
    torch.testing.assert_close(made_3, factors[1] * made_1)


def test_only_parts_with_a_weight_are_there():
    assert _loss(bce=1).names == ("loss", "bce")
    assert not _loss(bce=1).reconstructs
    everything = _loss(**dict.fromkeys((*MASK, *IMAGE), 1.0))
    assert everything.names == ("loss", *COLUMNS.values())
    assert build_loss(LossSettings(), NORMALISATION).names == ("loss", "bce", "soft_dice", "mse")
    assert set(_loss(iou=1).sums(*_batch())) == {"overlap", "predicted", "target"}


def test_the_total_is_the_weighted_sum_of_the_parts():
    inputs = _everything(torch.Generator().manual_seed(0))
    weights = {name: 0.5 + index for index, name in enumerate((*MASK, *IMAGE))}
    loss = _loss(**weights, mask=2, reconstruction=3)
    parts = loss(loss.sums(*inputs))
    expected = sum(2 * weights[name] * parts.parts[COLUMNS[name]] for name in MASK)
    expected += sum(3 * weights[name] * parts.parts[COLUMNS[name]] for name in IMAGE)
    assert parts.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts.detached()[0].item() == parts.loss.item()
    assert len(parts.detached()) == len(loss.names)


def test_a_batch_parted_over_devices_has_the_same_loss_and_gradient():
    loss = _loss(**dict.fromkeys((*MASK, *IMAGE), 1.0))
    inputs = _everything(torch.Generator().manual_seed(0))
    whole = [inputs[0].clone().requires_grad_(), inputs[3].clone().requires_grad_()]
    expected = loss(loss.sums(whole[0], *inputs[1:3], whole[1], inputs[4]))
    expected.loss.backward()

    halves = [[x[i : i + 1].detach().clone().requires_grad_() for x in whole] for i in range(2)]
    sums = []
    for i, (logits, made) in enumerate(halves):
        target, weight, query = (inputs[k][i : i + 1] for k in (1, 2, 4))
        sums.append(loss.sums(logits, target, weight, made, query))
    names = sorted(sums[0])
    total = sum(torch.stack([own[name] for name in names]) for own in sums).detach()
    for own in sums:
        parts = loss(over_devices(own, lambda _: total.clone()))
        assert parts.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
        parts.loss.backward()
    for index, tensor in enumerate(whole):
        parted = torch.cat([half[index].grad for half in halves])
        torch.testing.assert_close(parted, tensor.grad, atol=1e-6, rtol=1e-3)


def test_a_network_without_a_reconstruction_cannot_have_its_loss():
    loss = _loss(bce=1, mse=1)
    with pytest.raises(ValueError, match="needs a reconstruction"):
        loss.sums(*_batch())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict.fromkeys(MASK, 0.0), "mask has no loss"),
        ({"mask": 0}, "mask has no loss"),
        ({"mse": 0}, "reconstruction has no loss"),
        ({"perceptual": 1}, "set perceptual_weights"),
        ({"tversky_alpha": 0, "tversky_beta": 0}, "both 0"),
    ],
)
def test_losses_that_do_not_fit_together(values, words):
    with pytest.raises(ValueError, match=words):
        LossSettings(**values)


def test_a_loss_of_tensors_is_the_mean_over_the_clips_of_all_devices():
    def sharpest(logits, target, weight):
        return (logits * (1 - 2 * target) * (weight > 0)).flatten(1).sort(1).values[:, -3:].mean()

    loss = ClipLoss([(2.0, tensor_loss("sharpest", sharpest))], [], NORMALISATION)
    logits, target, weight = _batch()
    logits = logits.requires_grad_()
    whole = loss(loss.sums(logits, target, weight))
    assert loss.names == ("loss", "sharpest")
    assert whole.loss.item() == pytest.approx(2 * sharpest(logits, target, weight).item())
    whole.loss.backward()
    clips = [[x[i : i + 1].detach() for x in (logits, target, weight)] for i in range(2)]
    parts = [loss.sums(*clip) for clip in clips]
    total = torch.stack([sum(own[name] for own in parts) for name in sorted(parts[0])])
    shared = loss(over_devices(parts[0], lambda _: total.clone()))
    assert shared.loss.item() == pytest.approx(whole.loss.item(), rel=1e-5)
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
