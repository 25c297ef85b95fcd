"""Clips shared out between runs or machines: masks, counts and videos as of one run."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from dvos.config.prediction import PredictionSettings
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.prediction.predict import PredictResult, predict
from dvos.registry import predictor_for

NAMES = ("a", "b", "c")


def _clip(folder: Path, frames: int = 2, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for index in range(frames):
        write_image(folder / f"f{index}.png", rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return folder


def _predict(checkpoint: Path, source: Path, out: Path, **options: object) -> PredictResult:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "device": "cpu"}
    values |= {"tracks": True} | options
    return predict(PredictionSettings.model_validate(values), predictor_for)


def _contents(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "in"
    for seed, name in enumerate(NAMES):
        _clip(folder / name, 2 + seed, seed)
    return folder


@pytest.fixture(scope="module")
def whole(
    checkpoint: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    # As deep as the other outputs: records name the input from where they stand.
    out = tmp_path_factory.mktemp("whole") / "m"
    _predict(checkpoint, clips, out)
    return _contents(out)


def test_a_shard_tells_of_others_made_with_other_settings(
    checkpoint: Path, clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their clips stand in one table with this one's."""
    _predict(checkpoint, clips, tmp_path / "m", shard="1/2")
    _predict(checkpoint, clips, tmp_path / "m", shard="2/2")
    assert "other shards" not in caplog.text
    _predict(checkpoint, clips, tmp_path / "m", shard="2/2", threshold=0.3)
    told = f"{tmp_path / 'm'}: other shards have predicted a, c with other settings or weights"
    assert told in caplog.text


def _files(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in contents.items() if ".progress" not in name}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_shards_in_any_order_give_what_one_run_gives(
    checkpoint: Path,
    clips: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    order: tuple[int, ...],
) -> None:
    missing = []
    for index in order:
        result = _predict(checkpoint, clips, tmp_path / "m", shard=f"{index}/3")
        assert [clip.name for clip in result.clips] == [NAMES[index - 1]]
        missing.append(result.missing)
    assert missing == [2, 1, 0]
    assert _files(_contents(tmp_path / "m")) == _files(whole)


def test_shards_at_once_give_what_one_run_gives(
    checkpoint: Path, clips: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    out = tmp_path / "m"
    running = [
        context.Process(
            target=_predict, args=(checkpoint, clips, out), kwargs={"shard": f"{index}/2"}
        )
        for index in (1, 2)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert _files(_contents(out)) == _files(whole)


def test_a_shard_without_clips_has_nothing_to_do(
    checkpoint: Path, clips: Path, tmp_path: Path
) -> None:
    result = _predict(checkpoint, clips, tmp_path / "m", shard="4/4")
    assert (result.clips, result.missing) == ((), 3)
    assert "3 clips of other shards are still to be predicted" in str(result)


def test_clips_of_another_input_stay_first(checkpoint: Path, clips: Path, tmp_path: Path) -> None:
    other = _clip(tmp_path / "z", 2, 9)
    for name, shards in (("one", (None,)), ("two", ("2/2", "1/2"))):
        _predict(checkpoint, other, tmp_path / name)
        for shard in shards:
            _predict(checkpoint, clips, tmp_path / name, shard=shard)
    tables = [(tmp_path / name / "counts.csv").read_bytes() for name in ("one", "two")]
    assert tables[0] == tables[1]
    assert tables[0].splitlines()[1].startswith(b"z,")


def test_a_clip_that_cannot_be_read_costs_its_own_shard_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate(NAMES):
        _clip(tmp_path / "in" / name, 2, seed)
    for path in (tmp_path / "in/b").iterdir():
        path.write_bytes(b"no picture")
    assert _predict(checkpoint, tmp_path / "in", tmp_path / "m", shard="1/3").missing == 2
    with pytest.raises(MediaError, match="in/b"):
        _predict(checkpoint, tmp_path / "in", tmp_path / "m", shard="2/3")
    assert _predict(checkpoint, tmp_path / "in", tmp_path / "m", shard="3/3").missing == 1
    _clip(tmp_path / "in/b", 2, 1)
    assert _predict(checkpoint, tmp_path / "in", tmp_path / "m", shard="2/3").missing == 0
    lines = (tmp_path / "m/counts.csv").read_text().splitlines()[1:]
    assert [line[0] for line in lines] == [*"aabbcc"]
