"""Parameters and GMACs of a frame of video, of every network and variant.

    python benchmarks/network_cost.py --size 256

A frame of a stream costs one encoding and one decoding. The published code knows
no stream: it encodes the four references anew for every frame, and so does the
first row, of which the others give their share. "shipped" is what `dvos train` makes unless told
otherwise; each variant below it differs from it in one thing. GMACs are thousand million
multiply-adds, those of convolutions and matrix products; norms, activations, enlargement and the
averages over time are left out for all alike.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.paper.network import PaperNetwork

REFERENCES = 4


def parameters(network: nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


@torch.no_grad()
def gmacs(network: Any, size: int, *, reconstruct: bool) -> tuple[float, float]:
    """Of encoding a frame, and of decoding it from kept features."""
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
    paper = PaperNetwork().eval()
    encoding, decoding = gmacs(paper, size, reconstruct=True)
    published = REFERENCES * encoding + decoding
    rows = [
        ("paper, references encoded anew", parameters(paper), REFERENCES * encoding, decoding),
        ("paper, features kept", parameters(paper), *gmacs(paper, size, reconstruct=False)),
    ]
    variants: dict[str, dict[str, Any]] = {
        "shipped": {},
        "lite0": {"encoder": "lite0"},
        "lite1": {"encoder": "lite1"},
        "no fusion": {"fusion": "none"},
        "query not seen": {"sees_query": False},
        "two thirds as wide": {"channels": (16, 32, 48, 96, 160), "widths": (32, 48, 64, 128)},
    }
    for name, variant in variants.items():
        network = DvosNetwork(heads={"mask": 1}, **variant).eval()
        rows.append((name, parameters(network), *gmacs(network, size, reconstruct=False)))
    print(f"{'network':31} {'million':>9} {'encode':>8} {'decode':>8} {'GMACs':>10} {'share':>7}")
    for name, million, encode, decode in rows:
        total = encode + decode
        print(
            f"{name:31} {million:9.2f} {encode:8.3f} {decode:8.3f} {total:10.3f}"
            f" {total / published:7.3f}"
        )


if __name__ == "__main__":
    main()
