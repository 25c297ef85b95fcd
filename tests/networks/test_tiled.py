from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.dvos.running import TiledDvosNetwork

TINY: dict[str, Any] = {"channels": [4, 4, 4, 8, 8], "widths": [4, 4, 4, 8], "references": 2}


def _network(**arguments: Any) -> DvosNetwork:
    torch.manual_seed(0)
    return DvosNetwork(**{**TINY, **arguments}).eval()


def _logits(network: Any, clip: Tensor) -> Tensor:
    """Of a clip (B, T, 3, H, W), each frame encoded on its own."""
    with torch.inference_mode():
        maps = [network.encode(frames) for frames in clip.unbind(1)]
        window = [list(scale) for scale in zip(*maps, strict=True)]
        size = (clip.shape[-2], clip.shape[-1])
        found: Tensor = network.decode(window, size, reconstruct=False).mask_logits
        return found


@pytest.mark.parametrize(
    "arguments",
    [
        {"encoder": "lite0"},
        {"encoder": "lite2"},
        {"fused": [True] * 5},
        {"fused": [False] * 4 + [True]},
        {"sees_query": False},
    ],
)
def test_tiles_equal_the_whole(arguments: dict[str, Any]) -> None:
    network = _network(**arguments).for_inference()
    clip = torch.randn(1, 3, 3, 109, 140)
    whole = _logits(network, clip)
    tiled = _logits(TiledDvosNetwork(network, 64), clip)
    # Float32 sums of other shapes may be rounded otherwise, no more.
    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_objects_are_those_of_the_whole() -> None:
    network = _network(heads={"mask": 1, "objects": 5}).for_inference()
    frames = torch.randn(1, 3, 109, 141)
    with torch.inference_mode():
        maps = [[scale] for scale in network.encode(frames)]
        whole = network.decode(maps, (109, 141), reconstruct=False)
        tiled = TiledDvosNetwork(network, 64).decode(maps, (109, 141))
    objects = whole.others["objects"]
    assert objects.shape == (1, 5, 55, 71)
    torch.testing.assert_close(tiled.others["objects"], objects, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(tiled.mask_logits, whole.mask_logits, rtol=1e-5, atol=1e-5)


def test_features_are_those_of_the_whole() -> None:
    network = _network()
    torch.manual_seed(0)
    frames = torch.randn(1, 3, 100, 70)
    with torch.inference_mode():
        for one, other in zip(
            network.encode(frames), TiledDvosNetwork(network, 32).encode(frames), strict=True
        ):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_a_margin_any_narrower_would_show() -> None:
    network = _network()
    tiled = TiledDvosNetwork(network, 32)
    frames = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        whole = network.encode(frames)
        tiled.margin = 8
        narrow = tiled.encode(frames)
    assert (narrow[2] - whole[2]).abs().max() > 1e-4


def test_fine_maps_are_no_larger_than_a_tile_and_its_margins() -> None:
    network = _network()
    tiled = TiledDvosNetwork(network, 64)
    widest: list[int] = []
    network.encoder.stem.register_forward_hook(
        lambda _, inputs, __: widest.append(max(inputs[0].shape[-2:]))
    )
    with torch.inference_mode():
        tiled.encode(torch.randn(1, 3, 256, 320))
    assert len(widest) == 4 * 5
    assert max(widest) == 64 + 2 * tiled.margin


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="no multiple of 32"):
        TiledDvosNetwork(_network(), 40)
    with pytest.raises(ValueError, match="no reconstruction"):
        TiledDvosNetwork(_network(), 64).decode([], (8, 8), reconstruct=True)
