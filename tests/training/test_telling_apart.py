"""The better of two ways of telling objects apart is found on validation clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import ARGUMENTS

from dvos.config.network import NetworkSettings
from dvos.config.training import TrainingSettings
from dvos.media.grouping import ObjectMaps, group_mask
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.weights import save_network
from dvos.registry import network_spec
from dvos.training import losses
from dvos.training.calibration import CENTRES, SHAPES, ObjectComparison, better_way
from dvos.training.clips.clip import Clip
from dvos.training.losses import ObjectBatch
from dvos.training.networks import (
    build_trained_network,
    dvos_arguments,
    leave_without_gradient,
    start_from_weights,
)
from dvos.training.objective import SegmentedClip
from dvos.training.run import settle_objects
from dvos.training.targets import object_truth


def _bar(halves: int) -> tuple[SegmentedClip, np.ndarray]:
    """A bar of two objects, which its shape does not tell, and what a network says: 1 or 2."""
    ids = np.zeros((40, 80), np.uint16)
    ids[10:30, 10:40], ids[10:30, 40:70] = 1, 2
    truth = object_truth(
        Clip(np.zeros((1, 40, 80, 3), np.uint8), ids[None], np.ones(1, bool), True)
    )
    x = 2 * np.arange(40) + 0.5
    offset = np.zeros((2, 20, 40), np.float32)
    offset[0] = (np.where(x < 40, 24.5, 54.5) if halves == 2 else 39.5) - x
    offset[1] = 19.5 - (2 * np.arange(20)[:, None] + 0.5)
    maps = ObjectMaps(offset / 2, np.zeros_like(offset))
    mask = torch.from_numpy((ids > 0)[None]).float()
    clip = SegmentedClip(torch.zeros(3, 40, 80), mask, torch.ones(1, 40, 80), mask, maps)
    return clip, truth


@pytest.mark.parametrize("halves", [1, 2])
def test_centres_are_taken_where_they_tell_more(halves: int) -> None:
    comparison = ObjectComparison(width=20.0, area=600.0)
    clip, truth = _bar(halves)
    comparison.add(clip, truth, counts=True)
    quality = comparison.quality()
    # A bar found as one has an IoU of 0.5 with the first of its two halves.
    assert quality[SHAPES] == pytest.approx(0.5 / 1.5)
    assert quality[CENTRES] == pytest.approx(1.0 if halves == 2 else 0.5 / 1.5)
    assert better_way(quality) == (CENTRES if halves == 2 else SHAPES)
    assert comparison.better_counts() == [(halves, 2)]


def test_without_known_objects_shapes_tell() -> None:
    comparison = ObjectComparison(width=20.0, area=600.0)
    comparison.add(_bar(2)[0], None, counts=True)
    assert comparison.quality() == {}
    assert comparison.better_counts() == [(1, 1)]


@pytest.mark.parametrize("kept", [{}, {"centres": "much"}, {"centres": None, "shapes": 0.1}])
def test_what_a_file_says_wrongly_is_passed_over(kept: dict[str, object]) -> None:
    assert better_way(kept) == SHAPES


@pytest.mark.parametrize("numbered", [False, True])
def test_whether_objects_are_told_apart_is_settled_by_the_data(tmp_path, numbered: bool) -> None:
    mask = np.zeros((40, 60), np.uint16)
    for number in range(6):
        left = 10 * number
        mask[10:30, left : left + 8] = number + 1 if numbered else 1
    write_image(tmp_path / "images" / "a.png", np.zeros((40, 60, 3), np.uint8))
    write_mask(tmp_path / "masks" / "a.png", mask)
    settings = TrainingSettings(
        out=tmp_path / "run",
        network={"dvos": {"objects": "auto"}},
        data={"stills": {"folders": [tmp_path]}},
    )
    assert settle_objects(settings, settings.data).network.dvos.objects is numbered
    paper = settings.model_copy(update={"network": NetworkSettings(name="paper")})
    assert settle_objects(paper, paper.data) is paper


def test_weights_without_the_head_of_objects_start_a_run_with_it(tmp_path) -> None:
    spec = network_spec("dvos")
    plain = spec.network(**ARGUMENTS, heads={"mask": 1})
    arguments = {**ARGUMENTS, "heads": {"mask": 1}}
    path = tmp_path / "best.safetensors"
    save_network(path, plain, name="dvos", arguments=arguments)
    apart = spec.network(**ARGUMENTS, heads={"mask": 1, "objects": 5})
    head = apart.heads["objects"].predict.weight.clone()
    start_from_weights(apart, NetworkSettings(weights=path))
    assert torch.equal(apart.heads["objects"].predict.weight, head)
    for key, value in plain.state_dict().items():
        assert torch.equal(apart.state_dict()[key], value)
    save_network(path, apart, name="dvos", arguments=arguments)
    start_from_weights(plain, NetworkSettings(weights=path))


@pytest.mark.parametrize("references", [0, 2])
def test_motion_is_told_only_by_networks_that_see_earlier_frames(tmp_path, references: int) -> None:
    settings = NetworkSettings(references=references, dvos={"objects": True})
    arguments = dvos_arguments(settings, reconstructs=False)
    assert arguments["heads"] == {"mask": 1, "objects": 5 if references else 3}
    told = np.zeros((arguments["heads"]["objects"], 20, 40), np.float32)
    maps = ObjectMaps.of(told)
    found = group_mask(np.ones((40, 80), np.bool_), maps)
    assert (maps.motion is None) == (found.motion is None) == (references == 0)


def test_a_head_that_tells_no_motion_has_no_loss_of_it_and_starts_afresh(tmp_path) -> None:
    spec, path = network_spec("dvos"), tmp_path / "best.safetensors"
    alone = spec.network(**ARGUMENTS, heads={"mask": 1, "objects": 3})
    batch = ObjectBatch(torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8, 8))
    assert [float(each) for each in losses.motion(batch)] == [0.0, 0.0]
    save_network(
        path,
        alone,
        name="dvos",
        arguments={**ARGUMENTS, "heads": {"mask": 1, "objects": 3}},
    )
    moving = spec.network(**ARGUMENTS, heads={"mask": 1, "objects": 5})
    before = moving.heads["objects"].predict.weight.clone()
    start_from_weights(moving, NetworkSettings(weights=path))
    assert torch.equal(moving.heads["objects"].predict.weight, before)
    assert torch.equal(moving.heads["objects"].mix.weight, alone.heads["objects"].mix.weight)


@pytest.mark.parametrize(
    ("references", "off", "learnt"),
    [
        (2, {}, True),
        (2, {"objects": 0}, False),
        (2, {"offset": 0, "centre": 0, "motion": 0}, False),
        (2, {"offset": 0, "centre": 0}, True),
        (0, {"offset": 0, "centre": 0}, False),  # a frame alone shows no motion
        (0, {"offset": 0}, True),
    ],
)
def test_each_part_that_is_asked_for_a_gradient_gets_one(
    references: int, off: dict[str, float], learnt: bool
) -> None:
    """Several processes wait for it; a head without a loss stays in the network as it is."""
    shape = {"channels": (4, 4, 4, 4, 4), "widths": (4, 4, 4, 4), "objects": True}
    network = {"references": references, "encoder_weights": "none", "dvos": shape}
    settings = TrainingSettings.model_validate({"out": "run", "network": network, "losses": off})
    spec = network_spec("dvos")
    trained = build_trained_network(spec, settings)
    objective = spec.objective(settings, trained.normalisation)
    leave_without_gradient(trained.module, objective.unlearnt)
    frames = references + 1
    batch = {
        "frames": torch.randn(2, frames, 3, 64, 64),
        "target": (torch.rand(2, 1, 64, 64) > 0.5).float(),
        "weight": torch.ones(2, 1, 64, 64),
        "objects": torch.rand(2, 8, 32, 32),
    }
    loss, _ = objective(trained.module.train(), batch, step=0, devices=1, add=lambda x: x)
    loss.backward()
    asked = {name for name, each in trained.module.named_parameters() if each.requires_grad}
    got = {name for name, each in trained.module.named_parameters() if each.grad is not None}
    assert asked == got
    assert any(name.startswith("heads.objects.") for name in got) is learnt
