"""YAML that is no settings file: one clear line, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvos.config.strict_yaml import parse_yaml, read_yaml
from dvos.errors import ConfigError

MULTIPLYING = "\n".join(
    f"k{n}: &k{n} [{', '.join(f'*k{n - 1}' for _ in range(9))}]" if n else "k0: &k0 [1]"
    for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[" * 3000, "nested more than 50 deep"),
        ("a: " + "{b: " * 3000, "nested more than 50 deep"),
        ("\n".join(" " * n + "- " for n in range(200)) + "1", "nested more than 50 deep"),
        ("? [1, 2]\n: 3", "a list or mapping stands as a key"),
        ("? {a: 1}\n: 3", "a list or mapping stands as a key"),
        ("a: &x [1, *x]", "the anchor x holds itself"),
        ("a: &x {b: {c: *x}}", "the anchor x holds itself"),
        (MULTIPLYING, "more than 100000 values"),
        ("a: 2026-99-99", "month must be in 1..12"),
        (f"a: {'9' * 5000}", "a number of 5000 digits"),
        (f"a: 0x{'f' * 5000}", "a number of 5002 digits"),
        ("a: \x07", "special characters are not allowed"),
        ("a: 1\na: 2", "key 'a' stands twice"),
        ("a: *nowhere", "undefined alias"),
    ],
)
def test_what_no_settings_file_needs_is_told(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        parse_yaml(text)
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_anchors_that_hold_no_more_than_they_should_are_read() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: [*x, *x]") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


@given(st.text(alphabet="[]{}:,-&*ab1?!|>'\"#% \n\t", max_size=200))
def test_any_text_is_read_or_told(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
