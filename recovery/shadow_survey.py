"""What the commit chain tells of stale copies: who was to keep one, and how old it is. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import ShadowCopy, SignedShadow
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.renewing import MEMORY
from skerry.protocol.shadows import planned
from skerry.recovery.survey import Copy

_AHEAD = 2
"""Rounds by which a copy may be newer than what is healed: its holder took none of a later one."""


@dataclass(frozen=True, slots=True)
class HeldShadow:
    """A stale copy of one shard, and the peer that keeps it."""

    holder: PeerId
    copy: SignedShadow


def keepers(
    chain: Chain, goal: CommitHash, shard: str
) -> tuple[frozenset[tuple[PeerId, PeerId]], ...]:
    """Return who was to send a shard to whom, by each plan of the newest commits, newest first."""
    plans = {id(p): p for p in (chain.settings(c).hosts.plan for c in _newest(chain, goal)) if p}
    return tuple(
        frozenset((shadow.source, shadow.holder) for shadow in planned(plan, shard))
        for plan in plans.values()
    )


def believed(chain: Chain, goal: CommitHash, told: Iterable[HeldShadow]) -> tuple[HeldShadow, ...]:
    """Return the copies that count, of those that holders say they keep.

    Of each shard they are those of the newest plan of which anything is left: who was to send it
    under an older one, and no longer hosts it, cannot claim to have the newest. None is of a round
    that cannot have begun.
    """
    by_shard: dict[str, list[HeldShadow]] = {}
    for one in told:
        if one.copy.message.round <= chain.round_of(goal) + _AHEAD:
            by_shard.setdefault(one.copy.message.shard, []).append(one)
    return tuple(
        copy
        for shard, copies in by_shard.items()
        for copy in _of_newest_plan(keepers(chain, goal, shard), copies)
    )


def _of_newest_plan(
    plans: Iterable[frozenset[tuple[PeerId, PeerId]]], copies: Sequence[HeldShadow]
) -> list[HeldShadow]:
    by_plan = ([one for one in copies if (one.copy.signer, one.holder) in p] for p in plans)
    return next((some for some in by_plan if some), [])


def of_use(held: HeldShadow, chain: Chain, goal: CommitHash) -> ShadowCopy:
    """Return what of a copy stands for the state before ``goal``.

    That is all of it, but for the inner steps that ``goal`` itself counts, by the contribution of
    who made the copy: that contribution is applied next, and they would count twice.
    """
    copy, commit = held.copy.message, chain.get(goal)
    if commit is None or copy.round != chain.round_of(goal):
        return copy
    counted = any(a.signer == held.copy.signer for a in commit.message.announces)
    return copy.at_start if counted else copy


def aged(held: HeldShadow, chain: Chain, goal: CommitHash, steps: int) -> Copy:
    """Return a copy with its age, against the state before ``goal``.

    A copy that its source made upon a later commit is as good as that state.

    Args:
        steps: inner steps of a round.
    """
    copy = of_use(held, chain, goal)
    behind = (chain.round_of(goal) - copy.round) * steps - copy.step
    return Copy(held.holder, max(0, behind))


def _newest(chain: Chain, goal: CommitHash) -> list[CommitHash]:
    return list(islice(chain.path(goal), MEMORY))
