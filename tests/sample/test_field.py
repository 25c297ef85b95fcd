"""The files of the sample field: kinds, layout, determinism, resume, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.config.load import load_settings
from dvos.config.workflow import SampleSettings
from dvos.errors import ConfigError, OutputError, RunError
from dvos.files import locked
from dvos.media.image import read_image
from dvos.media.mask import read_mask
from dvos.media.video import VideoFile
from dvos.sample import field as field_module
from dvos.sample.field import make_sample_field

SMALL = {
    "seed": 3,
    "size": (96, 128),
    "stills": 2,
    "background_videos": 2,
    "background_frames": 3,
    "target_frames": 3,
    "heldout_frames": 4,
    "workers": 1,
}


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def heads(field) -> dict[str, int]:
    return make_sample_field(field, SampleSettings(**SMALL))


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


@pytest.mark.usefixtures("heads")
def test_layout(field):
    assert sorted(contents(field)) == [
        "annotated/images/still_0.png",
        "annotated/images/still_1.png",
        "annotated/masks/still_0.nrrd",
        "annotated/masks/still_1.nrrd",
        "backgrounds/field_0.mp4",
        "backgrounds/field_1.mp4",
        "target/target.mp4",
        "validation/heldout.mp4",
        *(f"validation/masks/heldout/heldout_{k:06d}.png" for k in range(4)),
    ]


def test_stills_are_labelled(field, heads):
    for n in range(2):
        image = field / f"annotated/images/still_{n}.png"
        instances = read_mask(field / f"annotated/masks/still_{n}.nrrd")
        assert read_image(image).shape == (*instances.shape, 3) == (96, 128, 3)
        assert instances.dtype == np.uint16
        assert 0.05 < (instances > 0).mean() < 0.40
        assert heads[image.name] == len(np.unique(instances)) - 1


@pytest.mark.usefixtures("heads")
def test_videos_are_readable(field):
    for name, count in [
        ("target/target", 3),
        ("validation/heldout", 4),
        ("backgrounds/field_0", 3),
        ("backgrounds/field_1", 3),
    ]:
        video = VideoFile(field / f"{name}.mp4")
        frames = list(video)
        assert len(frames) == count
        assert video.size == (96, 128)
        assert not video.damage
        assert not np.array_equal(frames[0].image, frames[-1].image)


@pytest.mark.usefixtures("heads")
def test_heldout_masks_bear_the_names_of_the_frames(field):
    folder = field / "validation/masks/heldout"
    names = [frame.name for frame in VideoFile(field / "validation/heldout.mp4")]
    assert names == [path.stem for path in sorted(folder.iterdir())]
    masks = [read_mask(folder / f"{name}.png") for name in names]
    assert all(mask.shape == (96, 128) and mask.dtype == np.uint16 for mask in masks)
    first, last = (set(np.unique(mask).tolist()) - {0} for mask in (masks[0], masks[-1]))
    assert len(first & last) > 0.7 * len(first)


def test_backgrounds_have_no_heads(heads):
    assert [heads[f"field_{n}.mp4"] for n in range(2)] == [0, 0]


def test_same_seed_same_files_whatever_the_workers(field, heads, tmp_path):
    assert make_sample_field(tmp_path, SampleSettings(**{**SMALL, "workers": 2})) == heads
    ours, theirs = contents(field), contents(tmp_path)
    assert ours.keys() == theirs.keys()
    for name in ours:
        if not name.endswith(".mp4"):
            assert ours[name] == theirs[name], name
    for a, b in zip(*(VideoFile(f / "target/target.mp4") for f in (field, tmp_path)), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_only_what_is_missing_is_made_again(field, heads, monkeypatch):
    made = []

    def watched(job):
        made.append(job.path.name)
        return write(job)

    write = field_module.write_file
    monkeypatch.setattr(field_module, "write_file", watched)
    before = contents(field)
    assert make_sample_field(field, SampleSettings(**SMALL)) == heads
    assert made == []
    (field / "annotated/masks/still_1.nrrd").unlink()
    assert make_sample_field(field, SampleSettings(**SMALL)) == heads
    assert made == ["still_1.png"]
    assert contents(field) == before


def test_a_second_run_beside_it_is_refused(tmp_path):
    (tmp_path / "sample.jsonl").touch()
    with locked(tmp_path / "sample.jsonl"):
        with pytest.raises(RunError, match=r"sample.jsonl: another run is at work here; wait"):
            make_sample_field(tmp_path, SampleSettings(**SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["sample.jsonl"]


@pytest.mark.parametrize(
    "name", ["target/target.mp4", "annotated/images/still_1.png", "validation/masks/heldout/a.png"]
)
def test_what_it_did_not_make_is_not_written_over(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="the sample field is not known to have made it"):
        make_sample_field(tmp_path, SampleSettings(**SMALL))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        load_settings(SampleSettings, options={**SMALL, "size": (95, 128), "stills": 0})
    assert [fault.where for fault in caught.value.faults] == ["--size: size.0", "--stills: stills"]
