"""The package's own names: every command a function, whatever has been imported before."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dvos
from dvos.config.commands import COMMANDS
from dvos.errors import ConfigError, UsageError

FUNCTIONS = sorted(set(dvos.__all__) - {"__version__"})


def test_every_command_is_a_function() -> None:
    names = {command.replace(" ", "_").replace("-", "_") for command in COMMANDS}
    assert names <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_stays_a_function_when_its_room_is_imported(name: str) -> None:
    # A sub-package of the same name would take the function's place.
    code = (
        "import pkgutil, dvos\n"
        f"assert {name!r} not in [m.name for m in pkgutil.iter_modules(dvos.__path__)]\n"
        f"assert callable(dvos.{name}) and {name!r} in dir(dvos)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_checked_like_the_command_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean videos"):
        dvos.extract_frames(video="v.csv", out=tmp_path / "f.csv")
    with pytest.raises(TypeError, match="not both"):
        model = import_module("dvos.config.report").ReportSettings(run=tmp_path)
        dvos.report(model, title="x")
    with pytest.raises(UsageError):
        dvos.report(run=tmp_path)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dvos.nonsense
