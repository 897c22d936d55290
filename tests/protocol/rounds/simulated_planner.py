"""A planner without a cost model: rings of three or two of those who host a part."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from simulated_compute import SHARDS

from skerry.protocol.ids import PeerId
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring, Shadow, Stage
from skerry.protocol.rounds import actions as act

STAGES = ((SHARDS[0], SHARDS[-1]), *((shard,) for shard in SHARDS[1:-1]))
PARTS = {3: ((0,), (1,), (2,)), 2: ((0, 1), (2,))}


USUAL_RATE = 100.0
"""Text tokens per second through one block of who was not measured."""


def ring(peers: list[PeerId], rates: Mapping[PeerId, float] = MappingProxyType({})) -> Ring:
    """Return a ring of two or three that counts on these speeds."""
    parts = zip(peers, PARTS[len(peers)], strict=True)
    members = tuple(Member(p, part, 2, rates.get(p) or USUAL_RATE) for p, part in parts)
    hops = tuple(Hop(i, member.stages) for i, member in enumerate(members))
    return Ring(members, (Path(hops, 1),), 1)


def plan_of(
    rings: list[list[PeerId]],
    spares: list[PeerId],
    version: int = 0,
    rates: Mapping[PeerId, float] = MappingProxyType({}),
) -> Plan:
    """Return a plan; peers that it does not name host the whole model."""
    stages = tuple(Stage(shards) for shards in STAGES)
    found = tuple(ring(peers, rates) for peers in rings)
    return Plan(version, 10, stages, found, tuple(sorted(spares)))


def plan_for(asked: act.MakePlan, world: Any) -> Plan | None:
    """Put those who cannot host the model into rings."""
    enough = world.rules.chain.replica_bytes
    small = [c for c in asked.candidates if not c.offer.is_whole(enough)]
    left = [c.peer for c in sorted(small, key=lambda c: -(c.rate or USUAL_RATE))]
    able = [c.peer for c in asked.candidates if c.offer.is_whole(enough)]
    if len(left) == 1 and len(able) > 2:  # one that could do without helps out
        left.append(next(p for p in reversed(able) if p != world.rules.chain.owner))
    rings: list[list[PeerId]] = []
    while len(left) > 1:
        size = 3 if len(left) in (3, 5) or len(left) > 5 else 2
        rings.append(left[:size])
        left = left[size:]
    rates = {candidate.peer: candidate.rate for candidate in asked.candidates}
    plan = plan_of(rings, left, rates=rates) if rings else None
    if plan is None or not world.shadows:
        return plan
    copied = (Shadow(0, peers[0], peers[-1]) for peers in rings)
    return replace(plan, shadows=tuple(copied))
