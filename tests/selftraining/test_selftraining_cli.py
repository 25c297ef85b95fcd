"""The two commands at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_predictor import write_frames

from dvos.cli.main import main
from dvos.config.commands import settings_model
from dvos.config.load import load_settings


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, list[str]]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, [x for x in captured.err.splitlines() if x.startswith("error: ")]


def test_pseudo_label_prints_what_it_made(checkpoint, tmp_path, capsys) -> None:
    clip = write_frames(tmp_path / "clip", 2)
    options = ["--set", "scales=[1.0]", "--set", "flips=none", "--set", "filter.min_consistency=0"]
    code, text, errors = run(
        capsys, "pseudo-label", clip, "--checkpoint", checkpoint, "--out", tmp_path / "out",
        "--interval", "2", "--device", "cpu", *options,
    )  # fmt: skip
    assert (code, errors) == (0, [])
    assert "of 1 frames accepted" in text
    assert str(tmp_path / "out/pseudo_labels.csv") in text


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("pseudo-label", ".", "--checkpoint", "w"), 1, "w: no such file"),
        (("pseudo-label", "none.mp4", "--checkpoint", "w"), 2, "w: no such file"),
        (("pseudo-label", "none.mp4"), 2, "checkpoint: is missing"),
        (("pseudo-label", "x", "--checkpoint", "w", "--interval", "0"), 2, "interval"),
        (("rounds",), 2, "unlabelled: is missing"),
        (("rounds", "--set", "unlabelled=[{inptu: a}]", "--set", "train={}"), 2, "inptu"),
        (("rounds", "--set", "unlabelled=[{input: a}]", "--set", "train={}"), 2, "a: no such file"),
    ],
)
def test_bad_usage_is_one_line_each(words, code, told, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, errors = run(capsys, *words)
    assert found == code
    assert any(told in error for error in errors), errors
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["pseudo-label", "pseudo label", "rounds"])
def test_the_commands_settings_are_found_by_either_spelling(name) -> None:
    folder = Path(__file__).resolve().parents[2] / "configs"
    config = folder / f"{name.replace(' ', '-')}.yaml"
    assert load_settings(settings_model(name), config=config)


def test_names_of_the_first_version_are_understood(tmp_path: Path) -> None:
    old = (
        "opinion: false\nsurvey_frames: 7\naccept: {opinion_object: 0.8, opinion_background: 0.3,"
        " decide_rims: false, max_spread: 0.2, min_agreement: 0.5, opening: 7}\n"
    )
    (tmp_path / "old.yaml").write_text("input: a\ncheckpoint: b\n" + old)
    found = load_settings(settings_model("pseudo-label"), config=tmp_path / "old.yaml")
    indented = "".join(f"  {line}\n" for line in old.splitlines())
    (tmp_path / "rounds.yaml").write_text(
        "unlabelled: [{input: a}]\ntrain: {}\npseudo_label:\n" + indented
    )
    settings = load_settings(settings_model("rounds"), config=tmp_path / "rounds.yaml")
    for options in (found, settings.pseudo_label):
        assert (options.probe, options.probe_frames) == (False, 7)
        assert options.filter.model_dump(exclude_defaults=True) == {
            "probe_object": 0.8,
            "probe_background": 0.3,
            "decide_boundary_band": False,
            "max_std": 0.2,
            "min_consistency": 0.5,
            "opening": 7,
        }
