"""Library calls on spoiled files raise a ``DvosError`` of one-line faults, or read them."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nrrd
import numpy as np
import pytest
import tifffile
import torch

import dvos
from dvos import tables
from dvos.errors import DvosError
from dvos.media.clip_store import ClipStore, ClipStoreWriter
from dvos.media.image import image_size, read_image, read_rgba
from dvos.media.mask import mask_size, read_mask
from dvos.media.png import read_png_window
from dvos.networks.weights import save_network
from dvos.registry import load_network, network_spec
from spoiling import spoil_bytes

Read = Callable[[Path], object]
Spoil = Callable[[random.Random, bytes], bytes]

CASES = 60
SIZE = (24, 40)
_STORE = struct.Struct("<8sHHIIIQQQIII")
_ODD = [None, True, -1, 0, 1.5, 1e300, 10**30, "", "x", "../x", "\0", [], {}, [1], {"a": 1}, [[]]]
_TABLES = {
    "clips.csv": "BID,VID,FID,Image,Mask,Label\nb,v,0,a.png,m.png,1\nb,v,1,a.png,m.png,1\n",
    "stills.csv": "Image,Mask\na.png,m.png\n",
    "images.csv": "Image\na.png\n",
    "videos.csv": "Video,OutDir\na.mp4,o\n",
    "counts.csv": "clip,frame_index,time_s,coverage,count\na,0,0.0,0.5,3\n",
}
_CELLS = ["", "-1", "1e400", "9" * 30, "nan", "\0", '"', "x" * 200_000, "../../x", "1.5", "\ud800"]
_PAPER = {"references": 1, "base": 4, "multipliers": [1, 2], "latent": 8, "groups": 4, "hidden": 8}


def _spoil_store(rng: random.Random, data: bytes) -> bytes:
    """Spoilt, with checksums of header, table and metadata that fit again."""
    spoilt = bytearray(spoil_bytes(rng, data))
    if len(spoilt) < _STORE.size + 4:
        return bytes(spoilt)
    header = list(_STORE.unpack_from(spoilt))
    tile, frames, height, width, _, table, facts, length = header[2:10]
    records = 16 * frames * 2 * (-(-height // max(1, tile))) * (-(-width // max(1, tile)))
    header[10] = zlib.crc32(spoilt[table : table + records])
    header[11] = zlib.crc32(spoilt[facts : facts + length])
    _STORE.pack_into(spoilt, 0, *header)
    struct.pack_into("<I", spoilt, _STORE.size, zlib.crc32(spoilt[: _STORE.size]))
    return bytes(spoilt)


def _spoil_values(rng: random.Random, value: Any) -> Any:
    """JSON values with one somewhere inside that is gone or another."""
    places: list[tuple[Any, Any]] = []

    def walk(inner: Any) -> None:
        keys = inner if isinstance(inner, dict) else range(len(inner)) if inner is not None else ()
        for key in keys:
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                walk(inner[key])

    copy = json.loads(json.dumps(value))
    walk(copy)
    holder, key = rng.choice(places)
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = rng.choice(_ODD)
    return copy


def _spoil_table(rng: random.Random, data: bytes) -> bytes:
    lines = data.decode().split("\n")
    at = rng.randrange(len(lines) - 1)
    cells = lines[at].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
    lines[at] = ",".join(rng.choice([cells, cells[:-1], [*cells, "more"], [*cells, *cells]]))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _spoil_weights(rng: random.Random, data: bytes) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.7:
        description = json.loads(header["__metadata__"]["dvos"])
        header["__metadata__"]["dvos"] = json.dumps(_spoil_values(rng, description))
    else:
        header = _spoil_values(rng, header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _spoil_published(rng: random.Random, path: Path) -> None:
    content = torch.load(path, weights_only=True)
    state = content["state_dict"]
    telling = [key for key in state if key.split(".")[-2] == "2" or "downsample" in key]
    key = rng.choice(telling if rng.random() < 0.7 else list(state))
    value = state.pop(key)
    others = [torch.zeros(()), torch.zeros(0), value[:1], value.to(torch.int8), value.to_sparse()]
    others += [value.to(torch.complex64), torch.zeros(1).expand(1000), None, 3, "x", [1.0]]
    if rng.random() < 0.8:
        state[key] = rng.choice(others)
    torch.save(content, path)


def _read_store(path: Path) -> None:
    with ClipStore(path) as store:
        store.read_frames(window=(3, 5, 12, 20))
        store.read_instances([0])
        store.verify()
        store.metadata.get("seed")


def _read_window(path: Path) -> None:
    read_png_window(path, (3, 4, 10, 12), size=SIZE)


def _load(path: Path) -> None:
    load_network(path)
    dvos.load_predictor(path, device="cpu")


_IMAGE: list[Read] = [read_image, read_rgba, image_size]
_MASK: list[Read] = [read_mask, mask_size]
#: Sound file: how else than by bytes it is spoilt, and what reads it.
_FILES: dict[str, tuple[Callable[[random.Random, bytes], bytes], list[Read]]] = {
    "colour.png": (spoil_bytes, [*_IMAGE, *_MASK, _read_window]),
    "mask.png": (spoil_bytes, [*_IMAGE, *_MASK]),
    "photo.jpg": (spoil_bytes, _IMAGE),
    "photo.bmp": (spoil_bytes, _IMAGE),
    "photo.webp": (spoil_bytes, _IMAGE),
    "tiles.tif": (spoil_bytes, [*_IMAGE, *_MASK]),
    "jpeg.tif": (spoil_bytes, [*_IMAGE, *_MASK]),
    "gzip.nrrd": (spoil_bytes, _MASK),
    "ascii.nrrd": (spoil_bytes, _MASK),
    "clip.dvclip": (_spoil_store, [_read_store]),
    "clips.csv": (_spoil_table, [tables.read_clips]),
    "stills.csv": (_spoil_table, [tables.read_stills]),
    "images.csv": (_spoil_table, [tables.read_images]),
    "videos.csv": (_spoil_table, [tables.read_videos]),
    "counts.csv": (_spoil_table, [tables.read_counts]),
    "best.safetensors": (_spoil_weights, [_load]),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, SIZE, dtype=np.uint8)
    colour = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    for name in ("colour.png", "photo.jpg", "photo.bmp", "photo.webp"):
        cv2.imwrite(str(folder / name), colour)
    cv2.imwrite(str(folder / "mask.png"), ids)
    tifffile.imwrite(folder / "tiles.tif", colour, compression="deflate", tile=(16, 16))
    tifffile.imwrite(folder / "jpeg.tif", colour, compression="jpeg", rowsperstrip=16)
    for encoding in ("gzip", "ascii"):
        options = {"encoding": encoding}
        nrrd.write(str(folder / f"{encoding}.nrrd"), ids, options, index_order="C")
    with ClipStoreWriter(folder / "clip.dvclip", size=SIZE, tile=16, metadata={"seed": 1}) as store:
        for _ in range(2):
            store.write(colour, ids.astype(np.uint16))
    for name, text in _TABLES.items():
        (folder / name).write_text(text)
    arguments = {"references": 1, "channels": [4] * 5, "widths": [4] * 4, "heads": {"mask": 1}}
    network = network_spec("dvos").network(**arguments)
    extra = {
        "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "objects": {"width": 3.0, "area": 9.0, "error": 0.1},
        "calibration": {"temperature": 1.2, "bias": 0.1},
        "counting": {"dispersion": 0.2},
        "reference_interval": 1,
        "intensity": "full",
    }
    weights = folder / "best.safetensors"
    save_network(weights, network, name="dvos", arguments=arguments, extra=extra)
    published = network_spec("paper").network(**_PAPER)
    torch.save({"state_dict": published.state_dict(), "epoch": 3}, folder / "published.tar")
    return folder


def _try(read: Read, path: Path, case: int) -> None:
    try:
        read(path)
    except DvosError:
        pass
    except Exception as error:
        pytest.fail(f"{path.name}, case {case}: {read.__name__} raised {error!r}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _FILES)
def test_spoilt_files_are_told(sound: Path, tmp_path: Path, name: str) -> None:
    spoil, readers = _FILES[name]
    data, path = (sound / name).read_bytes(), tmp_path / name
    for case in range(CASES if name != "best.safetensors" else CASES // 4):
        rng = random.Random(f"{name} {case}")
        by_bytes = rng.random() < 0.3
        path.write_bytes(spoil_bytes(rng, data) if by_bytes else spoil(rng, data))
        for read in readers:
            _try(read, path, case)


@pytest.mark.filterwarnings("ignore")
def test_spoilt_published_weights_are_told(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "published.tar"
    for case in range(CASES // 4):
        path.write_bytes((sound / path.name).read_bytes())
        _spoil_published(random.Random(case), path)
        _try(_load, path, case)


def test_what_is_compressed_beyond_its_file_is_not_loaded(tmp_path: Path) -> None:
    import zipfile

    torch.save({"encoder.backbone.0.weight": torch.zeros(2**18)}, tmp_path / "sound.pth")
    with (
        zipfile.ZipFile(tmp_path / "sound.pth") as sound,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in sound.infolist():
            packed.writestr(entry.filename, sound.read(entry))
    with pytest.raises(DvosError, match=r"a\.pth: damaged, or not written by torch\.save"):
        load_network(tmp_path / "a.pth")
