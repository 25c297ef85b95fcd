from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from dvos.media.frames import read_ahead


def test_items_come_in_order() -> None:
    assert list(read_ahead(iter(range(100)), depth=3)) == list(range(100))


def test_no_more_than_depth_items_are_fetched_ahead() -> None:
    fetched: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for index in range(100):
            fetched.append(index)
            if index == 3:
                third.set()
            yield index

    ahead = read_ahead(items(), depth=2)
    assert next(ahead) == 0
    assert third.wait(5)
    # One was taken, two wait, one is held by the reader.
    assert len(fetched) == 4
    ahead.close()
    assert len(fetched) <= 5


def test_an_exception_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(items(), depth=4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def endless(closed: threading.Event) -> Iterator[int]:
    """A source that never ends by itself, and tells when it is closed."""
    try:
        while True:
            yield 0
    finally:
        closed.set()


def test_closing_early_closes_the_source() -> None:
    closed = threading.Event()
    ahead = read_ahead(endless(closed), depth=1)
    next(ahead)
    ahead.close()
    assert closed.is_set()


def test_garbage_in_a_circle_ends_and_closes_the_source() -> None:
    """As of a run that failed: the generator is closed by the collector, its thread with it."""
    closed = threading.Event()
    ahead = read_ahead(endless(closed), depth=1)
    next(ahead)
    circle: list[object] = [ahead]
    circle.append(circle)
    del ahead, circle
    gc.collect()
    assert closed.is_set()
