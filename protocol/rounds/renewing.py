"""Shards that no other live peer has: who hosts them now has to bring them back. Pure.

A ring without a full replica beside it can lose a stage for good. The peer to which the plan gives
it finds nobody to copy it from. Here is found out that this is so, and for which shards; what they
are made of instead is for recovery/healing.py, and their new address is announced like any other.
"""

from collections.abc import Iterator
from itertools import islice

from skerry.protocol.ids import Address, CommitHash, PeerId
from skerry.protocol.messages import Commit, ShardState
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.state import KEPT_STATES, RoundState

MEMORY = 64
"""Commits in which is looked for who had a shard last."""
_PATIENCE = 3
"""Failed attempts at a state after which a host that was never heard is not waited for."""


def renewal(s: RoundState, goal: CommitHash) -> act.Renew | None:
    """Return how to bring back the state before ``goal``; None if others have all of it.

    Nothing is concluded alone: who hears nobody may itself be cut off.
    """
    if s.chain.settings(goal).hosts.plan is None or goal == s.rules.chain.root:
        return None
    commit = s.chain[goal].message
    holders = tuple(sorted(s.alive - {s.me}))
    alone = tuple(shard for shard in s.hosted if _is_alone_with(s, goal, shard))
    if not alone or not holders:
        return None
    named = {entry.shard: entry.address for entry in commit.state}
    own = own_shards(s)
    kept = {x: _kept(named.get(x), own[x]) for x in alone if _is_newest(s, goal, x, own.get(x, ()))}
    known = named | kept
    lost = tuple(shard for shard in alone if shard not in kept)
    wanted = tuple(ShardState(x, known[x]) for x in s.hosted if x in known and x not in lost)
    if len(wanted) + len(lost) < len(s.hosted):
        return None  # a host of the others has to be heard first
    return act.Renew(goal, alone, lost, wanted, holders)


def told(s: RoundState, commit: Commit) -> tuple[ShardState, ...]:
    """Return what a commit says of the hosted shards before it.

    Of a shard that was made anew here it may still name what was lost: that counts only if a host
    has announced it after the state that was made.
    """
    stale = s.renewed
    if commit.parent != s.renewed_after:
        stale = stale.difference(e.shard for a in commit.announces for e in a.message.state)
    hosted = frozenset(s.hosted) - stale
    return tuple(entry for entry in commit.state if entry.shard in hosted)


def own_shards(s: RoundState) -> dict[str, tuple[Address, ...]]:
    """Return the parameters that lie in the own blob store, by shard, the newest last."""
    found: dict[str, tuple[Address, ...]] = {}
    for state in s.states.values():
        for shard in state.shards:
            found[shard.shard] = (*found.get(shard.shard, ()), shard.address)
    return found


def recent_hosts(s: RoundState, goal: CommitHash, shard: str) -> Iterator[PeerId]:
    """Yield who hosted a shard in the newest rounds before ``goal``: they may still have it."""
    for name in islice(s.chain.path(goal), 1, 1 + KEPT_STATES):
        hosts = s.chain.settings(name).hosts
        yield from (peer for peer in s.chain.roster(name) if shard in hosts.shards_of(peer))


def _is_alone_with(s: RoundState, goal: CommitHash, shard: str) -> bool:
    """Say whether no other peer that is there, or may be, has a shard."""
    others = set(recent_hosts(s, goal, shard)) - {s.me}
    return not others & s.alive and (others <= s.lost - s.suspects or s.failures >= _PATIENCE)


def _is_newest(s: RoundState, goal: CommitHash, shard: str, own: tuple[Address, ...]) -> bool:
    """Say whether there are own copies of a shard that nobody has trained further since."""
    for name in islice(s.chain.path(goal), MEMORY) if own else ():
        commit = s.chain[name].message
        stated = [(a.signer, entry) for a in commit.announces for entry in a.message.state]
        authors = {author for author, entry in stated if entry.shard == shard}
        if authors:
            return s.me in authors or ShardState(shard, own[-1]) in commit.state
    return bool(own)


def _kept(named: Address | None, own: tuple[Address, ...]) -> Address:
    """Return which of the own copies it is: the one that the commit names, or the newest."""
    return named if named in own else own[-1]
