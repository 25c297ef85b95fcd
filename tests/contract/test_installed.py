"""The wheel without the tree that it was built from, and the command without its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import dvos
from dvos.media.mask import write_mask

TREE = Path(__file__).resolve().parents[2]
PACKAGE = TREE / "src" / "dvos"
pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel, built of a copy of the tree, was unpacked into."""
    root = tmp_path_factory.mktemp("wheel")
    tree, out = root / "tree", root / "out"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tree)
    left = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(TREE / "src", tree / "src", ignore=left)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    out.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
    (wheel,) = out.glob("dvos-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(root / "site")
    shutil.rmtree(tree)
    return root / "site"


def run(installed: Path, folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "dvos", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package(installed: Path) -> None:
    def files(package: Path) -> set[str]:
        found = (path for path in package.rglob("*") if path.is_file())
        return {p.relative_to(package).as_posix() for p in found if "__pycache__" not in p.parts}

    assert files(installed / "dvos") == files(PACKAGE)
    (metadata,) = installed.glob("dvos-*.dist-info")
    assert "dvos.__main__:run" in (metadata / "entry_points.txt").read_text()


def test_its_command_works_anywhere(installed: Path, tmp_path: Path) -> None:
    told = run(installed, tmp_path, "--version")
    assert told == f"dvos {dvos.__version__}\n"
    assert "preset: cells" in run(
        installed, tmp_path, "config", "show", "demo", "--set", "scene.preset=cells", "--full"
    )
    for folder in ("truth", "masks"):
        write_mask(tmp_path / folder / "a.png", np.eye(32, dtype=bool))
    # Here, where what it compiles is compiled already.
    dvos.score(truth=tmp_path / "truth", predictions=tmp_path / "masks", out=tmp_path / "out")
    assert "report.html" in run(installed, tmp_path, "report", "out")
    where = "import dvos.api; print(dvos.api.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.check_output(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, text=True
    )
    assert Path(found.strip()) == installed / "dvos" / "api.py"


def test_every_dependency_says_what_it_needs_at_least() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    bare = [line for each in lists for line in each if ">=" not in line]
    assert bare == ["types-PyYAML"]  # stubs without a version of their own
