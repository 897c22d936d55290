"""Stored sections: round trips that never grow, and every refusal, at no cost of memory."""

import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.sections import pack, unpack


def reason(stored, raw_length):
    with pytest.raises(CompressionError) as caught:
        unpack(stored, raw_length)
    return caught.value.reason


@given(st.binary(max_size=500))
def test_sections_round_trip_and_never_grow(raw):
    stored = pack(raw)
    assert len(stored) <= len(raw)
    assert unpack(stored, len(raw)) == raw


def test_both_ways_of_storing_occur():
    assert len(pack(bytes(1000))) < 30
    assert pack(bytes(range(256))) == bytes(range(256))


def test_frames_have_no_checksum_and_say_their_size():
    announced = zstandard.get_frame_parameters(pack(bytes(70000)))
    assert (announced.content_size, announced.has_checksum) == (70000, False)


SKIPPABLE = bytes.fromhex("502a4d18") + (100).to_bytes(4, "little") + bytes(20)
HUGE_WINDOW = bytes.fromhex("28b52ffd") + bytes([0x40, 0xA8]) + (900).to_bytes(2, "little")


def streamed(raw):
    """A frame that does not say how large its content is."""
    packer = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    return packer.compress(raw) + packer.flush()


@pytest.mark.parametrize(
    ("stored", "raw_length", "name"),
    [
        (b"abc", 2, "wrong-length"),
        (b"abc", 4, "bad-zstd"),
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
    assert reason(stored, raw_length) == name


def test_huge_window_is_refused_for_its_window():
    with pytest.raises(CompressionError, match="window of"):
        unpack(HUGE_WINDOW, 1156)


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
        assert reason(bomb, ALLOWED_BYTES) == "bad-zstd"
        assert tracemalloc.get_traced_memory()[1] < 2 * ALLOWED_BYTES
    finally:
        tracemalloc.stop()
