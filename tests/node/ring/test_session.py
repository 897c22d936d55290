"""Rings of real sessions over streams in memory, on virtual time, and once over real p2pd."""

import asyncio
from collections.abc import Awaitable, Callable

import p2pd_swarm
import pytest
from ring_swarm import RUN, TOKENS, Swarm, new_peer

from skerry.node.ring.mesh import GREETING
from skerry.protocol.memory import Limits, Link, MemoryTransport, VirtualNetwork
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.frames import RING_PROTOCOL
from skerry.protocol.rings.lanes import Outbox
from skerry.protocol.rings.state import Rules
from skerry.protocol.rings.tasks import Kind, Task
from skerry.protocol.transport import ByteStream
from skerry.protocol.virtual_time import run_virtual

THREE = [(0,), (1,), (2,)]
SPARE_HOST = [*THREE, (1,)]
SLOW = Link(delay_s=0.05, bytes_per_s=2_500_000)
IMPATIENT = Rules(RUN, hop_min_s=0.5, hop_max_s=1.0, attempt_min_s=2.0, attempt_max_s=5.0)


def ring_test(
    scenario: Callable[[VirtualNetwork, Swarm], Awaitable[None]],
    hosted: list[tuple[int, ...]],
    *,
    link: Link = SLOW,
    **options: object,
) -> Swarm:
    """Run a ring on virtual time, then ``scenario`` on it."""
    made: list[Swarm] = []

    async def main() -> None:
        network = VirtualNetwork(seed=1, link=link, limits=Limits(connect_s=2.0, stall_s=3.0))
        peers = sorted(new_peer() for _ in hosted)
        transports: list[MemoryTransport] = [network.transport(peer) for peer in peers]
        swarm = Swarm(list(transports), hosted, **options)  # type: ignore[arg-type]
        made.append(swarm)
        await swarm.start()
        try:
            await scenario(network, swarm)
        finally:
            await swarm.close()
            for transport in transports:
                await transport.close()

    run_virtual(main())
    return made[0]


def test_every_stage_steps_with_every_microbatch():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        for number in range(3):
            done = await swarm.step(number, 6)
            assert (done.trained, done.text_tokens, done.loss) == (tuple(range(6)), 60, 2.0)
            assert (done.redone, done.reason) == (0, "")
        await asyncio.sleep(1.0)

    swarm = ring_test(scenario, THREE)
    for index in (1, 2):
        steps = swarm.engines[index].steps
        assert [work.at for work in steps] == [(1, 0), (1, 1), (1, 2)]
        assert all(work.visits[0].text_tokens == 6 * TOKENS for work in steps)
    assert not any(session.refused for session in swarm.sessions)
    assert not any(engine.kept for engine in swarm.engines)


def test_members_meet_before_they_begin_and_wait_once_for_who_never_comes():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        clock = asyncio.get_running_loop().time
        for session in swarm.sessions:
            await session.meet(60.0)
        assert clock() < 60.0
        transports = [network.transport(peer) for peer in sorted(new_peer() for _ in THREE)]
        alone = Swarm(list(transports), THREE)
        where = {transport.peer_id: transport.addresses for transport in transports}
        session, began = alone.sessions[0], clock()
        await session.start(where.__getitem__)
        for _ in range(3):
            await session.meet(7.0)
        assert clock() - began == pytest.approx(7.0)
        await session.close()
        for transport in transports:
            await transport.close()

    ring_test(scenario, THREE)


def test_a_microbatch_is_uploaded_while_the_next_is_computed():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 4)
        await swarm.step(1, 4)

    # Every upload takes 0.1 s of the link, every computation 0.1 s of the processor.
    swarm = ring_test(
        scenario, THREE, size=100_000, forward_s=0.1, link=Link(bytes_per_s=1_000_000)
    )
    forward = [
        (time, work.place.microbatch)
        for time, work in swarm.engines[0].began
        if isinstance(work, Task) and work.kind is Kind.FORWARD and work.at == (1, 1)
    ]
    assert forward[1][0] - forward[0][0] < 0.15  # it did not wait for the upload


@pytest.mark.parametrize("moment", [0.2, 0.6, 1.0, 1.4])
def test_a_body_peer_that_is_killed_is_routed_around(moment: float):
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 4)
        async with asyncio.TaskGroup() as group:
            step = group.create_task(swarm.step(1, 8))
            await asyncio.sleep(moment)
            network.crash(swarm.transports[1].peer_id)
            await swarm.sessions[1].close()
        assert step.result().trained == tuple(range(8))
        assert (await swarm.step(2, 4)).trained == tuple(range(4))
        await asyncio.sleep(1.0)

    swarm = ring_test(scenario, SPARE_HOST, forward_s=0.1)
    assert [work.at for work in swarm.engines[2].steps] == [(1, 0), (1, 1), (1, 2)]
    assert {1, 2} <= {work.at[1] for work in swarm.engines[3].steps}


def test_a_body_peer_whose_machine_dies_silently_is_routed_around_before_its_stream_ends():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 4)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(swarm.step(1, 4))
            await asyncio.sleep(0.3)
            network.crash(swarm.transports[1].peer_id, power=True)
            await swarm.sessions[1].close()
        assert step.result().trained == tuple(range(4))
        assert loop.time() - began < network.limits.stall_s

    ring_test(scenario, SPARE_HOST, forward_s=0.05, rules=IMPATIENT)


def test_a_neighbour_that_reads_nothing_stops_only_itself():
    """It opens its streams and then never reads: a stopped process, a full pipe."""

    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 2)
        stuck = swarm.transports[1]
        await swarm.sessions[1].close()
        streams: list[ByteStream] = []

        async def swallow(stream: ByteStream) -> None:
            streams.append(stream)
            await stream.write(GREETING)
            await asyncio.Event().wait()

        await stuck.handle(RING_PROTOCOL, swallow)
        for other in swarm.transports[2:]:
            await stuck.connect(other.peer_id, other.addresses)
            streams.append(await stuck.open_stream(other.peer_id, RING_PROTOCOL))
            await streams[-1].write(GREETING)
        await asyncio.sleep(0.5)
        done = await swarm.step(1, 6)
        assert done.trained == tuple(range(6))
        assert (await swarm.step(2, 6)).trained == tuple(range(6))

    ring_test(scenario, SPARE_HOST, rules=IMPATIENT, size=200_000)


def test_frames_of_the_wrong_shape_are_named_and_the_ring_goes_on():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 2)
        loose = Swarm(swarm.transports, THREE, size=999)  # as a peer with another model would
        outbox = Outbox(loose.seat.mesh.limits)
        fence = fr.Fence(RUN, 1, 0, 1, 1)
        body = fr.Activation(swarm.seat.plan.rings[0].paths[0].hops, TOKENS, fr.Pace())
        outbox.put(fr.Frame(fence, fr.Place(0, 1, 2), body), bytes(999))
        chunk = outbox.next_chunk(0.0)
        stream = await swarm.transports[1].open_stream(swarm.transports[2].peer_id, RING_PROTOCOL)
        assert chunk is not None
        await stream.write(GREETING + chunk.data)
        while await stream.read(1000):
            pass
        assert (await swarm.step(1, 4)).trained == tuple(range(4))
        assert "shape" in swarm.refused(2)

    ring_test(scenario, THREE)


@pytest.mark.parametrize(("greeting", "reason"), [(GREETING, "lane"), (b"", "greeting")])
def test_garbage_is_named_and_the_ring_goes_on(greeting: bytes, reason: str):
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 2)
        stream = await swarm.transports[1].open_stream(swarm.transports[2].peer_id, RING_PROTOCOL)
        await stream.write(greeting + b"\xff" * 100)
        while await stream.read(1000):
            pass
        assert (await swarm.step(1, 4)).trained == tuple(range(4))
        assert reason in swarm.refused(2)

    ring_test(scenario, THREE)


def test_a_member_whose_transport_takes_streams_and_that_says_nothing_is_not_there():
    """As one whose process is stopped: no microbatch is given to it, and none waits for it."""

    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 2)
        stopped = swarm.transports[1]
        await swarm.sessions[1].close()
        streams: list[ByteStream] = []

        async def take(stream: ByteStream) -> None:
            streams.append(stream)
            await asyncio.Event().wait()

        await stopped.handle(RING_PROTOCOL, take)
        for other in swarm.transports[2:]:
            await stopped.connect(other.peer_id, other.addresses)
            streams.append(await stopped.open_stream(other.peer_id, RING_PROTOCOL))
        await asyncio.sleep(5.0)  # of virtual time: it has a stream to everyone again
        assert len(streams) == len(swarm.transports) - 1
        done = await swarm.step(1, 6)
        assert (done.trained, done.redone) == (tuple(range(6)), 0)

    ring_test(scenario, SPARE_HOST, rules=IMPATIENT)


def test_an_activation_that_does_not_decode_is_begun_anew():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        swarm.engines[1].wrong_output = 1
        done = await swarm.step(0, 4)
        assert done.trained == tuple(range(4))
        assert done.redone >= 1

    ring_test(scenario, THREE)


def test_replayed_and_stale_frames_change_nothing():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        real = swarm.sessions[1]._mesh
        kept: list[tuple[object, fr.Frame, bytes]] = []
        send = real.send

        def twice(peer, frame, payload):
            send(peer, frame, payload)
            send(peer, frame, payload)
            kept.append((peer, frame, payload))

        real.send = twice
        assert (await swarm.step(0, 4)).trained == tuple(range(4))
        for peer, frame, payload in list(kept):  # once more, when the step is over
            send(peer, frame, payload)
        done = await swarm.step(1, 4)
        assert (done.trained, done.reason) == (tuple(range(4)), "")
        assert {"duplicate", "stale-step"} <= swarm.refused(2)

    swarm = ring_test(scenario, THREE)
    assert [work.at for work in swarm.engines[2].steps][:1] == [(1, 0)]


def test_strangers_and_frames_of_another_run_or_plan_are_refused():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 1)
        stranger = network.transport(new_peer())
        near = swarm.transports[2]
        await stranger.connect(near.peer_id, near.addresses)
        stream = await stranger.open_stream(near.peer_id, RING_PROTOCOL)
        assert await stream.read(1) == b""
        assert "not-expected" in swarm.refused(2)
        mesh = swarm.sessions[1]._mesh
        for fence, reason in [
            (fr.Fence(fr.RunId("ef" * 32), 1, 0, 1, 1), "wrong-run"),
            (fr.Fence(RUN, 0, 0, 1, 1), "stale-plan"),
            (fr.Fence(RUN, 2, 0, 1, 1), "unknown-plan"),
            (fr.Fence(RUN, 1, 1, 1, 1), "wrong-ring"),
            (fr.Fence(RUN, 1, 0, 0, 0), "stale-step"),
        ]:
            mesh.send(near.peer_id, fr.Frame(fence, fr.Place(0, 1, 1), fr.Grant()), b"")
            await asyncio.sleep(0.2)
            assert reason in swarm.refused(2)
        assert (await swarm.step(1, 2)).trained == (0, 1)
        await stranger.close()

    ring_test(scenario, THREE)


def test_streams_that_break_again_and_again_lose_no_microbatch():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        async def disturb() -> None:
            while True:
                await asyncio.sleep(2.0)
                for session in swarm.sessions[:2]:
                    session.lost(swarm.transports[2].peer_id)

        disturbing = asyncio.create_task(disturb())
        for number in range(3):
            done = await swarm.step(number, 6)
            assert (done.trained, done.reason) == (tuple(range(6)), "")
        disturbing.cancel()

    ring_test(scenario, THREE, forward_s=0.02, rules=IMPATIENT)


def test_a_lossy_link_only_takes_longer():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        assert (await swarm.step(0, 6)).trained == tuple(range(6))

    ring_test(scenario, THREE, link=Link(delay_s=0.02, jitter_s=0.02, loss=0.02))


def test_who_is_waited_for_can_be_said():
    async def scenario(network: VirtualNetwork, swarm: Swarm) -> None:
        await swarm.step(0, 1)
        network.crash(swarm.transports[1].peer_id)
        await swarm.sessions[1].close()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(swarm.step(1, 2))
            await asyncio.sleep(8.0)
            assert swarm.sessions[0].waiting_for == ("a host of stage 1",)
            await swarm.sessions[0].cut(force=True)
        assert step.result().trained == ()

    ring_test(scenario, THREE)


async def test_a_ring_trains_over_p2pd(tmp_path):
    async with p2pd_swarm.swarm(tmp_path, 3) as transports:
        swarm = Swarm(list(transports), THREE, size=300_000)
        await swarm.start()
        try:
            for number in range(2):
                async with asyncio.timeout(60.0):
                    done = await swarm.step(number, 6)
                assert (done.trained, done.reason) == (tuple(range(6)), "")
        finally:
            await swarm.close()
    assert [work.at for work in swarm.engines[1].steps][:1] == [(1, 0)]
