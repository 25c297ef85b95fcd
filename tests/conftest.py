"""What all tests share: generators that start from one seed, and examples that are not timed."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import settings

# No example of a property is timed: the first may compile, and any may meet a busy machine.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Tests of Ctrl-C need it to be heard: a shell's background jobs begin deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded_generators() -> None:
    """No test depends on what ran before it, or on chance.

    torch is seeded where it is loaded already: a test of a light room must not load it.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries may draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed may name files whose names are no text: processes of a run tell text."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report
