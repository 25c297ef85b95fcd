"""The package's own names: every command a function, whatever has been imported before."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dvos
from dvos.api import stub_text
from dvos.config.commands import COMMANDS, function_name
from dvos.errors import ConfigError, UsageError

FUNCTIONS = sorted(set(dvos.__all__) - {"__version__"})


def test_every_command_is_a_function() -> None:
    names = set(map(function_name, COMMANDS))
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
        model = import_module("dvos.config.scoring").ReportSettings(run=tmp_path)
        dvos.report(model, title="x")
    with pytest.raises(UsageError):
        dvos.report(run=tmp_path)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dvos.nonsense


def test_the_stub_is_what_the_settings_say() -> None:
    # `make stubs` writes it anew.
    stub = Path(dvos.__file__).with_name("api.pyi")
    made = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "format", "--stdin-filename", stub, "-"],
        input=stub_text(),
        capture_output=True,
        text=True,
        check=True,
        cwd=stub.parents[2],
    ).stdout
    assert stub.read_text(encoding="utf-8") == made


def test_help_shows_every_option() -> None:
    parameters = inspect.signature(dvos.predict).parameters
    assert list(parameters)[:3] == ["input", "config", "overrides"]
    assert parameters["threshold"].default == 0.5
    assert {"checkpoint", "scale", "tile", "overlay", "out"} <= parameters.keys()
    assert "probability from which a pixel is object (default: 0.5)" in dvos.predict.__doc__


def test_the_input_may_stand_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv"):
        dvos.report(tmp_path / "none.csv")
    with pytest.raises(TypeError, match="run is given twice"):
        dvos.report(tmp_path, run=tmp_path)
    with pytest.raises(TypeError, match="give keywords"):
        dvos.train(tmp_path)
