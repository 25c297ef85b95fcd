from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dvos.networks.xmem.layers import JoinedConvolution, ResNetBlock, fold_norms


def _map(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def test_joined_maps_equal_one_convolution():
    layer = JoinedConvolution(4, 3, 5)
    frame, objects = _map(1, 4, 6, 7), _map(2, 3, 6, 7)
    before = frame.clone(), objects.clone()
    expected = layer(torch.cat((frame.expand(2, -1, -1, -1), objects), 1))
    with torch.no_grad():
        found = layer.of_objects(objects, layer.of_frame(frame))
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-4)
    assert torch.equal(frame, before[0])
    assert torch.equal(objects, before[1])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_norms_equal_norms(deep, stride):
    block = ResNetBlock(16, 16, stride, deep=deep)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight)
    x = _map(2, 16, 8, 8)
    before = x.clone()
    with torch.no_grad():
        y = F.relu(block.bn1.eval()(block.conv1(x)))
        y = block.bn2.eval()(block.conv2(y))
        if deep:
            y = block.bn3.eval()(block.conv3(F.relu(y)))
        straight = x if block.downsample is None else block.downsample.eval()(x)
        expected = F.relu(y + straight)
        torch.testing.assert_close(block.train()(x), expected, atol=1e-5, rtol=1e-4)
        fold_norms(block)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in block.modules())
        torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(x, before)
