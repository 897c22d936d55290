"""The decoder as an attack surface: any bytes give entries or a CompressionError, in bounds."""

import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.gaps import Storage, compress_gaps, decompress_gaps
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec, checksum

SHAPES = ((70, 66), (33,), (64, 64), (5,))
CODEC = PseudoGradientCodec(SHAPES, CodecOptions(64))
HEADER = struct.Struct("<4sBBB8sII8s")
NUM_TILES = 6


def payload_of(codec, seed):
    """Odd seeds crowd the kept entries, so that zstandard gains on their gaps."""
    generator = torch.Generator().manual_seed(seed)
    feedback = torch.randn(codec.numel, generator=generator)
    if seed % 2:
        feedback *= torch.exp(torch.arange(codec.numel) / -300)
    return codec.encode(feedback)


PAYLOADS = [payload_of(CODEC, seed) for seed in range(8)]
REASONS = {
    "too-long",
    "too-short",
    "bad-magic",
    "bad-version",
    "bad-codec",
    "wrong-layout",
    "bad-checksum",
    "bad-storage",
    "wrong-length",
    "bad-padding",
    "bad-zstd",
    "gap-count",
    "index-out-of-range",
}


def sealed(payload):
    """Return the payload with the checksum that belongs to it."""
    if len(payload) < HEADER.size:
        return bytes(payload)
    return bytes(payload[:23]) + checksum(bytes(payload)) + bytes(payload[31:])


def sections(payload):
    """Take a valid payload apart: header fields, scales, signs, raw gap bytes."""
    fields = list(HEADER.unpack_from(payload))
    first_gap = len(payload) - fields[6]
    raw = decompress_gaps(fields[3], payload[first_gap:], fields[5])
    return fields, payload[31 : 31 + NUM_TILES], payload[31 + NUM_TILES : first_gap], raw


def assembled(fields, scales, signs, raw, stored=None):
    """Put a payload together, lengths and checksum correct."""
    storage, packed = (Storage.ZSTD, stored) if stored is not None else compress_gaps(raw)
    fields = [*fields[:3], storage, fields[4], len(raw), len(packed), bytes(8)]
    return sealed(HEADER.pack(*fields) + scales + signs + packed)


def outcome(codec, payload):
    """Return "entries" after checking them, or the reason; other errors escape."""
    try:
        update = codec.decode(payload)
    except CompressionError as error:
        return error.reason
    indices, values = update.indices, update.values
    assert indices.shape == values.shape
    assert indices.dtype == torch.int64
    assert values.dtype == torch.float32
    assert bool((indices.diff() > 0).all())
    assert not indices.numel() or 0 <= int(indices[0]) <= int(indices[-1]) < codec.numel
    assert bool(values.isfinite().all())
    return "entries"


def header_with(payload, field, value):
    fields = list(HEADER.unpack_from(payload))
    fields[field] = value
    return sealed(HEADER.pack(*fields) + payload[HEADER.size :])


def test_the_untouched_payloads_decode():
    assert {payload[6] for payload in PAYLOADS} == {Storage.RAW, Storage.ZSTD}
    for payload in PAYLOADS:
        assert sealed(payload) == payload
        assert assembled(*sections(payload)) == payload
        assert outcome(CODEC, payload) == "entries"


def crafted():
    """One payload for every reason."""
    payload = PAYLOADS[0]
    fields, scales, signs, raw = sections(payload)
    assert (sum(tile > 0 for tile in scales), len(signs) * 8) == (NUM_TILES, 144)
    complete = sum(byte != 255 for byte in raw)
    flipped = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
    return [
        ("too-long", payload + bytes(CODEC.max_payload_bytes)),
        ("too-short", b""),
        ("too-short", payload[: HEADER.size]),
        ("bad-magic", header_with(payload, 0, b"SKPH")),
        ("bad-version", header_with(payload, 1, 2)),
        ("bad-codec", header_with(payload, 2, 0)),
        ("wrong-layout", header_with(payload, 4, bytes(8))),
        ("bad-checksum", flipped),
        ("bad-storage", header_with(payload, 3, 2)),
        ("bad-storage", header_with(payload, 3, 255)),
        ("wrong-length", sealed(payload[:-1])),
        ("wrong-length", sealed(payload + b"\0")),
        ("wrong-length", header_with(payload, 5, 2**32 - 1)),
        ("wrong-length", header_with(payload, 5, 0)),
        ("wrong-length", header_with(payload, 6, 2**32 - 1)),
        ("wrong-length", sealed(payload[:31] + b"\0" + payload[32:])),
        ("wrong-length", assembled(fields, scales, signs, raw + bytes(1000))),
        ("bad-padding", assembled(fields, scales, signs[:-1] + b"\xff", raw)),
        ("bad-zstd", assembled(fields, scales, signs, raw, stored=b"nonsense")),
        ("gap-count", assembled(fields, scales, signs, raw + b"\0")),
        ("gap-count", assembled(fields, scales, signs, raw[:-1] + b"\xff")),
        ("index-out-of-range", assembled(fields, scales, signs, b"\xfe" * complete)),
    ]


@pytest.mark.parametrize(
    ("reason", "payload"), crafted(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_refusal_has_its_reason(reason, payload):
    assert outcome(CODEC, payload) == reason


def test_every_reason_is_crafted():
    assert {reason for reason, _ in crafted()} == REASONS


def test_a_padded_entry_cannot_be_named():
    """A tile of 5 entries has positions 0 to 4, although its full tile has 4096."""
    codec = PseudoGradientCodec(((5,),), CodecOptions(64))
    payload = codec.encode(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert codec.decode(payload).indices.tolist() == [4]
    assert payload[-1] == 4
    assert outcome(codec, sealed(payload[:-1] + b"\5")) == "index-out-of-range"


def test_payloads_of_another_layout_are_refused():
    for shapes, k in ((((66, 70), (33,), (64, 64), (5,)), 64), (SHAPES, 63)):
        payload = payload_of(PseudoGradientCodec(shapes, CodecOptions(k)), 0)
        assert outcome(CODEC, payload) == "wrong-layout"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_random_bytes_are_refused(data):
    assert outcome(CODEC, data) in REASONS
    assert outcome(CODEC, sealed(PAYLOADS[0][:23] + bytes(8) + data)) in REASONS | {"entries"}


PLACE = st.integers(0, max(map(len, PAYLOADS)) - 1)
MUTATION = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("set"), PLACE, st.sampled_from([0, 1, 2, 127, 128, 254, 255])),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 40)),
    st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("splice"), PLACE, st.sampled_from(PAYLOADS)),
    st.tuples(st.just("truncate"), PLACE, st.none()),
)


def mutate(data, mutation):
    kind, place, value = mutation
    place %= max(1, len(data))
    match kind:
        case "flip":
            return (
                data[:place]
                + bytes(b ^ (1 << value) for b in data[place : place + 1])
                + (data[place + 1 :])
            )
        case "set":
            return data[:place] + bytes([value]) + data[place + 1 :]
        case "cut":
            return data[:place] + data[place + value :]
        case "insert":
            return data[:place] + value + data[place:]
        case "splice":
            return data[:place] + value[place:]
        case _:
            return data[:place]


def mutants(payload, mutations):
    """Yield the damaged payload, the same resealed, and two damaged behind every outer check."""
    fields, scales, signs, raw = sections(payload)
    _, packed = compress_gaps(raw)
    damaged, body, deep = payload, scales + signs + packed, raw
    for mutation in mutations:
        damaged, body, deep = (mutate(data, mutation) for data in (damaged, body, deep))
    yield damaged
    yield sealed(damaged)
    stored = len(body) - len(scales) - len(signs)
    if stored >= 0:
        fields = [*fields[:6], stored, bytes(8)]
        yield sealed(HEADER.pack(*fields) + body)
    yield assembled(fields, scales, signs, deep)


def test_fuzz_reaches_every_check_and_nothing_else_escapes():
    seen = Counter()

    @settings(
        max_examples=1500,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.sampled_from(PAYLOADS), st.lists(MUTATION, min_size=1, max_size=4))
    def fuzz(payload, mutations):
        seen.update(outcome(CODEC, mutant) for mutant in mutants(payload, mutations))

    fuzz()
    assert seen.total() >= 5000
    # A too long one needs more bytes than these mutations add; it is crafted above.
    assert set(seen) >= (REASONS - {"too-long"}) | {"entries"}


def test_memory_is_bounded_whatever_the_payload_claims():
    """numpy and zstandard allocate through the traced allocators; 64 MiB would show."""
    codec = PseudoGradientCodec(((512, 512),), CodecOptions(64))
    tiles, signs = bytes([100]) * 64, bytes(512)
    layout = HEADER.unpack_from(payload_of(codec, 0))[4]
    fields = [b"SKPG", 1, 1, 1, layout]
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(2**26))[: 4096 - 1]
    claims = [
        assembled(fields, tiles, signs, bytes(4096), stored=bomb),
        assembled(fields, tiles, signs, b"\xff" * 5000),
        assembled(fields, tiles, signs, bytes(4096)),
        assembled(fields, tiles, signs, np.full(4096, 254, np.uint8).tobytes()),
    ]
    reasons = []
    tracemalloc.start()
    try:
        for payload in claims:
            tracemalloc.reset_peak()
            reasons.append(outcome(codec, payload))
            peak = tracemalloc.get_traced_memory()[1]
            assert peak < 20 * codec.max_payload_bytes + 4 * codec.numel
    finally:
        tracemalloc.stop()
    assert reasons == ["bad-zstd", "gap-count", "entries", "index-out-of-range"]
