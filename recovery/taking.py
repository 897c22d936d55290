"""Who lost a stage of a ring and who has it now, by the plans of the commit chain. Pure."""

from collections.abc import Sequence
from itertools import islice

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.renewing import MEMORY
from skerry.protocol.rounds.state import RoundState
from skerry.recovery.survey import LostStage, Place, Taker


def lost_stage(s: RoundState, goal: CommitHash, plan: Plan, stage: int) -> LostStage:
    """Return who hosted a stage last and is gone, and whom the plan of ``goal`` gives it to.

    If none of its hosts is gone, that is who has it now.
    """
    path = list(islice(s.chain.path(goal), MEMORY))
    shard = plan.stages[stage].shards[0]
    taker = _taker(s, plan, stage)
    for number, name in enumerate(path):
        gone = _gone(s, name, shard)
        if gone is not None:
            return LostStage(
                stage, gone, Taker(taker, _place(s, plan, stage, taker, path[number:]))
            )
    return LostStage(stage, taker, Taker(taker, _place(s, plan, stage, taker, path[1:])))


def _taker(s: RoundState, plan: Plan, stage: int) -> PeerId:
    """Return this peer if it is to host a stage, else the first that is."""
    found = [m.peer for ring in plan.rings for m in ring.members if stage in m.stages]
    return s.me if s.me in found else found[0]


def _gone(s: RoundState, name: CommitHash, shard: str) -> PeerId | None:
    """Return the member of a ring that hosted a shard after a commit and is gone, if there is."""
    hosts = s.chain.settings(name).hosts
    for ring in hosts.plan.rings if hosts.plan else ():
        for member in ring.members:
            hosted = shard in hosts.shards_of(member.peer)
            if hosted and member.peer not in s.alive and member.peer != s.me:
                return member.peer
    return None


def _place(
    s: RoundState, plan: Plan, stage: int, taker: PeerId, path: Sequence[CommitHash]
) -> Place:
    """Return what a peer did before the loss.

    Args:
        path: commits from the last one on back upon which the stage was hosted by who is gone.
    """
    shard = plan.stages[stage].shards[0]
    there = (name for name in path if _is_there(s, name, taker))
    if any(shard in s.chain.settings(name).hosts.shards_of(taker) for name in there):
        return Place.SAME
    if not path or not _is_there(s, path[0], taker):
        return Place.JOINER
    before = set(s.chain.settings(path[0]).hosts.shards_of(taker))
    kept = {
        number
        for ring in plan.rings
        for member in ring.members
        if member.peer == taker
        for number in member.stages
        if before & set(plan.stages[number].shards)
    }
    if kept & {stage - 1, stage + 1}:
        return Place.NEIGHBOUR
    if kept:
        return Place.MEMBER
    return Place.MOVED if before else Place.SPARE


def _is_there(s: RoundState, name: CommitHash, peer: PeerId) -> bool:
    """Say whether a peer had a place after a commit."""
    return s.chain.settings(name).hosts.names(peer) or peer in s.chain.roster(name)
