"""Parameters and multiply-adds of a frame of video, of every network and variant.

    python benchmarks/network_cost.py --size 256

A frame of a stream costs one encoding and one decoding. The published code knows
no stream: it encodes the four references anew for every frame, and so does the
first row, of which the others give their share. "shipped" is what `dvos train` makes unless told
otherwise, the variants below it are narrower. The counts are those of
convolutions and matrix products; norms, activations, enlargement and the averages
over time are left out for all alike.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dvos.config.network import NetworkSettings
from dvos.networks.dvos.efficientnet import ENCODERS
from dvos.networks.dvos.fusion import FUSIONS
from dvos.networks.weights import build_network
from dvos.training.networks.dvos import arguments

REFERENCES = 4


def parameters(network: nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


@torch.no_grad()
def multiply_adds(network: Any, size: int, *, reconstruct: bool) -> tuple[float, float]:
    """Of encoding a frame, and of decoding it from kept features, in thousand millions."""
    frame = torch.zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as encoding:
        maps = network.encode(frame)
    windows = [[scale] * (REFERENCES + 1) for scale in maps]
    with FlopCounterMode(display=False) as decoding:
        network.decode(windows, (size, size), reconstruct=reconstruct)
    return encoding.get_total_flops() / 2e9, decoding.get_total_flops() / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of a frame in pixels")
    size = parser.parse_args().size
    paper = build_network("paper").eval()
    encoding, decoding = multiply_adds(paper, size, reconstruct=True)
    published = REFERENCES * encoding + decoding
    rows = [
        ("paper, references encoded anew", parameters(paper), REFERENCES * encoding, decoding),
        (
            "paper, features kept",
            parameters(paper),
            *multiply_adds(paper, size, reconstruct=False),
        ),
    ]
    made = arguments(NetworkSettings(), reconstructs=False)
    network = build_network("dvos", **made).eval()
    rows.append(("shipped", parameters(network), *multiply_adds(network, size, reconstruct=False)))
    variants: list[dict[str, Any]] = [{"encoder": name} for name in ENCODERS]
    variants += [{"fusion": name} for name in FUSIONS if name != "attention"]
    variants.append({"sees_query": False})
    for variant in variants:
        network = build_network("dvos", **variant).eval()
        name = ", ".join(f"{key}: {value}" for key, value in variant.items())
        rows.append((name, parameters(network), *multiply_adds(network, size, reconstruct=False)))
    print(
        f"{'network':31} {'million':>9} {'encode':>8} {'decode':>8} {'G / frame':>10} {'share':>7}"
    )
    for name, million, encode, decode in rows:
        total = encode + decode
        print(
            f"{name:31} {million:9.2f} {encode:8.3f} {decode:8.3f} {total:10.3f}"
            f" {total / published:7.3f}"
        )


if __name__ == "__main__":
    main()
