"""Centred clipping: where the centre's values are, and how far entries are pulled."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.centre import pulled, square_distance, values_at
from skerry.compression.entries import Entries
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec

CODEC = PseudoGradientCodec(((130, 70), (30,), (5, 64), (17,)), CodecOptions(values="fp16"))
"""Full and cut tiles of two matrices, and a stream of two vectors."""


def entries_of(feedback):
    opened = CODEC.open(CODEC.encode(feedback.clone()))
    return [opened.entries(index) for index in range(len(CODEC.layout.spans))]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_the_centre_is_read_where_the_entries_lie(seed):
    """An update that holds its own flat indices as values is its own centre."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(CODEC.numel, generator=generator)
    decoded = torch.zeros(CODEC.numel)
    CODEC.add(CODEC.encode(vector.clone()), decoded)
    for span, entries in zip(CODEC.layout.spans, entries_of(vector), strict=True):
        assert np.array_equal(values_at(decoded, span, entries), entries.values_M)


def some_entries(values):
    counts = np.array([len(values)], np.int64)
    return Entries(counts, np.arange(len(values), dtype=np.uint16), np.array(values, np.float32))


def test_the_way_to_the_centre_is_shortened():
    entries, centre = some_entries([1.0, -2.0, 0.5]), np.array([0.0, 2.0, 0.5], np.float32)
    assert pulled(entries, centre, np.float32(0.25)).tolist() == [0.25, 1.0, 0.5]
    assert pulled(entries, centre, np.float32(1.0)).tolist() == [1.0, -2.0, 0.5]


def test_the_distance_counts_named_entries():
    entries, centre = some_entries([3.0, 0.0]), np.array([0.0, 4.0], np.float32)
    assert math.sqrt(square_distance(entries, centre)) == pytest.approx(5.0)
