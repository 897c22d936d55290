"""What this peer holds and is to hold: shards, parameters, blobs."""

from dataclasses import replace
from typing import TypeVar

from skerry.protocol.compute import Hosting
from skerry.protocol.ids import Address, CommitHash, Digest, PeerId
from skerry.protocol.messages import Commit, ShardState
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.rounds.hosting import NOTHING
from skerry.protocol.rounds.renewing import told
from skerry.protocol.rounds.state import KEPT_DIGESTS, KEPT_STATES, RoundState
from skerry.protocol.rounds.voting import State

K = TypeVar("K")
V = TypeVar("V")


def hosting_at(s: RoundState, commit: CommitHash) -> Hosting | None:
    """Return what this peer is to host upon a commit; None: the whole model."""
    hosts = s.chain.settings(commit).hosts
    return hosts.hosting_of(s.me) if s.whole or hosts.names(s.me) else NOTHING


def agrees(s: RoundState, commit: Commit) -> bool:
    """Say whether the parameters here are those upon which a commit builds, as far as it says."""
    held = dict.fromkeys(s.held) if s.held is not None else {}
    return not held or all(entry in held for entry in told(s, commit))


def agreed_by(s: RoundState, commit: Commit) -> State | None:
    """Return the hosted shards before a commit; None if it does not name all of them."""
    named = told(s, commit)
    return named if len(named) == len(s.hosted) else None


def keeps_shards(s: RoundState, peer: PeerId) -> bool:
    """Say whether a peer hosts anything: who stands by follows commits that it cannot apply."""
    if s.hosts.names(peer):
        return bool(s.hosts.shards_of(peer))
    member = s.members.get(peer)
    return member is None or member.message.offer.is_whole(s.rules.chain.replica_bytes)


def retain(s: RoundState) -> list[Action]:
    """Keep recent states, the payloads others may still ask for, and own open contributions.

    Nothing is removed while there are own contributions whose payloads are not known here: they
    may have to go back into the error feedback.
    """
    unsigned = {parent for parent, announce in s.history.items() if announce is None}
    if s.encoding is not None or unsigned - s.unsent.keys():
        return []
    kept: set[Address] = {x.address for state in s.states.values() for x in state.shards}
    for name in s.chain.path(s.at):
        commit = s.chain[name].message
        if commit.round < s.chain.round_of(s.at) - s.rules.replay:
            break
        kept |= {x.address for a in commit.announces for x in a.message.shards}
    pending = [a for early in s.early.values() for a in early.values()]
    pending += s.announces.values()
    pending += [a for a in s.history.values() if a is not None]
    known = [*(announce.message for announce in pending), *s.unsent.values()]
    kept |= {x.address for announce in known for x in announce.shards}
    return [act.Retain(frozenset(kept))]


def kept_after(s: RoundState, commit: CommitHash) -> Digest | None:
    """Return the state that the own disk has kept of the time after a commit, if any."""
    shards = set(s.hosted)
    for state in reversed(s.states.values()):
        if state.after == commit and {x.shard for x in state.shards} == shards:
            return state.digest
    return None


def remember(s: RoundState, commit: CommitHash, state: LocalState) -> None:
    """Note the parameters that the compute process holds after a commit."""
    s.held = tuple(ShardState(shard.shard, shard.address) for shard in state.shards)
    keep(s.digests, commit, state.digest, KEPT_DIGESTS)
    keep(s.states, state.digest, replace(state, after=commit), KEPT_STATES)


def keep(kept: dict[K, V], key: K, value: V, count: int) -> None:
    """Put in ``value`` as the newest, and let the oldest go."""
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > count:
        del kept[next(iter(kept))]
