"""The run's door: who is let in, what is taken, and what each refusal is called."""

import asyncio
import json
import time
from dataclasses import replace

import grpc
import ordered_chain
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from door import Door, FakeCall, Refused

from skerry.node.run.context import MAX_REASONS, OTHER_REASON
from skerry.node.run.peers import MAX_RECORD_SECONDS
from skerry.node.run.servicer import RunServicer
from skerry.proto import peer_pb2 as pb
from skerry.protocol.chunk_tree import CHUNK_BYTES
from skerry.protocol.codec import (
    MAX_BODY_BYTES,
    envelope_from_pb,
    envelope_to_pb,
    open_commit,
    sign_message,
)
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import (
    PROTOCOL_VERSION,
    Kind,
    Order,
    RemovePeer,
    SetOuterLr,
    ShardPayload,
)
from skerry.protocol.quota import QuotaLimits
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds import membership
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite

BAD_MESSAGES = int(QuotaLimits().penalty)


@pytest.fixture
def door(tmp_path) -> Door:
    return Door(tmp_path)


class TestRemoved:
    """A peer that the owner keeps out: told why everywhere, and let read the chain."""

    @pytest.fixture
    async def removed(self, door) -> Door:
        await door.hello()
        ordered_chain.obey(door.context, door.owner, RemovePeer(door.peer.peer_id, "too slow"))
        return door

    async def test_hello_is_refused_with_the_reason(self, removed) -> None:
        call = FakeCall()
        request = pb.HelloRequest(
            protocol=PROTOCOL_VERSION,
            run_id=removed.run_id,
            member=envelope_to_pb(removed.record().envelope),
        )
        with pytest.raises(Refused, match="removed"):
            await removed.servicer.Hello(request, call)
        assert call.details.startswith("SK-PRO-005: ") and call.details.endswith("too slow")

    async def test_messages_are_refused_and_counted_but_fill_no_log(self, removed) -> None:
        for _ in range(BAD_MESSAGES + 5):
            assert await removed.deliver(removed.heartbeat()) == "removed"
        assert removed.refused == {"removed": BAD_MESSAGES + 5}
        lines = [json.loads(line) for line in removed.context.journal.last(500)]
        assert not [line for line in lines if line["event"] in ("refused", "warning")]
        assert removed.context.events.empty()

    async def test_blobs_are_refused_the_chain_is_given(self, removed) -> None:
        run_id = removed.run_id
        with pytest.raises(Refused, match="removed"):
            async for _ in removed.servicer.Blob(pb.BlobRequest(run_id=run_id), FakeCall()):
                pass
        asked = pb.ChainRequest(run_id=run_id, from_round=0, limit=9)
        given = [e async for e in removed.servicer.Chain(asked, FakeCall())]
        assert [len(open_commit(envelope_from_pb(e)).message.orders) for e in given] == [0, 1]

    async def test_whom_a_removed_standby_invited_is_not_admitted(self, door) -> None:
        standby = Signer(Ed25519PrivateKey.generate())
        door.context.manifest = door.manifest.model_copy(update={"standby": (standby.peer_id,)})
        run_id = door.manifest.run_id
        invite = make_invite(standby, run_id, int(time.time()) + 60, b"n" * 16)
        await door.hello(door.record(invite=invite))
        door.context.state.rounds.members.clear()
        ordered_chain.obey(door.context, door.owner, RemovePeer(standby.peer_id, ""))
        with pytest.raises(Refused, match="invite-revoked"):
            await door.hello(door.record(invite=invite))


class TestOrders:
    async def test_anyone_may_pass_on_an_order(self, door) -> None:
        await door.hello()
        order = sign_message(door.owner, Order(door.manifest.run_id, 1, SetOuterLr(0.5)))
        assert await door.deliver(order.envelope) == ""
        received = door.context.events.get_nowait()
        assert received == ev.OrderReceived(order, door.peer.peer_id)

    async def test_an_order_of_another_run_is_refused(self, door) -> None:
        await door.hello()
        order = sign_message(door.owner, Order("cd" * 32, 1, SetOuterLr(0.5)))
        assert await door.deliver(order.envelope) == "run"

    async def test_a_forged_order_is_refused(self, door) -> None:
        await door.hello()
        order = sign_message(door.peer, Order(door.manifest.run_id, 1, SetOuterLr(0.5)))
        forged = replace(order.envelope, signer=door.owner.peer_id)
        assert await door.deliver(forged) == "signature"


class TestHello:
    async def test_invited_peer_gets_manifest_and_members(self, door) -> None:
        reply = await door.hello()
        assert reply.manifest.body == door.manifest.canonical()
        assert [member.signer for member in reply.members] == [door.peer.peer_id]
        assert door.refused == {}

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"invite": None}, "invite-missing"),
            ({"expires_at": 1}, "expired"),
            # Months more: this is worked out when the tests are collected, and judged later.
            ({"expires_at": int(time.time()) + MAX_RECORD_SECONDS + 10**7}, "expired"),
            ({"run_id": "cd" * 32}, "other-run"),
        ],
    )
    async def test_bad_record(self, door, changes, reason) -> None:
        with pytest.raises(Refused, match=reason):
            await door.hello(door.record(**changes))
        assert door.refused == {reason: 1}
        assert door.context.state.rounds.members == {}

    async def test_record_of_another_peer(self, door) -> None:
        other = Door.record(door)
        stolen = RunServicer(PeerId("someone else"), lambda: door.run)
        door.servicer = stolen
        with pytest.raises(Refused, match="signature"):
            await door.hello(other)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [({"protocol": 99}, "version"), ({"run_id": b"r" * 32}, "run"), ({"run_id": b""}, "run")],
    )
    async def test_other_version_or_run(self, door, changes, reason) -> None:
        with pytest.raises(Refused, match=reason):
            await door.hello(**changes)
        assert door.refused == {reason: 1}

    async def test_between_two_runs(self, door) -> None:
        door.run = None
        with pytest.raises(Refused, match="run"):
            await door.hello()

    async def test_more_members_than_anyone_needs(self, door, monkeypatch) -> None:
        monkeypatch.setattr(membership, "MAX_MEMBERS", 1)
        await door.hello()
        await door.hello()  # who is known may say hello again
        door.context.state.rounds.alive.update(door.context.state.rounds.members)
        door.peer = Signer(Ed25519PrivateKey.generate())
        door.servicer = RunServicer(door.peer.peer_id, lambda: door.run)
        with pytest.raises(Refused, match="full"):
            await door.hello()


class TestDeliver:
    async def test_before_hello(self, door) -> None:
        assert await door.deliver(door.heartbeat()) == "not-admitted"
        assert door.refused == {"not-admitted": 1}
        door.run = None
        assert await door.deliver(door.heartbeat()) == "not-admitted"

    async def test_message_of_a_member_becomes_an_event(self, door) -> None:
        await door.hello()
        assert await door.deliver(door.heartbeat()) == ""
        event = door.context.events.get_nowait()
        assert isinstance(event, ev.HeartbeatReceived)
        assert event.heartbeat.signer == door.peer.peer_id
        assert door.context.facts.seen[door.peer.peer_id].heartbeat == event.heartbeat.message

    async def test_what_is_refused_makes_no_event(self, door) -> None:
        await door.hello()
        bad = {
            "signature": door.heartbeat(door.owner),  # true words, but not the sender's
            "run": door.heartbeat(run_id="cd" * 32),
            "non-finite": door.heartbeat(loss=float("nan")),
            "malformed": door.peer.sign(Kind.COMMIT, b"rubbish"),
            "kind": door.record().envelope,
            "size": door.peer.sign(Kind.HEARTBEAT, bytes(MAX_BODY_BYTES[Kind.HEARTBEAT] + 1)),
        }
        for reason, envelope in bad.items():
            assert await door.deliver(envelope) == reason
        assert door.refused == dict.fromkeys(bad, 1)
        assert door.context.events.empty()
        lines = map(json.loads, door.context.journal.last(99))
        assert [line["reason"] for line in lines] == list(bad)

    async def test_flood_is_dropped_unread_whatever_it_asks(self, door) -> None:
        await door.hello()
        rubbish = door.peer.sign(Kind.ANNOUNCE, b"rubbish")
        bad = 0
        while await door.deliver(rubbish) == "malformed":  # some are forgiven while it goes on
            bad += 1
        assert bad > BAD_MESSAGES
        assert await door.deliver(door.heartbeat()) == "quota"
        with pytest.raises(Refused, match="quota"):
            await door.hello()
        with pytest.raises(Refused, match="quota"):
            await anext(aiter(door.servicer.Blob(pb.BlobRequest(run_id=door.run_id), FakeCall())))
        assert door.refused == {"malformed": bad, "quota": 4}
        written = [json.loads(line)["event"] for line in door.context.journal.last(999)]
        assert written == ["refused"] * bad + ["warning"]

    async def test_who_goes_on_although_it_is_not_heard_is_disconnected(self, door) -> None:
        await door.hello()
        ended = asyncio.get_running_loop().create_future()

        class Line:
            async def disconnect(self, peer: PeerId) -> None:
                ended.set_result(peer)

        door.context.transport = Line()
        while await door.deliver(door.heartbeat(run_id="cd" * 32)) != "quota":
            pass
        keeping_out = asyncio.create_task(door.context.keep_out())
        for _ in range(QuotaLimits().knocks):
            await door.deliver(door.heartbeat())
        assert await ended == door.peer.peer_id
        keeping_out.cancel()


class TestAnswers:
    @pytest.mark.parametrize("call", ["Chain", "Blob"])
    async def test_nothing_is_told_before_hello(self, door, call) -> None:
        request = {"Chain": pb.ChainRequest, "Blob": pb.BlobRequest}
        with pytest.raises(Refused, match="not-admitted"):
            await self._ask(door, call, request[call](run_id=door.run_id))
        with pytest.raises(Refused, match="run"):
            await self._ask(door, call, request[call](run_id=b"r" * 32))

    async def test_blob_in_chunks_and_counted(self, door) -> None:
        await door.hello()
        data = bytes(CHUNK_BYTES) + b"load"
        address = door.context.blobs.put(data)
        door.context.served[address] = (ShardPayload("embed", address, len(data)), False)
        fields = {"run_id": door.run_id, "address": bytes.fromhex(address)}
        size, chunk = await self._ask(door, "Blob", pb.BlobRequest(**fields, first=1, stop=2))
        assert (size.size, chunk.data) == (len(data), b"load")
        assert door.context.facts.sent_bytes == {"payload": 4}

    @pytest.mark.parametrize(
        ("address", "stop", "code", "reason"),
        [
            (b"x" * 32, 0, grpc.StatusCode.NOT_FOUND, ""),
            (b"../../etc/passwd", 0, grpc.StatusCode.FAILED_PRECONDITION, "address"),
            (None, 2, grpc.StatusCode.FAILED_PRECONDITION, "range"),
        ],
        ids=["missing", "no address", "beyond its end"],
    )
    async def test_blob_that_cannot_be_given(self, door, address, stop, code, reason) -> None:
        await door.hello()
        address = address or bytes.fromhex(door.context.blobs.put(b"payload"))
        call = FakeCall()
        request = pb.BlobRequest(run_id=door.run_id, address=address, stop=stop)
        with pytest.raises(Refused):
            await anext(aiter(door.servicer.Blob(request, call)))
        assert (call.code, call.reason) == (code, reason)

    async def test_chain_that_is_not_there(self, door) -> None:
        await door.hello()
        chain = pb.ChainRequest(run_id=door.run_id, from_round=2**63, limit=2**31)
        assert await self._ask(door, "Chain", chain) == []

    async def _ask(self, door, call, request):
        return [item async for item in getattr(door.servicer, call)(request, FakeCall())]


def test_reasons_that_peers_make_up_are_counted_as_one(door) -> None:
    for number in range(2 * MAX_REASONS):
        door.context.refuse(door.peer.peer_id, f"made-up-{number}")
    assert len(door.refused) == MAX_REASONS + 1
    assert door.refused[OTHER_REASON] == MAX_REASONS
