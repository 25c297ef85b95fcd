from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.networks.xmem.memory import Memory, MemorySettings, key_rows, query_rows, read_all, top_k

KEY, VALUE, SIDE = 8, 4, (2, 3)


def _map(generator, channels, objects=None):
    shape = (1, channels, *SIDE) if objects is None else (1, objects, channels, *SIDE)
    return torch.randn(shape, generator=generator)


def _add(memory, generator, objects=1):
    key, shrinkage = _map(generator, KEY), 1 + _map(generator, 1).square()
    value = _map(generator, VALUE, objects)
    parts = [value[:, part] for part in memory.parts]
    memory.remember(key, shrinkage, _map(generator, KEY).sigmoid(), parts)
    return key, shrinkage, value


def _read(memory, key, selection):
    reading = memory.look_up(key, selection)
    return torch.cat([memory.read(part, reading, SIDE) for part in range(len(memory.parts))], 1)


def test_affinity_is_the_weighted_distance():
    generator = torch.Generator().manual_seed(1)
    key, query = torch.randn(5, KEY, generator=generator), torch.randn(3, KEY, generator=generator)
    shrinkage, selection = torch.rand(5, 1, generator=generator), torch.rand(3, KEY)
    found = query_rows(query, selection) @ key_rows(key, shrinkage).T
    distance = (selection[:, None] * (key[None] - query[:, None]).square()).sum(2)
    torch.testing.assert_close(found, -distance * shrinkage.T / KEY**0.5)


@settings(max_examples=25)
@given(
    length=st.integers(30, 9000),
    count=st.integers(1, 30),
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
def test_the_top_k_are_those_of_a_full_search(length, count, seed, ties):
    values = torch.randn(3, length, generator=torch.Generator().manual_seed(seed))
    if ties:
        values = values.mul(2).round()
    found, places = top_k(values, count)
    expected = values.topk(count, 1).values
    assert torch.equal(found.sort(1, descending=True).values, expected)
    assert torch.equal(values.gather(1, places), found)
    assert all(len(set(row)) == count for row in places.tolist())


@pytest.mark.parametrize("long_term", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_reading_everything_equals_the_full_softmax(long_term, at_once):
    generator = torch.Generator().manual_seed(2)
    memory = Memory(MemorySettings(top_k=1000, long_term=long_term), 3, at_once)
    added = [_add(memory, generator, 3) for _ in range(4)]
    key, selection = _map(generator, KEY), _map(generator, KEY).sigmoid()
    keys, shrinkages, values = zip(*added, strict=True)
    expected = read_all(
        key, selection, torch.stack(keys, 2), torch.stack(shrinkages, 2), torch.stack(values, 3)
    )
    torch.testing.assert_close(_read(memory, key, selection), expected, atol=1e-5, rtol=0)


def test_consolidation_keeps_the_first_and_the_last_frames():
    generator = torch.Generator().manual_seed(3)
    options = MemorySettings(min_mid_term_frames=3, max_mid_term_frames=5, prototypes=2, top_k=1)
    memory = Memory(options, 1, 1)
    added = [_add(memory, generator) for _ in range(5)]
    assert (memory.working_frames, memory.long_term_elements) == (3, 2)
    sure = torch.ones(1, KEY, *SIDE)
    for kept in (0, 3, 4):
        torch.testing.assert_close(_read(memory, added[kept][0], sure), added[kept][2])


def test_memory_is_flat_and_within_its_limits():
    generator = torch.Generator().manual_seed(4)
    options = MemorySettings(
        min_mid_term_frames=2, max_mid_term_frames=4, prototypes=5, long_term_max=20, top_k=3
    )
    memory = Memory(options, 2, 1)
    sizes = []
    for _ in range(60):
        _add(memory, generator, 2)
        reading = memory.look_up(_map(generator, KEY), _map(generator, KEY).sigmoid())
        torch.testing.assert_close(reading.weights.sum(1), torch.ones(6))
        assert memory.working_frames < 4
        assert memory.long_term_elements <= 20
        sizes.append(sum(x.numel() for x in (memory._rows, *memory._values)))
    assert sizes[-1] == sizes[30]


def test_the_least_used_go_first():
    generator = torch.Generator().manual_seed(5)
    options = MemorySettings(
        min_mid_term_frames=1, max_mid_term_frames=2, prototypes=2, long_term_max=4, top_k=1
    )
    memory = Memory(options, 1, 1)
    sure = torch.ones(1, KEY, *SIDE)
    for _ in range(3):
        _add(memory, generator)
    assert memory.long_term_elements == 4
    # Only the third prototype is ever read.
    favourite = memory._rows[memory._long_start + 2]
    value = memory._values[0][memory._long_start + 2].clone()
    query = (favourite[KEY : 2 * KEY] / favourite[-1])[None, :, None, None].expand(1, KEY, *SIDE)
    torch.testing.assert_close(_read(memory, query, sure)[0, 0, :, 0, 0], value)
    for _ in range(3):
        _add(memory, generator)
        torch.testing.assert_close(_read(memory, query, sure)[0, 0, :, 0, 0], value)


def test_fewer_elements_than_are_to_be_read():
    generator = torch.Generator().manual_seed(6)
    memory = Memory(MemorySettings(top_k=30), 1, 1)
    _add(memory, generator)
    reading = memory.look_up(_map(generator, KEY), _map(generator, KEY).sigmoid())
    assert reading.places.shape == (6, 6)


@pytest.mark.parametrize(
    "options",
    [
        {"mem_every": 0},
        {"min_mid_term_frames": 5, "max_mid_term_frames": 5},
        {"prototypes": 200, "long_term_max": 100},
        {"top_k": 0},
    ],
)
def test_settings_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=r"at least|more than"):
        MemorySettings(**options)
