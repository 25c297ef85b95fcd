"""Malformed files of every format end in one clear line for each fault, and in nothing else."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_labels import labels_of, made_source

from dvos.errors import DvosError, MediaError
from dvos.formats.known import FORMATS, open_source
from dvos.formats.reading import parse_xml
from spoiling import spoil_bytes

CASES = 90
ODD: list[Any] = [None, True, -1, 0, 1.5, 1e300, 10**30, "", "x", "../x", "\0", [], {}, [1]]
ODD += [{"a": 1}, [[]], float("nan"), "a" * 5000]
TEXTS = ["", "-1", "nan", "1e400", "9" * 40, "x", "../../x", "\ud800", '"', "<", "&lt;", "0,0;1"]


def _json(rng: random.Random, data: bytes) -> bytes:
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(inner: Any) -> None:
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                walk(inner[key])

    walk(value)
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.3:
        del holder[key]
    elif kind < 0.4:
        holder[key] = "@deep@"
    else:
        holder[key] = rng.choice(ODD)
    return json.dumps(value).replace('"@deep@"', "[" * 3000 + "]" * 3000).encode()


def _text(rng: random.Random, data: bytes) -> bytes:
    text = data.decode()
    token = rng.choice(list(re.finditer(r"[^\s,;:=\"<>/]+", text)))
    kind = rng.randrange(3)
    new = ("", rng.choice(TEXTS), token[0] * 2)[kind]
    return (text[: token.start()] + new + text[token.end() :]).encode("utf-8", "surrogatepass")


#: How the documents of a format are spoilt, besides byte by byte.
SPOIL: dict[str, Callable[[random.Random, bytes], bytes]] = {
    ".json": _json,
    **dict.fromkeys((".xml", ".yaml", ".txt", ".csv"), _text),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.write and one.read])
def test_malformed_files_are_told_in_a_line(name: str, tmp_path: Path) -> None:
    labels = np.zeros((12, 16), np.int32)
    labels[2:6, 2:6], labels[7:10, 3:12], labels[3, 10] = 1, 2, 3
    out = tmp_path / "a" / name
    out.mkdir(parents=True)
    photos = {"p.png": labels, "q.png": labels.T.copy().T}
    source = made_source(tmp_path / "photos", photos, video="v" if name == "mots" else "")
    write = FORMATS[name].write
    assert write is not None
    write(source, out)
    files = sorted(one for one in out.rglob("*") if one.is_file())
    files = [one for one in files if "images" not in one.parts and "JPEGImages" not in one.parts]
    documents = [one for one in files if one.suffix in SPOIL] or files
    told = 0
    for case in range(CASES):
        rng = random.Random(f"{name} {case}")
        path = rng.choice(documents if rng.random() < 0.8 else files)
        data = path.read_bytes()
        spoil = spoil_bytes if rng.random() < 0.3 else SPOIL.get(path.suffix, spoil_bytes)
        path.write_bytes(spoil(rng, data) if data else b"\0")
        try:
            labels_of(open_source(out, images=tmp_path / "photos"))
        except DvosError as error:
            told += 1
            for fault in error.faults:
                assert 0 < len(str(fault)) < 2000
                assert len(str(fault).splitlines()) == 1
        except Exception as error:
            pytest.fail(f"{path.name}, case {case}: {error!r}")
        path.write_bytes(data)
    assert told > CASES / 4
    assert {one.name for one in tmp_path.iterdir()} == {"a", "photos"}


def test_entities_and_deep_nesting_are_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations>&a;</annotations>'
    with pytest.raises(ValueError, match="declares a document type"):
        parse_xml(bomb)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_xml(b"<a>" * 200 + b"</a>" * 200)
    with pytest.raises(ValueError, match="no XML"):
        parse_xml(b"<a>")
    with pytest.raises(ValueError, match=r"no XML .unknown encoding: utg-8"):
        parse_xml(b'<?xml version="1.0" encoding="utg-8"?><a/>')


def test_the_line_names_file_and_annotation(tmp_path: Path) -> None:
    labels = np.zeros((12, 16), np.int32)
    labels[2:6, 2:6] = 1
    source = made_source(tmp_path / "photos", {"p.png": labels})
    write = FORMATS["coco"].write
    assert write is not None
    write(source, tmp_path)
    path = tmp_path / "annotations.json"
    path.write_text(path.read_text().replace('"counts": "', '"counts": "0'))
    with pytest.raises(MediaError, match=r"annotations\.json annotation 1: its runs do not fill"):
        labels_of(open_source(tmp_path / "annotations.json"))


PICTURE = {"id": 1, "file_name": "p.png", "height": 12, "width": 16}
MARK = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
COCO = {"images": [PICTURE], "categories": [{"id": 1, "name": "w"}], "annotations": [MARK]}
SHAPE = {"label": "w", "points": [[1, 1], [9, 1], [9, 9]], "group_id": 1}
LABELME = {"imagePath": "p.png", "shapes": [SHAPE]}
REGION = {"type": "polygonlabels", "value": {"points": [[1, 1], [9, 1], [9, 9]]}}
TASK = {"id": 1, "data": {"image": "p.png"}, "annotations": [{"result": [REGION]}]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (COCO | {"annotations": {"a": 1}}, "annotations: {'a': 1} stands where a list"),
        (COCO | {"images": [PICTURE | {"id": [1]}]}, r"id: \[1\] stands where a text or a number"),
        (COCO | {"images": [PICTURE | {"width": None}]}, "width: None stands where a number"),
        (COCO | {"annotations": [MARK | {"bbox": [1, 2]}]}, "bbox: .* where a list of four"),
        (COCO | {"annotations": [MARK | {"category_id": []}]}, r"category_id: \[\] stands where"),
        (COCO | {"annotations": [MARK | {"image_id": {}}]}, "image_id: {} stands where a text or"),
        (COCO | {"annotations": [MARK | {"track_id": 0}]}, "track_id: 0 stands where a whole"),
        (
            COCO | {"annotations": [MARK | {"segmentation": {"size": [1], "counts": []}}]},
            "size: .* where height and width should",
        ),
        (LABELME | {"shapes": None}, "shapes: None stands where a list should"),
        (LABELME | {"shapes": [SHAPE | {"group_id": "x"}]}, "group_id: 'x' stands where a number"),
        (LABELME | {"shapes": [SHAPE | {"shape_type": [1]}]}, r"shape_type: \[1\] stands where"),
        ([TASK | {"data": 5}], "data: 5 stands where a mapping should"),
        ([TASK | {"annotations": 5}], "annotations: 5 stands where a list should"),
        ([TASK | {"annotations": [{"result": 5}]}], "result: 5 stands where a list should"),
    ],
)  # fmt: skip
def test_the_line_names_the_field(content: Any, told: str, tmp_path: Path) -> None:
    made_source(tmp_path, {"p.png": np.zeros((12, 16), np.int32)})
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(MediaError, match=told):
        labels_of(open_source(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"{,}", r"it is no JSON \("), (b'{"a": "\xff"}', "it is no text in UTF-8, from byte 7 on")],
)
def test_a_document_of_another_kind_is_told(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(MediaError, match=rf"a\.json: {told}"):
        open_source(tmp_path / "a.json")


def _rois(folder: Path, name: str) -> bytes:
    labels = np.zeros((12, 16), np.int32)
    labels[2:6, 2:6] = 1
    write = FORMATS["imagej"].write
    assert write is not None
    write(made_source(folder, {f"{name}.png": labels}), folder)
    return (folder / f"{name}.zip").read_bytes()


def test_an_roi_that_ends_early_is_told(tmp_path: Path) -> None:
    _rois(tmp_path, "p")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        roi = archive.read("1.roi")
    for end in (0, 10, 66, 70):
        (tmp_path / "p.roi").write_bytes(roi[:end] or b"x")
        with pytest.raises(MediaError, match=r"p\.roi: truncated or corrupt ROI file"):
            labels_of(open_source(tmp_path / "p.roi"))


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    _rois(tmp_path, "p")
    (tmp_path / "q.zip").write_bytes(_rois(tmp_path, "q")[:40])
    source = open_source(tmp_path)
    assert source.notes.lines() == [
        "files beside the others that are no ImageJ ROIs, left out: q.zip (1)"
    ]
