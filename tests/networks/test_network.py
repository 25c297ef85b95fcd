from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.networks.dvos.network import DvosNetwork


@pytest.fixture(scope="module")
def network() -> DvosNetwork:
    torch.manual_seed(0)
    return DvosNetwork().eval()


def test_parameters_are_as_many_as_documented(network):
    # docs/explanation/network.md has them by part.
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_361_508


@settings(max_examples=10)
@given(height=st.integers(1, 70), width=st.integers(1, 70), frames=st.integers(1, 6))
def test_any_size_and_number_of_references(network, height, width, frames):
    with torch.no_grad():
        outputs = network(torch.randn(1, frames, 3, height, width))
    assert outputs.mask_logits.shape == (1, 1, height, width)
    assert outputs.reconstruction.shape == (1, 3, height, width)
    assert torch.isfinite(outputs.mask_logits).all()


def test_the_order_of_references_does_not_matter(network):
    frames = torch.randn(2, 5, 3, 64, 64)
    with torch.no_grad():
        one = network(frames).mask_logits
        other = network(frames[:, [2, 0, 3, 1, 4]]).mask_logits
        swapped = network(frames[:, [4, 1, 2, 3, 0]]).mask_logits
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert (one - swapped).abs().max() > 1e-3


@pytest.mark.parametrize("stacked", [True, False])
def test_streaming_equals_the_clip_at_once(network, stacked):
    frames = torch.randn(1, 7, 3, 50, 75)
    with torch.no_grad():
        cache = [network.encode(frames[:, index]) for index in range(7)]
        for last in range(4, 7):
            window = [list(maps) for maps in zip(*cache[last - 4 : last + 1], strict=True)]
            features = [torch.stack(maps, 1) for maps in window] if stacked else window
            stream = network.decode(features, (50, 75))
            clip = network(frames[:, last - 4 : last + 1])
            for one, other in (
                (stream.mask_logits, clip.mask_logits),
                (stream.reconstruction, clip.reconstruction),
            ):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_clips_of_a_batch_do_not_touch_each_other(network):
    frames = torch.randn(3, 5, 3, 64, 64)
    with torch.no_grad():
        together = network(frames).mask_logits
        alone = network(frames[1:2]).mask_logits
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_reconstruction_is_left_out_on_request(network):
    with torch.no_grad():
        assert network(torch.randn(1, 2, 3, 32, 32), reconstruct=False).reconstruction is None


def test_further_heads_come_beside_the_two():
    network = DvosNetwork(heads={"mask": 1, "centre": 2}).eval()
    with torch.no_grad():
        outputs = network(torch.randn(1, 2, 3, 32, 32))
    assert outputs.reconstruction is None
    assert outputs.others["centre"].shape == (1, 2, 32, 32)


@pytest.mark.parametrize("gradient", [True, False])
def test_every_parameter_learns_and_training_values_equal_evaluation(gradient):
    torch.manual_seed(0)
    network = DvosNetwork(reference_gradient=gradient).train()
    frames = torch.randn(2, 3, 3, 64, 64)
    outputs = network(frames)
    (outputs.mask_logits.square().mean() + outputs.reconstruction.square().mean()).backward()
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert without == []
    with torch.no_grad():
        again = network.eval()(frames)
    torch.testing.assert_close(outputs.mask_logits, again.mask_logits, atol=1e-5, rtol=0)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="5 values"):
        DvosNetwork(channels=(16, 32))
    with pytest.raises(ValueError, match="mask"):
        DvosNetwork(heads={"depth": 1})
