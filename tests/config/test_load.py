"""Settings: sources and their order, and faults that name file, key, value and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from dvos.config.base import (
    PresetSettings,
    Settings,
    free,
    named_weights,
    plain_values,
    values_affecting,
)
from dvos.config.commands import settings_model
from dvos.config.load import load_settings
from dvos.config.prediction import PredictionSettings
from dvos.config.selftraining import RoundsSettings
from dvos.config.show import check_run_settings, settings_yaml
from dvos.config.strict_yaml import read_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, UsageError


class Optimiser(Settings):
    lr: float = Field(1e-3, gt=0, description="Learning rate.")
    decay: float = Field(0.01, ge=0, description="Weight decay.")


class Crop(Settings):
    height: int = Field(256, ge=1, description="Rows.")


class Example(Settings):
    out: Path = Field(description="Output folder.")
    seed: int = Field(123, description="Seed.")
    mode: Literal["fast", "exact"] = Field("fast", description="How.")
    optimiser: Optimiser = Field(Optimiser(), description="The optimiser.")
    crop: Crop | None = Field(None, description="Crop, or null for whole frames.")
    range_: tuple[int, int] = Field((1, 5), description="Lowest and highest.")
    inputs: list[Path] = Field([], description="Tables.")

    def _faults(self) -> Iterator[str]:
        if self.range_[0] > self.range_[1]:
            yield "range_ must begin with its lower end; swap the two numbers"


def faults_of(**arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(Example, **arguments)
    assert caught.value.exit_code == 2
    return [str(fault) for fault in caught.value.faults]


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("out: a\nseed: 1\noptimiser: {lr: 1e-4, decay: 0.5}\n")
    loaded = load_settings(
        Example,
        config=file,
        overrides=["seed=2", "optimiser.lr=3e-4"],
        options={"seed": 3, "mode": None},
    )
    assert loaded.seed == 3
    assert loaded.optimiser.lr == 3e-4
    assert loaded.optimiser.decay == 0.5
    assert loaded.mode == "fast"


def test_a_mapping_given_as_an_option_keeps_the_files_other_keys(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("out: a\noptimiser: {lr: 1e-4, decay: 0.5}\n")
    loaded = load_settings(Example, config=file, options={"optimiser": {"lr": 2e-4}})
    assert (loaded.optimiser.lr, loaded.optimiser.decay) == (2e-4, 0.5)


def test_an_override_makes_an_optional_part(tmp_path: Path) -> None:
    loaded = load_settings(Example, overrides=["out=a", "crop.height=64"])
    assert loaded.crop == Crop(height=64)


def test_all_faults_at_once_with_place_key_value_and_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("sead: 1\nmode: quick\noptimiser: {lr: fast, dekay: 1}\n")
    faults = faults_of(config=file, overrides=["crop.hight=3"])
    text = "\n".join(faults)
    assert len(faults) == 6
    assert f"{file}: sead: unknown key; did you mean seed?" in text
    assert f"{file}: mode: found 'quick'; expected" in text
    assert f"{file}: optimiser.lr: found 'fast'" in text
    assert f"{file}: optimiser.dekay: unknown key; did you mean optimiser.decay?" in text
    assert "--set: crop.hight: unknown key; did you mean crop.height?" in text
    assert "out: is missing" in text


def test_a_key_at_the_wrong_depth_is_found() -> None:
    (fault,) = faults_of(overrides=["out=a", "lr=3"])
    assert "did you mean optimiser.lr?" in fault


def test_a_rule_across_fields_speaks_for_itself() -> None:
    (fault,) = faults_of(overrides=["out=a", "range_=[5, 1]"])
    assert fault == "settings: range_ must begin with its lower end; swap the two numbers"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seed: 1\nseed: 2\n", "stands twice"),
        ("- a\n- b\n", "holds a list"),
        ("seed: [1\n", "expected"),
        ("seed: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=found):
        read_yaml(file)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_yaml(tmp_path / "b.yaml")


def test_an_override_without_value() -> None:
    (fault,) = faults_of(overrides=["out=a", "seed"])
    assert fault.startswith("--set seed: no key=value")


def test_shown_settings_read_back_equal(tmp_path: Path) -> None:
    original = load_settings(
        Example,
        overrides=["out=with spaces/ünï", "crop.height=9", "range_=[2, 3]", "inputs=[a.csv, b]"],
    )
    file = tmp_path / "shown.yaml"
    file.write_text(settings_yaml(original), encoding="utf-8")
    assert load_settings(Example, config=file) == original


def test_shown_defaults_document_every_field_and_mark_required_ones() -> None:
    text = settings_yaml(load_settings(Example, partial=True))
    for line in ("# Seed.", "# out:  (required)", "  # Weight decay.", "crop: null"):
        assert line in text
    assert "out" not in yaml.safe_load(text)


@given(
    lr=st.floats(1e-9, 1e3),
    name=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_survives_the_round_trip(tmp_path: Path, lr: float, name: str) -> None:
    original = Example(out=Path(name), optimiser=Optimiser(lr=lr))
    file = tmp_path / "x.yaml"
    file.write_text(settings_yaml(original), encoding="utf-8")
    assert load_settings(Example, config=file) == original
    assert plain_values(original)["optimiser"]["lr"] == lr


def test_an_earlier_name_is_understood_and_told(caplog: pytest.LogCaptureFixture) -> None:
    asked = {"input": "a.mp4", "checkpoint": "best.safetensors"}
    found = load_settings(PredictionSettings, options=asked, overrides=["xmem.every=7", "seed=3"])
    assert (found.xmem.mem_every, found.seed) == (7, 3)
    assert "xmem.every is now called xmem.mem_every" in caplog.text
    with pytest.raises(ConfigError, match=r"--set: xmem\.mem_every: found 'x'"):
        load_settings(PredictionSettings, options=asked, overrides=["xmem.every=x"])


@pytest.mark.parametrize(
    ("command", "place"), [("pseudo-label", ()), ("rounds", ("pseudo_label",))]
)
def test_earlier_names_hold_wherever_their_section_stands(
    command: str, place: tuple[str, ...]
) -> None:
    prefix = "".join(f"{part}." for part in place)
    old = [
        "opinion=false",
        "survey_frames=5",
        "accept.opinion_object=0.7",
        "accept.decide_rims=false",
    ]
    found: Any = load_settings(
        settings_model(command), overrides=[prefix + one for one in old], partial=True
    )
    for part in place:
        found = getattr(found, part)
    assert (found.probe, found.probe_frames) == (False, 5)
    assert (found.filter.probe_object, found.filter.decide_boundary_band) == (0.7, False)


class Product(Settings):
    label: int = Field(1, description="Of labels.", json_schema_extra={"affects": "labels"})
    speed: int = free(1, "Of no result.")
    optimiser: Optimiser = Field(Optimiser(), description="Of the result.")


def test_values_that_affect_a_product() -> None:
    inner = {"lr": 1e-3, "decay": 0.01}
    assert values_affecting(Product()) == {"label": 1, "optimiser": inner}
    assert values_affecting(Product(), "result") == {"optimiser": inner}
    assert values_affecting(Product(), "labels") == {"label": 1}


def test_a_run_keeps_to_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    check_run_settings(path, Product(label=2))
    check_run_settings(path, Product(label=2, speed=9))
    assert load_settings(Product, config=path).speed == 9
    with pytest.raises(UsageError, match="label: the run in this folder has 2; expected 3"):
        check_run_settings(path, Product(label=3))
    assert load_settings(Product, config=path).label == 2


def test_a_value_that_may_be_of_two_kinds_is_told_both() -> None:
    given = {"input": "a.mp4", "checkpoint": "best.safetensors", "flow_frames": 99}
    line = "found 99; expected input should be 'auto', or less than or equal to 16"
    with pytest.raises(ConfigError, match=line) as told:
        load_settings(PredictionSettings, options=given)
    assert len(told.value.faults) == 1


def test_a_zero_byte_is_told_wherever_it_stands() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Example, overrides=['out="a\\0b"', 'inputs=["c\\0"]'])
    assert [fault.where for fault in caught.value.faults] == ["--set: out", "--set: inputs"]


class Camera(PresetSettings):
    presets: ClassVar = {"standard": {}, "none": {"blur": 0.0, "noise": 0.0}}

    preset: Literal["standard", "none"] = Field("standard", description="Values not given.")
    blur: float = Field(0.5, description="Blur.")
    noise: float = Field(2.0, description="Noise.")


class Shot(Settings):
    camera: Camera = Field(Camera(), description="The camera.")


def shot(tmp_path: Path, text: str, *overrides: str) -> Camera:
    file = tmp_path / "shot.yaml"
    file.write_text(text)
    return load_settings(Shot, config=file, overrides=overrides).camera


def test_a_section_may_be_a_preset_or_values_on_top_of_one(tmp_path: Path) -> None:
    assert shot(tmp_path, "camera: none") == Camera(preset="none", blur=0, noise=0)
    assert shot(tmp_path, "camera: {preset: none, blur: 1}") == Camera(preset="none", blur=1)
    assert shot(tmp_path, "camera: {blur: 1}") == Camera(blur=1, noise=2)
    assert shot(tmp_path, "camera: none", "camera.blur=3") == Camera(preset="none", blur=3)
    assert shot(tmp_path, "camera: {blur: 3}", "camera=none") == Camera(preset="none")
    assert Camera(preset="none").preset_name == "none"
    assert Camera(blur=3).preset_name is None
    with pytest.raises(ConfigError, match="'standard' or 'none'"):
        shot(tmp_path, "camera: some")


@pytest.mark.parametrize("full", [False, True])
def test_presets_are_shown_by_name_and_read_back(tmp_path: Path, full: bool) -> None:
    for camera in (Camera(), Camera(preset="none"), Camera(preset="none", blur=3)):
        text = settings_yaml(Shot(camera=camera), full=full)
        assert ("camera: " in text) == (camera.blur != 3 and not full)
        assert shot(tmp_path, text) == camera


def test_settings_of_an_earlier_version_are_understood(tmp_path: Path) -> None:
    from dvos.config.training import TrainingSettings

    file = tmp_path / "train.yaml"
    file.write_text(
        "out: x\ndata:\n  stills: {folders: [a], wind: {share: 0.1, amplitude: 1.5}}\n"
        "  pseudo: {stills: {tables: [p.csv]}, clips: {tables: []}}\n"
        "  validation: {clips: {references: interval}}\n"
    )
    data = load_settings(TrainingSettings, config=file).data
    assert (data.stills.motion.sway_share, data.stills.motion.sway) == (0.1, 1.5)
    assert (data.pseudo.stills, data.pseudo.clips) == ([Path("p.csv")], [])


def test_an_earlier_name_whose_new_place_is_taken_is_told(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("out: run\ndata: {stills: {wind: {share: 0.3}, motion: 5}}")
    with pytest.raises(ConfigError) as caught:
        load_settings(TrainingSettings, config=file)
    told = [str(fault) for fault in caught.value.faults]
    assert any("data.stills.motion.sway_share: cannot be set" in line for line in told)


def test_a_long_value_is_told_in_a_line_of_bounded_length() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(TrainingSettings, options={"out": "run", "epochs": "x" * 10_000})
    assert len(str(caught.value)) < 1000


def test_settings_of_a_run_hold_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvos.config.show import check_run_settings
    from dvos.config.workflow import DemoSettings

    first, other = tmp_path / "first", tmp_path / "other"
    for folder in (first, other):
        folder.mkdir()
    monkeypatch.chdir(first)
    check_run_settings(first / "demo.yaml", DemoSettings(data=Path("wheat")))
    assert f"data: {first / 'wheat'}" in (first / "demo.yaml").read_text()
    monkeypatch.chdir(other)
    check_run_settings(first / "demo.yaml", DemoSettings(data=first / "wheat"))


def _rounds(place: str) -> RoundsSettings:
    """Rounds whose files lie in a folder, named by its path from the current one."""
    train = {
        "network": {"weights": "wheat"},
        "data": {
            "stills": {"folders": [f"{place}labelled"], "tables": [Path(f"{place}t.csv")]},
            "validation": {"videos": [{"video": f"{place}v.mp4", "masks": f"{place}m"}]},
        },
    }
    return RoundsSettings(
        out=Path(f"{place}rounds"),
        unlabelled=[{"input": f"{place}new.mp4"}],
        train=train,
        retrain={"network": {"weights": f"{place}own.safetensors"}},
    )


def test_paths_among_the_settings_of_another_command_hold_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    for folder in (first / "rounds", first / "labelled", tmp_path / "other"):
        folder.mkdir(parents=True)
    for name in ("v.mp4", "m", "own.safetensors", "new.mp4", "t.csv"):
        (first / name).touch()
    monkeypatch.chdir(first)
    note = first / "rounds/rounds.yaml"
    check_run_settings(note, _rounds(""))
    kept = note.read_text()
    assert f"folders: [{first / 'labelled'}]" in kept
    assert "weights: wheat" in kept
    monkeypatch.chdir(tmp_path / "other")
    for place in ("../first/", f"{first}/"):
        check_run_settings(note, _rounds(place))
        assert note.read_text() == kept
    first.rename(tmp_path / "moved")
    check_run_settings(tmp_path / "moved/rounds/rounds.yaml", _rounds("../moved/"))
    # What is not there is not what was moved.
    with pytest.raises(UsageError, match=r"train\.data\.stills\.folders: the run in this folder"):
        check_run_settings(tmp_path / "moved/rounds/rounds.yaml", _rounds(""))


def test_rounds_from_weights_of_the_package_go_on(tmp_path: Path) -> None:
    for start in ("wheat", named_weights(Path("wheat"))):
        given = RoundsSettings(unlabelled=[{"input": "new.mp4"}], train={}, start=start)
        assert given.start == named_weights(Path("wheat"))
        check_run_settings(tmp_path / "rounds.yaml", given)
        assert "\nstart: wheat\n" in (tmp_path / "rounds.yaml").read_text()
    with pytest.raises(UsageError, match=r"start: the run in this folder has .*; expected None"):
        check_run_settings(tmp_path / "rounds.yaml", given.model_copy(update={"start": None}))


def test_weights_of_the_package_are_kept_by_their_name() -> None:
    """A run is repeated where the package lies elsewhere, and a user's own file stays a path."""
    packaged = named_weights(Path("wheat"))
    for name in ("wheat", packaged):
        chosen = PredictionSettings(checkpoint=name, input="a.mp4")
        assert chosen.checkpoint == packaged
        assert "\ncheckpoint: wheat\n" in settings_yaml(chosen)
    own = PredictionSettings(checkpoint="other/wheat.safetensors", input="a.mp4")
    assert "\ncheckpoint: other/wheat.safetensors\n" in settings_yaml(own)


@pytest.mark.parametrize(
    ("command", "given", "told"),
    [
        ("demo", "sample.size=[64]", "sample.size: found 1 value; expected 2; give the whole list"),
        ("convert", "mean=[0.5]", "mean: found 1 value; expected 3; give the whole list"),
        ("predict", "known_width=[]", "known_width: found 0 values; expected 2; give the whole"),
        ("rounds", "unlabelled=[{}]", "unlabelled.0.input: is missing; expected a value; give the"),
    ],
)
def test_a_value_that_a_list_lacks_is_asked_for_with_the_whole_list(
    command: str, given: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(settings_model(command), overrides=[given])
    lines = [line for line in str(caught.value).splitlines() if line.startswith("--set")]
    key = given.partition("=")[0]
    assert len(lines) == 1
    assert lines[0].startswith(f"--set: {told}")
    assert lines[0].endswith(f" --set {key}=[...]")


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("optimiser.lr", "1e300"),
        ("optimiser.lr", ".inf"),
        ("optimiser.betas", "[0.9, .nan]"),
        ("seed", "9223372036854775808"),
        ("data.stills.motion.speed", "1e31"),
    ],
)
def test_numbers_that_nothing_can_be_worked_out_with_are_told(where: str, given: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings(TrainingSettings, overrides=[f"{where}={given}"])
    (fault,) = (line for line in str(told.value).splitlines() if where in line)
    assert "expected" in fault


def test_the_largest_seed_is_a_seed() -> None:
    whole = [f"seed={2**63 - 1}", "out=run"]
    settings = load_settings(TrainingSettings, overrides=whole, partial=True)
    assert settings.seed == 2**63 - 1
