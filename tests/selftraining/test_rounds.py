from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_predictor import SIZE, SOIL, Brightness, Colours, scene, write_frames

from dvos.config.load import load_settings
from dvos.config.selftraining import RoundsSettings
from dvos.config.training import TrainingSettings
from dvos.errors import (
    CheckpointError,
    ConfigError,
    DvosError,
    OutputError,
    RunError,
    UsageError,
)
from dvos.files import locked
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.weights import save_network
from dvos.registry import load_network
from dvos.selftraining import labeller
from dvos.selftraining.rounds import (
    RoundsResult,
    build_labelling,
    build_training,
    pseudo_weight,
    rounds,
    validation_dice,
    validation_kind,
)
from dvos.training import data as clip_data
from dvos.training import run as training_run
from dvos.training.labels import source_kinds
from dvos.training.records import TrainResult

RULE = {"object_threshold": 0.8, "background_threshold": 0.2}


def labelled(folder: Path, count: int = 2) -> Path:
    for number in range(count):
        write_image(folder / "images" / f"s{number}.png", scene(doubt=False))
        mask = np.zeros(SIZE, bool)
        mask[:, :20] = True
        write_mask(folder / "masks" / f"s{number}.png", mask)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_frames(tmp_path / "field", 2)
    write_frames(tmp_path / "photos", 1)
    labelled(tmp_path / "labelled")
    labelled(tmp_path / "validation", 1)
    return tmp_path


def settings_of(data: Path, **changes: Any) -> RoundsSettings:
    values: dict[str, Any] = {
        "out": data / "rounds",
        "unlabelled": [{"input": data / "field"}, {"input": data / "photos", "stills": True}],
        "train": {
            "seed": 7,
            "data": {
                "stills": {"folders": [data / "labelled"]},
                "validation": {"stills": {"folders": [data / "validation"]}},
            },
        },
        "pseudo_label": {"filter": RULE, "scales": [1.0], "flips": "none", "device": "cpu"},
        "rounds": 2,
    }
    return RoundsSettings.model_validate(values | changes)


class FakeTraining:
    """Gives the validation Dice of a list, one for each round; keeps the settings."""

    def __init__(self, *dice: float) -> None:
        self.dice = dice
        self.plans: list[TrainingSettings] = []

    def __call__(self, settings: TrainingSettings, spec: object = None) -> TrainResult:
        self.plans.append(settings)
        number = int(settings.out.parent.name.removeprefix("round_"))
        best = settings.out / "best.safetensors"
        best.parent.mkdir(parents=True, exist_ok=True)
        best.write_text(f"weights of round {number}")
        dice = self.dice[number]
        return TrainResult(settings.out, best, 1, 1, dice, dice, 1.0, 1.0, already_finished=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTraining]:
    """Replace training and the network; call it with the Dice of each round."""
    monkeypatch.setattr(labeller, "predictor_of", lambda *_, **__: Brightness())
    monkeypatch.setattr(labeller, "features_of", lambda *_, **__: Colours())

    def replace(*dice: float) -> FakeTraining:
        training = FakeTraining(*dice)
        monkeypatch.setattr(training_run, "train", training)
        return training

    return replace


def book(result: RoundsResult) -> dict[str, Any]:
    return json.loads((result.out / "rounds.json").read_text())


def test_rounds_train_label_and_train_again(fake, data) -> None:
    training = fake(0.5, 0.6, 0.7)
    result = rounds(settings_of(data))
    assert [plan.out.parent.name for plan in training.plans] == ["round_0", "round_1", "round_2"]
    assert result.best_round == 2
    assert result.best.read_text() == "weights of round 2"
    assert result.stopped == "all rounds are done"
    stored = book(result)
    assert [row["val_dice"] for row in stored["rounds"]] == [0.5, 0.6, 0.7]
    assert [row["accepted"] for row in stored["rounds"]] == [0, 3, 3]
    assert stored["rounds"][1]["known_share"] == pytest.approx(0.75, abs=0.02)
    assert stored["rounds"][1]["checkpoint"] == "round_1/train/best.safetensors"
    assert stored["best"] == {"round": 2, "val_dice": 0.7}
    assert stored["validation"] == "named"
    with open(result.out / "rounds.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["val_dice"] for row in rows] == ["0.5", "0.6", "0.7"]
    assert "round 1: 3 of 3 frames accepted, validation Dice 0.6000" in str(result)


def test_each_round_mixes_in_its_own_labels(fake, data) -> None:
    training = fake(0.5, 0.6, 0.7)
    rounds(settings_of(data, pseudo_share=0.25))
    first, *later = training.plans
    assert not first.data.pseudo.clips
    for number, plan in enumerate(later, 1):
        folder = data / f"rounds/round_{number}/pseudo"
        assert plan.data.pseudo.clips == [folder / "00_field/pseudo_labels.csv"]
        assert plan.data.pseudo.stills == [folder / "01_photos/pseudo_stills.csv"]
        assert plan.data.shares.pseudo == pytest.approx(1 / 3)  # a quarter beside one share
        assert plan.data.stills == first.data.stills
        assert plan.seed == 7 + number
        assert plan.network.weights == data / f"rounds/round_{number - 1}/train/best.safetensors"
        provenance = json.loads((folder / "00_field/pseudo_labels.json").read_text())
        assert provenance["round"] == number
        assert provenance["checkpoint"]["path"] == str(plan.network.weights)


def test_training_may_start_afresh_and_differ_in_later_rounds(fake, data) -> None:
    training = fake(0.5, 0.6, 0.7)
    rounds(settings_of(data, start_from="scratch", retrain={"epochs": 3, "data": {"crop": 64}}))
    assert [plan.network.weights for plan in training.plans] == [None] * 3
    assert [plan.epochs for plan in training.plans] == [15, 3, 3]
    assert [plan.data.crop for plan in training.plans] == [160, 64, 64]
    assert training.plans[1].data.stills.folders == [data / "labelled"]


@pytest.mark.parametrize(
    ("dice", "count", "best"),
    [
        ((0.6, 0.595, 0.61), 3, 2),
        ((0.6, 0.58, 0.9), 2, 0),
        ((0.6, 0.7, 0.5), 3, 1),
        ((0.6, 0.595, 0.592), 3, 2),
    ],
)
def test_a_fall_of_validation_ends_the_rounds_and_the_best_is_kept(
    fake, data, dice, count, best
) -> None:
    fake(*dice)
    result = rounds(settings_of(data, tolerance=0.01))
    assert len(result.records) == count
    assert result.best_round == best
    assert result.best.read_text() == f"weights of round {best}"
    fell = "fell" in result.stopped
    assert fell == (max(dice[:count]) - dice[count - 1] > 0.01)


def test_rounds_end_where_nothing_is_accepted(fake, data) -> None:
    training = fake(0.5, 0.6)
    for folder in ("field", "photos"):
        for path in (data / folder).iterdir():
            write_image(path, np.full((*SIZE, 3), SOIL, np.uint8))
    result = rounds(settings_of(data))
    assert result.stopped == "no frame was accepted in round 1"
    assert result.best_round == 0
    assert len(training.plans) == 1
    assert book(result)["rounds"][1]["val_dice"] is None
    assert "round 1: 0 of 3 frames accepted, no training" in str(result)


def test_an_input_without_accepted_frames_is_left_out(fake, data) -> None:
    training = fake(0.5, 0.6, 0.7)
    write_image(data / "photos/f0.png", np.full((*SIZE, 3), SOIL, np.uint8))
    rounds(settings_of(data))
    assert training.plans[1].data.pseudo.stills == []
    assert len(training.plans[1].data.pseudo.clips) == 1


def test_a_killed_run_goes_on_with_the_same_result(fake, data, monkeypatch) -> None:
    fake(0.5, 0.6, 0.7)
    whole = rounds(settings_of(data))
    stored = (whole.out / "rounds.json").read_bytes()
    (whole.out / "rounds.json").unlink()
    (whole.out / "best.safetensors").unlink()

    def killed(*_: object) -> TrainResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        rounds(settings_of(data))
    fake(0.5, 0.6, 0.7)
    assert rounds(settings_of(data)) == whole
    assert (whole.out / "rounds.json").read_bytes() == stored


def test_going_on_never_tells_less_than_before(fake, data, monkeypatch) -> None:
    fake(0.5, 0.6, 0.7)
    result = rounds(settings_of(data))
    again = fake(0.5, 0.6, 0.7, 0.8)

    def checked(settings: TrainingSettings, spec: object) -> TrainResult:
        assert len(book(result)["rounds"]) == 3
        assert result.best.read_text() == "weights of round 2"
        return again(settings, spec)

    monkeypatch.setattr(training_run, "train", checked)
    more = rounds(settings_of(data, rounds=3))
    assert more.best_round == 3
    assert len(book(more)["rounds"]) == 4


def test_other_settings_in_its_folder_are_refused(fake, data) -> None:
    fake(0.5, 0.6, 0.7)
    rounds(settings_of(data))
    with pytest.raises(UsageError, match="tolerance"):
        rounds(settings_of(data, tolerance=0.5))


def test_a_second_run_beside_it_is_refused(fake, data) -> None:
    training = fake(0.5, 0.6, 0.7)
    (data / "rounds").mkdir()
    with locked(data / "rounds"):
        with pytest.raises(RunError, match="rounds: another run is at work here; wait for it"):
            rounds(settings_of(data))
    assert not training.plans
    assert not any((data / "rounds").iterdir())


@pytest.mark.parametrize("name", ["best.safetensors", "rounds.csv", "round_1/notes.txt"])
def test_what_no_rounds_made_is_not_replaced(fake, data, name) -> None:
    """The run folder of a training, for instance, whose best weights would be lost."""
    training = fake(0.5, 0.6, 0.7)
    mine = data / "rounds" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="is there, and dvos rounds is not known to have made it"):
        rounds(settings_of(data))
    assert not training.plans
    assert [path for path in (data / "rounds").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_faults_are_told_before_anything_is_written(fake, data) -> None:
    fake(0.5)
    for changes, told in (
        ({"train": {"epoch": 3}}, r"train\.epoch: unknown key"),
        ({"retrain": {"data": {"crop": 1}}}, r"retrain\.data\.crop: found 1"),
        ({"train": {"batch": 8, "accumulate": 3}}, "train: batch is 8"),
        ({"train": {"out": "x", "resume": False}}, r"train\.out: is chosen by the rounds"),
    ):
        with pytest.raises(ConfigError, match=told):
            rounds(settings_of(data, **changes))
    with pytest.raises(UsageError) as caught:
        rounds(settings_of(data, unlabelled=[{"input": "none.mp4"}, {"input": "gone"}]))
    assert len(caught.value.faults) == 2
    with pytest.raises(CheckpointError, match="check --start"):
        rounds(settings_of(data, start=data / "none"))
    assert not (data / "rounds").exists()


def test_validation_that_proves_little_is_said_so(fake, data, caplog) -> None:
    fake(0.5, 0.6, 0.7)
    train = {"data": {"stills": {"folders": [data / "labelled"]}}}
    result = rounds(settings_of(data, train=train))
    assert "judged by the labelled stills and clips that are trained on" in caplog.text
    assert "train.data.validation" in caplog.text
    assert "judged by the training data themselves, which says little" in str(result)
    assert book(result)["validation"] == "training data"


def test_what_validation_measures_on(data) -> None:
    def kind(**values: Any) -> str:
        options = {"out": "x", "data": values}
        return validation_kind(load_settings(TrainingSettings, options=options).data)

    stills = {"folders": [data / "labelled"]}
    more = {"folders": [labelled(data / "more", 5)]}
    assert kind(stills=stills, validation={"stills": stills}) == "named"
    assert kind(stills=more) == "held back"
    assert kind(stills=more, validation={"share": 0.0}) == "training data"
    assert kind(stills=stills) == "training data"
    assert kind(stills=stills, validation={"synthetic": 3}) == "synthetic"
    assert kind() == "none"


def test_the_weight_of_a_share() -> None:
    def weight(share: float, **values: Any) -> float:
        options = {"out": "x", "data": values}
        return pseudo_weight(load_settings(TrainingSettings, options=options).data, share)

    stills, tables = {"tables": ["a.csv"]}, {"tables": ["b.csv"]}
    assert weight(0.5, stills=stills) == 1
    assert weight(0.5, stills=stills, clips=tables) == 2
    assert weight(0.2, stills=stills, shares={"stills": 0.8}) == pytest.approx(0.2)
    assert weight(0.5, stills=stills, clips=tables, shares={"clips": 0}) == 1
    assert weight(0.7) == 1


def test_plans_take_a_plain_network_name_and_earlier_pseudo_labels(data) -> None:
    train = {"network": "dvos", "data": {"pseudo": {"clips": {"tables": ["mine.csv"]}}}}
    settings = settings_of(data, train=train)
    plan = build_training(settings, 1, Path("w"), stills=[], clips=[Path("new.csv")])
    assert plan.network.weights == Path("w")
    assert plan.data.pseudo.clips == [Path("mine.csv"), Path("new.csv")]
    first, second = build_labelling(settings, 3, Path("w"))
    assert (first.stills, second.stills) == (False, True)
    assert first.filter.object_threshold == 0.8
    assert first.out != second.out


TINY = {"references": 2, "dvos": {"channels": (4, 4, 4, 4, 4), "widths": (4, 4, 4, 4)}}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_real_round_from_a_network(checkpoint, data) -> None:
    train = {
        "network": TINY | {"encoder": "lite0", "encoder_weights": "none"},
        "data": {
            "stills": {"folders": [data / "labelled"]},
            "validation": {"stills": {"folders": [data / "validation"]}},
            "crop": 32,
        },
        "epochs": 1, "clips_per_epoch": 8, "batch": 4, "threads": 1, "pictures": 0,
        "device": "cpu",
    }  # fmt: skip
    rule = {"background_threshold": 0.49, "min_known": 0.0, "min_consistency": 0.0}
    options = {"filter": rule, "scales": [1.0], "flips": "none", "device": "cpu"}
    settings = settings_of(data, train=train, rounds=1, start=checkpoint, pseudo_label=options)
    result = rounds(settings)
    dice = [record.val_dice for record in result.records]
    assert dice[0] == pytest.approx(
        validation_dice(
            checkpoint,
            load_settings(TrainingSettings, options=train | {"out": "x"}),
            device="cpu",
        )
    )
    assert all(value is not None for value in dice)
    assert result.records[1].accepted > 0
    facts = json.loads((result.out / "round_1/train/run.json").read_text())
    assert set(facts["clips_by_source"]) == {"stills", "pseudo"}
    stored = (result.out / "rounds.json").read_bytes()
    assert rounds(settings) == result
    assert (result.out / "rounds.json").read_bytes() == stored
    with pytest.raises(DvosError):
        rounds(settings_of(data, start=data / "field/f0.png", out=data / "other"))


def test_what_other_programs_labelled_is_mixed_and_judged_by(fake, data, caplog) -> None:
    """Here photos with COCO's polygons, of which a share is held back."""
    training = fake(0.5, 0.6)
    images, annotations = [], []
    for number in range(4):
        write_image(data / "coco" / f"p{number}.png", scene(doubt=False))
        height, width = SIZE
        images.append(
            {"id": number, "file_name": f"p{number}.png", "height": height, "width": width}
        )
        corners = [0, 0, 20, 0, 20, height, 0, height]
        annotations.append(
            {"id": number + 1, "image_id": number, "category_id": 1, "segmentation": [corners]}
        )
    document = {"images": images, "annotations": annotations}
    document["categories"] = [{"id": 1, "name": "ear"}]
    labels = data / "coco" / "labels.json"
    labels.write_text(json.dumps(document))
    result = rounds(settings_of(data, train={"data": {"sources": [labels]}}, rounds=1))
    assert result.validation == "held back"
    shares = training.plans[1].data.shares
    assert shares.pseudo == 1
    assert source_kinds(training.plans[1].data) == (True, False)
    assert training.plans[1].data.sources == [labels]
    assert pseudo_weight(training.plans[1].data, 0.8) == pytest.approx(4)


def test_a_network_is_judged_at_the_size_and_intensity_that_it_learnt_from(
    checkpoint, data, tmp_path, monkeypatch
) -> None:
    network, info = load_network(checkpoint)
    path = tmp_path / "start.safetensors"
    extra = info.extra | {"scale": 2.0, "intensity": "0,4095"}
    save_network(path, network, name="dvos", arguments=info.arguments, extra=extra)
    seen = []
    built = clip_data.build_validation_clips

    def noted(training, *more):
        seen.append((training.data.scale, training.data.intensity))
        return built(training, *more)

    monkeypatch.setattr(clip_data, "build_validation_clips", noted)
    stills = {"validation": {"stills": {"folders": [data / "validation"]}}}
    training = load_settings(TrainingSettings, options={"out": "x", "data": stills})
    for one in (path, checkpoint):
        validation_dice(one, training, device="cpu")
    assert seen == [(2.0, "0,4095"), (1.0, "full")]
