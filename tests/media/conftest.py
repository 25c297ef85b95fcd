"""Fixtures of the media tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media_samples import noisy


@pytest.fixture
def video(tmp_path: Path) -> Callable[..., Path]:
    """Make a video of ``count`` frames with our own writer."""
    from dvos.media.video_write import VideoWriter

    def make(count: int = 10, name: str = "field.mp4", **kwargs: Any) -> Path:
        path = tmp_path / name
        arguments = {"frame_rate": 25.0, "size": (48, 64), **kwargs}
        with VideoWriter(path, **arguments) as writer:
            for index in range(count):
                writer.write(noisy(index, arguments["size"]))
        return path

    return make
