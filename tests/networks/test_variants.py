from __future__ import annotations

import dataclasses

import pytest
import torch

from dvos.config.network import NetworkSettings
from dvos.errors import CheckpointError
from dvos.networks.dvos.network import DvosNetwork, DvosShape, Fusion
from dvos.networks.weights import save_network
from dvos.registry import load_network
from dvos.training.networks import dvos_arguments

SMALL = {"references": 3, "channels": (4, 4, 6, 8, 8), "widths": (4, 4, 8, 8)}
FUSIONS = ("attention", "none")


def small(**arguments) -> DvosNetwork:
    torch.manual_seed(0)
    return DvosNetwork(**{**SMALL, **arguments})


def mask(network: DvosNetwork, frames: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(frames, reconstruct=False).mask_logits


def streamed(network: DvosNetwork, frames: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        maps = [network.eval().encode(frames[:, index]) for index in range(frames.shape[1])]
        windows = [list(scale) for scale in zip(*maps, strict=True)]
        size = (frames.shape[-2], frames.shape[-1])
        return network.decode(windows, size, reconstruct=False).mask_logits


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("sees_query", [True, False])
def test_every_variant_learns_streams_and_passes_on_gradients(fusion, sees_query):
    network = small(fusion=fusion, sees_query=sees_query)
    frames = torch.randn(2, 4, 3, 33, 40)
    outputs = network.train()(frames)
    assert outputs.mask_logits.shape == (2, 1, 33, 40)
    (outputs.mask_logits.square().mean() + outputs.reconstruction.square().mean()).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    torch.testing.assert_close(mask(network, frames), outputs.mask_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(streamed(network, frames), mask(network, frames), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_not_seen_makes_no_difference(fusion):
    frames, other = torch.randn(2, 1, 4, 3, 32, 32)
    network = small(fusion=fusion, sees_query=False)
    swapped = torch.cat([frames[:, :-1], other[:, -1:]], 1)
    assert torch.equal(mask(network, swapped), mask(network, frames))
    past = torch.cat([other[:, :-1], frames[:, -1:]], 1)
    assert torch.equal(mask(small(fusion=fusion), past), mask(small(fusion=fusion), frames)) == (
        fusion == "none"
    )


def test_the_query_is_not_encoded_when_it_is_not_seen():
    network = small(sees_query=False).eval()
    batches = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    mask(network, torch.randn(1, 4, 3, 32, 32))
    assert sum(batches) == 3


def test_without_fusion_the_references_are_not_encoded():
    network = small(fusion="none").eval()
    batches = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    mask(network, torch.randn(1, 4, 3, 32, 32))
    assert sum(batches) == 1


def test_fusion_takes_any_number_in_any_order():
    network = small()
    frames = torch.randn(1, 6, 3, 32, 32)
    one = mask(network, frames)
    torch.testing.assert_close(mask(network, frames[:, [3, 0, 4, 1, 2, 5]]), one, atol=1e-5, rtol=0)
    assert mask(network, frames[:, -1:]).shape == one.shape


def test_fusion_weighs_by_agreement_and_keeps_the_largest():
    fusion, seen = Fusion(2), []
    fusion.mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    query = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    references = [torch.tensor(values).view(1, 2, 1, 1) for values in ([3.0, 1.0], [0.0, 2.0])]
    fusion([*references, query])
    first = torch.tensor(3 / 2**0.5).sigmoid()  # softmax of the two agreements, 3 and 0
    average = [3 * first, first + 2 * (1 - first)]
    torch.testing.assert_close(seen[0].flatten(), torch.tensor([1.0, 0.0, *average, 3.0, 2.0]))


@pytest.mark.parametrize("fusion", ["mean", "concat", "runs"])
def test_a_file_with_a_fusion_of_earlier_releases_says_what_to_do(tmp_path, fusion):
    path = tmp_path / "best.safetensors"
    save_network(path, small(), name="dvos", arguments={"fusion": fusion})
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert len(caught.value.faults) == 1
    text = str(caught.value)
    assert f"fusion is '{fusion}'" in text
    assert "use the release of dvos that wrote it (0." in text
    assert "train it anew" in text


def test_a_shape_builds_what_its_values_build():
    torch.manual_seed(0)
    network = DvosNetwork(DvosShape(**SMALL))
    assert network.shape == small().shape
    for key, value in small().state_dict().items():
        assert torch.equal(network.state_dict()[key], value)


@pytest.mark.parametrize("encoder", ["lite0", "lite1", "lite2"])
def test_inference_copy_gives_the_same_and_leaves_the_network_alone(encoder):
    network = small(encoder=encoder)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    frames = torch.randn(1, 4, 3, 64, 64)
    copied = network.eval().for_inference()
    torch.testing.assert_close(mask(copied, frames), mask(network, frames), atol=1e-5, rtol=0)
    assert not any(value.requires_grad for value in copied.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_settings_make_the_network_that_the_class_makes():
    made = DvosShape(**dvos_arguments(NetworkSettings(references=4), reconstructs=True))
    for field in dataclasses.fields(DvosShape):
        one, other = (getattr(shape, field.name) for shape in (made, DvosShape()))
        assert (list(one) if isinstance(other, tuple) else one) == (
            list(other) if isinstance(other, tuple) else other
        ), field.name


def test_parts_name_every_parameter_once():
    network = small(heads={"mask": 1, "reconstruction": 3, "objects": 5})
    wholes = [DvosNetwork.PARTS[part] for part in ("encoder", "decoder", "heads")]
    for name, _ in network.named_parameters():
        assert sum(name.startswith(prefixes) for prefixes in wholes) == 1, name
    for part, prefixes in DvosNetwork.PARTS.items():
        assert any(name.startswith(prefixes) for name, _ in network.named_parameters()), part


def test_a_file_that_names_no_variant_holds_the_first(tmp_path):
    arguments = {key: list(value) if key != "references" else value for key, value in SMALL.items()}
    network = small()
    path = tmp_path / "best.safetensors"
    save_network(path, network, name="dvos", arguments=arguments)
    loaded, _ = load_network(path)
    frames = torch.randn(1, 4, 3, 32, 32)
    assert torch.equal(mask(loaded, frames), mask(network, frames))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion": "sum"}, "attention, none"),
        ({"encoder": "big"}, "lite0, lite1, lite2"),
        ({"sees_query": False, "references": 0}, "needs a reference"),
    ],
)
def test_variants_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_a_lone_query_cannot_be_foretold():
    with pytest.raises(ValueError, match="needs a reference"):
        mask(small(sees_query=False), torch.randn(1, 1, 3, 32, 32))
