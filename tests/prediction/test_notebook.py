"""The notebook of the documentation, run cell by cell in small."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "quickstart.ipynb"

#: What takes the place of the cell that says how much there is of everything.
SMALL = """
SAMPLE = SampleSettings(
    size=(96, 128), stills=2, background_videos=1, background_frames=2, target_frames=3,
    heldout_frames=2, workers=1,
)
TRAINING = {
    "epochs": 1, "clips_per_epoch": 8, "batch": 4, "crop": 64, "device": "cpu", "pictures": 0,
    "network": {"references": 2, "dvos": {"channels": [4] * 5, "widths": [4] * 4}},
}
"""


def run_cell(source: str, names: dict[str, Any]) -> object:
    """Run a cell; gives the value of the expression that ends it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    )


def test_the_notebook_leads_from_stills_to_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells)
    names: dict[str, Any] = {}
    shown = [run_cell(SMALL if "SAMPLE = " in text else text, names) for text in sources]
    assert shown[-1] == [(row["frame"], row["count"]) for row in names["result"].table]
    assert len(names["result"].table) == 3
    assert names["run"].table[0]["epoch"] == 1
    frame = names["frame"]
    assert frame.count == len(frame.objects.area)
    assert repr(frame).startswith("FramePrediction('")
    assert frame._repr_png_().startswith(b"\x89PNG")
