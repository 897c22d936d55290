"""Attempts to use up memory: what is refused costs a bounded amount, measured while it happens.

tracemalloc sees what Python, numpy and zstandard allocate. The bounds leave room for a busy
machine's bookkeeping, and are far below what the attack would take if it worked.
"""

import contextlib
import tracemalloc
from collections.abc import Iterator

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.compression.errors import CompressionError
from skerry.compression.sections import unpack
from skerry.protocol.codec import MAX_BODY_BYTES, decode_envelope, envelope_from_pb, envelope_to_pb
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import RunId
from skerry.protocol.messages import Envelope, Kind
from skerry.protocol.rings.frames import Fence, Frame, Gradient, Lane, Pace, Place
from skerry.protocol.rings.lanes import CHUNK_HEADER_BYTES, Inbox, LaneLimits, Outbox, SizeRange
from skerry.protocol.signing import Signer

MIB = 2**20


@contextlib.contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    """Measure what is allocated at once within the block."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak <= num_bytes, f"{peak} bytes at once"


@pytest.mark.parametrize("kind", list(Kind))
def test_oversize_message_is_refused_before_it_is_parsed(kind) -> None:
    signer = Signer(Ed25519PrivateKey.generate())
    body = bytes(MAX_BODY_BYTES[kind] + 1)
    message = envelope_to_pb(Envelope(kind, body, signer.peer_id, bytes(64)))
    # protobuf hands the body out as a copy, which is all that it costs.
    with at_most(len(body) + MIB // 4), pytest.raises(ProtocolError) as caught:
        envelope_from_pb(message)
    assert caught.value.reason == "size"


def test_oversize_envelope_is_refused_before_it_is_parsed() -> None:
    data = bytes(8 * MIB)
    with at_most(MIB // 4), pytest.raises(ProtocolError) as caught:
        decode_envelope(data)
    assert caught.value.reason == "size"


def test_decompression_bomb_takes_no_more_than_was_announced() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(64 * MIB))
    with at_most(2 * MIB), pytest.raises(CompressionError) as caught:
        unpack(bomb, MIB)
    assert caught.value.reason == "bad-zstd"


def test_ring_neighbour_that_sends_without_credit_fills_no_memory() -> None:
    sizes = SizeRange(1, 16 * MIB)
    generous, limits = LaneLimits(sizes, sizes, window_bytes=2**30), LaneLimits(sizes, sizes)
    frame = Frame(Fence(RunId("ab" * 32), 1, 0, 2, 3), Place(1, 1, 1), Gradient(Pace(1, 2)))
    outbox, inbox, now = Outbox(generous), Inbox(limits), 0.0
    outbox.put(frame, bytes(16 * MIB))
    with at_most(4 * limits.window_bytes), pytest.raises(ProtocolError) as caught:
        while True:
            chunk = outbox.next_chunk(now)
            now += 1.0
            assert chunk is not None
            inbox.feed(chunk.data)
            outbox.take_credit(
                Lane.BACKWARD, len(chunk.data) - CHUNK_HEADER_BYTES, now
            )  # by nobody
    assert caught.value.reason == "credit"
