from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from small_field import write_tables

from dvos.config.load import load_settings
from dvos.config.scene import PRESETS, SceneSettings
from dvos.config.training import TrainingSettings
from dvos.errors import TableError
from dvos.synthesis.build import build_clip_generator


def test_a_preset_fills_what_is_not_given():
    scene = SceneSettings.model_validate(
        {"preset": "published", "noise": {"enabled": True}, "walk": {"step": [0, 2]}}
    )
    assert scene.noise.enabled
    assert scene.walk.step == (0, 2)
    assert scene.walk.turn == (1, 5)
    assert not scene.wind.enabled


def test_a_dumped_scene_is_read_back_as_it_is():
    for preset in PRESETS:
        scene = SceneSettings.model_validate({"preset": preset})
        assert SceneSettings.model_validate(scene.model_dump()) == scene
        assert SceneSettings.model_validate_json(scene.model_dump_json()) == scene


def test_the_published_ranges():
    scene = SceneSettings.model_validate({"preset": "published"})
    assert scene.population.objects == scene.population.distractors == (10, 100)
    assert (scene.population.tries, scene.population.overlap) == (50, 0.4)
    assert scene.population.recovery_variance == 3
    assert (scene.walk.step, scene.walk.turn, scene.walk.may_leave) == ((0, 5), (1, 5), False)
    assert (scene.camera.step, scene.camera.change_direction) == ((0, 10), 0.05)
    assert scene.elastic.probability == 0.3
    for part in ("wind", "shadow", "light", "motion_blur", "defocus", "noise", "compression"):
        assert not getattr(scene, part).enabled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "barley"}, "'published'"),
        ({"appearance": {"scale": [2, 1]}}, "above the second"),
        ({"appearance": {"gain": [0, 1]}}, "greater than 0"),
        ({"shadow": {"strength": [0, 2]}}, "less than or equal to 1"),
        ({"compression": {"quality": [0, 50]}}, "greater than or equal to 1"),
        ({"walk": {"enabled": True, "may_leave": False}}, "refill: replace"),
        ({"wind": {"gale": 3}}, "gale"),
    ],
)
def test_bad_settings_are_told(values, message):
    with pytest.raises(ValidationError, match=message):
        SceneSettings.model_validate(values)


def test_an_unknown_preset_is_told():
    with pytest.raises(ValidationError, match="'generic'"):
        SceneSettings.model_validate("barley")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_may_be_given_by_its_name(name):
    scene = SceneSettings.model_validate(name)
    assert scene == SceneSettings.model_validate({"preset": name})
    assert scene.preset_name == name
    changed = SceneSettings.model_validate({"preset": name, "camera": {"shake": [0, 9]}})
    assert changed.preset_name is None


def test_a_scene_may_be_given_as_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("preset: wheat_ripe\nwind: {enabled: true, stalk: [3, 4]}\n")
    scene = SceneSettings.model_validate(str(path))
    assert scene.preset == "wheat_ripe"
    assert scene.wind.stalk == (3, 4)
    calm = SceneSettings.model_validate({"preset": str(path), "wind": {"enabled": False}})
    assert (calm.wind.enabled, calm.wind.stalk) == (False, (3, 4))
    path.write_text("preset: wheat_ripe\n")
    assert SceneSettings.model_validate(str(path)).preset_name == "wheat_ripe"
    with pytest.raises(ValidationError, match=r"absent\.yaml: no such file"):
        SceneSettings.model_validate(str(tmp_path / "absent.yaml"))


def test_one_value_of_a_scene_by_the_command_line(tmp_path):
    (tmp_path / "own.yaml").write_text("preset: cells\nnoise: {read: [1, 2]}\n")
    given = {
        "data.synthetic.scene": str(tmp_path / "own.yaml"),
        "data.synthetic.backgrounds": ["b.csv"],
        "data.synthetic.cutouts": ["c.csv"],
        "out": "out",
    }
    settings = load_settings(
        TrainingSettings,
        overrides=[f"{key}={value}" for key, value in given.items()]
        + ["data.synthetic.scene.noise.enabled=false"],
    )
    noise = settings.data.synthetic.scene.noise
    assert (noise.enabled, noise.read) == (False, (1, 2))


def test_every_fault_of_every_table_at_once(generator_of, tmp_path):
    (tmp_path / "empty.csv").write_text("Image\n")
    (tmp_path / "wrong.csv").write_text("Picture\nx.png\n")
    with pytest.raises(TableError) as caught:
        generator_of(
            backgrounds=[],
            cutouts=[tmp_path / "wrong.csv"],
            distractors=[tmp_path / "absent.csv"],
        )
    text = str(caught.value)
    assert "backgrounds: no table is given" in text
    assert "wrong.csv" in text
    assert "absent.csv" in text


def test_turning_an_effect_off_leaves_the_sprites_as_they_were(generator_of):
    with_noise = generator_of().scene(0, frames=2, size=(80, 80))
    without = generator_of(noise={"enabled": False}).scene(0, frames=2, size=(80, 80))
    assert np.array_equal(with_noise.place, without.place)
    assert np.array_equal(with_noise.sprites.cutout, without.sprites.cutout)


def test_objects_of_few_stills_share_a_clip(generator_of):
    generator = generator_of(population={"sources": [1, 1]})
    for k in range(5):
        scene = generator.scene(k, frames=1, size=(90, 90))
        assert len(np.unique(generator.atlas.source[scene.sprites.cutout])) == 1


def test_sizes_follow_the_setting_whatever_the_stills(generator_of):
    generator = generator_of(
        appearance={"size": [15, 15], "scale": [1, 1]}, population={"sources": [0, 0]}
    )
    scene = generator.scene(0, frames=1, size=(200, 200))
    length = scene.sprites.length[scene.sprites.layer == 0]
    assert np.median(length) == pytest.approx(15, rel=0.15)


def test_cutouts_are_enlarged_no_further_than_allowed(generator_of):
    generator = generator_of(appearance={"size": [500, 500], "enlarge": 1.5, "scale": [1, 1]})
    scene = generator.scene(0, frames=1, size=(200, 200))
    assert scene.sprites.scale[scene.sprites.layer == 0].max() == pytest.approx(1.5)


def test_colours_move_to_the_background_on_request(generator_of):
    means = []
    for share in (0.0, 1.0):
        looks = {"harmonise": [share] * 2, "gain": [1, 1], "hue": [0, 0], "saturation": [1, 1]}
        scene = generator_of(appearance=looks).scene(0, frames=1, size=(90, 90))
        own = generator_of().atlas.colour[scene.sprites.cutout]
        drawn = np.einsum("nij,nj->ni", scene.sprites.colour[..., :3], own)
        means.append(np.abs(drawn - scene.background.colour).mean())
    assert means[1] < 3 < 20 < means[0]


def test_a_table_of_distractors_may_have_no_rows_but_one_of_cutouts_may_not(tmp_path):
    tables = write_tables(tmp_path)
    (tmp_path / "none.csv").write_text("Image\n")
    empty = [tmp_path / "none.csv"]
    scene = SceneSettings()
    found, expected = (
        build_clip_generator(scene, **{**tables, "distractors": chosen}, seed=3).make(
            2, frames=2, size=(64, 72)
        )
        for chosen in (empty, [])
    )
    assert np.array_equal(found.frames, expected.frames)
    with pytest.raises(TableError, match="has no rows"):
        build_clip_generator(scene, **{**tables, "cutouts": empty}, seed=3)
