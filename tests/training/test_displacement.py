"""Labels that lie beside what they label: told from labels that do not, and how far they lie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import read_network_info, save_network
from dvos.registry import network_spec
from dvos.training.calibration import calibrate_checkpoint
from dvos.training.displacement import Displacement, learn_displacement, moved
from dvos.training.objective import SegmentedClip

HEIGHT, WIDTH = 96, 130
ARGUMENTS = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8]}


def _discs(x: float = 0.0, y: float = 0.0, seed: int = 0, radius: float = 7.0) -> Tensor:
    """How surely each pixel lies in one of some discs, all moved to the right and down."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    inside = np.full((HEIGHT, WIDTH), -np.inf)
    for row in range(14, HEIGHT, 24):
        for column in range(14, WIDTH, 24):
            down, across = rng.uniform(-3, 3, 2) + np.array((y, x))
            away = np.hypot(rows - row - down, columns - column - across)
            inside = np.maximum(inside, radius - away)
    return torch.from_numpy(1 / (1 + np.exp(-1.5 * inside))).float()[None]


def _clip(x: float, y: float, seed: int = 0, known: Tensor | None = None) -> SegmentedClip:
    """Discs as a network finds them, and their labels so far to the right and down."""
    target = (_discs(x, y, seed) > 0.5).float()
    weight = torch.ones_like(target) if known is None else known
    return SegmentedClip(torch.zeros(3, HEIGHT, WIDTH), target, weight, _discs(seed=seed))


@pytest.mark.parametrize(("x", "y"), [(0.9, 0.7), (-1.6, 0.4), (0.0, 3.2), (-2.5, -2.5)])
@pytest.mark.parametrize("scale", [1.0, 1.4])
def test_it_is_told_in_pixels_of_the_pictures(x: float, y: float, scale: float) -> None:
    found = learn_displacement([_clip(x, y, seed) for seed in range(3)], scale)
    assert found is not None
    assert found == pytest.approx((x / scale, y / scale), abs=0.1)


def test_one_picture_is_enough_where_all_of_it_says_the_same() -> None:
    found = learn_displacement([_clip(1.0, -1.0)], 1.0)
    assert found == pytest.approx((1.0, -1.0), abs=0.1)


@pytest.mark.parametrize(
    "ways",
    [
        [(0.0, 0.0)] * 3,
        [(0.1, -0.1)] * 3,
        # Some drew to the right of objects, some to the left.
        [(1.0, 0.0), (-1.0, 0.0), (1.0, 0.5), (-1.0, -0.5)],
        [(1.2, 1.2), (1.2, 1.2), (-0.2, 0.0)],
        # What lies elsewhere altogether is not what the network finds.
        [(40.0, 0.0)] * 2,
    ],
)
def test_labels_that_do_not_all_lie_beside_are_left_alone(ways: list[tuple[float, float]]) -> None:
    clips = [_clip(*way, seed) for seed, way in enumerate(ways)]
    assert learn_displacement(clips, 1.0) is None


def test_labels_off_by_chance_are_left_alone() -> None:
    rng = np.random.default_rng(5)
    clips = []
    for seed in range(4):
        clip = _clip(0.0, 0.0, seed)
        drawn = torch.zeros_like(clip.target)
        for row in range(2, HEIGHT, 24):
            for column in range(2, WIDTH, 24):
                place = (0, slice(row, row + 24), slice(column, column + 24))
                off = tuple(rng.integers(-2, 3, 2).tolist())
                drawn[place] = clip.target[place].roll(off, (0, 1))
        clips.append(SegmentedClip(clip.query, drawn, clip.weight, clip.probability))
    assert learn_displacement(clips, 1.0) is None


def test_without_labels_or_finds_there_is_none() -> None:
    nothing = torch.zeros(1, HEIGHT, WIDTH)
    query, known = torch.zeros(3, HEIGHT, WIDTH), torch.ones(1, HEIGHT, WIDTH)
    discs = _discs()
    assert learn_displacement([], 1.0) is None
    for target, found in ((nothing, discs), (discs.round(), nothing), (nothing, nothing)):
        assert learn_displacement([SegmentedClip(query, target, known, found)], 1.0) is None


def test_pixels_of_unknown_label_say_nothing() -> None:
    known = torch.ones(1, HEIGHT, WIDTH)
    known[..., WIDTH // 2 :] = 0
    clip = _clip(1.0, 0.0, known=known)
    wrong = torch.where(known > 0, clip.target, 1 - clip.target)
    clip = SegmentedClip(clip.query, wrong, known, clip.probability)
    assert learn_displacement([clip], 1.0) == pytest.approx((1.0, 0.0), abs=0.1)


@given(x=st.floats(-6, 6), y=st.floats(-6, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_a_plane_is_moved_as_asked_and_goes_on_as_its_edge(
    x: float, y: float, height: int, width: int
) -> None:
    rows, columns = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    plane = 2 * columns - 3 * rows
    across, down = (columns - x).clamp(0, width - 1), (rows - y).clamp(0, height - 1)
    torch.testing.assert_close(moved(plane, x, y), 2 * across - 3 * down)


def test_a_move_by_nothing_or_whole_pixels_changes_no_value() -> None:
    maps = torch.rand(2, 3, 9, 11)
    assert torch.equal(moved(maps, 0, 0), maps)
    assert torch.equal(moved(maps, 2, -1)[..., :-1, 2:], maps[..., 1:, :-2])


_NONE = [None, {}, {"x": 1}, {"x": "far", "y": 0}, {"x": float("nan"), "y": 0}, {"x": 0, "y": 0.0}]


@pytest.mark.parametrize("kept", [*_NONE, {"x": 10**400, "y": 0}, [1, 2], "1, 2"])
def test_a_file_that_tells_none_moves_nothing(kept: Any) -> None:
    assert Displacement.read({"displacement": kept}) is None
    assert Displacement.read({"displacement": {"x": 0.5, "y": -1}}) == (0.5, -1.0)


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), (2.0, 0.5)])
def test_a_checkpoint_keeps_it_and_a_line_tells_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: float | None, expected: float
) -> None:
    path = tmp_path / "best.safetensors"
    extra = {} if scale is None else {"scale": scale}
    network = network_spec("dvos").network(**ARGUMENTS)
    save_network(path, network, name="dvos", arguments=ARGUMENTS, extra=extra)
    clips = [_clip(1.0, -1.0, seed) for seed in range(2)]

    def segment(network: Any, item: Any, device: Any) -> SegmentedClip:
        return clips[item]

    def calibrated(labelled: Sequence[int], seen: int = 500) -> dict[str, Any]:
        how = {"build": DvosNetwork, "segment": segment, "device": torch.device("cpu")}
        how["seen"] = seen
        calibrate_checkpoint(path, None, None, labelled, **how)  # type: ignore[arg-type]
        return dict(read_network_info(path).extra)

    assert "displacement" not in calibrated([])
    # A network that has hardly learnt anything knows too little.
    assert "displacement" not in calibrated([0, 1], seen=96)
    with caplog.at_level(logging.WARNING):
        kept = calibrated([0, 1])["displacement"]
    assert kept == pytest.approx({"x": expected, "y": -expected}, abs=0.1)
    assert f"lie {expected:.1f} pixels to the right and {expected:.1f} up of" in caplog.text
