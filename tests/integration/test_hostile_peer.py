"""An admitted peer that breaks the rules is refused by name and counted; the run goes on."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_peer import (
    CALL_S,
    PATIENCE_S,
    HostilePeer,
    in_an_hour,
    never,
    refusal,
    served,
)
from swarm import Peer, Swarm

from skerry.node.identity import load_identity
from skerry.pipeline.codecs import payload_limits
from skerry.proto import peer_pb2 as pb
from skerry.protocol.codec import MAX_BODY_BYTES, envelope_to_pb
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import (
    PROTOCOL_VERSION,
    Envelope,
    Kind,
    Message,
    ShardPayload,
    SignedCommit,
)
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def honest(swarm: Swarm) -> list[Peer]:
    """Two daemons in an endless run, in rounds short enough to see many of them."""
    peers = swarm.start("a", "b")
    swarm.begin(peers, rounds=0, steps=4, deadline_min="1s", deadline_max="3s", grace="1s")
    return peers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(swarm: Swarm, honest: list[Peer]) -> AsyncIterator[HostilePeer]:
    """A third peer in the roster, kept in step."""
    peer = await HostilePeer.create(swarm.folder / "hostile", swarm.token)
    try:
        await peer.enter()
        beating = asyncio.create_task(peer.beat())
        try:
            yield peer
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
    finally:
        await peer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(swarm: Swarm, honest: list[Peer]) -> AsyncIterator[HostilePeer]:
    """A peer that holds the token and has not been admitted."""
    peer = await HostilePeer.create(swarm.folder / "stranger", swarm.token)
    try:
        yield peer
    finally:
        await peer.close()


class Refusals:
    """Waits until each daemon has counted refusals since the beginning."""

    def __init__(self, peers: list[Peer], before: list[Counter[str]]) -> None:
        self._peers, self._before = peers, before

    @classmethod
    async def of(cls, peers: list[Peer]) -> "Refusals":
        return cls(peers, [await _counts(peer) for peer in peers])

    async def counted(self, *reasons: str, times: int = 1) -> None:
        """Wait until everyone has counted each of ``reasons`` ``times`` more."""
        for peer, before in zip(self._peers, self._before, strict=True):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    new = await _counts(peer) - before
                    missing = {reason for reason in reasons if new[reason] < times}
                    if not missing:
                        break
                    await asyncio.sleep(0.1)

    async def counted_upon(self, head: SignedCommit, wanted: Counter[str]) -> bool:
        """Wait until everyone has counted ``wanted`` more; False where one left ``head`` before.

        What a peer hears after the end of the round it was meant for is judged as too old.
        """
        for peer, before in zip(self._peers, self._before, strict=True):
            while True:
                run = (await asyncio.to_thread(peer.status)).run
                if Counter(run.refused_by_reason) - before >= wanted:
                    break
                if run.head != head.hash:
                    return False
                await asyncio.sleep(0.1)
        return True


async def _refused_in_one_round(
    hostile: HostilePeer,
    honest: list[Peer],
    bad: Callable[[SignedCommit], list[tuple[str, Message]]],
) -> None:
    """Tell all of ``bad(head)`` in one round, and in further ones until that round held still."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            head = await hostile.next_round()
            messages, refusals = bad(head), await Refusals.of(honest)
            for _, message in messages:
                told = await hostile.tell(message)
                assert set(told.values()) == {""}  # judged by the state machine, not at the door
            if await refusals.counted_upon(head, Counter(reason for reason, _ in messages)):
                return


async def _counts(peer: Peer) -> Counter[str]:
    status = await asyncio.to_thread(peer.status)
    return Counter(status.run.refused_by_reason)


async def _goes_on(honest: list[Peer], rounds: int = 2) -> None:
    """Wait until both have applied more rounds, and compare every digest they share."""
    goal = 0
    for peer in honest:
        goal = max(goal, (await asyncio.to_thread(peer.status)).run.digest_round + rounds)
    for peer in honest:
        await asyncio.to_thread(
            peer.wait_until, lambda run: run.digest_round >= goal, f"at round {goal}"
        )
    first, second = (_digests(peer) for peer in honest)
    shared = first.keys() & second.keys()
    assert goal in shared
    assert {n: first[n] for n in shared} == {n: second[n] for n in shared}


def _digests(peer: Peer) -> dict[int, str]:
    applied = [event for event in peer.recorded() if event["event"] == "applied"]
    return {event["round"]: event["digest"] for event in applied}


class TestBeforeAdmission:
    async def test_nothing_is_answered_before_hello(self, stranger, honest) -> None:
        refusals = await Refusals.of(honest[:1])
        owner = stranger.token.owner
        stub = stranger.client.stub(owner, BULK_PROTOCOL)
        run_id, hash_ = stranger.run_bytes, b"x" * 32
        calls = [
            anext(aiter(stub.Chain(pb.ChainRequest(run_id=run_id, limit=1), timeout=CALL_S))),
            anext(aiter(stub.Blob(pb.BlobRequest(run_id=run_id, address=hash_), timeout=CALL_S))),
        ]
        for call in calls:
            assert await refusal(call) == "not-admitted"
        record = envelope_to_pb(stranger.record().envelope)
        assert await stranger.deliver_to(owner, record) == "not-admitted"
        await refusals.counted("not-admitted", times=3)

    async def test_hello_is_refused_without_the_right_to_take_part(
        self, stranger, honest, swarm
    ) -> None:
        owner = Signer(load_identity(honest[0].home.identity_file))
        assert owner.peer_id == stranger.token.owner
        run_id, later = stranger.run_id, in_an_hour()
        expired = make_invite(owner, run_id, 1, b"n" * 16)
        forged = make_invite(stranger.signer, run_id, later, b"n" * 16)
        other_run = make_invite(owner, content_id("other"), later, b"n" * 16)
        someone = Signer(Ed25519PrivateKey.generate())
        record = stranger.record()
        bad = {
            "invite-missing": [stranger.record(invite=None)],
            "invite-expired": [stranger.record(invite=expired)],
            "invite-forged": [stranger.record(invite=forged)],
            "invite-other-run": [stranger.record(invite=other_run)],
            "expired": [stranger.record(expires_at=1), stranger.record(expires_at=later + 8**8)],
            "other-run": [stranger.record(run_id=content_id("other"))],
            "signature": [
                type(record)(record.message, someone.sign(Kind.MEMBER, record.envelope.body)),
                type(record)(record.message, replace(record.envelope, signature=b"s" * 64)),
            ],
        }
        refusals = await Refusals.of(honest[:1])
        for reason, members in bad.items():
            for member in members:
                assert await self._hello(stranger, member=member.envelope) == reason
        await refusals.counted(*bad)

    async def test_hello_of_another_version_or_run_is_refused(self, stranger, honest) -> None:
        refusals = await Refusals.of(honest[:1])
        assert await self._hello(stranger, protocol=PROTOCOL_VERSION + 1) == "version"
        assert await self._hello(stranger, run_id=b"r" * 32) == "run"
        assert await self._hello(stranger, run_id=b"short") == "run"
        await refusals.counted("version", "run")

    async def _hello(self, stranger: HostilePeer, **changes: Any) -> str:
        member = changes.pop("member", stranger.record().envelope)
        fields = {"protocol": PROTOCOL_VERSION, "run_id": stranger.run_bytes, **changes}
        request = pb.HelloRequest(member=envelope_to_pb(member), **fields)
        stub = stranger.client.stub(stranger.token.owner, CONTROL_PROTOCOL)
        return await refusal(stub.Hello(request, timeout=CALL_S))


def content_id(text: str) -> Any:
    return text.encode().hex().ljust(64, "0")


class TestMessages:
    async def test_announcements_outside_the_rules(self, hostile, honest) -> None:
        limits = dict(payload_limits(hostile.manifest))
        most = hostile.manifest.max_round_tokens

        def bad(head: SignedCommit) -> list[tuple[str, Message]]:
            sound = hostile.sound_announce(head)
            big = tuple(replace(shard, size=limits[shard.shard] + 1) for shard in sound.shards)
            earlier = replace(sound, parent=head.message.parent, round=sound.round - 1)
            return [
                ("tokens", replace(sound, round_tokens=most + 1, text_tokens=most + 1)),
                ("tokens", replace(sound, text_tokens=2**60)),
                ("tokens", replace(sound, round_tokens=0)),
                ("shards", replace(sound, shards=sound.shards[:1])),
                ("shards", replace(sound, shards=(ShardPayload("head.9", *_rest(sound)),))),
                ("size", replace(sound, shards=big)),
                ("stale-round", replace(sound, round=sound.round + 1)),
                ("stale-round", earlier),
            ]

        await _refused_in_one_round(hostile, honest, bad)

    async def test_numbers_and_runs_that_no_message_may_hold(self, hostile, honest) -> None:
        head = await hostile.next_round()
        sound = hostile.sound_announce(head)
        refusals = await Refusals.of(honest)
        for loss in (float("nan"), float("inf")):
            assert set((await hostile.tell(replace(sound, loss=loss))).values()) == {"non-finite"}
        told = await hostile.tell(replace(sound, run_id=content_id("other")))
        assert set(told.values()) == {"run"}
        await refusals.counted("non-finite", "run")

    async def test_rubbish_in_envelopes(self, hostile, honest) -> None:
        head = await hostile.next_round()
        sound = hostile.sign(hostile.sound_announce(head)).envelope
        honest_one = next(iter(hostile.announces[CommitHash(head.hash)].values())).envelope
        rubbish = random.Random(7).randbytes(500)
        too_long = bytes(MAX_BODY_BYTES[Kind.HEARTBEAT] + 1)
        someone = Signer(Ed25519PrivateKey.generate())
        bad = [
            ("malformed", envelope_to_pb(hostile.signer.sign(Kind.ANNOUNCE, rubbish))),
            ("malformed", envelope_to_pb(hostile.signer.sign(Kind.COMMIT, rubbish))),
            ("signature", envelope_to_pb(replace(sound, signature=b"s" * 64))),
            ("signature", envelope_to_pb(replace(sound, body=sound.body + b"x"))),
            ("signature", envelope_to_pb(honest_one)),  # another's words, sent by us
            ("signature", envelope_to_pb(someone.sign(Kind.ANNOUNCE, sound.body))),
            ("signature", pb.Envelope(kind=3, body=b"", signer=hostile.me, signature=b"")),
            ("kind", pb.Envelope(kind=99, body=b"x", signer=hostile.me, signature=b"s" * 64)),
            ("kind", envelope_to_pb(hostile.signer.sign(Kind.MANIFEST, b"{}"))),
            ("kind", envelope_to_pb(hostile.record().envelope)),
            ("size", envelope_to_pb(Envelope(Kind.HEARTBEAT, too_long, hostile.me, b"s" * 64))),
            ("peer-id", pb.Envelope(kind=2, body=b"x", signer="nobody", signature=b"s" * 64)),
        ]
        refusals = await Refusals.of(honest)
        for reason, envelope in bad:
            for peer in hostile.others:
                assert await hostile.deliver_to(peer, envelope) == reason, envelope
        for reason, times in Counter(reason for reason, _ in bad).items():
            await refusals.counted(reason, times=times)

    async def test_forged_commits(self, hostile, honest) -> None:
        someone = Signer(Ed25519PrivateKey.generate()).peer_id
        uninvited = hostile.sign(replace(hostile.record().message, invite=None))

        def bad(head: SignedCommit) -> list[tuple[str, Message]]:
            sound = hostile.sound_commit(head)
            not_mine = next(v for v in range(99) if v != sound.view and v % 3 != sound.view % 3)
            return [
                ("leader", replace(sound, view=not_mine)),
                ("view", replace(sound, view=2**20)),
                ("round", replace(sound, round=sound.round + 1)),
                ("weight", replace(sound, weight=sound.weight + 1)),
                ("cursor", replace(sound, cursor=0)),
                ("announces", replace(sound, announces=())),
                ("announces", replace(sound, announces=sound.announces * 2)),
                ("digest", replace(sound, state=sound.state[::-1])),
                ("roster", replace(sound, roster=sound.roster[::-1])),
                ("admission", replace(sound, roster=tuple(sorted((*sound.roster, someone))))),
                ("admission", replace(sound, admissions=(uninvited,))),
            ]

        await _refused_in_one_round(hostile, honest, bad)

    async def test_takeover_while_the_roster_is_alive(self, hostile, honest, stranger) -> None:
        """Only who is outside the roster may claim that it is gone; who is in it knows better."""
        head = await hostile.next_round()
        stranger.commits = dict(hostile.commits)
        bare = hostile.sound_commit(
            head,
            view=0,
            announces=(),
            roster=(stranger.me,),
            admissions=(stranger.record(),),
            weight=head.message.weight,
        )
        await stranger.enter()
        stranger.members.pop(hostile.me, None)
        taken = stranger.sign(bare)
        stranger.commits = {CommitHash(taken.hash): taken}
        assert set((await stranger.deliver(taken.envelope)).values()) == {""}
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(stranger.beat())  # alive, and never to commit anything
            await _goes_on(honest, rounds=3)
            beating.cancel()

    async def test_a_head_that_nobody_has_is_asked_for_and_comes_to_nothing(
        self, hostile, honest
    ) -> None:
        await hostile.next_round()
        await hostile.beat_once(head=content_id("far"), head_round=10**6, weight=2**60)
        await _goes_on(honest)

    async def test_rubbish_on_the_streams(self, hostile, honest) -> None:
        refusals = await Refusals.of(honest)
        noise = random.Random(3)
        for peer in hostile.others:
            for protocol in (CONTROL_PROTOCOL, BULK_PROTOCOL):
                for data in (noise.randbytes(50_000), b"GET / HTTP/1.1\r\n\r\n" * 9):
                    stream = await hostile.transport.open_stream(peer, protocol)
                    with contextlib.suppress(Exception):
                        await stream.write(data)
                        while await stream.read(1000):
                            pass
                    await stream.close()
        await refusals.counted("garbage", times=4)
        await _goes_on(honest)


class TestPayloads:
    """What can only be seen by fetching: each takes a round, since one may announce only once."""

    async def test_bytes_that_do_not_match_their_address(self, hostile, honest) -> None:
        await self._refused(hostile, honest, lambda data: served(data[::-1]), "hash")

    async def test_another_size_than_announced(self, hostile, honest) -> None:
        await self._refused(hostile, honest, lambda data: served(data + b"more"), "size")

    async def test_more_bytes_than_said(self, hostile, honest) -> None:
        def longer(data: bytes) -> Any:
            return served(data + b"more", size=len(data))

        await self._refused(hostile, honest, longer, "chunk")

    async def test_payload_that_does_not_decode_and_a_second_announcement(
        self, hostile, honest
    ) -> None:
        reasons = ("too-short", "equivocation")  # the first is the codec's own word
        await self._refused(hostile, honest, served, *reasons, twice=True)

    async def test_payload_that_never_comes(self, hostile, honest) -> None:
        await self._refused(hostile, honest, never, "unavailable")

    async def _refused(
        self,
        hostile: HostilePeer,
        honest: list[Peer],
        serve: Callable[[bytes], Any],
        *reasons: str,
        twice: bool = False,
    ) -> None:
        """Announce payloads that ``serve`` answers for, in as many rounds as it takes: who has
        left a round when it hears of them asks for none. ``twice``: and another time, changed."""
        refusals, wanted = await Refusals.of(honest), Counter(reasons)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                head = await hostile.next_round()
                shards = hostile.offers(serve, bytes.fromhex(head.hash)[:6])
                announce = replace(hostile.sound_announce(head), shards=shards)
                assert set((await hostile.tell(announce)).values()) == {""}
                if twice:
                    await hostile.tell(replace(announce, loss=9.0))
                if await refusals.counted_upon(head, wanted):
                    return


async def test_a_flood_is_dropped_at_the_door_and_the_run_ends_with_equal_digests(
    hostile: HostilePeer, honest: list[Peer]
) -> None:
    refusals = await Refusals.of(honest)
    rubbish = envelope_to_pb(hostile.signer.sign(Kind.ANNOUNCE, b"rubbish"))
    for peer in hostile.others:
        reasons = set()
        with contextlib.suppress(PeerUnavailable):  # who goes on all the same is disconnected
            for _ in range(150):
                reasons.add(await hostile.deliver_to(peer, rubbish))
        assert "malformed" in reasons
        assert reasons <= {"malformed", "quota"}
    await refusals.counted("quota")
    await _goes_on(honest, rounds=3)


def _rest(announce: Any) -> tuple[Any, int]:
    return announce.shards[0].address, announce.shards[0].size
