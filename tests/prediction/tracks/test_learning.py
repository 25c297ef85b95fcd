"""What clips with truth say of how many tracks make an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from moving_objects import drawn
from white_predictor import WhitePredictor

from dvos.media.image import write_image
from dvos.media.mask import write_label_image
from dvos.prediction.tracks.learning import fit_track_calibration, learn_tracks
from dvos.training.clips.files import FrameClip

PLACES = [(20 + 35 * k, 20 + 30 * row) for k in range(4) for row in range(3)]


def _clip(folder: Path, frames: int, *, renumbered: bool = False, hidden: int = -1) -> FrameClip:
    """Discs that drift, the first of which is not seen for some frames from ``hidden`` on."""
    images, masks = {}, {}
    for t in range(frames):
        ids = drawn([(x + t % 16 / 4, y) for x, y in PLACES], (96, 160), 8)
        seen = (ids > 0) & ~((ids == 1) & (0 <= hidden <= t < hidden + 12))
        images[t], masks[t] = folder / f"{t:03d}.png", folder / f"m{t:03d}.png"
        write_image(images[t], np.repeat((seen * np.uint8(255))[..., None], 3, axis=2))
        if renumbered:
            order = np.random.default_rng(t).permutation(len(PLACES)) + 1
            ids = np.append(0, order)[ids]
        write_label_image(masks[t], ids)
    return FrameClip(folder.name, images, masks)


def test_clips_without_mistakes_leave_no_error_but_that_of_few_clips(tmp_path: Path) -> None:
    learnt = learn_tracks(WhitePredictor(None), [_clip(tmp_path, 70)])
    assert learnt is not None
    assert (learnt["broken"], learnt["missed"]) == (0.95, 0.0)
    assert 0.01 < learnt["error"] < 0.02


def test_a_track_that_breaks_counts_as_a_fragment(tmp_path: Path) -> None:
    clips = [_clip(tmp_path / str(n), 32, hidden=3 if n % 2 else -1) for n in range(4)]
    learnt = learn_tracks(WhitePredictor(None), clips)
    assert learnt is not None
    # Of two clips twelve tracks, one of which ends inside the picture where its rest begins.
    assert learnt["broken"] == 1
    assert learnt["missed"] == pytest.approx(0, abs=0.01)


def test_only_clips_with_permanent_ids_in_all_frames_tell(tmp_path: Path) -> None:
    numbered = _clip(tmp_path / "a", 16, renumbered=True)
    short = _clip(tmp_path / "b", 11)
    gaps = _clip(tmp_path / "c", 20)
    del gaps.masks[12]
    assert learn_tracks(WhitePredictor(None), [numbered, short, gaps]) is not None
    del gaps.masks[11]
    assert learn_tracks(WhitePredictor(None), [numbered, short, gaps]) is None


def test_the_fit_finds_what_clips_were_made_with_and_its_interval_holds() -> None:
    rng = np.random.default_rng(0)

    def clips(number: int) -> tuple[list[int], list[int], list[int]]:
        true = rng.integers(60, 200, number)
        seen = np.round(true * 0.97)
        loose = rng.poisson(30, number)
        tracks = seen + rng.binomial(loose, 0.8)
        return tracks.astype(int).tolist(), loose.tolist(), true.tolist()

    fitted = fit_track_calibration(*clips(40))
    assert fitted.broken == pytest.approx(0.8, abs=0.1)
    assert fitted.missed == pytest.approx(0.03, abs=0.03)
    held = [
        (one := fitted.estimate(k, i)).low <= d <= one.high
        for k, i, d in zip(*clips(200), strict=True)
    ]
    assert np.mean(held) > 0.9


def test_few_clips_fit_the_number_alone() -> None:
    fitted = fit_track_calibration([110, 90], [0, 0], [100, 100])
    assert fitted.broken == 0.95
    assert fitted.estimate(100, 0).distinct == pytest.approx(100, abs=3)
    # 0.1 by itself, which two clips hardly tell.
    assert 0.15 < fitted.error < 0.4
