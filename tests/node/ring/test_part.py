"""A node's part in a ring: rounds of real stages over streams in memory, on virtual time."""

import asyncio
from collections.abc import Awaitable

import pytest
from ring_swarm import new_peer, uncounted
from stage_ring import BATCH, PARENT, StageRing, ring_test

from skerry.node.ring.part import RingPart
from skerry.pipeline.engine import Engine
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Begin, Evaluate, Progress, Train
from skerry.protocol.errors import ComputeError, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.memory import VirtualNetwork
from skerry.protocol.rings import actions as act
from skerry.protocol.rings.frames import StageAge

TOKENS = BATCH * 32
ALL = tuple(range(BATCH // 2))


def replica_of(ring: StageRing, folder) -> Engine:
    """A full replica of the ring's run, at the parameters of the seed."""
    engine = Engine(ring.manifest, BlobStore(folder / "blobs"), folder, PeerId("12D3KooWwhole"))
    engine.begin(Begin(request=1, shards=None))
    return engine


def losses_of(engine: Engine, steps: int) -> list[float]:
    """Train a full replica on the batches 0, 1, ... of the run."""
    losses: list[float] = []

    def note(progress: Progress) -> bool:
        losses.append(progress.loss)
        return True

    train = Train(request=2, round=1, parent=PARENT, cursor=0, slot=0, num_slots=1, steps=steps)
    engine.train(train, note)
    return losses


def test_a_round_is_that_of_a_full_replica_and_every_member_has_its_contribution(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        whole = replica_of(ring, tmp_path)
        await ring.begin_round()
        expected = whole.evaluate(Evaluate(request=3)).loss
        assert await ring.origin.evaluate() == pytest.approx(expected, rel=1e-5)
        losses = losses_of(whole, 3)
        for index in range(3):
            done = await ring.origin.train(index, batch=index)
            assert (done.at, done.trained, done.text_tokens) == ((1, index + 1), ALL, TOKENS)
            assert done.loss == pytest.approx(losses[index], rel=1e-5)
        for member in range(3):
            await ring.stepped(member, (1, 3))
            ring.parts[member].end_round()
            encoded = await ring.computes[member].encode(PARENT)
            assert encoded.round_tokens == 3 * TOKENS
            assert encoded.loss == pytest.approx(sum(losses) / 3, rel=1e-4) or member
            assert [s.shard for s in encoded.shards] == list(ring.plan.stages[member].shards)

    ring = ring_test(tmp_path, scenario)
    for member, stage in enumerate(range(3)):
        assert ring.text_tokens(member) == [{stage: TOKENS}] * 3
        assert not ring.parts[member].refused
    told = [n for n in ring.news[0] if isinstance(n, act.MemberStepped)]
    assert {(n.peer, n.at) for n in told} >= {(t.peer_id, (1, 1)) for t in ring.transports}


def test_an_interpolated_stage_is_passed_over_by_half_at_first_and_then_visited_by_all(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        whole = replica_of(ring, tmp_path)
        await ring.parts[1].train_in((StageAge(1, 0),))
        await ring.begin_round()
        expected = whole.evaluate(Evaluate(request=3)).loss
        assert await ring.origin.evaluate() == pytest.approx(expected, rel=1e-5)
        for index in range(5):
            done = await ring.origin.train(index, batch=index)
            assert (done.trained, done.text_tokens, done.redone) == (ALL, TOKENS, 0)
        for member in range(3):
            await ring.stepped(member, (1, 5))
        assert dict(ring.parts[1].rebuilt) == {1: 5}

    ring = ring_test(tmp_path, scenario)
    visiting = [2, 2, 3, 4, 4]  # of 4 microbatches
    assert ring.text_tokens(1) == [{1: TOKENS * visits // 4} for visits in visiting]
    for member in (0, 2):
        assert ring.text_tokens(member) == [{member: TOKENS}] * 5
        assert not ring.parts[member].refused
    first, last = (n.text for n in ring.news[0] if isinstance(n, act.Note))
    assert "trains stage 1 back in: 50 % of the microbatches pass over it" in first
    assert last == "stage 1 is back: all microbatches visit it again"


def test_a_node_without_a_place_in_the_plan_has_no_part(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        stranger = network.transport(new_peer())
        with pytest.raises(ValueError, match="in no ring"):
            RingPart(stranger, ring.manifest, ring.plan, ring.computes[0].ask, print, uncounted)
        await stranger.close()

    ring_test(tmp_path, scenario)


def test_the_validation_loss_is_measured_before_the_first_step_only(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        await ring.origin.train(0, batch=0)
        with pytest.raises(ValueError, match="not after"):
            await ring.origin.evaluate()

    ring_test(tmp_path, scenario)


def test_rounds_follow_each_other_and_do_not_come_back(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        for number in (1, 2):
            await ring.begin_round(number)
            assert (await ring.origin.train(0, batch=number)).at == (number, 1)
            for member, part in enumerate(ring.parts):
                await ring.stepped(member, (number, 1))
                part.end_round()
                ring.computes[member].stages.forget_training()
        for part in ring.parts:
            with pytest.raises(ProtocolError, match="round 1 is over"):
                await part.begin_round(1, PARENT)

    ring_test(tmp_path, scenario)


def test_a_member_that_is_late_for_the_round_is_waited_for(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round(1)
        await ring.origin.train(0, batch=0)
        for member, part in enumerate(ring.parts):
            await ring.stepped(member, (1, 1))
            part.end_round()
            ring.computes[member].stages.forget_training()
        await ring.parts[0].begin_round(2, PARENT)
        await ring.parts[2].begin_round(2, PARENT)
        async with asyncio.TaskGroup() as group:
            step = group.create_task(ring.origin.train(0, batch=1))
            await asyncio.sleep(20.0)
            assert not step.done()
            assert ring.origin.waiting_for == (ring.transports[1].peer_id,)
            await ring.parts[1].begin_round(2, PARENT)
        assert (step.result().at, step.result().trained) == ((2, 1), ALL)
        await ring.stepped(1, (2, 1))

    ring = ring_test(tmp_path, scenario)
    assert ring.text_tokens(1) == [{1: TOKENS}] * 2


def test_steps_go_on_counting_where_a_new_compute_process_begins_the_round_anew(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        assert (await ring.origin.train(0, batch=0)).at == (1, 1)
        ring.computes[0].start()
        await ring.origin.begin_round(1, PARENT)
        assert (await ring.origin.train(0, batch=0)).at == (1, 2)

    ring_test(tmp_path, scenario)


@pytest.mark.parametrize("member", [0, 1])
def test_while_a_compute_process_is_gone_the_ring_waits_and_then_goes_on(tmp_path, member):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        await ring.origin.train(0, batch=0)
        compute = ring.computes[member]
        compute.gone = True
        async with asyncio.TaskGroup() as group:
            step = group.create_task(ring.origin.train(1, batch=1))
            await asyncio.sleep(6.0)
            assert not step.done()
            compute.start()
            await ring.parts[member].begin_round(1, PARENT)
        assert (step.result().at, step.result().trained) == ((1, 2), ALL)
        assert (await ring.origin.train(2, batch=2)).trained == ALL
        await ring.stepped(member, (1, 3))

    ring = ring_test(tmp_path, scenario, bypass=0)
    assert ring.text_tokens(1)[-1] == {1: TOKENS}


def test_a_step_that_nobody_waits_for_any_more_is_cut_short_by_the_next(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        ring.computes[1].takes_s = 0.5
        step = asyncio.create_task(ring.origin.train(0, batch=0))
        await asyncio.sleep(0.7)
        step.cancel()
        await asyncio.wait([step])
        done = await ring.origin.train(1, batch=1)
        assert (done.at, done.trained) == ((1, 2), ALL)
        await ring.stepped(1, (1, 2))

    ring = ring_test(tmp_path, scenario, bypass=0)
    assert ring.text_tokens(1)[-1] == {1: TOKENS}


def test_all_members_are_told_which_step_is_the_round_s_last(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        for index in range(2):
            assert (await ring.origin.train(index, batch=index, last=index == 1)).trained == ALL
        for member, part in enumerate(ring.parts):
            await ring.stepped(member, (1, 2))
            assert part.ended
            ends = [n for n in ring.news[member] if isinstance(n, act.StepOver)]
            assert ends == [act.StepOver((1, 1)), act.StepOver((1, 2), last=True)]

    ring_test(tmp_path, scenario)


def test_a_step_can_be_ended_early_and_counts_what_has_a_loss(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        ring.computes[1].takes_s = 0.5
        async with asyncio.TaskGroup() as group:
            step = group.create_task(ring.origin.train(0, batch=0))
            await asyncio.sleep(1.6)  # three forward passes at member 1, the others still to come
            await ring.origin.cut()
        done = step.result()
        assert 0 < len(done.trained) < len(ALL)
        for member in range(3):
            await ring.stepped(member, (1, 1))
            assert ring.text_tokens(member) == [{member: done.text_tokens}]

    ring_test(tmp_path, scenario, bypass=0)


def test_a_step_given_up_by_force_trains_nothing(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        network.crash(ring.transports[1].peer_id)
        await ring.parts[1].close()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(ring.origin.train(0, batch=0))
            await asyncio.sleep(8.0)
            assert ring.origin.waiting_for == ("a host of stage 1",)
            await ring.origin.cut(force=True)
        assert (step.result().trained, step.result().text_tokens) == ((), 0)
        assert (await ring.computes[2].encode(PARENT)).shards == ()

    ring_test(tmp_path, scenario, bypass=0)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_who_waits_when_the_part_is_closed_is_told(tmp_path, name):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        ring.computes[1].takes_s = 1.0
        work = ring.origin.train(0, batch=0) if name == "train" else ring.origin.evaluate()
        step = asyncio.create_task(work)
        await asyncio.sleep(0.5)
        await ring.origin.close()
        with pytest.raises(ProtocolError, match="closed"):
            await step

    ring_test(tmp_path, scenario, bypass=0)


def test_a_measurement_that_is_cut_short_is_no_measurement(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        ring.computes[1].takes_s = 1.0
        async with asyncio.TaskGroup() as group:
            step = group.create_task(expect_cut(ring.origin.evaluate()))
            await asyncio.sleep(0.5)
            await ring.origin.cut()
        assert step.done()

    async def expect_cut(measurement: Awaitable[float]) -> None:
        with pytest.raises(ComputeError, match="cut short"):
            await measurement

    ring_test(tmp_path, scenario, bypass=0)


def test_a_member_given_up_is_passed_over_at_once_and_takes_part_when_it_is_back(tmp_path):
    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        await ring.begin_round()
        for part in (ring.parts[0], ring.parts[2]):
            part.lost(ring.transports[1].peer_id)
        assert (await ring.origin.train(0, batch=0)).trained == ALL
        await ring.stepped(2, (1, 1))
        assert not ring.text_tokens(1)
        for index in range(1, 40):
            assert (await ring.origin.train(index, batch=index)).trained == ALL
            await ring.stepped(2, (1, index + 1))
            if ring.text_tokens(1):
                break
            await asyncio.sleep(1.0)

    ring = ring_test(tmp_path, scenario)
    assert ring.text_tokens(1) == [{1: TOKENS}]
    assert set(map(str, ring.text_tokens(2))) == {str({2: TOKENS})}
