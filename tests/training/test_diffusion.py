from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_stills import blob_mask, write_clip, write_stills

from dvos.config.data import DataSettings, DiffusionSettings
from dvos.config.training import TrainingSettings
from dvos.media.mask import write_mask
from dvos.networks.spec import Normalisation
from dvos.training.augment.appearance import PatchDiffusion, forward_schedule
from dvos.training.data import build_training_clips, build_validation_clips
from dvos.training.targets import QueryTarget

NORM = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PUBLISHED = Path(__file__).with_name("data") / "input_diffusion.npz"


def flat(value=2.0, size=(64, 96), frames=5):
    return np.full((frames, 3, *size), value, np.float32)


def noised(seed=0, frames=None, **settings):
    frames = flat() if frames is None else frames
    PatchDiffusion(DiffusionSettings(**settings)).apply(np.random.default_rng(seed), frames)
    return frames


def patches(frames, side):
    """(patches, values) of the references."""
    count, channels, height, width = frames[:-1].shape
    parts = frames[:-1].reshape(count, channels, height // side, side, width // side, side)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * side * side)


def test_the_schedule_is_the_published_one():
    signal, noise = forward_schedule()
    published = np.load(PUBLISHED)
    assert np.abs(signal - published["signal"]).max() < 1e-5
    assert np.abs(noise - published["noise"]).max() < 1e-5
    assert np.allclose(signal**2 + noise**2, 1, atol=1e-6)


def test_nothing_changes_by_default():
    assert not PatchDiffusion(DiffusionSettings()).changes
    assert np.array_equal(noised(), flat())


@pytest.mark.parametrize(("share", "blank"), [(0.5, 0.0), (0.3, 0.4), (1.0, 0.0), (0.0, 1.0)])
def test_the_shares_of_patches_are_kept_and_the_query_is_left(share, blank):
    frames = noised(frames=flat(size=(320, 320)), share=share, blank=blank, patch=16)
    assert np.array_equal(frames[-1], flat(size=(320, 320))[-1])
    parts = patches(frames, 16)
    blanked = (parts == 0).all(axis=1).mean()
    changed = (parts != 2).any(axis=1).mean()
    assert blanked == pytest.approx(blank, abs=0.05)
    assert changed == pytest.approx(blank + (1 - blank) * share, abs=0.05)
    # A patch is changed wholly or not at all.
    assert ((parts != 2).mean(axis=1) < 0.01).mean() == pytest.approx(1 - changed)


def test_a_noised_patch_has_the_mean_and_spread_of_its_step():
    signal, spread = forward_schedule()
    for seed in range(4):
        frames = noised(seed, flat(size=(128, 128), frames=2), share=1.0, steps=750)
        step = int(np.abs(spread - frames[0].std()).argmin())
        assert frames[0].mean() == pytest.approx(2 * signal[step], abs=0.05)
        assert frames[0].std() <= spread[749] + 0.02


def test_steps_bound_the_noise():
    frames = noised(share=1.0, steps=1)
    assert frames[:-1].std() == pytest.approx(forward_schedule()[1][0], rel=0.05)


def test_patches_at_the_border_are_cut_off():
    frames = noised(frames=flat(size=(50, 70)), share=1.0)
    assert (frames[:-1] != 2).mean() > 0.99
    assert (frames[-1] == 2).all()


def built(build, data, seed=3, norm=NORM):
    settings = TrainingSettings(out="x", data=data, seed=seed)
    return build(settings, QueryTarget(settings, references=2), norm)


def data_of(tmp_path, **more):
    values = {"stills": {"folders": [tmp_path / "stills"]}, "crop": 64, **more}
    return DataSettings(**values)


def test_clips_are_noised_in_training_alone_and_always_alike(tmp_path):
    write_stills(tmp_path / "stills", 5)
    settings = data_of(tmp_path, diffusion={"share": 0.5})
    plain = built(build_training_clips, data_of(tmp_path))
    data = built(build_training_clips, settings)
    for k in (4, 0, 4):
        item, other = data[k], plain[k]
        assert torch.equal(item["frames"][-1], other["frames"][-1])
        assert torch.equal(item["target"], other["target"])
        assert not torch.equal(item["frames"][:-1], other["frames"][:-1])
        again = built(build_training_clips, settings)[k]
        assert torch.equal(item["frames"], again["frames"])
    assert not torch.equal(data[0]["frames"][:2], data[1]["frames"][:2])
    judged = [built(build_validation_clips, s)[0] for s in (settings, data_of(tmp_path))]
    assert torch.equal(judged[0]["frames"], judged[1]["frames"])


def test_pictures_show_the_noise(tmp_path):
    write_stills(tmp_path / "stills", 5)
    plain = built(build_training_clips, data_of(tmp_path)).sample(1)
    settings = data_of(tmp_path, diffusion={"blank": 1.0})
    norm = Normalisation((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    shown = built(build_training_clips, settings, norm=norm).sample(1)
    assert np.array_equal(shown.frames[-1], plain.frames[-1])
    assert (shown.frames[:-1] == np.rint([127.5, 102, 76.5])).all()
    assert np.array_equal(shown.ids, plain.ids)


def pseudo_settings(tmp_path, **pseudo):
    """Three true stills, two pseudo-labelled ones and a pseudo-labelled clip."""
    write_stills(tmp_path / "stills", 3)
    write_stills(tmp_path / "p", 2)
    write_clip(tmp_path, "clip", 6, labelled=range(0))
    mask = np.zeros((64, 80), np.uint8)
    mask[:20], mask[20:40] = 255, 128
    write_mask(tmp_path / "m.png", mask)
    for number in range(2):
        whole = 255 * blob_mask(120, 160, seed=number).astype(np.uint8)
        whole[:40] = 128
        write_mask(tmp_path / "p" / "masks" / f"still_{number}.png", whole)
    (tmp_path / "s.csv").write_text(
        "Image,Mask,Confidence\n"
        + "".join(f"p/images/still_{n}.png,p/masks/still_{n}.png,0.9\n" for n in range(2))
    )
    rows = [f"clip,{n},clip/frames/{n:05d}.png,{'m.png' if n == 5 else ''},{int(n == 5)}\n"
            for n in range(6)]  # fmt: skip
    (tmp_path / "c.csv").write_text("VID,FID,Image,Mask,Label\n" + "".join(rows))
    tables = {"stills": [tmp_path / "s.csv"], "clips": [tmp_path / "c.csv"]}
    return data_of(tmp_path, pseudo={**tables, **pseudo})


def test_pseudo_labels_are_a_source_of_their_own_with_a_weight(tmp_path):
    settings = pseudo_settings(tmp_path, weight=0.25)
    data = built(build_training_clips, settings, 1)
    assert data.shares == {"pseudo": 0.5, "stills": 0.5}
    kinds = set()
    for k in range(24):
        item = data[k]
        levels = set(item["weight"].unique().tolist())
        if data.source_of(k) == "stills":
            assert levels == {1.0}
            continue
        assert levels <= {0.0, 0.25}
        assert not item["target"][item["weight"] == 0].any()
        # The greys of the clip's frames are flat; those of the stills are not.
        kinds.add(data.raw(k).frames[-1].std() == 0)
    assert kinds == {True, False}


def test_validation_uses_no_pseudo_labels(tmp_path):
    settings = pseudo_settings(tmp_path)
    judged = built(build_validation_clips, settings, 1)
    assert judged.names == ["still_0", "still_1", "still_2"]
    assert all((judged[n]["weight"] == 1).all() for n in range(3))
    alone = DataSettings(pseudo=settings.pseudo.model_dump(), crop=64)
    assert built(build_training_clips, alone, 1).shares == {"pseudo": 1.0}
    assert len(built(build_validation_clips, alone, 1)) == 0
