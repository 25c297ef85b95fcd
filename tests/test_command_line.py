"""The command line: help, options of sections, inputs, completion, what comes next."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic_core import SchemaError

import dvos
from dvos import api
from dvos.__main__ import run
from dvos.cli.main import build_app, main
from dvos.config.commands import COMMANDS, next_step, settings_model
from dvos.config.load import load_settings
from dvos.config.prediction import EvaluationSettings
from dvos.config.published import Imported
from dvos.config.signatures import options_of
from dvos.config.strict_yaml import parse_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, DvosError, UsageError
from dvos.files import write_text
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.weights import save_network

TOOLS = ("check", "config show", "config import")


@pytest.mark.parametrize("command", [*COMMANDS, *TOOLS])
def test_help_has_an_example_and_defaults(command, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command.split(), "--help"]) == 0
    told = capsys.readouterr().out
    assert f"Example: dvos {command}" in told
    if command in COMMANDS:
        assert "(default: " in told


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_a_command_is_understood(command, monkeypatch, capsys) -> None:
    """Its words are options of the command, and the settings that they make are sound."""
    given = {}

    class Result:
        def __getattr__(self, name: str) -> str:
            return name

    monkeypatch.setattr(api, "run", lambda name, values: given.update(values) or Result())
    words = [*command.split(), *COMMANDS[command].example.split()]
    build_app(words)(words, prog_name="dvos", standalone_mode=False)
    assert ("next: " in capsys.readouterr().err) == bool(COMMANDS[command].then)
    config, overrides = given.pop("config"), given.pop("overrides") or []
    if config is None:
        short = COMMANDS[command].short
        options = {short.get(name, name): value for name, value in given.items()}
        load_settings(settings_model(command), options=options, overrides=overrides)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_the_processes_of_one_training_the_first_tells_it(monkeypatch, capsys, rank) -> None:
    class Result:
        def __getattr__(self, name: str) -> str:
            return name

        def __str__(self) -> str:
            return "the result"

    monkeypatch.setattr(api, "run", lambda *_: Result())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setenv("RANK", rank)
    for command, is_told in (("train", rank == "0"), ("predict", True)):
        words = [command, *COMMANDS[command].example.split()]
        build_app(words)(words, prog_name="dvos", standalone_mode=False)
        assert ("the result" in capsys.readouterr().out) == is_told


def test_options_of_training_are_the_settings_of_its_sections(tmp_path, capsys) -> None:
    words = ["--stills", "a", "--stills", "b", "--validation", "v", "--crop", "192", "--lr", "0.1"]
    assert main(["train", *words, "--out", str(tmp_path / "run"), "--crop", "16"]) == 2
    assert "--crop: data.crop: found 16" in capsys.readouterr().err
    options = options_of(TrainingSettings, COMMANDS["train"].short)
    keys = {option.name: option.key for option in options}
    assert keys["stills"] == "data.stills.folders"
    assert keys["epochs"] == "epochs"
    settings = api._settings(
        "train", None, {"crop": 192, "data": {"crop": 96, "memory_mb": 7}, "out": "run"}
    )
    assert isinstance(settings, TrainingSettings)
    assert (settings.data.crop, settings.data.memory_mb) == (192, 7)


def test_what_evaluate_takes_as_its_input() -> None:
    alone = load_settings(EvaluationSettings, options={"input": "c.csv", "checkpoint": "c"})
    assert (alone.truth, alone.input) == (Path("c.csv"), None)
    values = {"input": "field.mp4", "truth": "masks", "checkpoint": "c"}
    both = load_settings(EvaluationSettings, options=values)
    assert (both.truth, both.input) == (Path("masks"), Path("field.mp4"))
    with pytest.raises(ConfigError, match="truth: is missing"):
        load_settings(EvaluationSettings, options={"checkpoint": "c"})


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    ids = np.zeros((64, 64), np.uint16)
    ids[10:40, 10:40] = 1
    write_image(tmp_path / "annotated/images/a.png", np.full((64, 64, 3), 90, np.uint8))
    write_mask(tmp_path / "annotated/masks/a.png", ids)
    return tmp_path


def test_extract_objects_of_a_folder_tells_what_comes_next(annotated, monkeypatch, capsys) -> None:
    monkeypatch.chdir(annotated)
    assert main(["extract", "objects", "annotated", "--distractors-per-object", "0"]) == 0
    assert Path("cutouts.csv").read_text() == "Image\ncutouts/real/a_rlobj0001.png\n"
    told = capsys.readouterr()
    assert "1 cutouts (cutouts.csv)" in told.out
    assert told.err.splitlines()[-1].startswith("next: dvos synthesize --set backgrounds=")
    assert "--set distractors='[distractors.csv]'" in told.err
    assert main(["extract", "objects"]) == 2
    assert "give a folder of labelled stills" in capsys.readouterr().err
    (annotated / "annotated/masks/a.png").unlink()
    assert main(["extract", "objects", "annotated", "--cutouts", "other.csv"]) == 1
    assert "annotated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "result", "words"),
    [
        ("predict", {"out": "my masks", "missing": 0}, ["report", "my masks"]),
        ("predict", {"out": "masks", "missing": 2}, None),
        ("score", {"out": "it's", "masks": ("a",), "missing": ("a fault",)}, ["report", "it's"]),
        ("score", {"out": "of counts by hand alone"}, None),
        ("synthesize", {"table": "clips/preview.png", "whole": None, "missing": 0}, None),
        (
            "synthesize",
            {"table": "s.csv", "whole": "a b/clips.csv"},
            "data.clips.tables=a b/clips.csv",
        ),
        ("synthesize", {"whole": "a, [b].csv"}, "data.clips.tables=a, [b].csv"),
    ],
)
def test_what_comes_next_is_a_line_for_the_shell(command, result, words) -> None:
    told = next_step(COMMANDS[command], SimpleNamespace(**result))
    given = shlex.split(told)
    if isinstance(words, str):
        key, _, place = words.partition("=")
        (setting,) = (word.partition("=")[2] for word in given if word.startswith(f"{key}="))
        assert parse_yaml(setting) == [place]
    else:
        assert given == (["dvos", *words] if words else [])


def test_the_frames_of_a_shard_alone_lead_nowhere_yet() -> None:
    assert next_step(COMMANDS["extract frames"], Path("a/frames_shard-2-of-3.csv")) == ""
    assert "a/frames.csv" in next_step(COMMANDS["extract frames"], Path("a/frames.csv"))


@pytest.mark.parametrize("place", [None, "config.yaml", "train/config.yaml"])
def test_training_on_pseudo_labels_goes_on_by_the_settings_of_their_network(
    tmp_path, place
) -> None:
    run = tmp_path / "my run"
    write_text(tmp_path / "p.json", json.dumps({"checkpoint": {"path": f"{run}/best.safetensors"}}))
    config = []
    if place is not None:
        write_text(run / place, "")
        config = ["--config", str(run / place)]
    result = {"provenance": tmp_path / "p.json", "setting": "data.pseudo.clips", "table": "p.csv"}
    assert next_step(COMMANDS["pseudo-label"], SimpleNamespace(**result, accepted=0)) == ""
    result["accepted"] = 3
    told = next_step(COMMANDS["pseudo-label"], SimpleNamespace(**result))
    added = ["--set", "data.pseudo.clips=[p.csv]", "--out", "another"]
    assert shlex.split(told) == ["dvos", "train", *config, *added]


@pytest.mark.parametrize(
    ("command", "attribute"),
    [("train", "best"), ("rounds", "best"), ("convert", "out"), ("demo", "checkpoint")],
)
@pytest.mark.parametrize("name", ["xmem", "dvos"])
def test_a_network_that_starts_from_masks_is_told_with_one(
    tmp_path, command, attribute, name
) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, {"a": torch.zeros(1)}, name=name, arguments={})
    told = next_step(COMMANDS[command], SimpleNamespace(**{attribute: path}))
    masks = " --first-mask MASK" if name == "xmem" else ""
    assert told == f"dvos predict VIDEO --checkpoint {path}{masks}"


def test_config_show_works_whatever_is_missing(tmp_path, capsys) -> None:
    assert main(["config", "show", "train", "--set", "data.crop=192"]) == 0
    told = capsys.readouterr().out
    assert "# out:  (required)" in told
    assert "crop: 192" in told
    assert main(["config", "show", "train", "--set", "data.crop=x"]) == 2
    for command in COMMANDS:
        assert main(["config", "show", *command.split()]) == 0


@pytest.mark.parametrize(
    ("line", "expected"), [("dvos ", "predict"), ("dvos train --cr", "--crop")]
)
def test_the_shell_completes_commands_and_options(line: str, expected: str) -> None:
    environment = {"_DVOS_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment["COMP_CWORD"] = str(len(line.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "dvos"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout.split(), done.stderr


def test_what_is_missing_is_named_as_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 2
    told = capsys.readouterr().err
    assert "folder: is missing; expected a value; give it as FOLDER\n" in told
    assert "out: is missing; expected a value; give it with --out=...\n" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("synthesize --set backgrounds=[b.csv] --out c", ["give it with --set cutouts=..."]),
        ("config show predict --set threshold=7", ["expected input should be less than 1"]),
        ("check predict.yaml", ["predict.yaml: input: is missing; .*; add it to the file"]),
        ("check no.yaml", ["no.yaml: no such file; expected a file or folder; check the path"]),
        ("config import no.yaml", ["no.yaml: no such file; check the path"]),
        ("train --set out=1", ["out: found 1; expected a path"]),
        ("train --set data=3 --out r", ["data: found 3; expected a mapping of settings"]),
        ("train --set data.stills.folders=[1] --out r", ["folders.0: found 1; expected a path"]),
        (
            "predict a --set augment_scales=[]",
            ["augment_scales: found 0 values; expected at least 1"],
        ),
        ("report a b c d e f g", ["7 runs are given; give at most six .*"]),
        (
            "predict a.png b.png c.png --stills",
            [r".*\(b.png c.png\); expected one INPUT; give the folder that holds them; .*"],
        ),
        ("convert a b --out c.onnx", [r".*\(b\); expected one CHECKPOINT; see dvos --help"]),
        ("train a", [r".*\(a\); expected options alone; put the name of its option .*"]),
        (
            "predict img.csv",
            [r"img.csv row 1: .* \(its header is Img\); expected VID,.*,Label, or Image alone"],
        ),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(words, told, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predict.yaml").write_text("threshold: 0.4\nstills: true\n")
    (tmp_path / "img.csv").write_text("Img\na.png\n")
    assert main(words.split()) in {1, 2}
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    for line, expected in zip(lines, told, strict=True):
        assert re.search(f"{expected}$", line), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["img.csv", "predict.yaml"]


def test_imported_settings_replace_no_file_but_their_like(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    published = "frames_path: f.csv\n"
    Path("fx.yaml").write_text(published)
    monkeypatch.setattr("dvos.config.published.import_published", _imported)
    for _ in range(2):
        assert main(["config", "import", "fx.yaml", "--out", "ours.yaml"]) == 0
    Path("ours.yaml").write_text(changed := Path("ours.yaml").read_text() + "seed: 5\n")
    capsys.readouterr()
    for name, text in (("fx.yaml", published), ("ours.yaml", changed)):
        assert main(["config", "import", "fx.yaml", "--out", name]) == 1
        told = f"error: {name}: is there, and dvos config import is not known to have made it"
        assert capsys.readouterr().err.startswith(told)
        assert Path(name).read_text() == text


def _imported(path: Path) -> Imported:
    settings = load_settings(settings_model("extract frames"), options={"inputs": [Path("a.mp4")]})
    return Imported(path, "extract frames", settings, ())


@pytest.mark.parametrize(
    "words",
    [
        "score --truth a --predictions b --images c --counts d --out new",
        "predict a --checkpoint b --first-mask c --regions d --out new",
        "evaluate a --truth b --checkpoint c --out new",
        "pseudo-label a --checkpoint b --out new",
        "fit a --start b --out new",
        "suggest a --checkpoint b --out new",
        "label a --checkpoint b --out new",
        "extract frames a b --out new",
    ],
)
def test_all_that_is_not_there_is_told_at_once(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").symlink_to("gone")
    assert main(words.split()) in {1, 2}
    told = [line.split(":")[1].strip() for line in capsys.readouterr().err.splitlines()]
    missing = [name for name in "abcd" if re.search(rf"\b{name}\b", words.split("--out")[0])]
    assert sorted(told) == missing
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_errors_in_python_speak_python(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        dvos.evaluate("clips.csv", scale="wide")
    told = sorted(str(fault) for fault in caught.value.faults)
    assert (
        told[1] == "settings: checkpoint: is missing; expected a value; give it with checkpoint=..."
    )
    assert told[0].startswith("scale: found 'wide'")
    assert sorted(str(caught.value).split("\n")) == told
    with pytest.raises(UsageError, match=r"^scale: found"):
        dvos.load_predictor("c.safetensors", scale="wide")
    with pytest.raises(DvosError) as refused:
        dvos.predict(tmp_path, checkpoint=tmp_path / "none", first_mask="auto")
    assert "--" not in str(refused.value)
    assert main(["evaluate", "clips.csv"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="glibc, which is told so, is Linux's")
@pytest.mark.parametrize(
    ("words", "told", "anew"),
    [
        ("--debug predict field.mp4", {}, True),
        ("pseudo-label field.mp4", {}, True),
        ("evaluate clips.csv", {"MALLOC_ARENA_MAX": "2"}, False),  # What a user says holds.
        ("predict field.mp4", {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, False),
        ("train predict", {}, False),
        ("--help", {}, False),
    ],
)
def test_large_frames_are_segmented_in_memory_that_is_kept(words, told, anew, tmp_path) -> None:
    """The process is started anew, once, with its words; what it starts itself is as it was."""
    script = tmp_path / "dv os.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "from dvos.cli import main as cli\n"
        "def told(words):\n"
        "    given = pathlib.Path('/proc/self/environ').read_text().split('\\0')\n"
        "    print(words, sum(each.startswith('MALLOC_') for each in given))\n"
        "    print(sum(name.startswith('MALLOC_') for name in os.environ), os.getpid())\n"
        "    return 7\n"
        "cli.main = told\n"
        "cli.run()\n"
    )
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    }
    with subprocess.Popen(
        [sys.executable, "-X", "utf8", script, *words.split()],
        env=clean | told,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        printed = process.communicate()[0].splitlines()
    own = sum(name.startswith("MALLOC_") for name in told)
    assert printed == [f"{words.split()} {2 if anew else own}", f"{own} {process.pid}"]
    assert process.returncode == 7


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_a_service_has_closed_are_led_to_nothing(closed, tmp_path) -> None:
    for number in range(3):
        write_mask(tmp_path / f"masks/{number}.png", np.full((16, 24), 255, np.uint8))
    words = [sys.executable, "-m", "dvos", "score"]
    for name in ("truth", "predictions", "out"):
        words += [f"--{name}", str(tmp_path / ("scores" if name == "out" else "masks"))]
    line = f"{shlex.join(words)} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "error" not in done.stdout + done.stderr
    assert (tmp_path / "scores/scores.json").is_file()
    # Else a file would get the number of a stream, and hold what is told.
    script = "import os; from dvos.__main__ import _open_closed_streams as it; it(); "
    script += f"assert os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_RDWR) > 2"
    line = f"{shlex.join([sys.executable, '-c', script])} {closed}"
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0


def test_ctrl_c_is_told_in_a_line_at_any_moment(monkeypatch, capsys) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    class Interrupted:
        __del__ = interrupt

    def work(*_: object) -> None:
        Interrupted()  # Python ignores what a destructor raises
        threading.Event().wait()

    class Finder:
        find_spec = interrupt

    told = "error: interrupted; run the same command again to go on from here\n"
    with monkeypatch.context() as patch:  # while it loads
        patch.delitem(sys.modules, "dvos.cli.main")
        patch.delattr("dvos.cli.main")
        patch.setattr(sys, "meta_path", [Finder])
        with pytest.raises(SystemExit, match="130"):
            run()
        assert capsys.readouterr().err == told

    def wrap(*_: object) -> None:
        raise SchemaError("Error building `literal` serializer: KeyboardInterrupt: ")

    before = sys.unraisablehook
    for place, function in (
        ("dvos.api.run", interrupt),
        ("dvos.api.run", wrap),
        ("dvos.api.run", work),
        ("dvos.cli.main._prepare", interrupt),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, function)
            assert main(["demo"]) == 130
        assert capsys.readouterr().err == told
        assert sys.unraisablehook is before


def test_what_bears_the_name_of_an_interruption_is_none(tmp_path, capsys) -> None:
    assert main(["check", str(tmp_path / "KeyboardInterrupt.csv")]) == 2
    assert "KeyboardInterrupt.csv" in capsys.readouterr().err
