"""The published settings files turned into ours: every key carried over or told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from dvos.config.commands import settings_model
from dvos.config.extraction import TRANSFORM_NAMES
from dvos.config.load import load_settings
from dvos.config.network import PaperSettings
from dvos.config.published import Imported, import_published, published_kinds
from dvos.errors import ConfigError

# Keys and values of the files as published.
TRANSFORMER = {
    "height": 1024,
    "width": 1024,
    "rotation_angle": 45,
    "rotation_p": 0.5,
    "elast_p": 0.5,
    "trfm_index": 0,
}
FRAMES: dict[str, Any] = {
    "videos_meta_csv_path": "data/videos.csv",
    "output_metadata_path": "data/frames.csv",
    "frame_extension": ".png",
    "swap_color": None,
    "transformer": TRANSFORMER,
}
OBJECTS: dict[str, Any] = {
    "segmented_images_meta_csv_path": "data/segmented.csv",
    "real_metadata_path": "data/real.csv",
    "fake_metadata_path": "data/fake.csv",
    "segment_extension": ".png",
    "min_object_size_in_pixel": 400,
    "num_fakes_per_real": 10,
    "swap_color": None,
    "transformer": TRANSFORMER,
}
SIMULATOR: dict[str, Any] = {
    "Basics": {
        "SEED": 42,
        "CREATE_OVERLAID_VIDEO": False,
        "FRAMES_PER_SECOND": 10,
        "VIDEOS_OUT_DIR": "data/videos/",
        "VIDEOS_IDS_PREFIX": "G",
        "OUT_SIMULATION_DIR": "data/green/",
        "OUT_METADATA_PATH": "data/green.csv",
    },
    "BackgroundMetadata": ["data/back0.csv", "data/back1.csv"],
    "RealObjectMetadata": ["data/real.csv"],
    "FakePatchMetadata": ["data/fake.csv"],
    "Frame": {
        "FRAME_MOVEMENT_RANGE": [0, 10],
        "NODE_MOVEMENT_RANGE": [0, 5],
        "NUM_REALS_PER_FRAME": [10, 90],
        "NUM_FAKES_PER_FRAME": [10, 100],
        "RECOVERY_VARIANCE": 3,
        "ALLOW_LEAVE_FRAME": False,
        "RECOVERY_AREA_EXPANSION": 3,
        "CHANGE_DIRECTION_PROBABILITY": 0.05,
    },
    "Transformations": {
        "HORIZONAL_FLIP_PROB": 0.0,
        "VERTICAL_FLIP_PROB": 0.0,
        "ROTATE_RANGE": [1, 5],
        "ROTATE_PROB": 0.3,
        "ELASTIC_ALPHA": [0, 2],
        "ELASTIC_SIGMA": [0, 10],
        "ELASTIC_ALPHA_AFFINE": [0, 15],
        "ELASTIC_PROB": 0.3,
    },
    "Video": {
        "VIDEO_HEIGHT": 1024,
        "VIDEO_WIDTH": 768,
        "VIDEO_PER_BACKGROUND": 20,
        "NUM_REQUIRED_FRAMES": 60,
    },
}
TRAINING: dict[str, Any] = {
    "BasicConfig": {
        "DEBUGGING": False,
        "LOGGER": None,
        "SEED": 123,
        "DETERMINISTIC_CUDANN": True,
        "BENCHMARK_CUDANN": False,
        "DETERMINISTIC_ALGORITHM": False,
        "DEVICE": "cuda",
        "DEFAULT_DEVICE_IDs": [0, 1],
        "DATASET": "WheatVideoData",
        "ROOT_LOG_DIR": "Experiments/",
        "DEVELOPMENT_PHASE": "TRAIN",
        "PROJECT_NAME": "DiffUNetVOS",
        "ENTITY": "someone",
        "EXPERIMENT_NAME": "Exp01",
        "TEST_EXPERIMENT_DIR": "Harvestable",
    },
    "TrainConfig": {
        "DISTRIBUTED": True,
        "COMPILE": True,
        "NUM_EPOCHS": 15,
        "BATCH_SIZE": 16,
        "TRANSFORM_MEAN": [0.45829801, 0.46257378, 0.4352858],
        "TRANSFORM_STD": [0.21251279, 0.18627654, 0.2033325],
        "SHUFFLE": True,
        "NUM_WORKERS": 8,
        "PREFETCH_FACTOR": 2,
        "PIN_MEMORY": False,
        "Optimizer": {
            "NAME": "AdamW",
            "PARAMS": {"lr": "1e-3", "weight_decay": "1e-2"},
            "SCHEDULER": {
                "APPLY": True,
                "NAME": "CosineAnnealingLR",
                "PARAMS": {"T_max": 15, "eta_min": "1e-5"},
            },
        },
        "Losses": {
            "RECONSTRUCTION_LOSS_WEIGHT": 0.5,
            "SEGMENTATION_LOSS_WEIGHT": 1.0,
            "RECONSTRUCTION_LOSSES": ["mse", "ssim"],
            "RECONSTRUCTION_LOSSES_WEIGHTS": [0.5, 1.0],
            "RECONSTRUCTION_GDL_ALPHA": 1.0,
            "RECONSTRUCTION_GDL_REDUCTION": "MEAN",
            "SEGMENTATION_LOSSES": ["bce", "dice"],
            "SEGMENTATION_LOSSES_WEIGHTS": [1.0, 2.0],
            "SEGMENTATION_SIGMOID": True,
            "SEGMENTATION_THRESHOLD": 0.5,
            "SEGMENTATION_ALPHA": 0.7,
            "SEGMENTATION_BETA": 0.3,
            "SEGMENTATION_GAMMA": 2.0,
            "SEGMENTATION_REDUCTION": "MEAN",
            "SEGMENTATION_SMOOTH": "1e-12",
        },
        "IMG_SHAPE": [3, 256, 256],
        "NUM_REFERENCES": 4,
        "REFERENCES_INTERVAL": 2,
        "QUERY_IDENTIFIER": 1,
        "VID": "VID",
        "FID": "FID",
        "APPLY_COLOR_AUGMENTATION": True,
        "UsingSmallData": False,
        "UsingSamllSize": 0,
        "TRAIN_METADATA_PATH": {"SEGMENTATION": ["training.csv"]},
        "VALID_METADATA_PATH": {"SEGMENTATION": ["validation.csv"]},
        "TEST_METADATA_PATH": {"SEGMENTATION": ["testing.csv"]},
        "InputDiffusion": {
            "APPLY": True,
            "NUMSTEPS": 1000,
            "TIMESTEPS": 750,
            "BETA_RANGE": ["1e-4", "1e-2"],
            "PATCH_SIZE": 32,
            "MP": 0.0,
            "DP": 0.5,
        },
        "Diffusion": {
            "APPLY": True,
            "TIMESTEPS": 1000,
            "P": 1.0,
            "INIT_ALPHA": 3.0,
            "INIT_BETA": 18.0,
            "BETA_REDUCTION_COEFF": 2.0,
        },
    },
    "ModelConfig": {
        "IS_VIDEO_TASK": True,
        "INIT_CHANNELS": 3,
        "LATENT_CHANNELS": 256,
        "BASE_CHANNELS": 4,
        "BASE_CHANNELS_MULTIPLIER": [4, 8, 16, 32],
        "Heads_MIDDLE_CHANNELS": 32,
        "NUM_RES_BLOCKS": 2,
        "NUM_GROUPS": 4,
        "SKIP_DROPOUT_RATIO": 0.0,
        "FREEZE_ENCODER": False,
        "FREEZE_DECODER": False,
        "FREEZE_Heads": False,
        "FREEZE_REC_HEAD": False,
        "FREEZE_SEG_HEAD": False,
        "PRETRAINED_MODEL_PATH": None,
        "INIT_MODEL": False,
    },
}
FILES = {
    "extract frames": FRAMES,
    "extract objects": OBJECTS,
    "synthesize": SIMULATOR,
    "train": TRAINING,
}


def imported(folder: Path, values: dict[str, Any]) -> Imported:
    path = folder / "published.yaml"
    path.write_text(yaml.safe_dump(values))
    return import_published(path)


def changed(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        nested = isinstance(value, dict)
        found += leaves(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
    return found


@pytest.mark.parametrize("command", FILES)
def test_the_result_is_a_valid_file_of_ours(tmp_path: Path, command: str) -> None:
    result = imported(tmp_path, FILES[command])
    assert result.command == command
    ours = tmp_path / "ours.yaml"
    ours.write_text(result.text)
    assert load_settings(settings_model(command), config=ours) == result.settings
    assert not [note for note in result.notes if "left out" in note and "ssim" not in note]
    assert not [note for note in result.notes if "not in the file" in note]


@pytest.mark.parametrize("command", FILES)
def test_every_key_of_a_rule_is_a_key_of_ours(command: str) -> None:
    (kind,) = [kind for kind in published_kinds() if kind.command == command]
    from dvos.config.load import dotted_keys

    known = set(dotted_keys(settings_model(command)))
    names = [rule if isinstance(rule, str) else rule.get("to", "") for rule in kind.rules.values()]
    used = {key for name in names for key in name.split()}
    assert (used | set(kind.fixed)) - known == set()


@pytest.mark.parametrize("command", FILES)
def test_each_published_key_has_a_rule(command: str) -> None:
    (kind,) = [kind for kind in published_kinds() if kind.command == command]
    for key in leaves(FILES[command]):
        assert key in kind.rules, key


def test_frames_in_detail(tmp_path: Path) -> None:
    values = {**FRAMES, "swap_color": {"source": [0, 30], "destin": [25, 40]}}
    values["transformer"] = {**TRANSFORMER, "trfm_index": 10, "height": 512}
    values["frame_extension"] = "TIFF"
    settings = imported(tmp_path, values).settings.model_dump()
    assert settings["videos"] == Path("data/videos.csv")
    assert settings["extension"] == ".tiff"
    assert settings["hue_swap"] == {"source": (0, 30), "destin": (25, 40)}
    assert settings["transform"]["name"] == "smallest_side_center_crop"
    assert settings["transform"]["height"] == 512
    assert settings["min_side"] == 1024
    assert settings["names"] == "published"


@pytest.mark.parametrize("index", range(11))
def test_each_transform_index(tmp_path: Path, index: int) -> None:
    settings = imported(tmp_path, changed(OBJECTS, "transformer.trfm_index", index)).settings
    assert settings.model_dump()["transform"]["name"] == TRANSFORM_NAMES[index]


def test_simulator_in_detail(tmp_path: Path) -> None:
    result = imported(tmp_path, changed(SIMULATOR, "Frame.ALLOW_LEAVE_FRAME", True))
    settings = result.settings.model_dump()
    assert settings["backgrounds"] == [Path("data/back0.csv"), Path("data/back1.csv")]
    assert (settings["height"], settings["width"], settings["frames"]) == (1024, 768, 60)
    assert (settings["clips_per_background"], settings["prefix"]) == (20, "G")
    scene = settings["scene"]
    assert scene["preset"] == "published"
    assert scene["population"]["objects"] == (10, 90)
    assert scene["walk"]["may_leave"] is True
    assert scene["walk"]["step"] == (0, 5)
    assert scene["camera"]["step"] == (0, 10)
    assert scene["elastic"]["shear"] == (0, 0.15)
    assert scene["wind"]["enabled"] is False


def test_training_in_detail(tmp_path: Path) -> None:
    result = imported(tmp_path, TRAINING)
    settings = result.settings.model_dump()
    assert settings["out"] == Path("Experiments/Exp01")
    assert (settings["batch"], settings["devices"]) == (32, 2)
    assert settings["optimiser"]["lr"] == pytest.approx(1e-3)
    assert settings["schedule"]["final"] == pytest.approx(0.01)
    losses = settings["losses"]
    assert (losses["mask"], losses["bce"], losses["dice"]) == (1, 1, 2)
    assert (losses["reconstruction"], losses["mse"], losses["ms_ssim"]) == (0.5, 0.5, 1)
    assert (losses["tversky_alpha"], losses["tversky_beta"]) == (0.7, 0.3)
    assert (losses["focal_gamma"], losses["focal_tversky_gamma"]) == (2, 0.5)
    assert losses["focal_alpha"] is None
    network = settings["network"]
    assert (network["name"], network["references"], network["weights"]) == ("paper", 4, None)
    assert network["paper"] == PaperSettings().model_dump()
    diffusion = {"preset": "none", "share": 0.5, "patch": 32, "steps": 750, "blank": 0}
    assert settings["data"]["diffusion"] == diffusion
    presets = [result.settings.data.spatial, result.settings.data.colour]
    presets.append(result.settings.data.degradation)
    assert [section.preset_name for section in presets] == ["published"] * 3
    assert settings["optimiser"]["freeze"] == ()
    assert settings["data"]["clips"]["intervals"] == [2]
    assert settings["data"]["validation"]["clips"]["tables"] == [Path("validation.csv")]
    assert any("punishes likeness" in note for note in result.notes)
    assert any("testing.csv" in note for note in result.notes)


def test_training_on_one_device_without_schedule(tmp_path: Path) -> None:
    values = changed(TRAINING, "TrainConfig.DISTRIBUTED", False)
    values = changed(values, "TrainConfig.Optimizer.SCHEDULER.APPLY", False)
    values = changed(values, "ModelConfig.FREEZE_ENCODER", True)
    values = changed(values, "BasicConfig.DEVELOPMENT_PHASE", "TEST")
    result = imported(tmp_path, values)
    settings = result.settings.model_dump()
    assert (settings["batch"], settings["devices"]) == (16, 1)
    assert settings["schedule"]["final"] == 1
    assert settings["optimiser"]["freeze"] == ("encoder",)
    assert any("dvos evaluate" in note for note in result.notes)


def test_every_loss_of_the_published_training(tmp_path: Path) -> None:
    values = copy.deepcopy(TRAINING)
    values["TrainConfig"]["Losses"] |= {
        "RECONSTRUCTION_LOSSES": ["MAE", "GDL", "PERCEPTUAL"],
        "RECONSTRUCTION_LOSSES_WEIGHTS": [1, 2, 3],
        "SEGMENTATION_LOSSES": ["IOU", "TV", "FOCAL", "FTVERS", "own"],
        "SEGMENTATION_LOSSES_WEIGHTS": [1, 2, 3, 4, 5],
    }
    result = imported(tmp_path, values)
    losses = result.settings.model_dump()["losses"]
    assert [losses[key] for key in ("mse", "mae", "gradient_difference", "perceptual")] == [
        *(0, 1, 2, 0)
    ]
    assert [losses[key] for key in ("bce", "iou", "tversky", "focal", "focal_tversky")] == [
        *(0, 1, 2, 3, 4)
    ]
    assert any("perceptual_weights" in note for note in result.notes)
    assert any("no counterpart of OWN" in note for note in result.notes)


def test_what_the_published_training_starts_from_and_leaves_alone(tmp_path: Path) -> None:
    values = changed(TRAINING, "ModelConfig.PRETRAINED_MODEL_PATH", "weights/ckpt_best.tar")
    values = changed(values, "ModelConfig.FREEZE_DECODER", True)
    values = changed(values, "ModelConfig.FREEZE_REC_HEAD", True)
    values = changed(values, "TrainConfig.InputDiffusion.APPLY", False)
    values = changed(values, "TrainConfig.Diffusion.APPLY", False)
    values = changed(values, "TrainConfig.Diffusion.INIT_BETA", 20.0)
    values["TrainConfig"]["RANDOM_INTERVAL"] = True
    result = imported(tmp_path, values)
    settings = result.settings.model_dump()
    assert settings["network"]["weights"] == Path("weights/ckpt_best.tar")
    assert settings["network"]["paper"]["skip_diffusion"] is False
    assert settings["optimiser"]["freeze"] == ("decoder",)
    assert settings["losses"]["reconstruction"] == 0
    assert settings["data"]["diffusion"]["share"] == 0
    assert settings["data"]["clips"]["intervals"] == [1, 2]
    assert any("INIT_BETA" in note for note in result.notes)


def test_keys_too_many_and_too_few_are_told(tmp_path: Path) -> None:
    values = {**OBJECTS, "own_key": 3}
    del values["num_fakes_per_real"]
    notes = imported(tmp_path, values).notes
    assert any(note.startswith("own_key: no key of the published code") for note in notes)
    assert any(note.startswith("num_fakes_per_real: not in the file") for note in notes)


def test_all_bad_values_at_once_by_their_published_keys(tmp_path: Path) -> None:
    values = changed(FRAMES, "transformer.trfm_index", 11)
    values["swap_color"] = [1, 2]
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, values)
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 2
    assert "transformer.trfm_index: found 11; expected a whole number from 0 to 10" in faults[1]
    values = changed(FRAMES, "transformer.height", -5)
    values = changed(values, "frame_extension", ".gif")
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, values)
    faults = " ".join(str(fault) for fault in caught.value.faults)
    assert "transformer.height" in faults
    assert "frame_extension" in faults


def test_tables_that_are_the_same_file(tmp_path: Path) -> None:
    values = dict(OBJECTS)
    values["real_metadata_path"] = values["segmented_images_meta_csv_path"]
    with pytest.raises(ConfigError, match="cutouts"):
        imported(tmp_path, values)


@pytest.mark.parametrize("values", [{}, {"seed": 3}, {"Basics": {}}])
def test_other_files_are_refused_with_the_four_kinds(tmp_path: Path, values: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, values)
    for kind in published_kinds():
        assert kind.name in str(caught.value)


def test_the_how_to_names_every_published_key() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/from-the-published-code.md"
    text = page.read_text(encoding="utf-8")
    for values in FILES.values():
        for key in leaves(values):
            assert f"`{key.rpartition('.')[2]}`" in text, key
