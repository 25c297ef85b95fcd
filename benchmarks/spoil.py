"""Mutations of files: bytes, text, structure, and what the file system may do to them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import yaml

TEXTUAL = {".csv", ".yaml", ".json", ".jsonl", ".html", ".geojson", ".xml", ".txt"}

ODD = (
    *("", "-1", "0", "nan", "inf", "1e400", "99999999999999999999", "true", "null", "[]", "{}"),
    *("../../../escaped", "/etc/passwd", "a\x00b", "ä→\u202e", "'", '"', "x" * 200_000, "\t", "\r"),
)


# Mutations of a file: (rng, content) -> content.


def _bytes(rng: random.Random, content: bytes) -> bytes:
    size = max(1, len(content))
    start, length = rng.randrange(size), rng.choice((1, 4, 64, 1024))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return (
            content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]
        )
    if kind == 2:
        return content[:start] + rng.randbytes(length) + content[start:]
    if kind == 3:
        return content[:start] + content[start : start + length] * 3 + content[start + length :]
    if kind == 4:
        return b"" if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 100, 5000)))
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        if flipped:
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _text(rng: random.Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    tokens = list(re.finditer(r"[^\s,:\[\]{}]+", text))
    kind = rng.randrange(6)
    if kind == 0 and tokens:
        token = rng.choice(tokens)
        text = text[: token.start()] + rng.choice(ODD) + text[token.end() :]
    elif kind == 1:
        lines = text.splitlines(keepends=True)
        if lines:
            del lines[rng.randrange(len(lines))]
        text = "".join(lines)
    elif kind == 2:
        lines = text.splitlines(keepends=True)
        text = "".join(line for each in lines for line in [each] * rng.choice((1, 1, 2)))
    elif kind == 3 and tokens:
        token = rng.choice(tokens)
        text = text[: token.start()] + text[token.end() :]
    elif kind == 4:
        return text.encode(rng.choice(("utf-16", "latin-1", "utf-8-sig")), "replace")
    else:
        place = rng.randrange(len(text) + 1)
        text = (
            text[:place]
            + rng.choice(("\x00", "\x07", ",,,,", "\n\n", "{", "]", "&a [*a]"))
            + text[place:]
        )
    return text.encode("utf-8", "replace")


def _structure(rng: random.Random, content: bytes) -> bytes:
    lines = content.decode("utf-8", "replace").splitlines()
    by_line = len(lines) > 1 and all(line.startswith("{") for line in lines if line)
    try:
        values: Any = [json.loads(line) for line in lines] if by_line else yaml.safe_load(content)
    except (ValueError, yaml.YAMLError, RecursionError):
        return _text(rng, content)
    places = list(_places(values))
    if not places:
        return _text(rng, content)
    place, key = rng.choice(places)
    kind = rng.randrange(4)
    deep = rng.choice((60, 3000))
    if kind == 0:
        del place[key]
    elif kind == 1:
        place[key] = rng.choice((None, -1, 10**30, "x", [], {}, [[1]], {"a": 1}, 1.5, True, "\x00"))
    elif kind == 2:
        place[key] = "@deep@"
    else:
        place[key] = [place[key]] * 3
    if by_line:
        text = "\n".join(json.dumps(value) for value in values) + "\n"
    else:
        text = json.dumps(values)
    return text.replace('"@deep@"', "[" * deep + "]" * deep).encode()


def _places(values: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(values, dict):
        found = [(values, key) for key in values]
    elif isinstance(values, list):
        found = [(values, index) for index in range(len(values))]
    return found + [inner for place, key in found for inner in _places(place[key])]


def spoil(rng: random.Random, path: Path) -> str:
    """Spoil one file; say how."""
    textual = path.suffix in TEXTUAL
    kind = rng.choice(("bytes", "text", "structure", "system") if textual else ("bytes", "system"))
    if kind == "system":
        how = rng.choice(("gone", "folder", "circle", "empty"))
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "circle":
            path.symlink_to(path.name)
        elif how == "empty":
            path.write_bytes(b"")
        return how
    mutate = {"bytes": _bytes, "text": _text, "structure": _structure}[kind]
    path.write_bytes(mutate(rng, path.read_bytes()))
    return kind
