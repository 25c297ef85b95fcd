from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dvos.networks.weights import save_network
from dvos.registry import network_spec

NORMALISATION = {"mean": [0.458, 0.463, 0.435], "std": [0.213, 0.186, 0.203]}
ARGUMENTS = {
    "encoder": "lite0",
    "channels": [4, 4, 4, 4, 4],
    "widths": [4, 4, 4, 4],
    "references": 2,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained network whose masks are neither empty nor full."""
    torch.manual_seed(0)
    network = network_spec("dvos").network(**ARGUMENTS)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("heads.mask") and name.endswith("bias"):
                parameter.zero_()
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    save_network(
        path, network, name="dvos", arguments=ARGUMENTS, extra={"normalisation": NORMALISATION}
    )
    return path
