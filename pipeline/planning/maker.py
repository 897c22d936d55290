"""Making a plan for the peers of a run, in a process of its own: JSON in, the plan's bytes out.

Started by the node as ``python -m skerry.pipeline.planning.maker`` when the roster changes. The
planner searches for seconds and compiles its simulator, which the node's event loop must not feel.
"""

import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf
from statistics import median_high, median_low
from typing import NamedTuple

from skerry.pipeline.capacity import needed_bytes
from skerry.pipeline.planning.draft import needed_bytes as host_bytes
from skerry.pipeline.planning.plan import Blocks, Hop, Member, Path, Plan, Ring, Shadow
from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.replan import replan
from skerry.pipeline.planning.request import MeasuredLink, Request
from skerry.pipeline.planning.ring_plan import ring_plan
from skerry.pipeline.planning.swarm_file import (
    BACKWARD_PER_FORWARD,
    LinkEntry,
    PeerEntry,
    PlanSection,
    SiteLink,
    SwarmFile,
)
from skerry.pipeline.planning.swarm_file import problem_of as problem_of_file
from skerry.protocol.errors import ConfigError
from skerry.protocol.fields import FASTEST, SLOWEST
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest, parse_canonical
from skerry.protocol.messages import Offer, RoleOffer
from skerry.protocol.rings import plan as wire
from skerry.protocol.rings.codec import decode_plan, encode_plan
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.slowness import SPREAD

_EVALUATIONS = 1000
"""Moves to try: a swarm waits for this plan, and another one follows when it changes."""
_LEAST_SHARE = 1e-4
"""Of a bare block's speed in a ring: of tiny blocks hundredths are left."""
_USUAL_TFLOPS = 1.0
_USUAL_LINK = LinkEntry(latency=0.05, bandwidth=12.5e6)
"""Of peers and links that nobody has measured: all alike, so that none is preferred."""


def plan_of(request: Request) -> wire.Plan | None:
    """Return who hosts what; None if no ring can be made.

    A peer that offers to be a replica is one, and those that the plan does not name are. Who has
    room for the whole model helps out only where the others cannot hold it: beside it they would
    be idle, since a ring of theirs is the slower one.
    """
    manifest = parse_canonical(request.manifest.encode())
    enough = needed_bytes(manifest)
    able = [c for c in request.candidates if c.offer.role != RoleOffer.REPLICA]
    partial = [c for c in able if not c.offer.is_whole(enough)]
    groups = [partial, able] if len(partial) < len(able) else [able]
    found = (_plan_for(manifest, group, enough, request) for group in groups)
    return next((plan for plan in found if plan is not None), None)


def _plan_for(
    manifest: Manifest, able: list[Candidate], enough: int, request: Request
) -> wire.Plan | None:
    """Return who of ``able`` hosts what; None if they make no ring."""
    running = decode_plan(bytes.fromhex(request.running)) if request.running else None
    try:
        problem = _problem(manifest, able, enough, request)
        plan = _search(problem, running)
    except ConfigError:  # those who are here cannot hold the model
        return None
    rings = tuple(ring for ring in plan.rings if not ring.is_replica)
    placed = {member.peer for ring in plan.rings for member in ring.members}
    idle = (c for c in able if c.peer not in placed and not c.offer.is_whole(enough))
    spares = tuple(sorted(c.peer for c in idle))
    rates = {peer.name: peer.forward for peer in problem.peers}
    there = {member.peer for ring in rings for member in ring.members} | set(spares)
    shadows = tuple(x for x in plan.shadows if {x.source, x.holder} <= there)
    found = replace(plan, rings=rings, spares=spares, shadows=shadows)
    return ring_plan(found, manifest, rates) if rings else None


def _search(problem: Problem, running: wire.Plan | None) -> Plan:
    budget = Budget(evaluations=_EVALUATIONS)
    if running is None:
        return make_plan(problem, budget)
    return replan(_known(running), problem, budget)


def _problem(
    manifest: Manifest,
    candidates: list[Candidate],
    enough: int,
    request: Request,
) -> Problem:
    if not candidates:
        raise ConfigError("SK-PLN-001", "nobody offers to host a part")
    links = _links(request.links, {candidate.peer for candidate in candidates})
    linked = {end for link in links for end in (link.a, link.b)}
    lines = _lines(request.links)
    peers = tuple(
        entry.model_copy(
            update={
                "site": entry.name if entry.name in linked else "",
                "domain": request.domains.get(PeerId(entry.name), ""),
                "upload": lines.get(entry.name, inf),
                "download": lines.get(entry.name, inf),
            }
        )
        for entry in _entries(candidates)
    )
    ring = manifest.ring
    section = PlanSection(slots=ring.slots, skip_ratio=ring.skip_ratio, swap_ratio=ring.swap_ratio)
    if not manifest.recovery.shadow_every:
        section = section.model_copy(update={"shadow_below": 0})
    file = SwarmFile(plan=section, peers=peers, links=links, default_link=_USUAL_LINK)
    problem = problem_of_file(file, manifest)
    # Who is to host a part has no room for the whole model, as the planner counts it.
    most = host_bytes(problem, problem.model.blocks, is_origin=True) - 1
    partial = {c.peer for c in candidates if not c.offer.is_whole(enough)}
    capped = (
        replace(peer, memory=min(peer.memory, most)) if peer.name in partial else peer
        for peer in problem.peers
    )
    return replace(problem, peers=tuple(capped))


def _lines(measured: Sequence[MeasuredLink]) -> dict[str, float]:
    """Return what each peer's line carries: as much as its fastest link, where all are measured."""
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for link in measured:
        rates[link.a].append(link.bandwidth)
        rates[link.b].append(link.bandwidth)
    return {peer: max(found) for peer, found in rates.items() if all(found)}


def _links(measured: Sequence[MeasuredLink], peers: Collection[PeerId]) -> tuple[SiteLink, ...]:
    """Return the links between those who are planned for; each peer is a site of its own."""
    return tuple(
        SiteLink(
            a=link.a,
            b=link.b,
            latency=link.latency_s,
            bandwidth=link.bandwidth or _USUAL_LINK.bandwidth,
        )
        for link in measured
        if {link.a, link.b} <= set(peers)
    )


def _entries(candidates: list[Candidate]) -> tuple[PeerEntry, ...]:
    """Return what is counted on; one that nobody has measured is like the middle one.

    Of two in the middle the faster: else nobody who stands by would ever be tried.
    """
    share = _share_in_rings(candidates)
    speeds = {c.peer: speed for c in candidates if (speed := _speed(c, share)) is not None}
    usual = median_high(speeds.values()) if speeds else None
    return tuple(_entry(c.peer, c.offer, speeds.get(c.peer, usual), usual) for c in candidates)


class _Speed(NamedTuple):
    """Text tokens per second through one block; the faster of two is the greater."""

    forward: float
    backward: float

    def within(self, usual: "_Speed") -> "_Speed":
        """Return what of it is believed: what a peer says of itself may be a lie."""
        pairs = zip(self, usual, strict=True)
        return _Speed(*(_clipped(x, middle / SPREAD, middle * SPREAD) for x, middle in pairs))


def _share_in_rings(candidates: Collection[Candidate]) -> float:
    """Return what of a bare block's speed is left in a ring, by those of whom both are known."""
    shares = [c.rate / c.offer.forward for c in candidates if c.rate and c.offer.forward]
    return _clipped(median_low(shares), _LEAST_SHARE, 1.0) if shares else 1.0


def _clipped(value: float, low: float, high: float) -> float:
    low, high = max(low, SLOWEST), min(high, FASTEST)
    return min(max(value, low), high)


def _speed(candidate: Candidate, share: float) -> _Speed | None:
    """Return what was measured: in a ring, else of a bare block, of which ``share`` is left."""
    if candidate.rate:
        return _Speed(candidate.rate, candidate.rate / BACKWARD_PER_FORWARD)
    forward = candidate.offer.forward * share
    if not forward:
        return None
    return _Speed(forward, candidate.offer.backward * share or forward / BACKWARD_PER_FORWARD)


def _entry(peer: PeerId, offer: Offer, speed: _Speed | None, usual: _Speed | None) -> PeerEntry:
    memory = max(1, offer.memory)
    if speed is None or usual is None:
        return PeerEntry(name=peer, memory=memory, tflops=_USUAL_TFLOPS)
    forward, backward = speed.within(usual)
    return PeerEntry(name=peer, memory=memory, forward=forward, backward=backward)


def _known(running: wire.Plan) -> Plan:
    """Return a plan that travelled as the planner's own, as far as a change begins from it."""
    stages: list[Blocks] = []
    for stage in running.stages:
        start = stages[-1].stop if stages else 0
        stages.append(Blocks(start, start + sum("." in shard for shard in stage.shards)))
    return Plan(
        version=running.version,
        stages=tuple(stages),
        rings=tuple(_known_ring(ring) for ring in running.rings),
        spares=running.spares,
        shadows=tuple(Shadow(one.stage, one.source, one.holder) for one in running.shadows),
        microbatch_tokens=running.microbatch_tokens,
    )


def _known_ring(ring: wire.Ring) -> Ring:
    names = [member.peer for member in ring.members]
    return Ring(
        members=tuple(Member(member.peer, member.stages) for member in ring.members),
        paths=tuple(
            Path(tuple(Hop(names[hop.member], hop.stages) for hop in path.hops), path.quota)
            for path in ring.paths
        ),
        in_flight=ring.in_flight,
        step_s=0.0,
    )


def main() -> int:
    """Answer one request from standard input."""
    plan = plan_of(Request.from_json(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(b"" if plan is None else encode_plan(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
