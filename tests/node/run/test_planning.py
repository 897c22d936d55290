"""Having a plan made: by a process of its own, while the node goes on."""

import asyncio
import json
from dataclasses import replace

import run_world
from tiny_run import tiny_run_file

from skerry.node.run.context import RunContext
from skerry.node.run.peers import Peers
from skerry.node.run.planning import measured_links, plan_for
from skerry.pipeline.planning.request import MeasuredLink
from skerry.protocol.codec import open_envelope
from skerry.protocol.ids import short
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import Heartbeat, LinkFigures, Offer, RoleOffer
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


async def test_what_both_ends_have_measured_of_a_link_is_planned_with(member) -> None:
    context = (await member()).context
    me, links = context.me, context.facts.links
    links.answered(PEERS[0], 0.03)
    links.answered(PEERS[1], 0.03)
    assert measured_links(context, [me, *PEERS]) == ()
    beat = replace(a_beat(context), links=(LinkFigures(me, 50_000, 0),))
    context.saw(PEERS[0], beat)
    context.saw(PEERS[0], a_beat(context))  # of links it says nothing now
    a, b = sorted((me, PEERS[0]))
    assert measured_links(context, [me, *PEERS]) == (MeasuredLink(a, b, 0.025, 0.0),)
    assert measured_links(context, PEERS) == ()
    await plan_for(context, (Candidate(me, Offer()), Candidate(PEERS[0], Offer())))
    [line] = [json.loads(line) for line in context.journal.last(10)]
    assert line["text"] == "planning for 2 peers; 1 of the 1 links between them are measured"


def a_beat(context: RunContext) -> Heartbeat:
    return open_envelope(Peers(context).heartbeat()).message


async def test_who_has_nobody_to_share_the_model_with_is_named_once(member) -> None:
    context = (await member()).context
    alone = (Candidate(PEERS[0], Offer(RoleOffer.STAGE, 1)),)
    text = (
        f"{short(PEERS[0])} waits for a joiner to share the model with: "
        "those who offer to host a part have no room for all of it"
    )

    async def warned(candidates: tuple[Candidate, ...], first: bool = False) -> list[str]:
        before = len(context.journal.last(100))
        await plan_for(context, candidates, first)
        lines = [json.loads(line) for line in context.journal.last(100)[before:]]
        return [line["text"] for line in lines if line["event"] == "warning"]

    assert await warned(alone) == [text]
    assert await warned(alone) == []
    assert await warned((Candidate(PEERS[0], Offer()),)) == []
    assert await warned(alone) == [text], "it had a place meanwhile"
    assert await warned(alone) == []
    assert await warned(alone, first=True) == [text], "as far as this peer has seen it had one"


async def test_where_nobody_offers_a_stage_there_is_no_plan(member) -> None:
    context = (await member()).context
    candidates = (Candidate(PEERS[0], Offer()),)
    await plan_for(context, candidates)
    assert context.events.get_nowait() == Planned(candidates, None)
