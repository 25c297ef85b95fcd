from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from xmem_clips import CLIP_SIZE, ColourXMem, moving, xmem_predictor

from dvos.api import load_predictor
from dvos.errors import CheckpointError, MediaError, RunError, UsageError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.weights import save_network
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMEM_NORMALISATION, XMem
from dvos.prediction.predictor import Views
from dvos.prediction.xmem import ObjectMemory
from dvos.registry import network_spec


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_an_object_is_followed() -> None:
    frames, masks = moving(9)
    found = list(xmem_predictor(ColourXMem(), masks[0]).segment(frames))
    for one, mask in zip(found, masks, strict=True):
        assert _overlap(one.mask, mask > 0) > 0.8
        assert ((one.instances > 0) == one.mask).all()


def test_objects_keep_their_ids_however_large() -> None:
    frames, masks = moving(8, 2)
    first = np.where(masks[0] == 2, 40_000, masks[0]).astype(np.uint16)
    found = list(xmem_predictor(ColourXMem(), first).segment(frames))
    assert (found[0].instances == first).all()
    for one, mask in zip(found, masks, strict=True):
        assert set(np.unique(one.instances)) == {0, 1, 40_000}
        assert _overlap(one.instances == 40_000, mask == 2) > 0.7


def test_an_object_starts_when_its_mask_comes() -> None:
    frames, masks = moving(8, 2)
    given = {0: np.where(masks[0] == 1, 1, 0).astype(np.uint16), 4: masks[4]}
    found = list(xmem_predictor(ColourXMem(), given, frames="new").segment(frames))
    assert [2 in one.instances for one in found] == [False] * 4 + [True] * 4
    only_first = list(xmem_predictor(ColourXMem(), given).segment(frames))
    assert not any(2 in one.instances for one in only_first)


def test_frames_before_the_first_mask_are_empty() -> None:
    frames, masks = moving(6)
    found = list(xmem_predictor(ColourXMem(), {3: masks[3]}).segment(frames))
    assert [bool(one.mask.any()) for one in found] == [False] * 3 + [True] * 3
    assert found[0].probability.max() == 0


def test_all_masks_correct_on_request() -> None:
    frames, masks = moving(6)
    elsewhere = np.zeros_like(masks[0])
    elsewhere[40:60, 4:24] = 1
    given = {0: masks[0], 3: elsewhere}
    corrected = list(xmem_predictor(ColourXMem(), given, frames="all").segment(frames))
    assert (corrected[3].mask == (elsewhere > 0)).all()
    uncorrected = list(xmem_predictor(ColourXMem(), given, frames="new").segment(frames))
    assert _overlap(uncorrected[3].mask, masks[3] > 0) > 0.8


def test_the_size_and_scale_are_what_the_network_sees() -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(ColourXMem):
        def encode_key(self, frames: torch.Tensor) -> Any:
            seen.append(tuple(frames.shape[-2:]))
            return super().encode_key(frames)

    frames, masks = moving(1)
    for choices in ({}, {"size": 32}, {"size": 0}, {"scale": 0.25}, {"scale": 2.0, "size": 32}):
        found = next(iter(xmem_predictor(Watched(), masks[0], **choices).segment(frames)))
        assert found.mask.shape == CLIP_SIZE
        assert _overlap(found.mask, masks[0] > 0) > 0.8
    assert seen == [CLIP_SIZE, (32, 48), CLIP_SIZE, (16, 32), (128, 192)]


def test_objects_too_small_for_the_network_are_told(caplog: pytest.LogCaptureFixture) -> None:
    frames, masks = moving(2)
    masks[0][62, 94] = 2
    with caplog.at_level(logging.WARNING):
        list(xmem_predictor(ColourXMem(), masks[0], size=32).segment(frames))
    assert "1 objects of its mask vanish at 48 x 32 pixels" in caplog.text


def test_few_objects_at_once_give_the_same() -> None:
    frames, masks = moving(8, 2)
    all_at_once = list(xmem_predictor(ColourXMem(), masks[0]).segment(frames))
    one_by_one = list(xmem_predictor(ColourXMem(), masks[0], objects_at_once=1).segment(frames))
    for one, other in zip(all_at_once, one_by_one, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)
        assert (one.instances == other.instances).all()


def test_it_gives_what_the_engine_of_the_real_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = XMem(key_dim=8, value_dim=16, hidden_dim=8).eval()
    frames, masks = moving(3, 2)
    for index, frame in enumerate(frames):
        write_image(tmp_path / "clip" / f"{index}.png", frame)
    write_mask(tmp_path / "clip.png", masks[0])
    predictor = xmem_predictor(network, tmp_path / "clip.png")
    engine = XMemEngine(network)
    mean = torch.tensor(XMEM_NORMALISATION.mean).view(3, 1, 1)
    std = torch.tensor(XMEM_NORMALISATION.std).view(3, 1, 1)
    for index, one in enumerate(predictor.segment(tmp_path / "clip")):
        frame = (torch.from_numpy(frames[index]).permute(2, 0, 1) / 255 - mean) / std
        mask = torch.from_numpy(np.stack([masks[0] == 1, masks[0] == 2]))
        expected = engine.step(frame, mask if index == 0 else None)
        np.testing.assert_allclose(one.probability, 1 - expected[0].numpy(), atol=1e-4)


def test_another_network_finds_the_first_mask(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames, _ = moving(4)
    options: dict[str, Any] = {"finder": load_predictor(checkpoint, "cpu"), "minimum_area": 1}
    predictor = xmem_predictor(ColourXMem(), "auto", **options)
    found = list(predictor.segment(frames))
    assert found[0].mask.any()
    assert set(np.unique(found[0].instances)) == {0, 1}
    with caplog.at_level(logging.WARNING):
        nothing = xmem_predictor(ColourXMem(), "auto", **{**options, "minimum_area": 10**6})
        assert not any(one.mask.any() for one in nothing.segment(frames))
    assert "no object was found in any frame" in caplog.text


def test_what_does_not_fit_xmem_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is XMem, which follows.*--first-mask"):
        xmem_predictor(ColourXMem(), None)
    with pytest.raises(UsageError, match="no network is named that finds it"):
        xmem_predictor(ColourXMem(), "auto")
    with pytest.raises(UsageError, match="tile: is 64; expected 0"):
        xmem_predictor(ColourXMem(), "masks", tile=64)
    with pytest.raises(UsageError, match="augment: is 'flips'"):
        xmem_predictor(ColourXMem(), "masks", augment="flips")
    with pytest.raises(UsageError, match="XMem has no such views"):
        xmem_predictor(ColourXMem(), "masks").segment_views([], Views())
    weights = tmp_path / "xmem.safetensors"
    save_network(weights, network_spec("xmem").network(**_SMALL), name="xmem", arguments=_SMALL)
    with pytest.raises(CheckpointError, match="is XMem, which finds no first mask"):
        load_predictor(weights, "cpu", first_mask="auto", first_mask_checkpoint=weights)


_SMALL = {"key_dim": 8, "value_dim": 16, "hidden_dim": 8}


def test_a_stream_needs_a_mask_that_is_its_own(tmp_path: Path) -> None:
    frames, masks = moving(3)
    write_mask(tmp_path / "first.png", masks[0])
    found = list(xmem_predictor(ColourXMem(), tmp_path / "first.png").segment(frames))
    assert found[2].mask.any()
    with pytest.raises(MediaError, match="is 96 x 64 pixels; expected 48 x 32"):
        list(xmem_predictor(ColourXMem(), masks[0]).segment([frames[0][::2, ::2]]))


class TestFitting:
    ASKED = MemorySettings()
    SIZES: ClassVar = {"area": 24 * 24, "object_bytes": 2048}

    def test_what_fits_stays(self) -> None:
        needed = ObjectMemory(100, **self.SIZES).bytes(self.ASKED)
        assert ObjectMemory(100, **self.SIZES).fitted(self.ASKED, needed + 1) == self.ASKED
        assert needed == 1.25 * (5760 + 10_000) * 100 * 2048

    @pytest.mark.parametrize("objects", [1, 10, 100, 300, 500, 1000, 2000])
    @pytest.mark.parametrize("limit", [7e9, 8e9])
    def test_what_is_fitted_fits(self, objects: int, limit: float) -> None:
        memory = ObjectMemory(objects, **self.SIZES)
        fitted = memory.fitted(self.ASKED, int(limit))
        assert memory.bytes(fitted) <= limit
        assert fitted.max_mid_term_frames >= 2
        assert fitted.long_term_max >= self.ASKED.prototypes

    def test_long_term_memory_gives_way_first(self) -> None:
        fitted = ObjectMemory(300, **self.SIZES).fitted(self.ASKED, 8 * 10**9)
        assert (fitted.max_mid_term_frames, fitted.min_mid_term_frames) == (10, 5)
        assert 4 * 128 <= fitted.long_term_max < 10_000

    def test_what_cannot_fit_is_told(self) -> None:
        with pytest.raises(RunError, match=r"65000 objects: need .* GB of memory at least"):
            ObjectMemory(65_000, **self.SIZES).fitted(self.ASKED, 8 * 10**9)

    def test_objects_that_come_later_share_the_limit(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        frames, masks = moving(4, 2)
        given = {0: np.where(masks[0] == 1, 1, 0).astype(np.uint16), 2: masks[2]}
        settings = MemorySettings(
            min_mid_term_frames=2, max_mid_term_frames=4, prototypes=4, long_term_max=8
        )
        one = ObjectMemory(objects=1, area=24, object_bytes=8).bytes(settings)
        predictor = xmem_predictor(ColourXMem(), given, frames="new", memory_limit=1.9 * one / 1e9)
        with caplog.at_level(logging.WARNING):
            list(predictor.segment(frames))
        assert "1 objects: 1 to 2 frames in working memory" in caplog.text
