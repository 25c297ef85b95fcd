"""The shipped YAML files are valid, one for each command, and say how they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvos.config.commands import COMMANDS, guess_command, settings_model
from dvos.config.load import load_settings
from dvos.config.show import settings_yaml
from dvos.config.strict_yaml import read_yaml

FOLDER = Path(__file__).resolve().parents[2] / "configs"

#: Further files of a command, for a purpose of their own.
VARIANTS = {"train_published": "train", "train_xmem": "train"}


def test_every_command_has_one() -> None:
    names = {path.stem for path in FOLDER.glob("*.yaml")}
    assert names == {command.replace(" ", "-") for command in COMMANDS} | VARIANTS.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_valid_and_known_for_its_command(name: str) -> None:
    path, command = FOLDER / f"{name}.yaml", VARIANTS[name]
    assert f"dvos {command} --config configs/{name}.yaml" in path.read_text()
    load_settings(settings_model(command), config=path)
    assert guess_command(read_yaml(path)) == command


def test_the_published_recipe_is_the_published_one() -> None:
    settings = load_settings(settings_model("train"), config=FOLDER / "train_published.yaml")
    assert (settings.network.name, settings.network.references) == ("paper", 4)
    assert not settings.network.looks_at_query
    assert (settings.epochs, settings.batch, settings.data.crop) == (15, 16, 256)
    optimiser, schedule = settings.optimiser, settings.schedule
    assert (optimiser.lr, optimiser.weight_decay) == (1e-3, 1e-2)
    assert schedule.final * optimiser.lr == pytest.approx(1e-5)
    losses = settings.losses
    used = ("mask", "bce", "dice", "reconstruction", "mse", "ms_ssim")
    assert all(getattr(losses, name) == 1 for name in used)
    unused = ("iou", "tversky", "focal", "focal_tversky", "mae", "gradient_difference")
    assert not any(getattr(losses, name) for name in (*unused, "perceptual"))
    diffusion = settings.data.diffusion
    assert (diffusion.share, diffusion.patch, diffusion.steps) == (0.5, 32, 750)
    assert not settings.data.colour.query
    assert not settings.data.degradation.query


def test_the_xmem_schedule_is_the_published_one() -> None:
    settings = load_settings(settings_model("train"), config=FOLDER / "train_xmem.yaml")
    assert (settings.network.name, settings.network.references) == ("xmem", 4)
    steps = settings.epochs * settings.clips_per_epoch // settings.batch
    assert (steps, settings.batch, settings.data.crop) == (40_000, 16, 384)
    assert steps * settings.xmem.tuning == 10_000
    assert settings.keep_epochs * settings.clips_per_epoch // settings.batch == 5_000
    assert (settings.xmem.frames, settings.xmem.max_objects) == (8, 3)
    assert settings.xmem.warm_up == (20_000, 70_000)
    assert (settings.optimiser.lr, settings.optimiser.weight_decay) == (1e-4, 0.05)


def test_training_names_only_what_the_steps_before_it_make_of_labelled_stills() -> None:
    data = load_settings(settings_model("train"), config=FOLDER / "train.yaml").data
    held = data.validation
    assert (data.stills.folders, data.stills.tables) == ([Path("annotated")], [])
    assert not any((*held.stills.folders, *held.stills.tables, *held.clips.tables))
    assert data.synthetic is not None
    cut = load_settings(settings_model("extract objects"), options={"folder": "annotated"})
    assert [cut.cutouts] == data.synthetic.cutouts
    assert [cut.distractors] == data.synthetic.distractors
    frames = load_settings(settings_model("extract frames"), config=FOLDER / "extract-frames.yaml")
    assert data.synthetic.backgrounds == data.empty.tables == [frames.out]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_valid_and_known_for_its_command(command: str) -> None:
    path = FOLDER / f"{command.replace(' ', '-')}.yaml"
    assert f"dvos {command} --config" in path.read_text()
    load_settings(settings_model(command), config=path)
    assert guess_command(read_yaml(path)) == command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_documented(command: str) -> None:
    text = settings_yaml(load_settings(settings_model(command), partial=True))
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
    shown.write_text(settings_yaml(values), encoding="utf-8")
    assert load_settings(model, config=shown) == values


def test_a_small_file_belongs_to_the_command_that_it_fits() -> None:
    assert guess_command({"out": "x", "data": {"stills": {"folders": ["a"]}}}) == "train"
    assert guess_command({"out": "x", "data": "folder"}) == "demo"
    assert guess_command({"out": "x", "data": {"crop": 3}}) == "train"
    assert guess_command({"input": "a.mp4", "checkpoint": "b.safetensors"}) == "predict"
    assert guess_command({"input": "a.mp4", "checkpoint": "b", "probe": False}) == "pseudo-label"
    assert guess_command({"checkpoint": "b.safetensors", "out": "c.onnx"}) == "convert"
    assert guess_command({"out": "x", "epochs": 3, "network": "paper"}) == "train"
