"""The shipped YAML files are valid, one for each command, and say how they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvos.config.load import load_settings, read_yaml
from dvos.config.registry import COMMANDS, guess_command, settings_model
from dvos.config.show import settings_yaml

FOLDER = Path(__file__).resolve().parents[2] / "configs"


def test_every_command_has_one() -> None:
    names = {path.stem for path in FOLDER.glob("*.yaml")}
    assert names == {command.replace(" ", "-") for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_valid_and_known_for_its_command(command: str) -> None:
    path = FOLDER / f"{command.replace(' ', '-')}.yaml"
    assert f"dvos {command} --config" in path.read_text()
    load_settings(settings_model(command), config=path)
    assert guess_command(read_yaml(path)) == command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_documented(command: str) -> None:
    text = settings_yaml(settings_model(command))
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        # A key stands under its comment, except the required ones, which are comments.
        if not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), f"{command}: {line}"


@pytest.mark.parametrize("command", COMMANDS)
def test_shown_settings_read_back_equal(command: str, tmp_path: Path) -> None:
    model = settings_model(command)
    values = load_settings(model, config=FOLDER / f"{command.replace(' ', '-')}.yaml")
    shown = tmp_path / "shown.yaml"
    shown.write_text(settings_yaml(model, values), encoding="utf-8")
    assert load_settings(model, config=shown) == values
