"""The plan as it travels: who hosts which stage, and by which paths microbatches go. Plain data.

Stages count from 0 and are ranges of shards; stage 0 comes with the embedding, the head and the
loss. Members of a ring are named by their position in it; member 0 is the **origin**, where every
microbatch begins and ends. A member without a place on any path stands by for the stages it hosts.
A plan from another peer is only followed after ``check_plan``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId

ORIGIN = 0
MAX_STAGES = 512
MAX_RINGS = 256
MAX_MEMBERS = 256
MAX_HOPS = 128
MAX_PATHS = 256
MAX_SLOTS = 1024
EMBEDDING = MAX_STAGES
"""Stands for the embedding where stages are counted and the first hop computes no blocks."""
HEAD = MAX_STAGES + 1
"""Stands for head and loss where stages are counted."""
MAX_MICROBATCHES = 4096
MAX_ACCOUNTS = 2**15
"""Stages of a member times microbatches of a step."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A contiguous range of shards, computed together."""

    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """One peer of a ring."""

    peer: PeerId
    stages: tuple[int, ...]
    """Ascending."""
    slots: int
    """Microbatches it keeps at a time."""
    rate: float = 0.0
    """Text tokens per second through one block, forward, that the plan counts on; 0: not said."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One position of a path: which stages a member computes there, in this order.

    Without stages the origin's first hop only embeds; any other was passed over on the way.
    """

    member: int
    stages: tuple[int, ...]


Route = tuple[Hop, ...]
"""The positions of one microbatch, the origin first; after the last it is back at the origin."""


@dataclass(frozen=True, slots=True)
class Path:
    """A route, and how many microbatches of an inner step take it."""

    hops: Route
    quota: int


@dataclass(frozen=True, slots=True)
class Ring:
    """Peers that train one replica together."""

    members: tuple[Member, ...]
    paths: tuple[Path, ...]
    in_flight: int
    """Microbatches under way at a time, until that is measured."""

    @property
    def origin(self) -> PeerId:
        """The peer that hosts embedding, head and loss."""
        return self.members[ORIGIN].peer

    def member_of(self, peer: PeerId) -> int | None:
        """Return a peer's position in the ring, if it is in it."""
        found = (i for i, member in enumerate(self.members) if member.peer == peer)
        return next(found, None)

    def hosts(self, stages: tuple[int, ...]) -> tuple[int, ...]:
        """Return the members that host all of these stages, in their order."""
        wanted = set(stages)
        return tuple(i for i, m in enumerate(self.members) if wanted <= set(m.stages))


@dataclass(frozen=True, slots=True)
class Shadow:
    """Who keeps a stale copy of a stage, and from whom it comes."""

    stage: int
    source: PeerId
    holder: PeerId


@dataclass(frozen=True, slots=True)
class Plan:
    """What every peer does; ``version`` grows with every plan of a run."""

    version: int
    microbatch_tokens: int
    """Text tokens of a full microbatch."""
    stages: tuple[Stage, ...]
    rings: tuple[Ring, ...]
    spares: tuple[PeerId, ...] = ()
    shadows: tuple[Shadow, ...] = ()

    def ring_of(self, peer: PeerId) -> int | None:
        """Return the ring that a peer is in, if there is one."""
        found = (i for i, ring in enumerate(self.rings) if ring.member_of(peer) is not None)
        return next(found, None)


def counted_stages(route: Route, hop: int) -> tuple[int, ...]:
    """Return the stages whose gradients a visit of this position adds to."""
    if hop == len(route):
        return (HEAD,)
    return route[hop].stages or ((EMBEDDING,) if hop == 0 else ())


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be followed. Raises: ProtocolError."""
    shards = [shard for stage in plan.stages for shard in stage.shards]
    _require(bool(plan.stages) and bool(plan.rings), "it has no stages or no rings")
    _require(len(plan.stages) <= MAX_STAGES, f"{len(plan.stages)} stages")
    _require(len(plan.rings) <= MAX_RINGS, f"{len(plan.rings)} rings")
    _require(len(set(shards)) == len(shards), "a shard is in two stages")
    _require(plan.microbatch_tokens > 0, "microbatches are empty")
    peers = [member.peer for ring in plan.rings for member in ring.members]
    everyone = [*peers, *plan.spares]
    _require(len(set(everyone)) == len(everyone), "a peer has two tasks")
    for ring in plan.rings:
        _check_ring(ring, len(plan.stages))
    for shadow in plan.shadows:
        _require(shadow.stage < len(plan.stages), f"shadow of stage {shadow.stage}")
        _require(shadow.holder in everyone, "shadow at a stranger")
        _require(shadow.holder != shadow.source, "shadow at its own source")
        hosted = any(shadow.stage in m.stages for m in _members(plan, shadow.source))
        _require(hosted, "shadow of what its source does not host")


def _members(plan: Plan, peer: PeerId) -> Iterator[Member]:
    return (member for ring in plan.rings for member in ring.members if member.peer == peer)


def check_route(ring: Ring, route: Route) -> None:
    """Refuse a route that this ring's members cannot serve. Raises: ProtocolError."""
    _require(0 < len(route) <= MAX_HOPS, f"route of {len(route)} hops")
    _require(route[0].member == ORIGIN, "a route does not begin at the origin")
    for hop in route:
        _require(hop.member < len(ring.members), f"there is no member {hop.member}")
        hosted = set(ring.members[hop.member].stages)
        _require(set(hop.stages) <= hosted, f"member {hop.member} does not host {hop.stages}")
    stages = [stage for hop in route for stage in hop.stages]
    _require(len(set(stages)) == len(stages), "a route visits a stage twice")
    _require(0 in stages, "a route passes over the first stage")


def _check_ring(ring: Ring, num_stages: int) -> None:
    _require(0 < len(ring.members) <= MAX_MEMBERS, f"ring of {len(ring.members)}")
    _require(0 < len(ring.paths) <= MAX_PATHS, f"ring with {len(ring.paths)} paths")
    _require(ring.in_flight > 0, "nothing is in flight")
    for member in ring.members:
        _require(0 < member.slots <= MAX_SLOTS, f"{member.slots} slots")
        ascending = tuple(sorted(set(member.stages))) == member.stages
        _require(ascending and all(s < num_stages for s in member.stages), "stages of a member")
    for path in ring.paths:
        check_route(ring, path.hops)
        _require(path.quota > 0, "a path without microbatches")
        _require(all(hop.stages for hop in path.hops[1:]), "a hop without stages")
        _check_room(ring, path)
    total = sum(path.quota for path in ring.paths)
    _require(total <= MAX_MICROBATCHES, f"{total} microbatches a step")
    accounts = total * max(len(member.stages) for member in ring.members)
    _require(accounts <= MAX_ACCOUNTS, "the account of a step does not fit into a frame")


def _check_room(ring: Ring, path: Path) -> None:
    """One microbatch alone must find all its slots, or it would wait for ever."""
    members = [hop.member for hop in path.hops]
    for member in set(members):
        visits = members.count(member)
        _require(visits <= ring.members[member].slots, f"member {member} has too few slots")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ProtocolError("plan", f"the plan cannot be followed: {what}")
