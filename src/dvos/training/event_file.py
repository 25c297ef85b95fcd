"""A file of events for TensorBoard, written by the thread that trains.

TensorBoard's own writer has a thread of its own, which tells a full disk by a traceback.
"""

from __future__ import annotations

import io
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvos.files import make_folder
from dvos.locks import open_file

_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL


class EventFile:
    """A new file of events; what is written is on the disk at once, whole or not at all.

    Args:
        folder: Made if need be.

    Raises:
        OSError, OutputError: If it cannot be written; also from :meth:`write`.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads the files of a folder in the order of their names.
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{platform.node()}.{os.getpid()}.{rest:09d}"
        path = make_folder(folder) / name
        self._handle = open_file(path, _NEW)
        try:
            self.write(file_version="brain.Event:2")
        except OSError:
            self.close()
            path.unlink()
            raise

    def write(self, step: int = 0, **event: Any) -> None:
        """Add an event.

        Args:
            step: It belongs to.
            event: One field of TensorBoard's ``Event``, a ``Summary`` for instance.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard import RecordWriter

        record = io.BytesIO()
        data = Event(wall_time=time.time(), step=step, **event).SerializeToString()
        RecordWriter(record).write(data)
        size = os.fstat(self._handle).st_size
        rest = record.getbuffer()
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            # Of what follows half a record nothing would be read.
            with suppress(OSError):
                os.ftruncate(self._handle, size)
            raise

    def close(self) -> None:
        """Write no more."""
        os.close(self._handle)
