"""Commands on the workers of a cluster give what they give here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import dvos
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.media.video_write import VideoWriter
from dvos.networks.weights import save_network
from dvos.registry import network_spec

ARGUMENTS = {
    "encoder": "lite0",
    "channels": [4, 4, 4, 4, 4],
    "widths": [4, 4, 4, 4],
    "references": 2,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two workers in this process, which all reaches as it would reach machines."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, clips and a video, in a folder to run in."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for index in range(2):
            image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            write_image(folder / f"clips/{name}/f{index}.png", image)
    with VideoWriter(folder / "v.mp4", frame_rate=5, size=(32, 48)) as writer:
        for index in range(4):
            writer.write(np.full((32, 48, 3), 40 * index, np.uint8))
    torch.manual_seed(0)
    network = network_spec("dvos").network(**ARGUMENTS)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("heads.mask") and name.endswith("bias"):
                parameter.zero_()
    norm = {"normalisation": {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}}
    path = folder / "best.safetensors"
    save_network(path, network, name="dvos", arguments=ARGUMENTS, extra=norm)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


@pytest.fixture(autouse=True)
def _there(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative, which those of other machines cannot be."""
    monkeypatch.chdir(given)


def test_predict(address: str, given: Path, tmp_path: Path) -> None:
    options = {"checkpoint": "best.safetensors", "device": "cpu", "overlay": True, "tracks": True}
    here = dvos.predict("clips", out=tmp_path / "here", **options)
    far = dvos.predict("clips", out=tmp_path / "far", scheduler=address, **options)
    assert [clip.frames for clip in far.clips] == [clip.frames for clip in here.clips] == [2, 2, 2]
    assert contents(tmp_path / "far") == contents(tmp_path / "here")
    again = dvos.predict("clips", out=tmp_path / "far", scheduler=address, **options)
    assert [clip.continued_at for clip in again.clips] == [2, 2, 2]


def test_predict_tells_what_cannot_be_read_and_does_the_rest(
    address: str, given: Path, tmp_path: Path
) -> None:
    for name, data in (("a", None), ("b", b"no picture")):
        for path in sorted((given / f"clips/{name}").iterdir()):
            target = tmp_path / f"in/{name}/{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data or path.read_bytes())
    out = tmp_path / "m"
    with pytest.raises(MediaError) as caught:
        dvos.predict(
            tmp_path / "in",
            out=out,
            checkpoint="best.safetensors",
            device="cpu",
            scheduler=address,
        )
    assert all("/b" in str(fault) for fault in caught.value.faults)
    assert [line[0] for line in (out / "counts.csv").read_text().splitlines()[1:]] == ["a", "a"]


def test_pseudo_label(address: str, tmp_path: Path) -> None:
    options = {
        "checkpoint": "best.safetensors",
        "device": "cpu",
        "scales": [1.0],
        "neighbours": [],
        "filter": {"object_threshold": 0.5, "background_threshold": 0.49, "min_known": 0.0},
        "pictures": 2,
    }
    here = dvos.pseudo_label("clips", out=tmp_path / "here", **options)
    far = dvos.pseudo_label("clips", out=tmp_path / "far", scheduler=address, **options)
    assert (far.frames, far.judged, far.accepted) == (here.frames, here.judged, here.accepted)
    assert far.judged == 6
    assert contents(tmp_path / "far") == contents(tmp_path / "here")


def test_extract_frames(address: str, tmp_path: Path) -> None:
    for name, scheduler in (("here", None), ("far", address)):
        out = tmp_path / name
        out.mkdir()
        (out / "v.csv").write_text(f"Video,FramesDir,Interval\nv.mp4,{out}/f,2\n")
        dvos.extract_frames(
            videos=out / "v.csv", out=out / "frames.csv", min_side=0, scheduler=scheduler, workers=1
        )
        (out / "v.csv").unlink()
        (out / ".frames.csv.ledger.jsonl").unlink()
    assert contents(tmp_path / "far") == contents(tmp_path / "here")
    assert len(contents(tmp_path / "far")) == 3
