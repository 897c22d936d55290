"""Who hosts which shards in a round: a pure function of the commit chain.

A commit may hold a plan; it is in force from the next round on, until another one replaces it. A
peer that the plan does not name hosts the whole model: no plan names anyone at the start of a run.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from skerry.protocol.compute import HostedStage, Hosting
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.rings.plan import ORIGIN, Member, Plan, check_plan
from skerry.protocol.rounds.leader import MAX_VIEW

NOTHING = Hosting(stages=(), slots=1)
"""What a peer hosts that has no task yet."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """What each peer hosts while one plan is in force."""

    shards: tuple[str, ...]
    """All of the model, in layout order; whoever hosts the first one reads the text."""
    plan: Plan | None = None
    _planned: Mapping[PeerId, tuple[str, ...]] = field(default_factory=dict, compare=False)
    _hosting: Mapping[PeerId, Hosting] = field(default_factory=dict, compare=False)

    def following(self, plan: Plan) -> "Hosts":
        """Return what is hosted under a new plan. Raises: ProtocolError if it is not one."""
        check_plan(plan)
        _check_stages(self.shards, plan)
        members = [(ring, member) for ring in plan.rings for member in ring.members]
        planned = {member.peer: self._of(plan, member) for _, member in members}
        hosting = {member.peer: _hosting(plan, member) for _, member in members}
        for peer in plan.spares:
            planned[peer], hosting[peer] = (), NOTHING
        return Hosts(self.shards, plan, planned, hosting)

    def names(self, peer: PeerId) -> bool:
        """Say whether the plan gives a peer a place, if only that of a spare."""
        return peer in self._planned

    def shards_of(self, peer: PeerId) -> tuple[str, ...]:
        """Return the shards that a peer hosts, in layout order."""
        return self._planned.get(peer, self.shards)

    def hosting_of(self, peer: PeerId) -> Hosting | None:
        """Return what a peer's compute process hosts; None: the whole model."""
        return None if self.is_whole(peer) else self._hosting[peer]

    def unhosted(self, here: Collection[PeerId]) -> dict[PeerId, tuple[int, ...]]:
        """Return the stages of rings that no member has who is here, by the one who had them."""
        rings = self.plan.rings if self.plan else ()
        members = [member for ring in rings for member in ring.members]
        there = {stage for one in members if one.peer in here for stage in one.stages}
        hosts = {stage: one.peer for one in members for stage in one.stages if stage not in there}
        return {
            peer: tuple(sorted(stage for stage, host in hosts.items() if host == peer))
            for peer in dict.fromkeys(hosts.values())
        }

    def shards_in(self, stages: Collection[int]) -> tuple[str, ...]:
        """Return the shards of some of the plan's stages, in layout order."""
        found = {x for n in stages if self.plan for x in self.plan.stages[n].shards}
        return tuple(shard for shard in self.shards if shard in found)

    def is_whole(self, peer: PeerId) -> bool:
        """Say whether a peer hosts the whole model."""
        return self.shards_of(peer) == self.shards

    def reads_text(self, peer: PeerId) -> bool:
        """Say whether a peer reads text, and so counts text tokens for itself or for its ring."""
        return self.shards[0] in self.shards_of(peer)

    def readers(self, roster: Iterable[PeerId]) -> list[PeerId]:
        """Return those of a roster that read text, in its order: the place is the data slot."""
        return [peer for peer in roster if self.reads_text(peer)]

    @property
    def partial(self) -> frozenset[PeerId]:
        """Peers that host less than the whole model."""
        return frozenset(peer for peer in self._planned if not self.is_whole(peer))

    @property
    def ringed(self) -> frozenset[PeerId]:
        """Peers without which a ring of the plan is not whole."""
        spares = self.plan.spares if self.plan else ()
        return frozenset(self._planned) - frozenset(spares)

    @property
    def keepers(self) -> frozenset[PeerId]:
        """Peers that are to keep stale copies of stages."""
        shadows = self.plan.shadows if self.plan else ()
        return frozenset(shadow.holder for shadow in shadows)

    def _of(self, plan: Plan, member: Member) -> tuple[str, ...]:
        hosted = {shard for number in member.stages for shard in plan.stages[number].shards}
        return tuple(shard for shard in self.shards if shard in hosted)


def plan_version(round_number: int, view: int) -> int:
    """Return the version of a plan in the commit of a round and view: no two are alike."""
    return round_number * (MAX_VIEW + 1) + view


def _hosting(plan: Plan, member: Member) -> Hosting:
    stages = tuple(HostedStage(number, plan.stages[number].shards) for number in member.stages)
    return Hosting(stages, member.slots)


def _check_stages(shards: tuple[str, ...], plan: Plan) -> None:
    """Every shard is in one stage, the first and the last in stage 0, the others consecutive."""
    ends = (shards[0], shards[-1])
    found = [shard for stage in plan.stages for shard in stage.shards if shard not in ends]
    first = plan.stages[0].shards
    if tuple(found) != shards[1:-1] or (first[:1], first[1:][-1:]) != (ends[:1], ends[1:]):
        raise ProtocolError("plan", "its stages are not the model's shards in order")
    for ring in plan.rings:
        if any(ORIGIN in member.stages for member in ring.members[1:]):
            raise ProtocolError("plan", "a ring has two origins")
        hosted = {number for member in ring.members for number in member.stages}
        if len(hosted) < len(plan.stages):
            raise ProtocolError("plan", "a ring does not host every stage")
