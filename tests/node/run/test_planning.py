"""Having a plan made: by a process of its own, while the node goes on."""

import asyncio

import run_world
from tiny_run import tiny_run_file

from skerry.node.run.planning import plan_for
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import Offer, RoleOffer
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.events import Planned

PEERS = sorted(run_world.signer_of(number).peer_id for number in (2, 3))


async def test_peers_that_offer_a_stage_get_a_ring_while_the_node_goes_on(world, member) -> None:
    context = (await member()).context
    text = tiny_run_file(world.folder / "text.txt", name="small", layers=2)
    context.manifest = parse_run_file(text, run_world.OWNER.peer_id)
    candidates = tuple(Candidate(peer, Offer(RoleOffer.STAGE, 2**30)) for peer in PEERS)
    making = asyncio.create_task(plan_for(context, candidates))
    turns = 0
    while not making.done():
        await asyncio.wait({making}, timeout=0.001)
        turns += 1
    await making
    assert turns > 10
    event = context.events.get_nowait()
    assert isinstance(event, Planned) and event.candidates == candidates
    assert event.plan is not None
    [ring] = event.plan.rings
    assert sorted(one.peer for one in ring.members) == PEERS


async def test_where_nobody_offers_a_stage_there_is_no_plan(member) -> None:
    context = (await member()).context
    candidates = (Candidate(PEERS[0], Offer()),)
    await plan_for(context, candidates)
    assert context.events.get_nowait() == Planned(candidates, None)
