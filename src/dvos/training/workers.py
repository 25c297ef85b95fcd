"""The server that the further processes of a run are forked from, started before torch is loaded.

It loads what they need once for all of them, seconds that pass while the first process loads its
own libraries and reads the data. Importing this module loads no torch.
"""

from __future__ import annotations

import multiprocessing
import os

from dvos.config.training import TrainingSettings
from dvos.runner.processes import starting_processes

#: A shorter run ends sooner in one process: further ones take seconds to start.
FEW_CLIPS = 500
#: What every process that makes clips needs, and one that takes part in the run.
_CLIPS = ("dvos.training.data",)
_MODULES = (*_CLIPS, "dvos.training.run", "lightning_fabric")
#: And what it needs besides where clips are synthetic, with a compiler that takes long to load.
_SYNTHESIS = "dvos.synthesis.build"
#: Threads that wait would else spin on the others' cores; a file torch.py in the current folder is
#: not to be taken for torch; what ended processes leave behind is cleared away without a word.
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "ignore:resource_tracker",
}


def start_ahead(settings: TrainingSettings) -> None:
    """Start the server for a run, without waiting for it; nothing where it runs, or on Windows."""
    synthetic = (_SYNTHESIS,) if settings.data.synthetic.backgrounds else ()
    alone = settings.devices == 1 or settings.epochs * settings.clips_per_epoch < FEW_CLIPS
    preload_server((*(_CLIPS if alone else _MODULES), *synthetic))
    absent = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(absent)
    try:
        with starting_processes():
            pass
    finally:
        for name in absent:
            del os.environ[name]


def preload_server(modules: tuple[str, ...] = _MODULES) -> None:
    """Say what the server loads when it starts; one that runs keeps what it has."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
