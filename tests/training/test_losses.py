from __future__ import annotations

import math

import pytest
import torch

from dvos.training.losses import ClipLoss, PixelSums, pixel_sums


def _batch(seed: int = 0, size: int = 8):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, size, size, generator=generator)
    target = (torch.rand(2, 1, size, size, generator=generator) > 0.6).float()
    weight = (torch.rand(2, 1, size, size, generator=generator) > 0.2).float()
    return logits, target, weight


def test_values_by_hand():
    logits = torch.tensor([[[[0.0, math.log(3)]]]])  # probabilities 0.5 and 0.75
    target = torch.tensor([[[[0.0, 1.0]]]])
    parts = ClipLoss(smooth=1.0)(pixel_sums(logits, target, torch.ones_like(target)))
    assert parts.bce.item() == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    assert parts.soft_dice.item() == pytest.approx(1 - (2 * 0.75 + 1) / (1.25 + 1 + 1))
    assert parts.reconstruction.item() == 0
    assert parts.loss.item() == pytest.approx(parts.bce.item() + parts.soft_dice.item())


def test_weights_of_the_parts_count():
    logits, target, weight = _batch()
    query = torch.randn(2, 3, 8, 8)
    sums = pixel_sums(logits, target, weight, query + 2, query)
    parts = ClipLoss(mask=2, bce=3, dice=5, reconstruction=7)(sums)
    assert parts.reconstruction.item() == pytest.approx(4, rel=1e-5)
    expected = 2 * (3 * parts.bce + 5 * parts.soft_dice) + 7 * parts.reconstruction
    assert parts.loss.item() == pytest.approx(expected.item())


def test_pixels_without_weight_have_no_say_and_no_gradient():
    logits, target, weight = _batch()
    logits.requires_grad_()
    loss = ClipLoss()(pixel_sums(logits, target, weight)).loss
    loss.backward()
    assert (logits.grad[weight == 0] == 0).all()
    assert (logits.grad[weight == 1] != 0).all()
    other = torch.where(weight == 0, 255.0, target)
    assert ClipLoss()(pixel_sums(logits, other, weight)).loss.item() == loss.item()


def test_a_batch_without_any_known_label_is_finite():
    logits, target, weight = _batch()
    parts = ClipLoss()(pixel_sums(logits, target, torch.zeros_like(weight)))
    assert parts.loss.item() == 0


def test_dice_has_a_gradient_and_falls_as_the_prediction_improves():
    logits, target, weight = _batch()
    values = []
    loss = ClipLoss(bce=0)
    for _ in range(3):
        logits = logits.detach().requires_grad_()
        value = loss(pixel_sums(logits, target, weight)).loss
        value.backward()
        values.append(value.item())
        logits = logits - 20 * logits.grad
    assert values[0] > values[1] > values[2]


def test_a_batch_parted_over_devices_has_the_same_loss_and_gradient():
    logits, target, weight = _batch()
    whole = logits.clone().requires_grad_()
    query = torch.randn(2, 3, 8, 8)
    made = torch.randn(2, 3, 8, 8)
    loss = ClipLoss(reconstruction=0.3)
    expected = loss(pixel_sums(whole, target, weight, made, query))
    expected.loss.backward()

    halves = [logits[i : i + 1].clone().requires_grad_() for i in range(2)]
    sums = [
        pixel_sums(halves[i], *(x[i : i + 1] for x in (target, weight, made, query)))
        for i in range(2)
    ]
    stacked = [torch.stack([getattr(s, n) for n in PixelSums.__dataclass_fields__]) for s in sums]
    total = sum(stacked).detach()
    for own, half in zip(sums, halves, strict=True):
        parts = loss(own.over_devices(lambda _: total.clone()))
        assert parts.loss.item() == pytest.approx(expected.loss.item())
        parts.loss.backward()
        assert half.grad is not None
    torch.testing.assert_close(torch.cat([half.grad for half in halves]), whole.grad)
