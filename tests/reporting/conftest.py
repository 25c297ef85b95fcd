from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_run import make_run
from report_page import Page

from dvos.config.scoring import ReportSettings
from dvos.reporting.html import write_report


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole demo run; not to be changed."""
    return make_run(tmp_path_factory.mktemp("report") / "demo-run")


@pytest.fixture(scope="session")
def second_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same truth that did worse; not to be changed."""
    return make_run(tmp_path_factory.mktemp("second") / "other-run", blur=2)


@pytest.fixture
def other(second_run: Path, tmp_path: Path) -> Path:
    """The worse run, as a test may damage it."""
    return Path(shutil.copytree(second_run, tmp_path / "other-run"))


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A whole demo run that a test may damage."""
    return Path(shutil.copytree(finished_run, tmp_path / "demo-run"))


@pytest.fixture
def report() -> Callable[..., Page]:
    """Writes the report of a folder and reads the page."""

    def write(folder: Path, **settings: object) -> Page:
        return Page(write_report(ReportSettings.model_validate({"run": folder, **settings})))

    return write
