from __future__ import annotations

import numpy as np
import pytest
import torch
from xmem_figures import DATA, FRAMES, KEPT, KEYS, SETTINGS, fill, video

from dvos.networks.weights import read_network_info, save_network
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import (
    XMEM_NORMALISATION,
    XMem,
    aggregate,
    aggregate_probability,
)
from dvos.registry import load_network


@pytest.fixture(scope="module")
def network() -> XMem:
    network = XMem()
    fill(network)
    return network


@pytest.fixture(scope="module")
def fast(network) -> XMem:
    return network.for_inference()


def _run(engine, frames, masks):
    return [
        engine.step(frame, masks.get(index, (None, None))[0], masks.get(index, (None, None))[1])
        for index, frame in enumerate(frames)
    ]


def test_keys_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        network = XMem()
    assert {key: list(x.shape) for key, x in network.state_dict().items()} == KEYS
    assert sum(x.numel() for x in network.parameters()) == 62_185_224


@pytest.mark.parametrize("memory", SETTINGS)
def test_outputs_are_the_published_ones(fast, memory):
    expected = np.load(DATA / "xmem_outputs.npz")
    frames, masks = video()
    engine = XMemEngine(fast, settings=SETTINGS[memory])
    found = [
        engine.step(frame, None if index else masks, end=index == FRAMES - 1)
        for index, frame in enumerate(frames)
    ]
    found = torch.stack([found[index] for index in expected["frame_indices"]])
    np.testing.assert_allclose(found[KEPT].numpy(), expected[memory], atol=1e-4, rtol=0)
    assert engine.memories[0].long_term_elements == (32 if memory == "long_term" else 0)


def test_the_copy_for_inference_gives_the_same(network, fast):
    frames, masks = video()
    runs = [
        torch.stack(_run(XMemEngine(each), frames[:3], {0: (masks, None)}))
        for each in (network, fast)
    ]
    torch.testing.assert_close(runs[0], runs[1], atol=1e-4, rtol=0)
    assert all(x.requires_grad for x in network.parameters())
    assert not any(x.requires_grad for x in fast.parameters())


def test_the_copy_for_inference_does_not_change_with_the_original():
    network = XMem().eval()
    fast = network.for_inference()
    frames = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = fast.encode_key(frames).key
        for x in (*network.parameters(), *network.buffers()):
            x.zero_()
        assert torch.equal(fast.encode_key(frames).key, before)


def test_objects_one_by_one_give_the_same_as_all_at_once(fast):
    frames = video()[0][:3, :, :32, :32]
    masks = torch.zeros(3, 32, 32)
    for index in range(3):
        masks[index, 10 * index : 10 * index + 9, 5 : 10 * (index + 1)] = 1
    settings = MemorySettings(
        mem_every=1, min_mid_term_frames=1, max_mid_term_frames=2, prototypes=4
    )
    runs = []
    for count in (3, 2, 1):
        engine = XMemEngine(fast, settings=settings, objects_at_once=count)
        runs.append(torch.stack(_run(engine, frames, {0: (masks, None)})))
    torch.testing.assert_close(runs[1], runs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(runs[2], runs[0], atol=1e-5, rtol=0)


def test_objects_that_come_later_keep_their_ids_and_leave_the_others_theirs(fast):
    frames, masks = video()
    engine = XMemEngine(fast)
    found = _run(engine, frames[:4], {0: (masks[:1], [7]), 2: (masks[1:], [3])})
    assert engine.object_ids == (7, 3)
    assert [len(x) for x in found] == [2, 2, 3, 3]
    assert (found[2][2][masks[1] > 0] > 0.99).all()
    for x in found:
        torch.testing.assert_close(x.sum(0), torch.ones(70, 100), atol=1e-5, rtol=0)
    alone = _run(XMemEngine(fast), frames[:3], {0: (masks[:1], [7])})
    outside = masks[1] == 0
    # Given and segmented objects compete anew.
    expected = aggregate_probability(alone[2][1:])[1][outside]
    torch.testing.assert_close(found[2][1][outside], expected, atol=1e-4, rtol=0)


def test_a_known_object_may_be_given_anew(fast):
    frames, masks = video()
    engine = XMemEngine(fast)
    moved = masks[:1].roll(5, 2)
    found = _run(engine, frames[:3], {0: (masks, [1, 2]), 2: (moved, [1])})
    assert engine.object_ids == (1, 2)
    assert ((found[2][1] > 0.5) == (moved[0] > 0)).all()
    assert len(engine.memories) == 1
    assert engine.memories[0].working_frames == 2


def test_before_any_object_all_is_background(fast):
    frames, masks = video()
    engine = XMemEngine(fast)
    found = _run(engine, frames[:4], {2: (masks, None)})
    assert found[0].shape == (1, 70, 100)
    assert (found[0] == 1).all()
    plain = _run(XMemEngine(fast), frames[2:4], {0: (masks, None)})
    assert torch.equal(found[3], plain[1])


def test_reset_begins_anew(fast):
    frames, masks = video()
    engine = XMemEngine(fast)
    first = _run(engine, frames[:2], {0: (masks, None)})
    engine.reset()
    assert engine.object_ids == ()
    again = _run(engine, frames[:2], {0: (masks, None)})
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize(
    ("frame", "mask", "ids", "message"),
    [
        ((1, 32, 32), None, None, "a frame is"),
        ((3, 32, 48), None, None, "the video's frames are"),
        ((3, 32, 32), (1, 32, 48), None, "the mask is"),
        ((3, 32, 32), (2, 32, 32), [1], "distinct positive ids"),
        ((3, 32, 32), (2, 32, 32), [1, 1], "distinct positive ids"),
        ((3, 32, 32), (1, 32, 32), [0], "distinct positive ids"),
        ((3, 32, 32), None, [1], "come with a mask"),
    ],
)
def test_what_does_not_fit_is_refused(fast, frame, mask, ids, message):
    engine = XMemEngine(fast)
    engine.step(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match=message):
        engine.step(torch.zeros(frame), None if mask is None else torch.zeros(mask), ids)


def test_every_parameter_learns_and_belongs_to_one_part(network):
    frames = torch.randn(1, 4, 3, 16, 32)
    masks = (torch.rand(1, 2, 16, 32) > 0.5).float()
    memory = torch.tensor([[[0, 0], [0, 0], [0, 1], [0, 2]]])
    logits, probability = network(frames, masks, torch.tensor([1]), memory, [True] * 4)
    assert logits.shape == probability.shape == (1, 3, 3, 16, 32)
    assert (probability[:, :, 2] < 1e-4).all()
    probability.square().sum().backward()
    assert [name for name, x in network.named_parameters() if x.grad is None] == []
    network.zero_grad()
    prefixes = [prefix for part in network.PARTS.values() for prefix in part]
    for name, _ in network.named_parameters():
        assert sum(name.startswith(prefix) for prefix in prefixes) == 1


def test_both_ways_to_aggregate_agree():
    single = torch.rand(3, 5, 7)
    single[:, 0, 0] = 0
    single[1, 0, 1] = 1
    logits, probability = aggregate(single, 0)
    torch.testing.assert_close(aggregate_probability(single), probability)
    torch.testing.assert_close(logits.softmax(0), probability)


@pytest.mark.parametrize("single_object", [False, True])
def test_published_and_own_files_load(tmp_path, single_object):
    sizes = {"key_dim": 16, "value_dim": 32, "hidden_dim": 16, "single_object": single_object}
    network = XMem(**sizes)
    path = tmp_path / "XMem.pth"
    torch.save({f"module.{key}": x for key, x in network.state_dict().items()}, path)
    loaded, info = load_network(path)
    assert (info.name, info.arguments) == ("xmem", sizes)
    assert info.extra["normalisation"] == XMEM_NORMALISATION.as_lists()
    save_network(tmp_path / "own.safetensors", loaded, name="xmem", arguments=info.arguments)
    again = load_network(tmp_path / "own.safetensors")[0]
    for key, x in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], x)
    assert read_network_info(path) == info
