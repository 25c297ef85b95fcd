"""Clips labelled in shards: masks, tables, provenance and pictures as of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_predictor import Brightness, Colours, write_frames

from dvos.config.selftraining import PseudoLabelSettings
from dvos.selftraining import labeller
from dvos.selftraining.label import PseudoLabelResult, pseudo_label

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Colours]:
    """Replace the network; the readers of features that were loaded."""
    readers: list[Colours] = []

    def load(*_: object, **__: object) -> Colours:
        readers.append(Colours((0, 1)))
        return readers[-1]

    monkeypatch.setattr(labeller, "predictor_of", lambda *_, **__: Brightness(shift=-0.6))
    monkeypatch.setattr(labeller, "features_of", load)
    return readers


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for place, name in enumerate(NAMES):
        write_frames(tmp_path / "in" / name, 2 + place, offset=place)
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "in"


def run(source: Path, out: Path, **options: Any) -> PseudoLabelResult:
    values = {"input": source, "checkpoint": source.parent / "weights.safetensors", "out": out}
    values |= {"device": "cpu", "scales": [1.0], "pictures": 3, "neighbours": []}
    return pseudo_label(PseudoLabelSettings.model_validate(values | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shards_in_any_order_give_what_one_run_gives(
    clips: Path, tmp_path: Path, order: tuple[int, ...], fake: list[Colours]
) -> None:
    run(clips, tmp_path / "whole")
    fitted_on = fake[0].read
    results = [run(clips, tmp_path / "parts", shard=f"{index}/2") for index in order]
    assert [result.missing for result in results] == [1 if order[0] == 1 else 2, 0]
    assert [bool(result.pictures) for result in results] == [False, True]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    # The second shard takes up the probe that the first has fitted.
    assert sum(reader.read for reader in fake[1:]) == fitted_on
    assert "of other shards are still to be labelled" in str(results[0])


def test_photos_in_shards(clips: Path, tmp_path: Path) -> None:
    photos = write_frames(tmp_path / "photos", 3)
    values = {"stills": True, "probe": False}
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    run(photos, tmp_path / "whole", **values)
    for shard in ("2/2", "1/2"):
        run(photos, tmp_path / "parts", shard=shard, **values)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_clips_of_another_input_stay(clips: Path, tmp_path: Path) -> None:
    other = write_frames(tmp_path / "z", 2)
    for name, shards in (("one", (None,)), ("two", ("2/2", "1/2"))):
        run(other, tmp_path / name, probe=False)
        for shard in shards:
            run(clips, tmp_path / name, probe=False, shard=shard)
    found = [contents(tmp_path / name) for name in ("one", "two")]
    assert found[0] == found[1]
