"""A member that is slow, stalled, or lies: bounded memory, a named error, and the ring goes on.

The other members are real: their streams have real backpressure, and real stages compute. What a
step has trained is counted alike at all of them, whatever the hostile one does.
"""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Iterator
from dataclasses import replace

import p2pd_swarm
import pytest
from ring_member_of_ill_will import Answer, Behaviour, HostileMember, chunks_of, grant
from stage_compute import one_thread
from stage_ring import BATCH, PARENT, SPARE_HOST, THREE, StageRing, ring_over, ring_test

from skerry.node.ring.settings import mesh_settings
from skerry.protocol.ids import PeerId
from skerry.protocol.memory import Link, VirtualNetwork
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.lanes import Arrived

TOKENS = BATCH * 32
ALL = tuple(range(BATCH // 2))
HOSTILE, NEXT = 1, 2
STEPS = 3
BOTH_WAYS = pytest.mark.parametrize(
    "hosted", [THREE, SPARE_HOST], ids=["passed over", "another host"]
)


async def put_hostile(ring: StageRing, behaviour: Behaviour, **how: bool) -> HostileMember:
    """Put a hostile member in the place of the only host of stage 1 on the path."""
    await ring.parts[HOSTILE].close()
    mine = ring.transports[HOSTILE]
    others = {t.peer_id: t.addresses for t in ring.transports if t is not mine}
    hostile = HostileMember(mine, ring.manifest, others, behaviour, **how)
    await hostile.start()
    return hostile


async def begin_round(ring: StageRing) -> None:
    """Begin a round at all members but the hostile one."""
    async with asyncio.TaskGroup() as group:
        for index, part in enumerate(ring.parts):
            if index != HOSTILE:
                group.create_task(part.begin_round(1, PARENT))


async def train(ring: StageRing, steps: int = STEPS) -> None:
    """Train inner steps, of which every microbatch must be trained."""
    for index in range(steps):
        async with asyncio.timeout(300.0):
            done = await ring.origin.train(index, batch=index)
        assert (done.trained, done.text_tokens, done.reason) == (ALL, TOKENS, "")
        for member in range(len(ring.parts)):
            if member != HOSTILE:
                await ring.stepped(member, (1, index + 1))


def check_accounts(ring: StageRing, steps: int = STEPS) -> None:
    """Every stage has trained each microbatch of a step once, or was passed over by it."""
    others = [m for m in range(len(ring.parts)) if m != HOSTILE]
    for index in range(1, steps + 1):
        counted = dict.fromkeys(range(3), 0)
        for member in others:
            for told in ring.news[member]:
                if getattr(told, "index", None) == index - 1:
                    for stage, tokens in told.text_tokens.items():
                        counted[stage] += tokens
        assert counted[0] == counted[2] == TOKENS
        assert counted[1] <= TOKENS


def notes(ring: StageRing) -> str:
    return " ".join(n.text for n in ring.news[0] if isinstance(n, act.Note))


def onward(arrived: Arrived) -> fr.Frame:
    """Return the head of an activation for the hop after the one that it came to."""
    place = arrived.frame.place
    return replace(arrived.frame, place=replace(place, hop=place.hop + 1))


def wrong_shape(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    """Send back less than was computed."""
    yield from grant(source, arrived)
    if isinstance(arrived.frame.body, fr.Activation):
        yield source, chunks_of(onward(arrived), bytes(100))


def more_than_there_is_memory(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    """Announce two gigabytes."""
    yield from grant(source, arrived)
    if isinstance(arrived.frame.body, fr.Activation):
        yield source, chunks_of(onward(arrived), bytes(100), claimed=2**31)


def no_chunk(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    yield from grant(source, arrived)
    if isinstance(arrived.frame.body, fr.Activation):
        yield source, b"\xff" * 100


def unused_credit(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    yield from grant(source, arrived)
    if isinstance(arrived.frame.body, fr.Activation):
        yield source, bytes([16 + fr.Lane.FORWARD]) + (2**30).to_bytes(4, "big")


@BOTH_WAYS
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (wrong_shape, "shape"),
        (more_than_there_is_memory, "shape"),
        (no_chunk, "lane"),
        (unused_credit, "credit"),
    ],
)
def test_what_no_member_may_send_ends_its_stream_and_is_held_against_it(
    tmp_path, hosted, behaviour, reason
):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        hostile = await put_hostile(ring, behaviour)
        await begin_round(ring)
        await train(ring)
        assert hostile.opened > 1  # it comes back, and may
        await hostile.close()

    ring = ring_test(tmp_path, scenario, hosted)
    check_accounts(ring)
    faults = {n for n in ring.news[0] if isinstance(n, act.Refused)}
    assert faults == {act.Refused(ring.transports[HOSTILE].peer_id, reason, fault=True)}


def lies_to_the_next(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    """Tell the peer before that all is well, and the next one rubbish."""
    yield from keeps_it(source, arrived)
    body = arrived.frame.body
    if isinstance(body, fr.Activation):
        hop = arrived.frame.place.hop + 1
        yield PEERS[body.route[hop].member], chunks_of(onward(arrived), bytes(100))


def keeps_it(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    """Say that a microbatch was passed on, and keep it."""
    yield from grant(source, arrived)
    if isinstance(arrived.frame.body, fr.Activation):
        yield source, chunks_of(replace(arrived.frame, body=fr.Passed()))


PEERS: list[PeerId] = []


@BOTH_WAYS
@pytest.mark.parametrize("behaviour", [keeps_it, lies_to_the_next])
def test_who_loses_microbatches_without_a_word_is_passed_by(tmp_path, hosted, behaviour):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        PEERS[:] = [transport.peer_id for transport in ring.transports]
        hostile = await put_hostile(ring, behaviour)
        await begin_round(ring)
        await train(ring)
        await hostile.close()

    ring = ring_test(tmp_path, scenario, hosted)
    check_accounts(ring)
    assert f"perhaps at {ring.transports[HOSTILE].peer_id}" in notes(ring)
    assert ring.refused(NEXT) == ({"shape"} if behaviour is lies_to_the_next else set())


@BOTH_WAYS
def test_who_keeps_the_gradients_is_passed_by(tmp_path, hosted):
    """It computes, and even steps; only the way back ends at it."""

    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        mesh = ring.parts[HOSTILE]._session._mesh
        send = mesh.send

        def without_gradients(peer: PeerId, frame: fr.Frame, payload: bytes) -> None:
            if not isinstance(frame.body, fr.Gradient):
                send(peer, frame, payload)

        mesh.send = without_gradients  # type: ignore[method-assign]
        await ring.begin_round()
        await train(ring)

    ring = ring_test(tmp_path, scenario, hosted)
    check_accounts(ring)
    assert f"perhaps at {ring.transports[HOSTILE].peer_id}" in notes(ring)


@BOTH_WAYS
@pytest.mark.parametrize(
    "how",
    [{}, {"gives_credit": False}, {"reads": False}],
    ids=["stalled", "takes no credit", "reads nothing"],
)
def test_who_is_stalled_is_named_and_passed_by(tmp_path, hosted, how):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        hostile = await put_hostile(ring, grant, **how)
        await begin_round(ring)
        await train(ring)
        await hostile.close()

    ring = ring_test(tmp_path, scenario, hosted)
    check_accounts(ring)
    assert ring.refused(0) == {"late"}


def test_frames_that_come_twice_and_again_in_the_next_step_train_nothing_twice(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        mesh = ring.parts[HOSTILE]._session._mesh
        send, kept = mesh.send, list[tuple[PeerId, fr.Frame, bytes]]()

        def again_and_again(peer: PeerId, frame: fr.Frame, payload: bytes) -> None:
            for old in (*kept[-8:], (peer, frame, payload), (peer, frame, payload)):
                send(*old)
            kept.append((peer, frame, payload))

        mesh.send = again_and_again  # type: ignore[method-assign]
        await ring.begin_round()
        await train(ring)
        await ring.stepped(HOSTILE, (1, STEPS))

    ring = ring_test(tmp_path, scenario)
    assert [ring.text_tokens(member) for member in range(3)] == [
        [{member: TOKENS}] * STEPS for member in range(3)
    ]
    assert {"duplicate", "stale-step"} <= ring.refused(0) | ring.refused(NEXT)


MEBIBYTE = 2**20


async def peak_of(work: Awaitable[None]) -> int:
    """Return by how many bytes of Python objects ``work`` has raised the memory, at most."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await work
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most - before


def test_a_neighbour_that_takes_nothing_costs_a_bounded_backlog(tmp_path):
    """However much is meant for it, and for however long: 2 GiB in an hour here."""

    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        hostile = await put_hostile(ring, grant, gives_credit=False)
        await begin_round(ring)
        mesh, limits = ring.origin._session._mesh, mesh_settings(ring.manifest).limits
        body = fr.Activation(ring.plan.rings[0].paths[0].hops, 64, fr.Pace())
        fence = fr.Fence(ring.manifest.run_id, 1, 0, 1, 1)

        async def flood() -> None:
            for number in range(4000):
                payload = bytes(limits.forward.most)
                frame = fr.Frame(fence, fr.Place(0, number, 1), body)
                mesh.send(hostile.transport.peer_id, frame, payload)
                await asyncio.sleep(1.0)

        most = limits.backlog_data * limits.forward.most + limits.window_bytes
        assert most < 4 * MEBIBYTE
        assert await peak_of(flood()) < most + MEBIBYTE
        assert hostile.opened > 4
        await train(ring)
        await hostile.close()

    ring = ring_test(tmp_path, scenario)
    assert "stalled" in ring.refused(0)


def test_a_flood_of_the_longest_frames_costs_a_bounded_backlog(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        hostile = await put_hostile(ring, grant)
        await begin_round(ring)
        await asyncio.sleep(1.0)
        fence = fr.Fence(ring.manifest.run_id, 1, 0, 1, 1)
        visits = tuple(fr.StageVisits(stage, 2**40, tuple(range(800))) for stage in range(80))
        longest = chunks_of(fr.Frame(fence, fr.Place(), fr.StepEnd(visits)))
        assert len(longest) > 100_000

        async def flood() -> None:
            for _ in range(80):  # 8 MiB of bytes, and ten times as much when decoded
                await hostile.send(ring.transports[0].peer_id, longest)

        assert await peak_of(flood()) < 16 * MEBIBYTE
        await train(ring)
        await hostile.close()

    ring = ring_test(tmp_path, scenario, link=Link())
    check_accounts(ring)
    assert "not-the-origin" in ring.refused(0)


async def test_over_p2pd_a_ring_goes_on_beside_a_hostile_member(tmp_path):
    async with p2pd_swarm.swarm(tmp_path, 4) as transports:
        with one_thread():
            order = sorted(transports, key=lambda transport: transport.peer_id)
            ring = await ring_over(list(order), tmp_path, SPARE_HOST)
            hostile = await put_hostile(ring, wrong_shape)
            await begin_round(ring)
            await train(ring)
            await hostile.close()
            await ring.close()
    check_accounts(ring)
    assert "shape" in ring.refused(0)
