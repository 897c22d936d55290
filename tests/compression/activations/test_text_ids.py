"""Text token ids: exact at every vocabulary, least bits, hostile payloads."""

import struct
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.activations.text_ids import decode_ids, encode_ids, id_bits, ids_bytes
from skerry.compression.errors import CompressionError

REASONS = {
    "too-short",
    "bad-version",
    "wrong-bits",
    "wrong-count",
    "wrong-length",
    "bad-padding",
    "id-out-of-range",
}
VOCABULARIES = st.one_of(
    st.integers(1, 2**32), st.sampled_from([1, 2, 256, 257, 50257, 128256, 262144, 262208, 2**32])
)


@given(VOCABULARIES, st.data())
def test_ids_come_back(vocab_size, data):
    values = data.draw(st.lists(st.integers(0, vocab_size - 1), max_size=40))
    ids = torch.tensor(values, dtype=torch.int64)
    payload = encode_ids(ids, vocab_size)
    assert len(payload) == ids_bytes(len(values), vocab_size)
    decoded = decode_ids(payload, len(values), vocab_size)
    assert decoded.dtype == torch.int64
    assert torch.equal(decoded, ids)


@pytest.mark.parametrize(
    ("vocab_size", "bits"),
    [(1, 1), (2, 1), (3, 2), (256, 8), (257, 9), (262144, 18), (262145, 19), (2**32, 32)],
)
def test_bits_are_the_least_that_hold_the_largest_id(vocab_size, bits):
    assert id_bits(vocab_size) == bits
    ids = torch.tensor([vocab_size - 1])
    assert torch.equal(decode_ids(encode_ids(ids, vocab_size), 1, vocab_size), ids)


def test_a_large_vocabulary_takes_2_25_bytes_per_text_token():
    assert ids_bytes(512, 262_144) == 6 + 512 * 2.25


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_golden_bytes(dtype):
    # 10 bits: 1 is 0b0000000001, 2 is 0b0000000010, 5 is 0b0000000101; lowest bits first.
    ids = torch.tensor([1, 2, 5], dtype=dtype)
    assert encode_ids(ids, 1000) == bytes.fromhex("010a03000000 01085000")


@pytest.mark.parametrize("vocab_size", [0, -1, 2**32 + 1])
def test_impossible_vocabularies_are_a_mistake_of_the_caller(vocab_size):
    with pytest.raises(ValueError, match="vocabulary"):
        encode_ids(torch.tensor([0]), vocab_size)
    with pytest.raises(ValueError, match="vocabulary"):
        decode_ids(b"", 0, vocab_size)


@pytest.mark.parametrize("ids", [torch.tensor([[1]]), torch.tensor([1.0]), torch.tensor(1)])
def test_another_form_is_a_mistake_of_the_caller(ids):
    with pytest.raises(ValueError, match="need integers"):
        encode_ids(ids, 10)


@pytest.mark.parametrize("value", [-1, 10, 2**40])
def test_unknown_ids_are_not_encoded(value):
    with pytest.raises(CompressionError) as caught:
        encode_ids(torch.tensor([3, value]), 10)
    assert caught.value.reason == "id-out-of-range"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\1\4\2\0\0", "too-short"),
        (b"\2\4\2\0\0\0\x21", "bad-version"),
        (b"\1\5\2\0\0\0\x21", "wrong-bits"),
        (b"\1\4\3\0\0\0\x21", "wrong-count"),
        (b"\1\4\2\0\0\0", "wrong-length"),
        (b"\1\4\2\0\0\0\x21\0", "wrong-length"),
        (b"\1\4\2\0\0\0\xa1", "id-out-of-range"),
    ],
)
def test_bad_payloads_are_refused_by_name(payload, reason):
    assert decode_ids(b"\1\4\2\0\0\0\x21", 2, 10).tolist() == [1, 2]
    with pytest.raises(CompressionError) as caught:
        decode_ids(payload, 2, 10)
    assert caught.value.reason == reason


def test_set_padding_is_refused():
    with pytest.raises(CompressionError) as caught:
        decode_ids(b"\1\4\1\0\0\0\x11", 1, 10)
    assert caught.value.reason == "bad-padding"


@given(st.data())
def test_any_bytes_give_ids_or_a_named_refusal(data):
    payload = bytearray(encode_ids(torch.arange(9), 1000))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(payload), len(payload) - 1, 3]))
    mutant = bytes(payload[:end]) + data.draw(st.sampled_from([b"", b"\0"]))
    try:
        ids = decode_ids(mutant, 9, 1000)
    except CompressionError as error:
        assert error.reason in REASONS
    else:
        assert ids.shape == (9,)
        assert ids.min() >= 0 and ids.max() < 1000


def test_announced_ids_cost_no_memory():
    payload = struct.pack("<BBI", 1, 18, 2**32 - 1)
    tracemalloc.start()
    for count in (1, 2**32 - 1):
        with pytest.raises(CompressionError):
            decode_ids(payload, count, 262144)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000
