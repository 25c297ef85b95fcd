"""The command that proves the program on a GPU: it ends in time, and tells what it left out."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import gpu  # noqa: E402
import gpu_paths  # noqa: E402
import gpu_wheels  # noqa: E402
from gpu_targets import targets  # noqa: E402

ROWS = """
import os, signal, threading

def fine(bench):
    return {"answer": 42}

def partly(bench):
    bench.note({"so far": 1})
    threading.Event().wait()

def killed(bench):
    os.kill(os.getpid(), signal.SIGKILL)

def absent(bench):
    import no_such_package_at_all

def wrong(bench):
    bench.note({"so far": 2})
    raise RuntimeError("the device  is lost")
"""


@dataclass(frozen=True)
class Bench:
    """As much of one as rows here use."""

    file: Path
    seconds: float = 0.0

    def note(self, figures: dict[str, Any]) -> None:
        self.file.write_text(json.dumps({"figures": figures}))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a row of the module above in a process of its own."""
    (tmp_path / "rows_to_try.py").write_text(ROWS)
    monkeypatch.syspath_prepend(tmp_path)

    def call(name: str, seconds: float = 60.0) -> dict[str, Any]:
        row = gpu.Row(f"rows_to_try:{name}", seconds, 0)
        return gpu.run_row(row, Bench(tmp_path / f"{name}.json"), tmp_path / "log", seconds)

    return call


def test_a_row_gives_its_figures(run) -> None:
    found = run("fine")
    assert (found["status"], found["figures"]) == ("measured", {"answer": 42})


def test_a_row_that_takes_too_long_is_ended_and_keeps_what_it_noted(run) -> None:
    found = run("partly", 0.7)
    assert found["status"] == "cut off"
    assert found["figures"] in ({"so far": 1}, {})  # a busy machine may not come so far
    assert found["reason"] == "ended after 1 s"


def test_a_row_that_dies_or_fails_is_told_and_costs_no_other(run) -> None:
    assert run("killed")["reason"] == "its process ended (SIGKILL)"
    found = run("wrong")
    assert (found["status"], found["figures"]) == ("failed", {"so far": 2})
    assert found["reason"] == "RuntimeError: the device is lost"
    assert found["at"].startswith("rows_to_try.py:")
    assert any("RuntimeError" in line for line in found["log"])


def test_a_row_whose_package_is_absent_is_left_out_by_name(run) -> None:
    found = run("absent")
    assert (found["status"], found["reason"]) == (
        "left out",
        "the package no_such_package_at_all is absent",
    )
    row = gpu.Row("none:none", 1, 1, ("no_such_package_at_all",), ("published_xmem",))
    assert gpu.lacks(row, Namespace()) == "absent: no_such_package_at_all"
    row = gpu.Row("none:none", 1, 1, (), ("published_xmem",))
    assert gpu.lacks(row, Namespace(published_xmem=None)) == "not given: --published-xmem"
    assert gpu.lacks(row, Namespace(published_xmem=Path("there"))) is None


def _command(out: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--out", str(out), "--tiny"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def test_rows_work_in_small(tmp_path: Path) -> None:
    rows = ["machine", "memory frames", "step", "published"]
    report = _command(tmp_path / "gpu.json", "--device", "cpu", "--rows", *rows)
    assert list(report["rows"]) == rows
    assert [row["status"] for row in report["rows"].values()] == [*["measured"] * 3, "left out"]
    assert report["rows"]["published"]["reason"] == "not given: --published"
    assert report["rows"]["machine"]["figures"]["packages"]["torch"]
    figures = report["rows"]["memory frames"]["figures"]["64 x 48"]["default"]
    assert figures["frames_per_second"] > 0
    assert report["rows"]["step"]["figures"]["batch 2, crop 64"]["clips_per_second"] > 0
    assert report["targets"] == []  # small sizes reach nothing
    assert report["tiny"] is True


def test_without_time_every_row_is_named(tmp_path: Path) -> None:
    report = _command(tmp_path / "gpu.json", "--device", "cpu", "--minutes", "0")
    assert list(report["rows"]) == list(gpu.ROWS)
    reasons = [row["reason"] for row in report["rows"].values()]
    assert all(reason.startswith(("no time was left", "not given", "absent")) for reason in reasons)


def test_what_is_carried_has_a_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def download(requirements: list[str], folder: Path, python: str) -> list[Path]:
        asked.extend(requirements)
        wheel = folder / f"{requirements[0]}.whl"
        wheel.write_bytes(b"x" * (1500 if requirements[0].startswith("av==") else 100))
        return [wheel]

    monkeypatch.setattr(gpu_wheels, "download", download)
    (tmp_path / "old.whl").write_bytes(b"x")
    used, left = gpu_wheels.gather(tmp_path, most=1500, without=["tests"])
    assert all("==" in requirement for requirement in asked)
    assert left["tests"] == "by --without"
    assert left["av"].startswith("needs 0.0 MiB")
    groups = len(gpu_wheels.GROUPS) - 2
    assert (used, len(list(tmp_path.glob("*.whl")))) == (100 * groups, groups)
    assert not (tmp_path / "old.whl").exists()


def test_wheels_are_on_the_path_of_all_processes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "/before")
    wheels, unpacked = tmp_path / "wheels", tmp_path / "unpacked"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "carried-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("carried_package.py", "answer = 42\n")
        archive.writestr("carried-1.0.dist-info/METADATA", "Name: carried\nVersion: 1.0\n")
    gpu_paths.prepare(wheels, unpacked)
    code = "import carried_package, gpu_paths, dvos; print(carried_package.answer)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_targets_stand_beside_figures() -> None:
    rows = {
        "machine": {"figures": {"device": {"name": "NVIDIA H200"}}},
        "parity": {"figures": {"dvos": {"tiles": {"largest": 2e-5, "share_beyond": 0.0}}}},
        "file": {
            "figures": {
                "decoding_alone_frames_per_second": 180.0,
                "second": {"frames_per_second": 181.0},
            }
        },
        "network alone": {
            "figures": {
                "1920 x 1080": {
                    "float32": {"frames_per_second": 150.0},
                    "compiled": {"frames_per_second": 390.0},
                }
            }
        },
        "xmem": {"figures": {"10": {"bfloat16": {"frames_per_second": 90.0}}}},
        "published xmem": {"figures": {"10": {"float32": {"frames_per_second": 40.0}}}},
        "step": {"status": "left out", "reason": "no time"},
    }
    found = {x["what"]: x for x in targets({"tiny": False, "rows": rows})}
    assert [(x["figure"], x["to_reach"], x["reached"]) for x in found.values()] == [
        (2e-5, 1e-4, True),
        (181.0, 180.0, True),
        (390.0, 400, False),
        (2.25, 2.0, True),
    ]
