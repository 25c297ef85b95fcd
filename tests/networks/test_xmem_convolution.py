from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dvos.networks.xmem.convolution import JoinedConvolution, convolve, pack
from dvos.networks.xmem.resnet import BasicBlock, Bottleneck, fold_norms
from dvos.networks.xmem.winograd import WinogradConvolution


def _map(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@pytest.fixture(params=["plain", "packed", 2, 4])
def layer(request):
    plain = nn.Conv2d(6, 5, 3, padding=1)
    if request.param == "plain":
        return plain, plain
    owner = nn.ModuleDict({"layer": plain})
    pack(owner, None if request.param == "packed" else {owner: request.param})
    return plain, owner["layer"]


@pytest.mark.parametrize("spend", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("relu_first", [False, True])
def test_every_kind_of_convolution_gives_the_same(layer, spend, added, relu, relu_first):
    plain, found = layer
    x, add = _map(2, 6, 11, 18), _map(2, 5, 11, 18) if added else None
    before = x.clone(), None if add is None else add.clone()
    with torch.no_grad():
        expected = plain(x.relu() if relu_first else x)
        expected = expected if add is None else expected + add
        expected = expected.relu() if relu else expected
        result = convolve(found, x, add=add, spend=spend, relu=relu, relu_first=relu_first)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(x, before[0])
    assert spend or add is None or torch.equal(add, before[1])


def test_packed_weights_take_maps_of_any_size():
    owner = nn.ModuleDict({"layer": nn.Conv2d(8, 8, 3, stride=2, padding=1)})
    plain = owner["layer"]
    pack(owner)
    with torch.no_grad():
        for size in ((1, 8, 5, 7), (3, 8, 64, 33)):
            x = _map(*size)
            torch.testing.assert_close(owner["layer"](x), plain(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("step", [2, 4])
def test_tiles_of_bands_join_without_a_seam(step):
    weight, bias = torch.randn(3, 4, 3, 3), torch.randn(3)
    layer = WinogradConvolution(weight, bias, step=step)
    for size in ((4, 4), (1, 1), (8, 12), (9, 14), (63, 261), (4, 2001), (64, 260)):
        x = _map(1, 4, *size)
        expected = F.conv2d(x, weight, bias, padding=1)
        torch.testing.assert_close(layer(x), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("packed", [False, True, 2])
def test_joined_maps_equal_one_convolution(packed):
    owner = nn.ModuleDict({"layer": JoinedConvolution(4, 3, 5)})
    plain = owner["layer"]
    frame, objects = _map(1, 4, 6, 7), _map(2, 3, 6, 7)
    expected = plain(torch.cat((frame.expand(2, -1, -1, -1), objects), 1))
    if packed:
        pack(owner, {owner: packed} if packed == 2 else None)
    with torch.no_grad():
        shared = owner["layer"].of_frame(frame).repeat(2, 1, 1, 1)
        found = owner["layer"].of_objects(objects, add=shared)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_norms_equal_norms(kind, stride):
    block = kind(16, 16, stride)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight)
    x = _map(2, 16, 8, 8)
    with torch.no_grad():
        y = F.relu(block.bn1.eval()(block.conv1(x)))
        y = block.bn2.eval()(block.conv2(y))
        if kind is Bottleneck:
            y = block.bn3.eval()(block.conv3(F.relu(y)))
        straight = x if block.downsample is None else block.downsample.eval()(x)
        expected = F.relu(y + straight)
        torch.testing.assert_close(block.train()(x.clone()), expected, atol=1e-5, rtol=1e-4)
        fold_norms(block)
        pack(block)
        torch.testing.assert_close(block(x.clone()), expected, atol=1e-5, rtol=1e-4)
