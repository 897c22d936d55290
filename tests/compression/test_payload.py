"""The bytes of a payload, and its decoder as an attack surface: entries or a CompressionError."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.layout import HEADER, SPAN_ROW
from skerry.compression.options import CodecOptions
from skerry.compression.payload import checksum
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.compression.sections import pack, unpack

SHAPES = ((70, 66), (33,), (64, 64), (5,))
CODECS = {
    values: PseudoGradientCodec(SHAPES, CodecOptions(64, 4096, values))
    for values in ("sign", "sym2", "fp16")
}
CODEC = CODECS["sign"]
NUM_TILES, NUM_SPANS = 6, 5
TABLE = slice(HEADER.size, HEADER.size + NUM_SPANS * SPAN_ROW.size)


def feedback_of(codec, seed):
    """Odd seeds crowd the kept entries, so that zstandard gains; 3 leaves tiles almost empty."""
    feedback = torch.randn(codec.numel, generator=torch.Generator().manual_seed(seed))
    if seed % 2:
        feedback *= torch.exp(torch.arange(codec.numel) / -300)
    if seed == 3:
        feedback[20:8700] = 0.0
    return feedback


def payload_of(codec, seed):
    return codec.encode(feedback_of(codec, seed))


PAYLOADS = {
    values: [payload_of(codec, seed) for seed in range(6)] for values, codec in CODECS.items()
}
REASONS = {
    "too-long",
    "too-short",
    "bad-magic",
    "bad-version",
    "bad-codec",
    "wrong-layout",
    "bad-checksum",
    "wrong-length",
    "wrong-count",
    "bad-scale",
    "bad-padding",
    "bad-zstd",
    "gap-count",
    "index-out-of-range",
    "non-finite",
}


def sealed(payload):
    """Return the payload with the checksum that belongs to it."""
    if len(payload) < HEADER.size:
        return bytes(payload)
    return bytes(payload[:30]) + checksum(bytes(payload)) + bytes(payload[38:])


class Sections:
    """A payload taken apart: header fields, raw tile section, values and raw gaps by span."""

    def __init__(self, values, payload):
        self.fields = list(HEADER.unpack_from(payload))
        table = [SPAN_ROW.unpack_from(payload, 38 + 8 * i) for i in range(NUM_SPANS)]
        first = 38 + 8 * NUM_SPANS + self.fields[8]
        self.tiles = unpack(payload[TABLE.stop : first], self.fields[7])
        self.values, self.gaps = [], []
        counts = CODECS[values].open(payload)
        for i, (raw, stored) in enumerate(table):
            size = counts._value_bytes(i)
            self.values.append(payload[first : first + size])
            self.gaps.append(unpack(payload[first + size : first + size + stored], raw))
            first += size + stored

    def assembled(self, stored_tiles=None, stored_gaps=None):
        """Put the payload together, lengths and checksum correct."""
        tiles = pack(self.tiles) if stored_tiles is None else stored_tiles
        gaps = [pack(one) for one in self.gaps]
        if stored_gaps is not None:
            gaps[0] = stored_gaps
        table = b"".join(
            SPAN_ROW.pack(len(raw), len(stored))
            for raw, stored in zip(self.gaps, gaps, strict=True)
        )
        spans = b"".join(a + b for a, b in zip(self.values, gaps, strict=True))
        fields = [*self.fields[:7], len(self.tiles), len(tiles), bytes(8)]
        return sealed(HEADER.pack(*fields) + table + tiles + spans)


def outcome(codec, payload):
    """Return "entries" after adding them, or the reason; other errors escape."""
    into = torch.zeros(codec.numel)
    try:
        codec.add(payload, into)
    except CompressionError as error:
        assert not into.any()
        return error.reason
    assert bool(into.isfinite().all())
    assert codec.open(payload).norm() >= 0
    return "entries"


def header_with(payload, field, value):
    fields = list(HEADER.unpack_from(payload))
    fields[field] = value
    return sealed(HEADER.pack(*fields) + payload[HEADER.size :])


def edited(values, /, seed=0, span=0, **changes):
    """Return a payload with some sections replaced, among them those of one span."""
    sections = Sections(values, PAYLOADS[values][seed])
    for name, value in changes.items():
        if name in ("values", "gaps"):
            getattr(sections, name)[span] = value
        else:
            setattr(sections, name, value)
    return sections.assembled()


@pytest.mark.parametrize("values", CODECS)
def test_the_untouched_payloads_decode(values):
    for payload in PAYLOADS[values]:
        assert sealed(payload) == payload
        assert Sections(values, payload).assembled() == payload
        assert outcome(CODECS[values], payload) == "entries"


def test_tile_sections_of_both_kinds_occur():
    """All tiles full: codes only. Seed 3 has tiles with fewer entries than places for them."""
    full, partial = (Sections("sign", PAYLOADS["sign"][seed]) for seed in (0, 3))
    assert len(full.tiles) == NUM_TILES
    senders = sum(code > 0 for code in partial.tiles[:NUM_TILES])
    assert 0 < senders < NUM_TILES
    assert len(partial.tiles) == NUM_TILES + 2 * senders


GOLDEN = {
    "sign": (
        "534b5047020140000004e55b1929b802fa660b0000000c0000000c0000005e972ed2de9833c3"
        "090000000900000001000000010000000100000001000000ece3eaec06000300010001009501"
        "001d02120a15001f1f000b0103"
    ),
    "sym2": (
        "534b5047020240000004de97f95c8aff7b820b0000001000000010000000df6a789f77a9bbb3"
        "090000000900000001000000010000000100000001000000ecdbeaecececeaec060003000100"
        "010095010001001d02120a15001f1f00000b010003"
    ),
    "fp16": (
        "534b50470203400000046507f029994e15130b0000000c0000000c0000004b5820b9dd4dbad1"
        "09000000090000000100000001000000010000000100000001010101060003000100010040ba"
        "403a20ba003a40ba203ac03580b220ba001d02120a15001f1f60390be0b903"
    ),
}


@pytest.mark.parametrize("values", GOLDEN)
def test_the_bytes_are_those_of_version_2(values):
    """Change the version together with these: other peers read what this one writes."""
    codec = PseudoGradientCodec(((3, 70), (4,)), CodecOptions(64, 1024, values))
    feedback = (torch.arange(codec.numel) * 37 % 101 - 50) / 64
    feedback[:210].view(3, 70)[:, 33:64] = 0.0  # leaves 3 entries where 6 would be sent
    assert codec.encode(feedback).hex() == GOLDEN[values]


def crafted():
    """One payload for every reason and format that can give it."""
    payload = PAYLOADS["sign"][0]
    sections = Sections("sign", payload)
    tiles, gaps = sections.tiles, sections.gaps[0]
    partial = Sections("sign", PAYLOADS["sign"][3])
    full_counts = CODEC.layout.keep_T.astype("<u2")
    sym2, fp16 = (Sections(values, PAYLOADS[values][0]) for values in ("sym2", "fp16"))
    flipped = payload[:50] + bytes([payload[50] ^ 1]) + payload[51:]
    infinite = np.array([np.inf] * (len(fp16.values[0]) // 2), "<f2").tobytes()
    return [
        ("sign", "too-long", payload + bytes(CODEC.max_payload_bytes)),
        ("sign", "too-short", payload[: TABLE.stop - 1]),
        ("sign", "too-short", b""),
        ("sign", "bad-magic", b"SKPX" + payload[4:]),
        ("sign", "bad-version", header_with(payload, 1, 1)),
        ("sign", "bad-codec", header_with(payload, 2, 2)),
        ("sign", "wrong-layout", header_with(payload, 3, 65)),
        ("sign", "wrong-layout", header_with(payload, 4, 1024)),
        ("sign", "wrong-layout", header_with(payload, 5, bytes(8))),
        ("sign", "bad-checksum", flipped),
        ("sign", "wrong-count", header_with(payload, 6, sections.fields[6] + 1)),
        ("sign", "wrong-length", header_with(payload, 7, 2**32 - 1)),
        ("sign", "wrong-length", header_with(payload, 8, 2**32 - 1)),
        ("sign", "wrong-length", sealed(payload[:-1])),
        ("sign", "wrong-length", sealed(payload + b"\0")),
        ("sign", "wrong-length", edited("sign", gaps=gaps + bytes(1000))),
        ("sign", "wrong-length", edited("sign", tiles=tiles[:-1])),
        ("sign", "wrong-length", edited("sign", tiles=tiles + b"\1")),
        ("sign", "wrong-count", edited("sign", tiles=tiles + full_counts.tobytes())),
        ("sign", "wrong-count", edited("sign", tiles=tiles + bytes(2 * NUM_TILES))),
        ("sign", "wrong-count", edited("sign", tiles=tiles + b"\xff" * (2 * NUM_TILES))),
        ("sign", "wrong-count", edited("sign", seed=3, tiles=partial.tiles[:NUM_TILES])),
        ("sign", "bad-padding", edited("sign", span=1, values=b"\xff")),
        ("sym2", "bad-padding", edited("sym2", span=1, values=b"\x00\xff")),
        ("sign", "bad-zstd", sections.assembled(stored_gaps=b"nonsense")),
        ("sign", "bad-zstd", sections.assembled(stored_tiles=b"no")),
        ("sign", "gap-count", edited("sign", gaps=gaps + b"\0")),
        ("sign", "gap-count", edited("sign", gaps=gaps[:-1] + b"\xff")),
        ("sign", "index-out-of-range", edited("sign", gaps=b"\xfe" * len(gaps))),
        ("sym2", "bad-scale", edited("sym2", tiles=sym2.tiles[:NUM_TILES] + b"\1" * NUM_TILES)),
        ("fp16", "bad-scale", edited("fp16", tiles=b"\2" + fp16.tiles[1:])),
        ("fp16", "non-finite", edited("fp16", values=infinite)),
    ]


@pytest.mark.parametrize(
    ("values", "reason", "payload"),
    crafted(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_refusal_has_its_reason(values, reason, payload):
    assert outcome(CODECS[values], payload) == reason


def test_every_reason_is_crafted():
    assert {reason for _, reason, _ in crafted()} == REASONS


def test_a_padded_entry_cannot_be_named():
    """A tile of 5 entries has positions 0 to 4, although its full tile has 4096."""
    codec = PseudoGradientCodec(((5,),), CodecOptions())
    payload = codec.encode(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert codec.open(payload).entries(0).positions_M.tolist() == [4]
    assert payload[-1] == 4
    assert outcome(codec, sealed(payload[:-1] + b"\5")) == "index-out-of-range"


@pytest.mark.parametrize(
    "other",
    [
        PseudoGradientCodec(((66, 70), (33,), (64, 64), (5,)), CodecOptions()),
        PseudoGradientCodec(SHAPES, CodecOptions(63)),
        PseudoGradientCodec(SHAPES, CodecOptions(64, 16384)),
    ],
    ids=["shapes", "k", "chunk"],
)
def test_payloads_of_another_layout_are_refused(other):
    assert outcome(CODEC, payload_of(other, 0)) == "wrong-layout"


def test_spans_need_nothing_of_each_other():
    payload = PAYLOADS["sign"][0]
    broken = Sections("sign", payload)
    whole = CODEC.open(payload)
    broken.gaps[2] = b"\xfe" * len(broken.gaps[2])
    partly = CODEC.open(broken.assembled())
    for index in (0, 1, 3, 4):
        a, b = whole.entries(index), partly.entries(index)
        assert np.array_equal(a.positions_M, b.positions_M)
        assert np.array_equal(a.values_M, b.values_M)
    with pytest.raises(CompressionError, match="index-out-of-range"):
        partly.entries(2)


@pytest.mark.parametrize("values", CODECS)
def test_the_norm_is_that_of_the_values(values):
    codec = CODECS[values]
    for payload in PAYLOADS[values]:
        opened = codec.open(payload)
        all_values = [opened.entries(i).values_M.astype(np.float64) for i in range(NUM_SPANS)]
        norm = np.sqrt(sum(float((one * one).sum()) for one in all_values))
        assert opened.norm() == pytest.approx(norm, rel=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(CODECS)), st.binary(max_size=600))
def test_random_bytes_are_refused(values, data):
    assert outcome(CODECS[values], data) in REASONS
    behind_header = sealed(PAYLOADS[values][0][: HEADER.size] + data)
    assert outcome(CODECS[values], behind_header) in REASONS | {"entries"}


PLACE = st.integers(0, 2000)
MUTATION = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("set"), PLACE, st.sampled_from([0, 1, 2, 127, 128, 254, 255])),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 40)),
    st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("splice"), PLACE, st.sampled_from(PAYLOADS["sign"])),
    st.tuples(st.just("truncate"), PLACE, st.none()),
)


def mutate(data, mutation):
    kind, place, value = mutation
    place %= max(1, len(data))
    match kind:
        case "flip":
            changed = bytes(byte ^ (1 << value) for byte in data[place : place + 1])
            return data[:place] + changed + data[place + 1 :]
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


def mutants(values, payload, mutations):
    """Yield the damaged payload, the same resealed, and four damaged behind the outer checks."""
    sections = [Sections(values, payload) for _ in range(3)]
    raw_tiles, values_of, raw_gaps = sections
    packed_gaps = pack(sections[0].gaps[0])
    damaged = payload
    for mutation in mutations:
        damaged, packed_gaps = mutate(damaged, mutation), mutate(packed_gaps, mutation)
        raw_tiles.tiles = mutate(raw_tiles.tiles, mutation)
        values_of.values[1] = mutate(values_of.values[1], mutation)
        raw_gaps.gaps[0] = mutate(raw_gaps.gaps[0], mutation)
    yield damaged
    yield sealed(damaged)
    yield from (one.assembled() for one in sections)
    yield Sections(values, payload).assembled(stored_gaps=packed_gaps)


def test_fuzz_reaches_every_check_and_nothing_else_escapes():
    seen = Counter()

    @settings(
        max_examples=1000,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        st.sampled_from(list(CODECS)),
        st.integers(0, 5),
        st.lists(MUTATION, min_size=1, max_size=4),
    )
    def fuzz(values, seed, mutations):
        codec, payload = CODECS[values], PAYLOADS[values][seed]
        seen.update(outcome(codec, mutant) for mutant in mutants(values, payload, mutations))

    fuzz()
    assert seen.total() >= 5000
    # A too long one needs more bytes than these mutations add; it is crafted above.
    assert set(seen) >= (REASONS - {"too-long"}) | {"entries"}


def test_memory_is_bounded_whatever_the_payload_claims():
    """numpy and zstandard allocate through the traced allocators; 64 MiB would show."""
    codec = PseudoGradientCodec(((512, 512),), CodecOptions())
    fields = [*HEADER.unpack_from(payload_of(codec, 0))[:6]]
    codes, signs = bytes([100]) * 64, bytes(512)

    def claim(tiles, raw_gaps, gaps, stored_tiles=None, raw_tiles=None):
        stored_tiles = tiles if stored_tiles is None else stored_tiles
        raw_tiles = len(tiles) if raw_tiles is None else raw_tiles
        header = HEADER.pack(*fields, 4096, raw_tiles, len(stored_tiles), bytes(8))
        return sealed(header + SPAN_ROW.pack(raw_gaps, len(gaps)) + stored_tiles + signs + gaps)

    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(2**26))
    claims = {
        "bad-zstd": claim(codes, 4096, bomb[:4095]),
        "wrong-length": claim(codes, 2**32 - 1, bomb[:4095]),
        "gap-count": claim(codes, 5000, b"\xff" * 5000),
        "entries": claim(codes, 4096, bytes(4096)),
        "index-out-of-range": claim(codes, 4096, b"\xfe" * 4096),
    }
    tile_bomb = claim(codes, 4096, bytes(4096), stored_tiles=bomb[:60], raw_tiles=64)
    claims_in_order = [*claims.items(), ("bad-zstd", tile_bomb)]
    into = torch.zeros(codec.numel)
    tracemalloc.start()
    try:
        for reason, payload in claims_in_order:
            tracemalloc.reset_peak()
            try:
                codec.add(payload, into)
            except CompressionError as error:
                assert error.reason == reason
            else:
                assert reason == "entries"
            assert tracemalloc.get_traced_memory()[1] < 20 * codec.max_payload_bytes + codec.numel
    finally:
        tracemalloc.stop()
