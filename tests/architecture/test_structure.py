"""The house rules that a reader relies on: room sizes, import weight, layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "dvos"
MODULES = sorted(SOURCE.rglob("*.py"))


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 30


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def _trees() -> dict[str, ast.Module]:
    """The modules by name, parsed."""
    package = ROOT / "src"
    names = {".".join(p.relative_to(package).with_suffix("").parts): p for p in MODULES}
    return {
        name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for name, path in names.items()
    }


def test_no_modules_import_one_another() -> None:
    """Imports inside functions count, too."""
    trees = _trees()
    uses: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        uses[name] = found & trees.keys() - {name, "dvos"}
    assert len([*TopologicalSorter(uses).static_order()]) >= len(trees) - 1


def _imported(body: list[ast.stmt], trees: dict[str, ast.Module]) -> Iterator[str]:
    """The modules that statements import, in order; parents come first."""
    for node in body:
        found = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = (f"{node.module}.{each.name}" for each in node.names)
            found = [node.module, *(name for name in inner if name in trees)]
        for name in found:
            parts = name.split(".")
            yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))


def _load(body: list[ast.stmt], trees: dict[str, ast.Module], loaded: list[str]) -> None:
    """Note what statements load, in order, and what that loads in turn."""
    for name in _imported(body, trees):
        if name not in loaded:
            loaded.append(name)
            if name in trees:
                _load(trees[name].body, trees, loaded)


def test_numpy_is_loaded_before_torch() -> None:
    """Whatever module comes first: PyTorch, which loads it, swallows a Ctrl-C meanwhile."""
    trees, late = _trees(), set()
    for name, tree in trees.items():
        whole: list[str] = []
        _load(ast.parse(f"import {name}").body, trees, whole)
        # What a function imports comes after what its module does.
        inner = [node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for body in ([], *inner):
            loaded = [*whole]
            _load(body, trees, loaded)
            if "torch" in loaded and "numpy" not in loaded[: loaded.index("torch")]:
                late.add(name)
    assert late == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for p in MODULES if not p.read_text(encoding="utf-8").lstrip().startswith('"""')]
    assert silent == []


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# Each snippet runs in an interpreter of its own, as torch once imported stays.
LIGHT = {
    "import dvos": "import dvos",
    "dvos --help": "from dvos.cli.main import main; main(['--help'])",
    "dvos extract frames": (
        "from dvos.cli.main import main; main(['extract', 'frames', '--set', 'videos=none.csv',"
        " '--set', 'out=out.csv'])"
    ),
    "dvos extract objects": (
        "from dvos.cli.main import main; import dvos.extraction.objects;"
        " main(['extract', 'objects'])"
    ),
    "dvos synthesize": (
        "from dvos.cli.main import main; import dvos.synthesis.write, dvos.synthesis.build;"
        " main(['synthesize'])"
    ),
    "dvos score": ("from dvos.cli.main import main; import dvos.scoring.score; main(['score'])"),
    "dvos check": "from dvos.cli.main import main; main(['check', 'nothing.csv'])",
    "dvos config show": "from dvos.cli.main import main; main(['config', 'show', 'train'])",
    "dvos report": ("from dvos.cli.main import main; import dvos.reporting.html; main(['report'])"),
}


@pytest.mark.parametrize("name", LIGHT)
def test_light_commands_load_no_torch(name: str, tmp_path: Path) -> None:
    code = (
        LIGHT[name] + "\nimport sys\n"
        "heavy = sorted(m for m in ('torch', 'lightning_fabric') if m in sys.modules)\n"
        "sys.exit('loaded: ' + ', '.join(heavy) if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


HEAVY = ["numpy", "cv2", "numba", "av", "matplotlib", "torch"]
#: The list of commands needs no settings, and no version: both take longer than all that it needs.
SLOW = ["pydantic", "importlib.metadata"]


@pytest.mark.parametrize(
    ("heavy", "more"), [(name, ["train", "--help"]) for name in HEAVY] + [(x, ["-h"]) for x in SLOW]
)
def test_help_loads_nothing_heavy(heavy: str, more: list[str], tmp_path: Path) -> None:
    code = (
        f"from dvos.cli.main import main; main(['--help']); main({more})\n"
        f"import sys; sys.exit({heavy!r} in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"dvos --help loads {heavy}"
