from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_figures import CONFIGURATIONS, DATA, KEYS, TINY, filled

from dvos.networks.paper.layers import ForwardDiffusion, diffusion_schedule
from dvos.networks.paper.network import PaperNetwork


@pytest.fixture(scope="module")
def tiny() -> PaperNetwork:
    return filled(PaperNetwork(**TINY))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_keys_and_shapes_are_the_published_ones(name):
    with torch.device("meta"):
        network = PaperNetwork(**CONFIGURATIONS[name])
    assert {key: list(x.shape) for key, x in network.state_dict().items()} == KEYS[name]


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_are_the_published_ones(name, gradients):
    network = filled(PaperNetwork(**CONFIGURATIONS[name]))
    expected = np.load(DATA / "unet_outputs.npz")
    references = np.random.default_rng(0).standard_normal((4, 2, 3, 64, 96)).astype(np.float32)
    query = np.full((1, 2, 3, 64, 96), 9, np.float32)  # is not looked at
    frames = torch.from_numpy(np.concatenate([references, query]).swapaxes(0, 1))
    with torch.set_grad_enabled(gradients):
        outputs = network(frames)
    for found, key in ((outputs.mask_logits, "mask_logits"), (outputs.reconstruction, None)):
        reference = expected[f"{name}_{key or 'reconstruction'}"]
        np.testing.assert_allclose(found.detach().numpy(), reference, atol=1e-4, rtol=0)


def test_the_schedule_of_the_noise_is_the_published_one():
    expected = np.load(DATA / "skip_schedule.npz")
    for found, key in zip(diffusion_schedule(), ("signal", "noise"), strict=True):
        np.testing.assert_allclose(found.numpy(), expected[key], atol=1e-6, rtol=0)


def test_strength_of_the_noise_follows_the_beta_distribution():
    torch.manual_seed(1)
    signal = diffusion_schedule()[0]
    found = ForwardDiffusion(3.0, 18.0)(torch.full((500, 1, 40, 40), 100.0)).mean((1, 2, 3)) / 100
    mean_step = torch.bucketize(-found, -signal).float().mean()
    assert 1000 * 3 / 21 * 0.9 < mean_step < 1000 * 3 / 21 * 1.1


@settings(max_examples=10)
@given(height=st.integers(1, 40), width=st.integers(1, 40), sees_query=st.booleans())
def test_any_size(height, width, sees_query):
    network = PaperNetwork(**TINY, sees_query=sees_query).eval()
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, 3, height, width))
    assert outputs.mask_logits.shape == (2, 1, height, width)
    assert outputs.reconstruction.shape == (2, 3, height, width)
    assert torch.isfinite(outputs.mask_logits).all()


@pytest.mark.parametrize("references", [1, 3, 6])
@pytest.mark.parametrize("sees_query", [False, True])
def test_any_number_of_references(references, sees_query):
    network = filled(PaperNetwork(**{**TINY, "references": references}, sees_query=sees_query))
    frames = torch.randn(1, references + 1, 3, 16, 16)
    other = frames.clone()
    other[:, -1] += 1
    with torch.no_grad():
        same = torch.equal(network(frames).mask_logits, network(other).mask_logits)
    assert same != sees_query


@pytest.mark.parametrize("sees_query", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_streaming_equals_the_clip_at_once(sees_query, stacked):
    network = filled(PaperNetwork(**TINY, sees_query=sees_query))
    frames = torch.randn(1, 5, 3, 22, 19)
    with torch.no_grad():
        kept = [network.encode(frames[:, index]) for index in range(5)]
        for query in range(2, 5):
            window = [list(maps) for maps in zip(*kept[query - 2 : query + 1], strict=True)]
            features = [torch.stack(maps, 1) for maps in window] if stacked else window
            found = network.decode(features, (22, 19))
            expected = network(frames[:, query - 2 : query + 1])
            for one, other in zip(found[:2], expected[:2], strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_clips_of_a_batch_do_not_touch_each_other(tiny):
    frames = torch.randn(3, 3, 3, 16, 16)
    with torch.no_grad():
        together, alone = tiny(frames).mask_logits, tiny(frames[1:2]).mask_logits
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_noise_comes_in_training_and_elsewhere_only_on_request():
    frames = torch.randn(1, 3, 3, 16, 16)

    def varies(training: bool, **options: bool) -> bool:
        network = filled(PaperNetwork(**TINY, **options)).train(training)
        with torch.no_grad():
            return not torch.equal(network(frames).mask_logits, network(frames).mask_logits)

    assert varies(True)
    assert not varies(False)
    assert varies(False, diffuse_in_evaluation=True)
    assert not varies(True, skip_diffusion=False)
    assert not varies(False, diffuse_in_evaluation=True, skip_diffusion=False)


def test_the_bottleneck_gets_no_noise_and_deeper_skips_get_less():
    network = PaperNetwork(**TINY)
    betas = [(m.a, m.b) for m in network.modules() if isinstance(m, ForwardDiffusion)]
    assert betas == [(3.0, 18.0), (4.0, 16.0)]
    assert network.decoder.bottleneck_diff_atten.diffusion is None


def test_every_parameter_learns_and_belongs_to_one_part():
    network = filled(PaperNetwork(**TINY, sees_query=True)).train()
    outputs = network(torch.randn(2, 3, 3, 16, 16))
    (outputs.mask_logits.square().mean() + outputs.reconstruction.square().mean()).backward()
    assert [name for name, x in network.named_parameters() if x.grad is None] == []
    for parts in (
        ("encoder", "decoder", "heads"),
        ("encoder", "decoder", "mask", "reconstruction"),
    ):
        prefixes = [prefix for part in parts for prefix in network.PARTS[part]]
        for name, _ in network.named_parameters():
            assert sum(name.startswith(prefix) for prefix in prefixes) == 1


def test_values_with_and_without_gradients_are_equal(tiny):
    # Without, maps are overwritten and convolutions merged.
    frames = torch.randn(2, 3, 3, 17, 30)
    with_gradients = tiny(frames)
    with torch.no_grad():
        without = tiny(frames)
    torch.testing.assert_close(with_gradients.mask_logits, without.mask_logits, atol=1e-5, rtol=0)


def test_frames_and_kept_maps_are_not_overwritten(tiny):
    frames = torch.randn(1, 3, 3, 16, 16)
    before = frames.clone()
    with torch.inference_mode():
        maps = [tiny.encode(frames[:, index]) for index in range(3)]
        copies = [[x.clone() for x in scale] for scale in maps]
        tiny.decode([list(scale) for scale in zip(*maps, strict=True)], (16, 16))
    assert torch.equal(frames, before)
    for kept, copied in zip(maps, copies, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(kept, copied, strict=True))


def test_mixed_precision_stays_near(tiny):
    frames = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        exact = tiny(frames).mask_logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = tiny(frames).mask_logits.float()
    # Of all pixels together, 0.16 at most in 200 draws: a norm over the few values of so small a
    # map may move a single pixel by three times as much.
    assert float((rounded - exact).norm() / exact.norm()) < 0.3


def test_reconstruction_is_left_out_on_request(tiny):
    frames = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        assert tiny(frames, reconstruct=False).reconstruction is None
        assert PaperNetwork(**TINY, reconstructs=False)(frames).reconstruction is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"references": 0}, "at least one reference"),
        ({"attention": False}, "one frame"),
        ({"multipliers": ()}, "1 to 8"),
        ({"multipliers": (1,) * 9}, "1 to 8"),
        ({"latent": 5}, "multiples of groups"),
        ({"hidden": 6}, "multiples of groups"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PaperNetwork(**{**TINY, **arguments})


def test_a_window_of_another_length_is_refused(tiny):
    with pytest.raises(ValueError, match="2 references"):
        tiny(torch.zeros(1, 5, 3, 16, 16))
