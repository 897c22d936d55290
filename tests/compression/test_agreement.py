"""Agreement of payloads: what pairs of sparse updates share, against dense vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.agreement import agreement
from skerry.compression.errors import CompressionError
from skerry.compression.layout import DIGEST_BYTES, HEADER
from skerry.compression.options import CodecOptions
from skerry.compression.payload import checksum
from skerry.compression.pseudogradient import PseudoGradientCodec

CODECS = {
    values: PseudoGradientCodec(((70, 70), (30,)), CodecOptions(values=values))
    for values in ("sign", "sym2", "fp16")
}
SIGN = CODECS["sign"]


def sent(codec, vector):
    return codec.encode(vector.clone())


def noise(seed, codec=SIGN):
    return torch.randn(codec.numel, generator=torch.Generator().manual_seed(seed))


def dense(codec, payload):
    total = torch.zeros(codec.numel)
    codec.add(payload, total)
    return total.numpy()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 6), st.sampled_from(list(CODECS)), st.integers(0, 10**6))
def test_counts_are_those_of_dense_vectors(number, values, seed):
    codec = CODECS[values]
    common = noise(seed, codec)
    payloads = [sent(codec, common + noise(seed + i, codec)) for i in range(number)]
    found = agreement(codec, payloads)
    signs = np.array([np.sign(dense(codec, one)) for one in payloads], np.int64)
    signs = signs.reshape(number, codec.numel)
    named = np.abs(signs)
    apart = 1 - np.eye(number, dtype=np.int64)
    assert np.array_equal(found.sent_C, named.sum(1))
    assert np.array_equal(found.shared_CC, named @ named.T * apart)
    assert np.array_equal(found.balance_CC, signs @ signs.T * apart)
    norms = [float(np.linalg.norm(dense(codec, one).astype(np.float64))) for one in payloads]
    assert np.sqrt(found.squares) == pytest.approx(norms, rel=1e-12)


def test_a_copy_shares_everything_and_a_reversal_opposes_everything():
    payloads = [sent(SIGN, noise(0)), sent(SIGN, noise(0)), sent(SIGN, -noise(0))]
    found = agreement(SIGN, payloads)
    number = int(found.sent_C[0])
    assert found.shared_CC[0, 1] == found.balance_CC[0, 1] == number > 0
    assert found.balance_CC[0, 2] == -number


def test_shards_add_up():
    payloads = [sent(SIGN, noise(seed)) for seed in range(3)]
    one = agreement(SIGN, payloads)
    both = one + one
    assert np.array_equal(both.shared_CC, 2 * one.shared_CC)
    assert np.array_equal(both.balance_CC, 2 * one.balance_CC)
    assert np.array_equal(both.sent_C, 2 * one.sent_C)
    assert both.squares == tuple(2 * square for square in one.squares)


def test_a_malformed_payload_is_named_and_takes_no_part():
    good, padded = sent(SIGN, noise(0)), sent(SIGN, noise(1))
    cut = padded[:-1]
    resealed = bytearray(padded)
    resealed[-1] ^= 0xFF  # within the last span's gap bytes: the header does not show it
    resealed[HEADER.size - DIGEST_BYTES : HEADER.size] = checksum(bytes(resealed))
    with pytest.raises(CompressionError) as wrong:
        SIGN.check(bytes(resealed))
    found = agreement(SIGN, [good, good[:-1] + b"x", good, cut, bytes(resealed)])
    assert found.flaws == {1: "bad-checksum", 3: "bad-checksum", 4: wrong.value.reason}
    assert found.shared_CC[0, 2] == found.sent_C[0]
    assert found.squares[1] == found.squares[4] == 0.0
