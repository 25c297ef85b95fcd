"""What progress says: rates, the time left, and that nothing stands still without a word."""

from __future__ import annotations

import io
import threading

import pytest

from dvos.runner import display
from dvos.runner.display import note, open_display, waiting


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(display.time, "monotonic", made.monotonic)
    return made


class Watched(io.StringIO):
    """Standard error that tells when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_rate_and_time_left_are_those_of_the_last_minute(clock, capsys) -> None:
    with open_display("train", 1000, "step") as advance:
        for _ in range(100):  # slow at first
            clock.now += 10
            advance()
        for _ in range(120):
            clock.now += 1
            advance()
    last = lines(capsys.readouterr().err)[-1]
    assert last == "train: 220/1000 steps, 1 steps/s, 13 min 00 s left"


def test_what_was_done_before_does_not_count_for_the_rate(clock, capsys) -> None:
    with open_display("train", 12, "step", 10) as advance:
        clock.now += 4
        advance()
        clock.now += 4
        advance()
    assert lines(capsys.readouterr().err) == [
        "train: 10/12 steps, 10 of them finished before",
        "train: 12/12 steps, 0.25 steps/s",
    ]


def test_a_note_stands_beside_and_a_wait_in_its_place(clock, capsys) -> None:
    with open_display("train", 3, "step") as advance:
        note("epoch 1/2")
        advance()
        clock.now += 6
        with waiting("validation"):
            with waiting("of one clip"):
                pass
            advance()
        clock.now += 6
        advance()
    told = lines(capsys.readouterr().err)
    assert [line.split(", ")[1] for line in told] == ["epoch 1/2", "validation", "epoch 1/2"]
    note("nothing is open")


def test_a_short_wait_alone_says_nothing(capsys) -> None:
    with waiting("reads"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("unit", ["", "video"])
def test_what_takes_long_is_said_while_it_lasts(monkeypatch, unit) -> None:
    monkeypatch.setattr(display, "_LINE_INTERVAL", 0.01)
    stream = Watched()
    monkeypatch.setattr(display.sys, "stderr", stream)
    with open_display("sample field", 10 if unit else None, unit):
        assert stream.written.wait(30)
    expected = "sample field: 0/10 videos" if unit else "sample field: "
    assert lines(stream.getvalue())[0].startswith(expected)


def test_an_error_closes_the_display(capsys) -> None:
    def fail() -> None:
        with open_display("first", 2, "item") as advance:
            advance()
            raise ValueError

    with pytest.raises(ValueError) as kept:  # noqa: PT011
        fail()
    with open_display("second", 1, "item") as advance:
        advance()
    assert "second: 1/1 items" in capsys.readouterr().err
    assert kept
