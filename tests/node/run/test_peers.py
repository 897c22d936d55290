"""Calls to other members: gRPC between real doors over a network in memory."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import ordered_chain
import pytest
import run_world

from skerry.node.run import peers as peers_module
from skerry.node.run.peers import Peers, member_record
from skerry.node.run.state import LEAVING, Unreachable
from skerry.protocol.codec import MAX_ADDRESSES, open_envelope, sign_message
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import Commit, RemovePeer
from skerry.protocol.rounds import events as ev


@pytest.fixture
async def pair(world):
    """Two members that do not know each other."""
    return await world.member(1), await world.member(2)


@asynccontextmanager
async def background(*work):
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition) -> None:
    async with asyncio.timeout(run_world.PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)


async def greet(one, other) -> None:
    async with background(other.decide()):
        await one.session.peers.greet(other.session.peers.own_record())


def commits(context, count: int) -> list:
    """Put a chain of takeovers without contributions under a context's state."""
    found, rounds = [], context.state.rounds
    owner, other = run_world.OWNER, run_world.signer_of(2)
    for number in range(count):
        signer = owner if number % 2 == 0 else other
        record = run_world.record_of(signer, context.manifest)
        commit = Commit(
            run_id=context.run_id,
            round=number,
            view=0,
            parent=rounds.at,
            state=run_world.made_up_state(context.manifest),
            announces=(),
            roster=(signer.peer_id,),
            admissions=(record,) if number else (),
            cursor=2 * max(0, number),
            weight=0,
        )
        signed = sign_message(signer, commit)
        rounds.chain.add(signed)
        rounds.at = CommitHash(signed.hash)
        found.append(signed)
    return found


class TestGreeting:
    async def test_both_sides_learn_of_each_other_and_of_third_ones(self, pair) -> None:
        one, other = pair
        third = run_world.record_of(run_world.signer_of(3), one.context.manifest)
        other.context.state.rounds.members[third.signer] = third
        await greet(one, other)
        assert one.session.peers.greeted == {other.peer_id}
        assert set(other.context.state.rounds.members) == {one.peer_id, third.signer}
        assert (await one.event(ev.MemberLearned)).member == third
        assert one.context.events.empty()  # not of itself

    async def test_member_records_that_are_not_valid_are_not_believed(self, pair) -> None:
        one, other = pair
        signer = run_world.signer_of(3)
        good = run_world.record_of(signer, one.context.manifest)
        bad = [
            sign_message(signer, replace(good.message, expires_at=2**40)),
            sign_message(signer, replace(good.message, run_id="cd" * 32)),
            sign_message(signer, replace(good.message, invite=None)),
            replace(good, envelope=replace(good.envelope, signature=bytes(64))),
        ]
        for number, record in enumerate(bad):
            other.context.state.rounds.members[f"someone {number}"] = record
        await greet(one, other)
        assert one.context.events.empty()
        assert one.context.facts.refused == {}  # it says nothing of the one who passed them on

    async def test_peer_that_is_away_is_unavailable(self, pair) -> None:
        one, other = pair
        record = other.session.peers.own_record()
        one.context.transport._network.crash(other.peer_id)
        with pytest.raises(PeerUnavailable):
            await one.session.peers.greet(record)
        assert one.session.peers.greeted == set()

    async def test_refusal_is_passed_on(self, pair) -> None:
        one, other = pair
        two = Peers(other.context)
        other.context.invite = None
        async with background(one.decide()):
            with pytest.raises(ProtocolError) as caught:
                await two.greet(one.session.peers.own_record())
        assert caught.value.code == "SK-PRO-003"
        assert two.greeted == set()

    async def test_other_protocol_version_is_refused_by_the_caller_too(
        self, pair, monkeypatch
    ) -> None:
        one, other = pair
        from skerry.node.run import servicer

        monkeypatch.setattr(servicer, "PROTOCOL_VERSION", 99)
        monkeypatch.setattr(servicer.RunServicer, "_admit", lambda *given: None)
        with pytest.raises(ProtocolError) as caught:
            await greet(one, other)
        assert (caught.value.reason, caught.value.code) == ("version", "SK-PRO-001")

    async def test_members_are_greeted_until_they_answer_and_again_when_forgotten(
        self, pair, monkeypatch
    ) -> None:
        one, other = pair
        one.knows(other, one)
        asked, real = [], peers_module.hello

        async def hello(client, run_id, peer, record):
            asked.append(peer)
            if len(asked) == 1:
                raise PeerUnavailable("SK-NET-003", "not yet")
            return await real(client, run_id, peer, record)

        monkeypatch.setattr(peers_module, "hello", hello)
        async with background(one.session.peers.keep_greeting(), other.decide()):
            await until(lambda: one.session.peers.greeted == {other.peer_id})
            assert asked == [other.peer_id] * 2
            one.session.peers.forget_greeting(other.peer_id)
            assert one.session.peers.greeted == set()
            await until(lambda: one.session.peers.greeted == {other.peer_id})


class TestOwnRecord:
    async def test_holds_announced_addresses_first_and_is_admitted(self, pair) -> None:
        one, other = pair
        other.context.announced = ("/ip4/203.0.113.7/tcp/4001",)
        record = other.session.peers.own_record()
        addresses = (*other.context.announced, *other.context.transport.addresses)
        assert record.message.addresses == addresses
        assert record.message.expires_at > time.time() + 3000
        assert open_envelope(record.envelope) == record
        one.context.check_admission(record)

    async def test_record_with_other_addresses_replaces_one_of_the_same_second(self, pair) -> None:
        context, peers = pair[0].context, pair[0].session.peers
        records = []
        for host in range(1, 4):
            context.announced = (f"/ip4/203.0.113.{host}/tcp/4001",)
            records.append(peers.own_record().message)
        ends = [record.expires_at for record in records]
        assert ends == sorted(set(ends))

    async def test_addresses_are_distinct_and_not_too_many(self, world) -> None:
        addresses = [f"/ip4/10.0.0.{n % 40}/tcp/1" for n in range(100)]
        record = member_record(run_world.OWNER, world.manifest.run_id, tuple(addresses), None)
        assert record.message.addresses == tuple(addresses[:MAX_ADDRESSES])


class TestMessages:
    async def test_heartbeat_arrives_and_is_counted_on_both_sides(self, pair) -> None:
        one, other = pair
        await greet(one, other)
        one.context.facts.step, one.context.facts.loss = 7, 2.5
        await one.session.peers.deliver(other.peer_id, one.session.peers.heartbeat())
        beat = (await other.event(ev.HeartbeatReceived)).heartbeat
        assert beat.signer == one.peer_id
        assert (beat.message.head, beat.message.step) == (one.context.state.rounds.at, 7)
        assert other.context.facts.seen[one.peer_id].heartbeat.loss == 2.5
        sent = one.context.facts.sent_bytes["control"]
        assert sent == other.context.facts.received_bytes["control"] > 100

    async def test_some_heartbeats_tell_of_links_to_members_that_are_there(self, pair) -> None:
        one, other = pair
        one.context.facts.links.answered(other.peer_id, 0.25)
        assert open_envelope(one.session.peers.heartbeat(links=True)).message.links == ()
        one.context.state.rounds.alive.add(other.peer_id)
        one.knows(other)
        assert open_envelope(one.session.peers.heartbeat()).message.links == ()
        [link] = open_envelope(one.session.peers.heartbeat(links=True)).message.links
        assert (link.peer, link.round_trip_us) == (other.peer_id, 250_000)

    async def test_last_heartbeat_says_goodbye(self, pair) -> None:
        beat = open_envelope(pair[0].session.peers.heartbeat(leaving=True)).message
        assert beat.phase == LEAVING
        assert open_envelope(pair[0].session.peers.heartbeat()).message.phase == "starting"

    async def test_heartbeats_go_to_all_that_are_greeted_until_the_end(self, pair) -> None:
        one, other = pair
        await greet(one, other)
        async with background(one.session.peers.keep_beating()):
            for _ in range(3):
                await other.event(ev.HeartbeatReceived)

    async def test_peer_that_is_away_becomes_an_event(self, pair) -> None:
        one, other = pair
        await one.session.peers.deliver(other.peer_id, one.session.peers.heartbeat())
        assert await one.event(Unreachable) == Unreachable(other.peer_id, refused=True)
        assert one.context.facts.sent_bytes["control"] == 0

    async def test_broadcast_reaches_those_who_are_there(self, world, pair) -> None:
        one, other = pair
        await greet(one, other)
        away = run_world.signer_of(3).peer_id
        await one.session.peers.broadcast(one.session.peers.heartbeat(), [away, other.peer_id])
        assert await one.event(Unreachable) == Unreachable(away, refused=True)
        await other.event(ev.HeartbeatReceived)

    async def test_peer_that_has_forgotten_us_is_greeted_again(self, pair) -> None:
        one, other = pair
        await greet(one, other)
        other.context.state.rounds.members.clear()
        await one.session.peers.deliver(other.peer_id, one.session.peers.heartbeat())
        assert one.session.peers.greeted == set()
        assert one.context.events.empty()  # it is there, after all

    async def test_refused_message_is_no_reason_to_greet_again(self, pair) -> None:
        one, other = pair
        await greet(one, other)
        record = one.session.peers.own_record().envelope  # nothing that is delivered
        await one.session.peers.deliver(other.peer_id, record)
        assert one.session.peers.greeted == {other.peer_id}
        assert other.context.facts.refused == {"kind": 1}


class TestRemoved:
    async def test_removed_peer_learns_it_from_the_chain_of_who_refuses_it(self, pair) -> None:
        owner, removed = pair
        await greet(removed, owner)
        removal = RemovePeer(removed.peer_id, "slow")
        chain = ordered_chain.obey(owner.context, run_world.OWNER, removal)
        removed.session.peers.forget_greetings()
        removed.knows(owner)
        async with background(removed.session.peers.keep_greeting()):
            assert (await removed.event(ev.CommitsReceived)).commits == chain
        assert removed.session.peers.greeted == set()
        assert owner.context.facts.refused["removed"] > 0

    async def test_nobody_greets_or_tells_a_removed_peer(self, pair) -> None:
        owner, removed = pair
        await greet(owner, removed)
        assert owner.session.peers.greeted == {removed.peer_id}
        removal = RemovePeer(removed.peer_id, "")
        ordered_chain.obey(owner.context, run_world.OWNER, removal)
        assert owner.session.peers.greeted == set()

    async def test_refused_heartbeat_forgets_the_greeting(self, pair) -> None:
        owner, removed = pair
        await greet(removed, owner)
        removal = RemovePeer(removed.peer_id, "")
        ordered_chain.obey(owner.context, run_world.OWNER, removal)
        peers = removed.session.peers
        await peers.deliver(owner.peer_id, peers.heartbeat())
        assert peers.greeted == set()


class TestChainAndState:
    async def test_chain_comes_from_a_round_on_oldest_first(self, pair) -> None:
        one, other = pair
        await greet(one, other)
        chain = commits(other.context, 4)
        assert await one.session.peers.chain(other.peer_id, 0) == tuple(chain)
        assert await one.session.peers.chain(other.peer_id, 2) == tuple(chain[2:])
        assert await one.session.peers.chain(other.peer_id, 9) == ()

    async def test_no_more_commits_are_taken_than_one_answer_may_hold(
        self, pair, monkeypatch
    ) -> None:
        one, other = pair
        await greet(one, other)
        chain = commits(other.context, 4)
        monkeypatch.setattr(peers_module, "MAX_COMMITS", 2)  # ours alone: the other sends all
        assert await one.session.peers.chain(other.peer_id, 0) == tuple(chain[:2])

    async def test_stranger_is_given_nothing(self, pair) -> None:
        one, other = pair
        await one.context.transport.connect(other.peer_id, ())
        with pytest.raises(ProtocolError) as caught:
            await one.session.peers.chain(other.peer_id, 0)
        assert caught.value.code == "SK-PRO-003"
