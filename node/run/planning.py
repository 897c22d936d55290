"""Having a plan made for those who are here, in a process that ends when it has one."""

from skerry.node.net.multiaddrs import network_of
from skerry.node.run.asking import answer_of
from skerry.node.run.context import RunContext
from skerry.node.run.links import agreed
from skerry.pipeline.planning.request import MeasuredLink, Request
from skerry.protocol.errors import SkerryError
from skerry.protocol.ids import PeerId
from skerry.protocol.rings.codec import decode_plan, encode_plan
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.events import Planned
from skerry.recovery.unplaced import texts_without_plan

_SECONDS = 300.0
"""The first search on a machine compiles the simulator."""


async def plan_for(
    context: RunContext, candidates: tuple[Candidate, ...], first: bool = False
) -> None:
    """Have a plan made; it comes back as an event. Without one the swarm goes on as it is.

    Args:
        first: none was missing before, so that what was said then no longer holds.
    """
    if first:
        context.facts.unplaced = ()
    try:
        plan = await make_plan(context, candidates)
    except SkerryError as error:
        context.journal.write("warning", text=f"no plan could be made: {error}")
        plan = None
    else:
        _tell_unplaced(context, candidates, plan)
    context.post(Planned(candidates, plan))


def _tell_unplaced(
    context: RunContext, candidates: tuple[Candidate, ...], plan: Plan | None
) -> None:
    """Say what waits for a joiner if there is no plan; once for as long as that is so."""
    rounds, bypass = context.state.rounds, context.manifest.ring.bypass
    enough = rounds.rules.chain.replica_bytes
    texts = () if plan else texts_without_plan(rounds.hosts, candidates, enough, bypass)
    for text in texts:
        if text not in context.facts.unplaced:
            context.journal.write("warning", text=text)
    context.facts.unplaced = texts


async def make_plan(context: RunContext, candidates: tuple[Candidate, ...]) -> Plan | None:
    """Return who should host what; None if those who are here can make no ring.

    Raises: ComputeError("SK-CMP-001") if the planner ends without an answer, ProtocolError if that
    is no plan.
    """
    running = context.state.rounds.hosts.plan
    peers = [candidate.peer for candidate in candidates]
    links = measured_links(context, peers)
    context.journal.write("note", text=_planning(len(candidates), len(links)))
    request = Request(
        manifest=context.manifest.canonical().decode(),
        candidates=candidates,
        running=encode_plan(running).hex() if running else "",
        links=links,
        domains=_domains(context, peers),
    )
    found = await answer_of("skerry.pipeline.planning.maker", request.to_json(), _SECONDS)
    return decode_plan(found) if found else None


def measured_links(context: RunContext, peers: list[PeerId]) -> tuple[MeasuredLink, ...]:
    """Return what both ends have measured of the links between these peers."""
    links = context.facts.links
    return agreed({**links.told, context.me: links.figures(peers)}, peers)


def _domains(context: RunContext, peers: list[PeerId]) -> dict[PeerId, str]:
    """Return the public networks of those that have one: who shares a line is lost together."""
    members = context.state.rounds.members
    networks = {p: network_of(members[p].message.addresses) for p in peers if p in members}
    return {peer: network for peer, network in networks.items() if network}


def _planning(peers: int, links: int) -> str:
    pairs = peers * (peers - 1) // 2
    return f"planning for {peers} peers; {links} of the {pairs} links between them are measured"
