"""``dvos predict`` with XMem, as files see it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xmem_clips import ColourXMem, moving

from dvos.config.prediction import PredictionSettings
from dvos.errors import CheckpointError, DvosError, MediaError, UsageError
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask
from dvos.media.video_write import VideoWriter
from dvos.networks.weights import save_network
from dvos.prediction import network as network_files
from dvos.prediction.predict import PredictResult, predict
from dvos.prediction.write import FrameWriter
from dvos.registry import network_spec, predictor_for

_SMALL = {"key_dim": 8, "value_dim": 16, "hidden_dim": 8}


@pytest.fixture(scope="session")
def xmem_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("xmem") / "xmem.safetensors"
    save_network(path, network_spec("xmem").network(**_SMALL), name="xmem", arguments=_SMALL)
    return path


@pytest.fixture
def follows_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's network is replaced by one that is fast and does something."""
    load = network_files.load_network

    def replaced(path: Path, *arguments: Any, **options: Any) -> Any:
        network, info = load(path, *arguments, **options)
        return (ColourXMem() if info.name == "xmem" else network), info

    monkeypatch.setattr(network_files, "load_network", replaced)


def _tree(root: Path, clips: dict[str, int], objects: int = 1) -> Path:
    """The published layout: frames/<clip>, masks/<clip> with the mask of the first frame."""
    for name, count in clips.items():
        frames, masks = moving(count, objects)
        for index, frame in enumerate(frames):
            write_image(root / "frames" / name / f"{index:05d}.png", frame)
        write_mask(root / "masks" / name / "00000.png", masks[0])
    return root


def _predict(checkpoint: Path, source: Path, out: Path, **options: Any) -> PredictResult:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "device": "cpu", **options}
    return predict(PredictionSettings.model_validate(values), predictor_for)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


@pytest.mark.usefixtures("follows_colours")
def test_a_published_tree_becomes_masks(xmem_checkpoint: Path, tmp_path: Path) -> None:
    root = _tree(tmp_path / "root", {"a": 4, "b": 3})
    _predict(xmem_checkpoint, root, tmp_path / "out", first_mask=root / "masks")
    for name, count in (("a", 4), ("b", 3)):
        for index, ids in enumerate(moving(count)[1]):
            mask = read_mask(tmp_path / "out" / name / f"{index:05d}.png")
            assert set(np.unique(mask)) == {0, 255}
            assert ((mask > 0) == (ids > 0)).mean() > 0.9
    with open(tmp_path / "out/counts.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 7


@pytest.mark.usefixtures("follows_colours")
def test_a_video_starts_from_one_mask_or_the_other_networks(
    xmem_checkpoint: Path, checkpoint: Path, tmp_path: Path
) -> None:
    frames, masks = moving(4)
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=masks[0].shape) as video:
        for frame in frames:
            video.write(frame)
    write_mask(tmp_path / "first.nrrd", masks[0])
    for name, first in (
        ("file", {"first_mask": tmp_path / "first.nrrd"}),
        ("auto", {"first_mask": "auto", "first_mask_checkpoint": checkpoint}),
    ):
        out = tmp_path / name
        _predict(xmem_checkpoint, tmp_path / "field.mp4", out, **first)
        found = [read_mask(out / f"field/field_{index:06d}.png") > 0 for index in range(4)]
        assert all(mask.any() for mask in found)


@pytest.mark.usefixtures("follows_colours")
def test_objects_are_written_by_their_ids(xmem_checkpoint: Path, tmp_path: Path) -> None:
    root = _tree(tmp_path / "root", {"a": 4}, objects=2)
    first = moving(1, 2)[1][0]
    write_mask(root / "masks/a/00000.png", np.where(first == 2, 700, first).astype(np.uint16))
    options = {"first_mask": root / "masks", "instances": True}
    _predict(xmem_checkpoint, root, tmp_path / "out", **options)
    for index in range(4):
        ids = read_mask(tmp_path / f"out/a/instances/{index:05d}.png")
        mask = read_mask(tmp_path / f"out/a/{index:05d}.png")
        assert set(np.unique(ids)) == {0, 1, 700}
        assert ((ids > 0) == (mask > 0)).all()
    with open(tmp_path / "out/a.objects.csv", newline="") as stream:
        assert [row["object"] for row in csv.DictReader(stream)] == ["1", "700"] * 4


@pytest.mark.usefixtures("follows_colours")
def test_a_killed_run_goes_on_with_the_same_bytes(
    xmem_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _tree(tmp_path / "root", {"a": 9}, objects=2)
    options = {"first_mask": root / "masks", "probabilities": True, "instances": True}
    _predict(xmem_checkpoint, root, tmp_path / "whole", **options)
    write = FrameWriter.__call__

    def killed(self: FrameWriter, prediction: Any) -> Any:
        if prediction.frame_index == 5:
            raise KeyboardInterrupt
        return write(self, prediction)

    monkeypatch.setattr(FrameWriter, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        _predict(xmem_checkpoint, root, tmp_path / "torn", **options)
    monkeypatch.setattr(FrameWriter, "__call__", write)
    result = _predict(xmem_checkpoint, root, tmp_path / "torn", **options)
    assert 0 < result.clips[0].continued_at <= 5
    assert _contents(tmp_path / "torn") == _contents(tmp_path / "whole")


@pytest.mark.usefixtures("follows_colours")
def test_another_first_mask_or_memory_predicts_anew(xmem_checkpoint: Path, tmp_path: Path) -> None:
    root = _tree(tmp_path / "root", {"a": 3})
    options: dict[str, Any] = {"first_mask": root / "masks"}

    def continued() -> int:
        result = _predict(xmem_checkpoint, root, tmp_path / "out", **options)
        return result.clips[0].continued_at

    assert [continued(), continued()] == [0, 3]
    options["xmem"] = {"mem_every": 1}
    assert [continued(), continued()] == [0, 3]
    write_mask(root / "masks/a/00000.png", np.roll(moving(1)[1][0], 16, 1))
    assert [continued(), continued()] == [0, 3]


def test_what_is_wrong_with_first_masks_is_told_before_anything_is_written(
    xmem_checkpoint: Path, checkpoint: Path, tmp_path: Path
) -> None:
    root = _tree(tmp_path / "root", {"a": 1, "b": 1, "c": 1, "d": 1})
    (root / "masks/a/00000.png").unlink()
    write_mask(root / "masks/b/00000.png", np.zeros((64, 96), np.uint8))
    write_mask(root / "masks/c/00000.png", np.ones((30, 40), np.uint8))
    out = tmp_path / "out"
    with pytest.raises(MediaError) as caught:
        _predict(xmem_checkpoint, root, out, first_mask=root / "masks")
    told = [str(fault) for fault in caught.value.faults]
    assert len(told) == 3
    assert "holds no mask of the clip 'a'" in told[0]
    assert "b/00000.png: holds no object" in told[1]
    assert "c/00000.png: is 40 x 30 pixels; expected 96 x 64" in told[2]
    faults: list[tuple[Path, dict[str, Any], type[DvosError], str]] = [
        (xmem_checkpoint, {}, UsageError, "is XMem.*and none is given"),
        (checkpoint, {"first_mask": root / "masks"}, CheckpointError, "finds objects by itself"),
        (xmem_checkpoint, {"first_mask": root / "masks", "stills": True}, UsageError, "stills"),
    ]
    for weights, options, kind, text in faults:
        with pytest.raises(kind, match=text):
            _predict(weights, root / "frames/a", out, **options)
    assert not out.exists()
