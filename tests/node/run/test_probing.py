"""Probes between members: what is asked, what is given, and what a liar gets for it."""

import asyncio
import time
from dataclasses import replace

import pytest
from door import Door, FakeCall, Refused

from skerry.node.run import servicer
from skerry.node.run.probing import (
    AGAIN_S,
    CHUNK_BYTES,
    GIVEN_S,
    MAX_PROBE_BYTES,
    PROBE_BYTES,
    Prober,
    check_probe,
)
from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Offer, RoleOffer

STAGE = Offer(RoleOffer.STAGE, 2**20)


async def given(door: Door, size: int, run_id: bytes | None = None) -> int:
    request = pb.ProbeRequest(run_id=run_id or door.run_id, size=size)
    chunks = [chunk async for chunk in door.servicer.Probe(request, FakeCall())]
    assert all(0 < len(chunk.data) <= CHUNK_BYTES for chunk in chunks)
    return sum(len(chunk.data) for chunk in chunks)


class TestDoor:
    @pytest.fixture
    async def door(self, tmp_path) -> Door:
        return Door(tmp_path)

    async def test_a_member_is_given_what_it_asks_for_and_not_again_so_soon(self, door) -> None:
        await door.hello()
        assert await given(door, PROBE_BYTES + 1) == PROBE_BYTES + 1
        with pytest.raises(Refused, match="probe-rate"):
            await given(door, PROBE_BYTES)
        assert door.refused == {"probe-rate": 1}
        assert door.context.facts.traffic[door.peer.peer_id].sent == PROBE_BYTES + 1

    @pytest.mark.parametrize("size", [0, MAX_PROBE_BYTES + 1, 2**32 - 1])
    async def test_of_other_sizes_nothing_is_given(self, door, size) -> None:
        await door.hello()
        with pytest.raises(Refused, match="size"):
            await given(door, size)

    async def test_who_was_not_admitted_is_given_nothing(self, door) -> None:
        with pytest.raises(Refused, match="not-admitted"):
            await given(door, PROBE_BYTES)
        await door.hello()
        with pytest.raises(Refused):
            await given(door, PROBE_BYTES, run_id=bytes(32))

    def test_each_peer_is_given_one_in_a_while(self) -> None:
        known: dict[PeerId, float] = {}
        check_probe(known, PeerId("a"), 1, 0.0)
        check_probe(known, PeerId("b"), 1, 0.0)
        with pytest.raises(ProtocolError):
            check_probe(known, PeerId("a"), 1, GIVEN_S - 1)
        check_probe(known, PeerId("a"), 1, GIVEN_S)


@pytest.fixture
async def pair(member):
    """Two members that have greeted each other; the second offers a stage."""
    one, other = await member(), await member(2)
    other.context.offer = STAGE
    one.knows(other)
    other.knows(one)
    deciding = asyncio.create_task(other.decide())
    await one.session.peers.greet(other.session.peers.own_record())
    deciding.cancel()
    one.context.state.rounds.alive.add(other.peer_id)
    return one, other


async def test_whoever_has_sent_nothing_large_is_probed_once(pair) -> None:
    one, other = pair
    prober, links = Prober(one.context, one.session.peers), one.context.facts.links
    assert prober._next(0.0) == other.peer_id
    await prober.probe(other.peer_id)
    assert links.has_rate(other.peer_id) and prober._next(0.0) is None
    [figures] = links.figures([other.peer_id])
    assert figures.bytes_per_s > 0
    assert one.context.facts.traffic[other.peer_id].received == PROBE_BYTES
    with pytest.raises((PeerUnavailable, ProtocolError)):  # it was given one just now
        await prober.probe(other.peer_id)


async def test_where_all_can_host_the_whole_model_nobody_is_probed(pair) -> None:
    one, other = pair
    record = one.context.state.rounds.members[other.peer_id]
    whole = replace(record, message=replace(record.message, offer=Offer()))
    one.context.state.rounds.members[other.peer_id] = whole
    assert Prober(one.context, one.session.peers)._next(0.0) is None


@pytest.mark.parametrize("sizes", [[CHUNK_BYTES], [CHUNK_BYTES + 1], [0], [CHUNK_BYTES] * 9])
async def test_a_probe_of_another_size_than_asked_for_is_held_against_the_sender(
    pair, monkeypatch, sizes
) -> None:
    one, other = pair

    chunks = [pb.BlobChunk(data=bytes(size)) for size in sizes]
    monkeypatch.setattr(servicer, "probe_chunks", lambda size: chunks)
    prober = Prober(one.context, one.session.peers)
    await prober._try(other.peer_id)
    assert one.context.facts.refused == {"probe": 1}
    assert not one.context.facts.links.has_rate(other.peer_id)


async def test_one_that_does_not_answer_is_left_alone_for_long(pair, monkeypatch) -> None:
    one, other = pair
    await other.server.close()
    prober, tried = Prober(one.context, one.session.peers), asyncio.Event()
    attempt = prober._try

    async def noted(peer: PeerId) -> None:
        await attempt(peer)
        tried.set()

    monkeypatch.setattr(prober, "_try", noted)
    probing = asyncio.create_task(prober.keep_probing())
    await tried.wait()
    assert one.context.facts.refused == {}
    assert prober._next(time.monotonic()) is None
    assert prober._next(time.monotonic() + AGAIN_S) == other.peer_id
    probing.cancel()
    await asyncio.wait([probing])
    assert probing.cancelled()
