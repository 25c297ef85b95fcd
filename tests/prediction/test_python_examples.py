"""The Python examples of the documentation, run as they stand on a made clip."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dvos.api import load_predictor
from dvos.errors import UsageError
from dvos.media.video_write import VideoWriter

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[str]:
    return _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


@pytest.fixture
def workplace(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "best.safetensors").write_bytes(checkpoint.read_bytes())
    rng = np.random.default_rng(3)
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=(48, 64)) as video:
        for _ in range(6):
            video.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


PAGE = examples("reference/python.md")


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_an_example_of_the_reference_runs(workplace: Path, number: int) -> None:
    exec(compile(PAGE[number], f"example {number}", "exec"), {"__name__": "__main__"})


def test_the_reference_has_examples_and_they_write_what_they_say(workplace: Path) -> None:
    assert len(PAGE) >= 5
    for code in PAGE:
        exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert (workplace / "first.png").is_file()
    assert (workplace / "masks" / "counts.csv").is_file()


def test_arguments_without_such_a_value_are_refused_all_at_once(checkpoint: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_predictor(checkpoint, "cpu", augment="mirror", precision="half")  # type: ignore[arg-type]
    assert [fault.where for fault in caught.value.faults] == ["precision", "augment"]
    with pytest.raises(UsageError, match="positive factors"):
        load_predictor(checkpoint, "cpu", augment="scales", augment_scales=(1.0, 0.0))


def test_views_are_averaged(checkpoint: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)

    def found(**options: object) -> np.ndarray:
        predictor = load_predictor(checkpoint, "cpu", **options)  # type: ignore[arg-type]
        return np.stack([frame.probability for frame in predictor.segment(frames)])

    plain = found()
    np.testing.assert_allclose(
        found(augment="scales", augment_scales=(1.0,)), plain, rtol=0, atol=1e-6
    )
    both = found(augment="flips_and_scales", augment_scales=(1.0, 0.5))
    assert both.shape == plain.shape
    assert np.abs(both - plain).max() > 1e-4
    assert np.abs(both - found(augment="flips")).max() > 1e-4
