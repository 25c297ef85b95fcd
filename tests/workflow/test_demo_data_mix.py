"""What the demo's network learns from, by the number of labelled stills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvos.config.training import TrainingSettings
from dvos.config.workflow import DemoSettings
from dvos.tables import StillRow
from dvos.workflow.data_folder import DataFolder
from dvos.workflow.steps import MethodFolder, build_training, with_data_mix


def data_mix(tmp_path: Path, *, stills: int, **settings: Any) -> TrainingSettings:
    labelled = tuple(
        StillRow(tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png")
        for number in range(stills)
    )
    data = DataFolder(tmp_path, labelled, validation_stills=labelled[:1])
    demo = DemoSettings(data=tmp_path, out=tmp_path / "run", epochs=2, **settings)
    mixed = with_data_mix(demo, data, clips=100)
    return build_training(mixed, MethodFolder(demo.out, "demo"), data, [tmp_path / "bare.csv"])


@pytest.mark.parametrize(
    ("stills", "synthetic"), [(1, 0.5), (2, 0.5), (5, 0.2), (9, 1 / 9), (10, 0), (300, 0)]
)
def test_the_fewer_stills_the_more_synthetic_clips(
    tmp_path: Path, stills: int, synthetic: float
) -> None:
    shares = data_mix(tmp_path, stills=stills).data.shares
    assert shares.synthetic == pytest.approx(synthetic)
    assert shares.stills == pytest.approx(1 - synthetic)


def test_a_single_still_is_not_outweighed_by_bare_backgrounds(tmp_path: Path) -> None:
    def labelled(**settings: Any) -> float:
        return data_mix(tmp_path, **settings).data.synthetic.scene.plates.labelled

    assert labelled(stills=1) == 1
    assert 0 < labelled(stills=2) < 1
    assert labelled(stills=1, scene={"plates": {"labelled": 0.3}}) == 0.3
    assert labelled(stills=1, scene={"population": {"objects": [0, 0.1]}}) == 1


def test_shares_that_the_user_names_hold(tmp_path: Path) -> None:
    shares = data_mix(tmp_path, stills=40, synthetic_share=0.25, background_share=0.125).data.shares
    assert (shares.stills, shares.synthetic, shares.empty) == (0.625, 0.25, 0.125)
    shares = data_mix(tmp_path, stills=2, background_share=0.75).data.shares
    assert (shares.stills, shares.synthetic, shares.empty) == (0, 0.25, 0.75)
