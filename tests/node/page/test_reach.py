"""Dialling because somebody asks."""

import asyncio

import pytest
import run_world

from skerry.node.page.guard import Refusal
from skerry.node.page.reach import Reach
from skerry.protocol.ids import PeerId


@pytest.fixture
async def world(tmp_path):
    async with run_world.World(tmp_path) as world:
        yield world


async def test_peer_that_answers_is_reachable(world) -> None:
    one, two = await world.member(1), await world.member(2)
    one.knows(two)
    two.knows(one)
    two.session.context.state.rounds.members.clear()
    deciding = asyncio.create_task(two.decide())
    answer = await Reach().answer(one.session, two.peer_id, "direct")
    deciding.cancel()
    await asyncio.wait([deciding])
    assert (answer.reachable, answer.code, answer.link) == (True, None, "direct")
    assert answer.took_ms > 0


async def test_peer_that_is_gone_is_not(world) -> None:
    one, two = await world.member(1), await world.member(2)
    one.knows(two)
    await two.context.transport.close()
    answer = await Reach().answer(one.session, two.peer_id, "direct")
    assert (answer.reachable, answer.code, answer.link) == (False, "SK-NET-003", "unknown")
    assert answer.detail


async def test_same_peer_is_not_dialled_again_at_once(world) -> None:
    one, two = await world.member(1), await world.member(2)
    one.knows(two)
    await two.context.transport.close()
    reach = Reach()
    await reach.answer(one.session, two.peer_id, "unknown")
    with pytest.raises(Refusal) as refused:
        await reach.answer(one.session, two.peer_id, "unknown")
    assert refused.value.problem.status == 429


@pytest.mark.parametrize("name", ["12D3KooWstranger", "", "../../etc/passwd"])
async def test_strangers_are_never_dialled(world, name) -> None:
    one = await world.member(1)
    with pytest.raises(Refusal) as refused:
        await Reach().answer(one.session, PeerId(name), "unknown")
    assert refused.value.problem.status == 404


async def test_this_node_does_not_dial_itself(world) -> None:
    one = await world.member(1)
    one.knows(one)
    with pytest.raises(Refusal):
        await Reach().answer(one.session, one.peer_id, "unknown")
