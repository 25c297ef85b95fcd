"""The server that the processes which make clips are forked from, started before torch is loaded.

It loads what they need once for all of them, seconds that pass while the first process loads its
own libraries and reads the data. Importing this module loads no torch.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

from dvos.config.training import TrainingSettings

#: What every process that makes clips needs.
_MODULES = ("dvos.training.loading", "dvos.training.data")
#: And what it needs besides where clips are synthetic, with a compiler that takes long to load.
_SYNTHESIS = "dvos.synthesis.build"


def start_ahead(settings: TrainingSettings) -> None:
    """Start the server, without waiting for it; nothing where it runs.

    Args:
        settings: Of the run to come.
    """
    synthetic = (_SYNTHESIS,) if settings.data.synthetic.backgrounds else ()
    preload_server((*_MODULES, *synthetic))
    forkserver.ensure_running()


def preload_server(modules: tuple[str, ...] = _MODULES) -> None:
    """Say what the server loads when it starts; one that runs keeps what it has."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
