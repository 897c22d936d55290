"""Gap bytes and their frame: round trips, the exact bound, every refusal."""

import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.gaps import (
    Storage,
    compress_gaps,
    decode_gaps,
    decompress_gaps,
    encode_gaps,
    max_gap_bytes,
)

POSITIONS = st.integers(1, 30).flatmap(
    lambda keep: st.lists(
        st.sets(st.integers(0, 4095), min_size=keep, max_size=keep).map(sorted),
        min_size=1,
        max_size=4,
    )
)


def reason(call, *args):
    with pytest.raises(CompressionError) as caught:
        call(*args)
    return caught.value.reason


@given(POSITIONS)
def test_gaps_round_trip_within_the_bound(rows):
    positions = np.array(rows, dtype=np.int64)
    data = encode_gaps(positions)
    gaps = decode_gaps(data, positions.size).reshape(positions.shape)
    assert np.array_equal(np.cumsum(gaps + 1, axis=1) - 1, positions)
    assert data.size <= len(rows) * max_gap_bytes(4096, positions.shape[1])


@given(st.integers(1, 4096), st.data())
def test_the_bound_is_reached(valid, data):
    keep = data.draw(st.integers(1, valid))
    last = np.arange(valid - keep, valid, dtype=np.int64)
    assert encode_gaps(last.reshape(1, keep)).size == max_gap_bytes(valid, keep)


@pytest.mark.parametrize(
    ("position", "data"),
    [(0, [0]), (254, [254]), (255, [255, 0]), (256, [255, 1]), (510, [255, 255, 0])],
)
def test_escape_borders(position, data):
    assert encode_gaps(np.array([[position]])).tolist() == data
    assert decode_gaps(np.array(data, np.uint8), 1).tolist() == [position]


def test_no_gaps():
    assert encode_gaps(np.zeros((0, 64), np.int64)).size == 0
    assert decode_gaps(np.zeros(0, np.uint8), 0).size == 0
    assert compress_gaps(b"") == (Storage.RAW, b"")


@pytest.mark.parametrize(("data", "count"), [([1, 2], 1), ([1], 2), ([1, 255], 1), ([], 1)])
def test_wrong_number_of_gaps_is_refused(data, count):
    assert reason(decode_gaps, np.array(data, np.uint8), count) == "gap-count"


@given(st.binary(max_size=500))
def test_frames_round_trip_and_never_grow(raw):
    storage, stored = compress_gaps(raw)
    assert len(stored) <= len(raw)
    assert decompress_gaps(storage, stored, len(raw)) == raw


def test_both_storages_occur():
    assert compress_gaps(bytes(1000))[0] == Storage.ZSTD
    assert compress_gaps(bytes(range(256)))[0] == Storage.RAW


SKIPPABLE = bytes.fromhex("502a4d18") + (100).to_bytes(4, "little") + bytes(20)
HUGE_WINDOW = bytes.fromhex("28b52ffd") + bytes([0x40, 0xA8]) + (900).to_bytes(2, "little")


def streamed(raw):
    """A frame that does not say how large its content is."""
    packer = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    return packer.compress(raw) + packer.flush()


@pytest.mark.parametrize(
    ("stored", "raw_length", "name"),
    [
        (b"abc", 4, "wrong-length"),
        (zstandard.compress(bytes(10)), 10, "wrong-length"),
        (zstandard.compress(bytes(2000)), 1999, "bad-zstd"),
        (zstandard.compress(bytes(2000)) + b"x", 2000, "bad-zstd"),
        (zstandard.compress(bytes(1000)) * 2, 1000, "bad-zstd"),
        (zstandard.compress(bytes(2000))[:-2], 2000, "bad-zstd"),
        (streamed(bytes(2000)), 2000, "bad-zstd"),
        (SKIPPABLE, 100, "bad-zstd"),
        (HUGE_WINDOW, 1156, "bad-zstd"),
        (b"no frame at all", 2000, "bad-zstd"),
        (b"", 2000, "bad-zstd"),
    ],
)
def test_bad_frames_are_refused(stored, raw_length, name):
    storage = Storage.RAW if stored == b"abc" else Storage.ZSTD
    assert reason(decompress_gaps, storage, stored, raw_length) == name


def test_huge_window_is_refused_for_its_window():
    with pytest.raises(CompressionError, match="window of"):
        decompress_gaps(Storage.ZSTD, HUGE_WINDOW, 1156)


def test_unknown_storage_is_refused():
    assert reason(decompress_gaps, 2, b"ab", 2) == "bad-storage"


BOMB_BYTES = 2**26
ALLOWED_BYTES = 500_000


def lying(frame):
    """Let a frame of BOMB_BYTES announce ALLOWED_BYTES, and a window no larger."""
    # Header byte 0x80: a window byte and 4 bytes of content size; 0xA0: the size only.
    assert frame[4] == 0x80 and int.from_bytes(frame[6:10], "little") == BOMB_BYTES
    return frame[:4] + b"\xa0" + ALLOWED_BYTES.to_bytes(4, "little") + frame[10:]


def narrow():
    """A bomb whose header gives no hint but its size: the window is the smallest there is."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=10)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(BOMB_BYTES))


def wide():
    return zstandard.ZstdCompressor(level=1).compress(bytes(BOMB_BYTES))


BOMBS = {
    "narrow": narrow,
    "wide": wide,
    "lying": lambda: lying(wide()),
    "unknown-size": lambda: streamed(bytes(BOMB_BYTES)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_cost_no_memory(kind):
    bomb = BOMBS[kind]()
    assert len(bomb) < ALLOWED_BYTES
    tracemalloc.start()
    try:
        assert reason(decompress_gaps, Storage.ZSTD, bomb, ALLOWED_BYTES) == "bad-zstd"
        assert tracemalloc.get_traced_memory()[1] < 2 * ALLOWED_BYTES
    finally:
        tracemalloc.stop()
