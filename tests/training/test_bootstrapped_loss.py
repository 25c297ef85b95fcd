from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dvos.training.targets import IGNORED_CLASS
from dvos.training.tracking import BootstrappedLoss

# Of the published training: share of pixels, and cross-entropy and Dice of both frames.
DICE = (0.6710554957389832, 0.6732617616653442)
PUBLISHED = {
    0: (1.0, (1.3866891860961914, 1.4315540790557861)),
    20: (1.0, (1.386689305305481, 1.431553840637207)),
    45: (0.575, (1.9385206699371338, 2.0055668354034424)),
    70: (0.15, (2.8817946910858154, 3.0134687423706055)),
    100: (0.15, (2.8817946910858154, 3.0134687423706055)),
}


@pytest.mark.parametrize("iteration", PUBLISHED)
def test_losses_are_the_published_ones(iteration):
    rng = np.random.default_rng(2)
    target = torch.from_numpy(rng.integers(0, 3, (2, 3, 1, 24, 32)))
    loss = BootstrappedLoss(start_warm=20, end_warm=70)
    share, entropies = PUBLISHED[iteration]
    for frame in (1, 2):
        logits = torch.from_numpy(rng.standard_normal((2, 3, 24, 32)).astype(np.float32))
        probability = logits.softmax(1)[:, 1:]
        entropy, dice = loss(logits, probability, target[:, frame, 0], [2, 2], iteration)
        assert loss.share(iteration) == pytest.approx(share)
        assert float(entropy) == pytest.approx(entropies[frame - 1], abs=1e-5)
        assert float(dice) == pytest.approx(DICE[frame - 1], abs=1e-5)


def test_logits_of_objects_that_fill_up_a_batch_do_not_compete():
    logits = torch.randn(1, 4, 8, 8)
    target = torch.randint(0, 2, (1, 8, 8))
    changed = logits.clone()
    changed[:, 2:] += 9
    loss = BootstrappedLoss()
    entropies = [loss(x, x.softmax(1)[:, 1:], target, [1], 0)[0] for x in (logits, changed)]
    assert torch.equal(*entropies)


@pytest.mark.parametrize("iteration", [0, 1000])
def test_the_loss_is_near_zero_for_a_perfect_answer_and_has_gradients(iteration):
    target = torch.randint(0, 3, (2, 8, 8))
    truth = torch.nn.functional.one_hot(target, 3).movedim(3, 1).float()
    logits = (40 * truth - 20).requires_grad_()
    loss = BootstrappedLoss(start_warm=10, end_warm=20)
    total = sum(loss(logits, logits.softmax(1)[:, 1:], target, [2, 2], iteration))
    assert total < 1e-4
    total.backward()
    assert torch.isfinite(logits.grad).all()


def test_while_all_pixels_count_it_is_the_mean_of_those_that_are_known(monkeypatch):
    """And made of losses of single pixels: others are not the same bits each time on a GPU."""
    rng = np.random.default_rng(4)
    logits = torch.from_numpy(rng.standard_normal((2, 3, 16, 24)).astype(np.float32))
    target = torch.from_numpy(rng.integers(0, 3, (2, 16, 24)))
    target[:, :3] = IGNORED_CLASS
    clips = zip(logits, target, strict=True)
    mean = torch.stack([F.cross_entropy(x[None], t[None]) for x, t in clips]).mean()
    reductions = []
    plain = F.cross_entropy

    def noted(*given, reduction="mean", **more):
        reductions.append(reduction)
        return plain(*given, reduction=reduction, **more)

    monkeypatch.setattr(F, "cross_entropy", noted)
    found, _ = BootstrappedLoss()(logits, logits.softmax(1)[:, 1:], target, [2, 2], 0)
    assert float(found) == pytest.approx(float(mean), rel=1e-6)
    assert set(reductions) == {"none"}
