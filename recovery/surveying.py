"""What one peer finds left of its ring when it is given shards that it did not host. Pure.

Everything follows from the chain and from who is heard: committed parameters have addresses, and
their hosts are known. Parameters are meant as of the state before a commit, the newest that anyone
can verify.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from skerry.protocol.ids import Address, CommitHash, PeerId
from skerry.protocol.messages import ShardPayload, ShardState
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.renewing import MEMORY, own_shards, recent_hosts
from skerry.protocol.rounds.state import KEPT_STATES, RoundState
from skerry.recovery.gradients import stage_norm
from skerry.recovery.healing import is_block
from skerry.recovery.shadow_survey import HeldShadow, aged, of_use
from skerry.recovery.survey import Copy, Shards, Survey
from skerry.recovery.swaps import learned_roles
from skerry.recovery.taking import lost_stage


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left, and where the parameters lie of which lost ones can be made."""

    survey: Survey
    blocks: dict[int, tuple[ShardState, ...]]
    """Of the stages whose blocks are there, by number."""
    norms: dict[int, float]
    """Of the last gradients of those stages; 0 where that is not known."""
    stale: dict[str, Address]
    """Own old copies of shards that were given to this peer, by shard, if nobody has newer ones."""
    held: dict[str, tuple[HeldShadow, ...]]
    """Of those shards, the newest stale copies that peers keep for others."""


def remains(
    s: RoundState, goal: CommitHash, given: Collection[str], held: Iterable[HeldShadow] = ()
) -> Remains:
    """Return what is left, as of the state before ``goal``, when this peer is given shards.

    Args:
        held: stale copies of those shards on peers that are there.
    Raises: ValueError if no plan says which stages there are.
    """
    plan = s.chain.settings(goal).hosts.plan
    if plan is None:
        raise ValueError("without a plan there are no stages")
    stages = tuple(stage.shards for stage in plan.stages)
    own = own_shards(s)
    there = {
        shard: ShardState(shard, address)
        for shards in stages
        for shard in shards
        if (address := _named(s, goal, shard))
        and (_live(s, goal, shard) or address in own.get(shard, ()))
    }
    blocks = {number: _blocks(shards, there) for number, shards in enumerate(stages)}
    lost = [n for n, shards in enumerate(stages) if _is_lost(shards, given, blocks[n])]
    stale = {shard: own[shard][-1] for shard in given if shard in own}
    kept = _kept(s, goal, stale, [one for one in held if one.copy.message.shard in given])
    stale = {shard: address for shard, address in stale.items() if shard not in kept}
    survey = Survey(
        stages=stages,
        lost=tuple(lost_stage(s, goal, plan, n) for n in lost),
        hosts={x: tuple(Copy(p, 0) for p in _live(s, goal, x)) for x in there},
        shadows={x: tuple(_aged(s, goal, one) for one in some) for x, some in kept.items()},
        checkpoints={x: (_checkpoint(s, goal, ShardState(x, stale[x])),) for x in stale},
        round=s.chain.round_of(goal),
        partners=learned_roles(_orders(s, goal, plan)),
    )
    there_now = {n: some for n, some in blocks.items() if some}
    norms = {n: stage_norm(s.chain, goal, [x.shard for x in b]) for n, b in there_now.items()}
    return Remains(survey, there_now, norms, stale, kept)


def _kept(
    s: RoundState, goal: CommitHash, stale: Mapping[str, Address], held: Sequence[HeldShadow]
) -> dict[str, tuple[HeldShadow, ...]]:
    """Return the newest copies that peers keep, of shards of which the own disk has none newer."""
    found: dict[str, list[HeldShadow]] = {}

    def oldness(one: HeldShadow) -> tuple[int, int, int, PeerId]:
        copy = of_use(one, s.chain, goal)
        return _aged(s, goal, one).age, -copy.round, -copy.step, one.holder

    for one in sorted(held, key=oldness):
        some = found.setdefault(one.copy.message.shard, [])
        if not some or _aged(s, goal, one).age == _aged(s, goal, some[0]).age:
            some.append(one)
    newer = (
        (shard, some)
        for shard, some in found.items()
        if shard not in stale
        or _aged(s, goal, some[0]).age < _checkpoint(s, goal, ShardState(shard, stale[shard])).age
    )
    return {shard: tuple(some) for shard, some in newer}


def _aged(s: RoundState, goal: CommitHash, held: HeldShadow) -> Copy:
    return aged(held, s.chain, goal, s.rules.chain.steps)


def _orders(s: RoundState, goal: CommitHash, plan: Plan) -> set[tuple[int, ...]]:
    """Return in which orders microbatches have passed the stages before ``goal``."""
    lately = (s.chain.settings(name).hosts.plan for name in islice(s.chain.path(goal), 1, MEMORY))
    return {
        tuple(stage for hop in path.hops for stage in hop.stages)
        for known in lately
        if known is not None and known.stages == plan.stages
        for ring in known.rings
        for path in ring.paths
    }


def _blocks(shards: Shards, there: dict[str, ShardState]) -> tuple[ShardState, ...]:
    """Return the blocks of a stage; none if not all of them are there."""
    blocks = [shard for shard in shards if is_block(shard)]
    return tuple(there[x] for x in blocks) if all(x in there for x in blocks) else ()


def _is_lost(shards: Shards, given: Collection[str], blocks: tuple[ShardState, ...]) -> bool:
    return bool(set(shards) & set(given)) or (not blocks and any(map(is_block, shards)))


def _named(s: RoundState, goal: CommitHash, shard: str) -> Address | None:
    """Return the newest address of a shard that hosts may still keep."""
    for name in islice(s.chain.path(goal), KEPT_STATES):
        for entry in s.chain[name].message.state:
            if entry.shard == shard:
                return entry.address
    return None


def _live(s: RoundState, goal: CommitHash, shard: str) -> tuple[PeerId, ...]:
    return tuple(sorted(s.alive.intersection(recent_hosts(s, goal, shard)) - {s.me}))


def _checkpoint(s: RoundState, goal: CommitHash, copy: ShardState) -> Copy:
    """Return an own copy with its age: at least so great if it is not known when it was made."""
    lies = (state.after for state in s.states.values() for x in state.shards if _is(x, copy))
    known = (after for after in lies if after is not None and after in s.chain)
    begun = next((s.chain.round_of(after) + 1 for after in known), None)
    if begun is None:
        return Copy(s.me, MEMORY * s.rules.chain.steps)
    behind = max(0, s.chain.round_of(goal) - begun)
    return Copy(s.me, behind * s.rules.chain.steps, begun)


def _is(payload: ShardPayload, copy: ShardState) -> bool:
    return (payload.shard, payload.address) == (copy.shard, copy.address)
