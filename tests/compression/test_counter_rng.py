"""Counter-based random numbers: the published generator, on every device, in any order."""

from hashlib import blake2b
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.counter_rng import Purpose, derive, normal_rows, uniforms, words

MASK = 2**64 - 1
KEYS = st.integers(0, MASK)
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""First outputs of SplitMix64 from seed 1234567, as other implementations' tests list them
(https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64)."""


def word(key, counter):
    """The generator in Python's unbounded integers."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def unsigned(words_N):
    return [value & MASK for value in words_N.tolist()]


def digest(tensor):
    return blake2b(tensor.cpu().numpy().astype("<f4").tobytes(), digest_size=8).hexdigest()


def test_words_are_the_published_outputs():
    assert unsigned(words(1234567, torch.arange(5))) == PUBLISHED


@given(KEYS, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=70))
def test_words_wrap_like_unsigned_integers(key, counters):
    found = words(key, torch.tensor(counters, dtype=torch.int64))
    assert unsigned(found) == [word(key, counter) for counter in counters]


def test_words_leave_their_counters_alone():
    counters = torch.arange(4)
    words(1, counters)
    assert counters.tolist() == [0, 1, 2, 3]


@given(st.integers(-(2**70), 2**70), st.lists(st.integers(0, 2**40), max_size=3))
def test_derived_key_is_the_word_at_each_step(seed, path):
    key = seed & MASK
    for number in path:
        key = word(key, number)
    assert derive(seed, *path) == key


def test_purposes_lead_to_different_keys():
    assert len({derive(5, purpose) for purpose in Purpose}) == len(Purpose)
    assert derive(5, 1, 2) != derive(5, 2, 1)


@given(KEYS)
def test_uniforms_are_the_upper_24_bits(key):
    expected = [(word(key, counter) >> 40) / 2**24 for counter in range(20)]
    assert uniforms(key, torch.arange(20)).tolist() == expected


@given(KEYS, st.lists(st.integers(0, 2**32 - 1), max_size=5), st.integers(1, 9))
def test_normal_rows_are_sums_of_bytes(key, rows, width):
    found = normal_rows(key, torch.tensor(rows, dtype=torch.int64), width)
    for row, entries in zip(rows, found.tolist(), strict=True):
        sums = [sum(word(key, (row << 32) + i).to_bytes(8, "little")) for i in range(width)]
        exact = [(total - 1020) / sqrt(43690) for total in sums]
        assert entries == pytest.approx(exact, rel=2e-7)


def test_normal_rows_have_the_documented_distribution():
    entries = normal_rows(derive(3), torch.arange(256), 4096).double()
    count = entries.numel()
    assert abs(entries.mean()) < 5 / sqrt(count)
    assert abs(entries.var() - 1) < 5 * sqrt(2 / count)
    # Of a fourth moment of 2.85, the standard deviation is below that of normal numbers' 3.
    assert abs((entries**4).mean() - 2.85) < 5 * sqrt(96 / count)
    assert entries.abs().max() <= 4.88


def test_normal_rows_and_columns_are_uncorrelated():
    entries = normal_rows(derive(4), torch.arange(128), 128).double()
    for gram in (entries @ entries.T, entries.T @ entries):
        correlations = (gram - gram.diagonal().diag()) / 128
        assert correlations.abs().max() < 6 / sqrt(128)
    neighbours = (entries[:, 1:] * entries[:, :-1]).mean()
    assert abs(neighbours) < 5 / sqrt(128 * 127)


def test_a_row_does_not_depend_on_how_it_is_asked_for():
    """Over several blocks, in any order, repeated, of another integer type, and narrower."""
    ids = torch.tensor([7, 0, 2**32 - 1, 7, *range(100, 150)])
    together = normal_rows(9, ids, 4096)
    for place in (0, 1, 2, 3, 30, 53):
        alone = normal_rows(9, ids[place : place + 1], 4096)
        assert torch.equal(together[place], alone[0])
    assert torch.equal(normal_rows(9, ids.flip(0), 4096), together.flip(0))
    assert torch.equal(normal_rows(9, ids[4:].int(), 4096), together[4:])
    assert torch.equal(normal_rows(9, ids, 100), together[:, :100])


def test_a_row_may_be_wider_than_a_block():
    wide = normal_rows(9, torch.tensor([1, 2]), 2**16 + 1)
    assert torch.equal(wide[1, :50], normal_rows(9, torch.tensor([2]), 50)[0])


def test_no_rows_are_none():
    assert normal_rows(9, torch.zeros(0, dtype=torch.int64), 8).shape == (0, 8)


def test_golden_normal_rows():
    rows = normal_rows(derive(42, Purpose.FIXED_ROWS), torch.tensor([0, 1, 262143]), 64)
    assert digest(rows) == "50633974fe4df9a5"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same():
    counters = torch.arange(-1000, 100_000)
    assert torch.equal(words(77, counters.cuda()).cpu(), words(77, counters))
    assert torch.equal(uniforms(77, counters.cuda()).cpu(), uniforms(77, counters))
    ids = torch.randint(0, 262144, (50,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(normal_rows(77, ids.cuda(), 4096).cpu(), normal_rows(77, ids, 4096))
