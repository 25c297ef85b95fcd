from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.training import ScheduleSettings
from dvos.training.records import TrainingPlan, rate_at


@settings(max_examples=50)
@given(
    epochs=st.integers(1, 4),
    clips=st.integers(1, 50),
    share=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    devices=st.integers(1, 3),
)
def test_devices_and_parts_share_the_clips_of_each_step(epochs, clips, share, accumulate, devices):
    plan = TrainingPlan(epochs, clips, share * accumulate * devices, accumulate)
    ranks = [list(plan.parts(0, rank=rank, devices=devices)) for rank in range(devices)]
    assert all(len(parts) == plan.steps * accumulate for parts in ranks)
    for step in range(plan.steps):
        window = slice(step * accumulate, (step + 1) * accumulate)
        used = sorted(chain.from_iterable(chain.from_iterable(parts[window] for parts in ranks)))
        assert used == list(range(step * plan.batch, (step + 1) * plan.batch))
    assert plan.clips >= epochs * clips


def test_going_on_at_a_step_gives_the_rest():
    plan = TrainingPlan(2, 10, 4, 2)
    assert list(plan.parts(3)) == list(plan.parts(0))[6:]


def test_learning_rate_rises_then_falls_to_its_end():
    shape = ScheduleSettings(warm_up=0.1, final=0.01)
    factors = [rate_at(s, shape, steps=100) for s in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1
    assert factors[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(factors[10:]))


@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_runs_have_a_rate(steps):
    shape = ScheduleSettings(warm_up=0.0, final=0.5)
    for step in range(steps):
        assert 0 < rate_at(step, shape, steps=steps) <= 1


def test_steps_fall_at_the_shares_of_the_run():
    shape = ScheduleSettings(shape="steps", warm_up=0.1, drops=(0.5, 0.8), drop=0.1)
    factors = [rate_at(s, shape, steps=10) for s in range(10)]
    assert factors == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)
