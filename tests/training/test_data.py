from __future__ import annotations

import logging
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from made_stills import BlobMaker, agree, blob_mask, digests, shown, write_clip, write_stills
from pydantic import ValidationError

from dvos.config.data import DataSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, DvosError, MediaError
from dvos.media.image import write_image
from dvos.media.mask import IGNORE, write_mask
from dvos.media.video_write import VideoWriter
from dvos.networks.spec import Normalisation
from dvos.tables import AnnotatedRow, ImageRow, write_annotated, write_images
from dvos.training.clips.clip import SyntheticClips, query_clip
from dvos.training.data import build_training_clips, build_validation_clips
from dvos.training.datasets import TrainingClips, batch_picture, normalised_batch
from dvos.training.labels import hold_back
from dvos.training.targets import QueryTarget


def settings_of(tmp_path, stills=5, **more):
    values = {"crop": 48, "memory_mb": 64, **more}
    if stills:
        write_stills(tmp_path / "stills", stills)
        values["stills"] = {"folders": [tmp_path / "stills"], **values.get("stills", {})}
    return DataSettings(**values)


NORM = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def built(build, settings, seed, references):
    whole = TrainingSettings(out="x", data=settings, seed=seed)
    return build(whole, QueryTarget(whole, references=references), NORM)


def training(settings, seed=1, references=2):
    return built(build_training_clips, settings, seed, references)


def validation(settings, references=2):
    return built(build_validation_clips, settings, 1, references)


def test_items_are_normalised_tensors(tmp_path):
    settings = settings_of(tmp_path)
    item = training(settings, seed=0, references=3)[7]
    frames = training(settings, seed=0, references=3).sample(7).frames
    expected = (frames / 255 - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4)
    assert item["frames"].dtype == item["target"].dtype == item["weight"].dtype == torch.float32
    assert item["frames"].shape == (4, 3, 48, 48)
    assert item["target"].shape == item["weight"].shape == (1, 48, 48)
    assert np.allclose(item["frames"].permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_unknown_pixels_have_no_weight():
    ids = np.array([[0, 1, IGNORE]], np.uint16)
    target = QueryTarget(TrainingSettings(out="x"))
    item = target.validation_labels(query_clip(np.zeros((1, 1, 3, 3), np.uint8), ids))
    assert item["target"].tolist() == [[[0, 1, 0]]]
    assert item["weight"].tolist() == [[[1, 1, 0]]]


def test_clip_k_is_the_same_in_any_process_and_order(tmp_path):
    write_clip(tmp_path / "clips", "one", 6)
    settings = settings_of(tmp_path, clips={"folders": [tmp_path / "clips"]})
    mixture = training(settings)
    indices = [0, 1, 2, 3, 50, 10**9]
    here = digests(mixture, indices)
    assert len(set(here)) == len(here)
    assert digests(training(settings), indices[::-1]) == here[::-1]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(digests, mixture, [k]) for k in indices]
        assert [job.result()[0] for job in jobs] == here
    assert digests(training(settings, seed=2), indices) != here


def test_shares_are_kept_and_counted_without_making_clips(tmp_path):
    write_clip(tmp_path / "clips", "one", 3)
    settings = settings_of(
        tmp_path, clips={"folders": [tmp_path / "clips"]}, shares={"stills": 3, "clips": 1}
    )
    data = training(settings)
    assert data.shares == {"clips": 0.25, "stills": 0.75}
    counts = data.count(range(4000))
    assert sum(counts.values()) == 4000
    assert counts["stills"] == pytest.approx(3000, abs=4 * (4000 * 0.25 * 0.75) ** 0.5)
    # The greys of the clip's frames are flat; those of the stills are not.
    for k in range(20):
        flat = data.raw(k).frames[-1].std() == 0
        assert data.source_of(k) == ("clips" if flat else "stills")


def test_a_mixture_changes_all_sources_alike(tmp_path):
    spatial = {"preset": "none", "scale": (0.5, 1.5), "flip": True}
    settings = DataSettings(crop=40, spatial=spatial, colour="none", degradation="none")
    data = TrainingClips(
        {"synthetic": SyntheticClips(BlobMaker()), "unused": SyntheticClips(BlobMaker())},
        {"synthetic": 2.0, "unused": 0.0},
        QueryTarget(TrainingSettings(out="x"), references=2),
        settings,
        seed=0,
        normalisation=NORM,
    )
    assert data.shares == {"synthetic": 1.0}
    for k in range(5):
        clip = data.sample(k)
        assert clip.frames.shape == (3, 40, 40, 3)
        assert agree(clip.frames[-1], clip.ids[-1])
    with pytest.raises(IndexError):
        data.sample(-1)


def test_frames_sent_as_bytes_become_the_very_same_numbers(tmp_path):
    def made(diffusion):
        settings = DataSettings(crop=40, diffusion=diffusion)
        source = {"synthetic": SyntheticClips(BlobMaker())}
        target = QueryTarget(TrainingSettings(out="x"), references=2)
        return TrainingClips(
            source, {"synthetic": 1.0}, target, settings, seed=0, normalisation=NORM
        )

    data = made("none")
    batch = {key: value[None] for key, value in data.as_bytes()[3].items()}
    assert batch["frames"].dtype == torch.uint8
    mean, std = NORM.tensors()
    for key, value in normalised_batch(batch, mean=mean, std=std).items():
        assert torch.equal(value[0], data[3][key])
    # Noise is added to numbers: such clips come as they are.
    noised = made("published")
    assert noised.as_bytes()[3]["frames"].dtype == torch.float32
    item = noised[3]
    assert normalised_batch(item, mean=mean, std=std) is item


def test_empty_photos_take_part_when_asked(tmp_path):
    write_images(tmp_path / "bare.csv", [ImageRow(tmp_path / "stills/images/still_0.png")])
    settings = settings_of(tmp_path, empty={"tables": [tmp_path / "bare.csv"]})
    assert training(settings).shares == {"stills": 1.0}
    settings = settings_of(
        tmp_path, empty={"tables": [tmp_path / "bare.csv"]}, shares={"stills": 0, "empty": 1}
    )
    assert not training(settings)[0]["target"].any()


def test_sources_without_data_are_faults(tmp_path):
    with pytest.raises(ConfigError, match="no source"):
        training(DataSettings())
    settings = settings_of(tmp_path, shares={"synthetic": 0.5, "clips": 1, "stills": 1})
    with pytest.raises(ConfigError) as caught:
        training(settings)
    assert [fault.where for fault in caught.value.faults] == ["shares.synthetic", "shares.clips"]


@pytest.mark.parametrize(
    "values",
    [
        {"crop": 8},
        {"shares": {"stills": -1}},
        {"shares": {"stills": "some"}},
        {"spatial": {"scale": (2, 1)}},
        {"clips": {"intervals": [0]}},
        {"synthetic": {"cutouts": ["a.csv"]}},
        {"stills": {"motion": {"fast_share": 0.8, "still_share": 0.8}}},
        {"colour": {"colour": 1}},
    ],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValidationError):
        DataSettings(**values)


def test_all_faulty_stills_are_reported_at_once(tmp_path):
    settings = settings_of(tmp_path)
    folder = tmp_path / "stills"
    (folder / "masks" / "still_0.png").unlink()
    write_mask(folder / "masks" / "lonely.png", blob_mask(9, 9))
    other = write_stills(tmp_path / "other", 2)
    write_mask(other / "masks" / "still_1.png", blob_mask(100, 100))
    (other / "images" / "still_0.png").write_bytes(b"no image")
    settings = DataSettings(
        stills={"folders": [folder, other, tmp_path / "none"]},
        clips={"folders": [tmp_path / "nowhere"]},
    )
    with pytest.raises(DvosError) as caught:
        training(settings)
    text = str(caught.value)
    for part in ("still_0.png: no mask", "lonely.png: no photo", "100 x 100", "none: no such",
                 "nowhere: no such"):  # fmt: skip
        assert part in text
    assert len(caught.value.faults) == 6


def test_masks_without_any_object_are_a_fault(tmp_path):
    write_stills(tmp_path / "stills", 2, blobs=0)
    with pytest.raises(MediaError, match="has no object"):
        training(DataSettings(stills={"folders": [tmp_path / "stills"]}))
    write_stills(tmp_path / "seen", 1)
    with pytest.raises(MediaError, match=r"has no object at data\.stills\.scale 0\.001"):
        training(DataSettings(stills={"folders": [tmp_path / "seen"], "scale": 0.001}))


def test_a_table_of_stills_gives_what_its_folder_gives(tmp_path):
    settings = settings_of(tmp_path)
    folder = tmp_path / "stills"
    rows = [
        AnnotatedRow(path, folder / "masks" / path.name, tmp_path / "out")
        for path in sorted((folder / "images").iterdir())
    ]
    write_annotated(tmp_path / "stills.csv", rows)
    lines = (tmp_path / "stills.csv").read_text().splitlines()
    short = "".join(line.rpartition(",")[0] + "\n" for line in lines)
    (tmp_path / "short.csv").write_text(short)
    assert short.startswith("Image,Mask\n")
    for name in ("stills.csv", "short.csv"):
        tabled = DataSettings(crop=48, stills={"tables": [tmp_path / name]})
        assert digests(training(tabled), [3]) == digests(training(settings), [3])


def test_held_back_stills_are_apart_and_do_not_depend_on_order():
    names = [f"photo_{number}" for number in range(20)]
    kept, held = hold_back(names, names, 0.2)
    assert len(held) == 4
    assert sorted(kept + held) == sorted(names)
    assert set(hold_back(names[::-1], names[::-1], 0.2)[1]) == set(held)
    assert hold_back(names[:3], names[:3], 0.2) == (names[:3], [])
    assert len(hold_back(names[:4], names[:4], 0.01)[1]) == 1
    assert hold_back(names, names, 0.0) == (names, [])


def test_validation_stills_are_held_back_from_training(tmp_path):
    settings = settings_of(tmp_path, stills=6)
    data, judged = training(settings), validation(settings)
    assert len(judged) == 1
    assert judged.names[0] not in str(pickle.dumps(data))
    sample = judged.clip(0)
    image = shown(blob_mask(120, 160, seed=int(judged.names[0][-1])))
    assert np.array_equal(sample.frames[-1], image)
    assert agree(sample.frames[-1], sample.ids[-1])
    assert not np.array_equal(sample.frames[0], sample.frames[-1])
    assert torch.equal(judged[0]["frames"], validation(settings)[0]["frames"])


def test_few_stills_are_validated_on_with_a_warning(tmp_path, caplog):
    settings = settings_of(tmp_path, stills=3)
    with caplog.at_level(logging.WARNING):
        assert len(validation(settings)) == 3
    assert "training stills and clips themselves" in caplog.text


def test_named_validation_leaves_all_stills_to_training(tmp_path):
    write_stills(tmp_path / "judge", 2, (200, 90))
    write_clip(tmp_path / "clips", "one", 9)
    settings = settings_of(
        tmp_path,
        validation={
            "stills": {"folders": [tmp_path / "judge"]},
            "clips": {"folders": [tmp_path / "clips"], "intervals": [2]},
            "largest_side": 96,
            "limit": 3,
        },
    )
    judged = validation(settings)
    assert judged.names == ["still_0", "still_1", "one/00001", "one/00004", "one/00007"]
    assert judged[0]["frames"].shape == (3, 3, 96, 90)
    greys = [int(frame[0, 0, 0]) for frame in judged.clip(3).frames]
    assert greys == [5, 25, 45]
    assert str(pickle.dumps(training(settings))).count("still_") >= 5


def test_a_folder_of_frames_with_masks_is_validated_on(tmp_path):
    write_clip(tmp_path, "one", 8, labelled=range(0, 8, 4))
    settings = settings_of(
        tmp_path,
        validation={
            "videos": [{"video": tmp_path / "one/frames", "masks": tmp_path / "one/masks"}]
        },
    )
    judged = validation(settings)
    assert judged.names == ["00000", "00004"]
    greys = [[int(f[0, 0, 0]) // 10 for f in judged.clip(i).frames] for i in range(2)]
    assert greys == [[0, 0, 0], [2, 3, 4]]
    write_mask(tmp_path / "one" / "masks" / "00099.png", blob_mask(64, 80))
    with pytest.raises(MediaError, match=r"00099\.png: no frame"):
        validation(settings)
    # Also where the limit leaves that mask out.
    few = {**settings.validation.model_dump(), "limit": 1}
    with pytest.raises(MediaError, match=r"00099\.png: no frame"):
        validation(settings_of(tmp_path, validation=few))


def test_a_video_file_with_masks_is_validated_on(tmp_path):
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=(64, 80)) as writer:
        for number in range(7):
            writer.write(np.full((64, 80, 3), 30 * number + 20, np.uint8))
    for number in (1, 5):
        write_mask(tmp_path / "masks" / f"field_{number:06d}.png", blob_mask(64, 80))
    videos = [{"video": tmp_path / "field.mp4", "masks": tmp_path / "masks"}]
    judged = validation(settings_of(tmp_path, validation={"videos": videos}))
    assert judged.names == ["field_000001", "field_000005"]
    levels = [[round((f.mean() - 20) / 30) for f in judged.clip(i).frames] for i in range(2)]
    assert levels == [[0, 0, 1], [3, 4, 5]]


def test_synthetic_validation_needs_something_to_make_it_of(tmp_path):
    with pytest.raises(ConfigError, match=r"validation\.synthetic"):
        validation(settings_of(tmp_path, validation={"synthetic": 4}))


def test_synthetic_clips_are_made_of_tables(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        sprite = rng.integers(80, 250, (24, 14, 4), dtype=np.uint8)
        sprite[..., 3] = 255
        write_image(tmp_path / "cut" / f"{number}.png", sprite)
        plate = rng.integers(0, 80, (96, 96, 3), dtype=np.uint8)
        write_image(tmp_path / "back" / f"{number}.png", plate)
    for kind in ("cut", "back"):
        rows = [ImageRow(path) for path in sorted((tmp_path / kind).iterdir())]
        write_images(tmp_path / f"{kind}.csv", rows)
    synthetic = {"backgrounds": [tmp_path / "back.csv"], "cutouts": [tmp_path / "cut.csv"]}
    settings = settings_of(tmp_path, synthetic=synthetic, validation={"synthetic": 2})
    data, judged = training(settings), validation(settings)
    assert data.shares == {"stills": 0.5, "synthetic": 0.5}
    made = [k for k in range(30) if data.source_of(k) == "synthetic"][:6]
    assert any(data[k]["target"].any() for k in made)
    assert digests(data, made) == digests(training(settings), made)
    assert judged.names == ["synthetic_000", "synthetic_001"]
    assert judged[1]["frames"].shape == (3, 3, 96, 96)
    assert torch.equal(judged[1]["frames"], validation(settings)[1]["frames"])


def test_a_batch_picture_shows_each_frame_and_the_target(tmp_path):
    data = training(settings_of(tmp_path))
    picture = batch_picture(data, 3)
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= 3 * 48
    assert picture.shape[1] >= 4 * 48
    assert np.array_equal(picture, batch_picture(data, 3))


def test_a_large_still_is_read_and_kept_within_memory(tmp_path):
    mask = np.zeros((3000, 2000), bool)
    mask[1000:1300, 500:900] = True
    write_image(tmp_path / "a" / "images" / "a.jpg", shown(mask))
    write_mask(tmp_path / "a" / "masks" / "a.png", mask)
    settings = DataSettings(crop=64, memory_mb=1, stills={"folders": [tmp_path / "a"]})
    data = training(settings, references=4)
    assert any(data[k]["target"].any() for k in range(3))
