"""Malformed files of every format end in one clear line for each fault, and in nothing else."""

from __future__ import annotations

import json
import random
import re
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
