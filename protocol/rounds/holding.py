"""What this peer holds and is to hold: shards, parameters, blobs."""

from skerry.protocol.compute import Hosting
from skerry.protocol.ids import Address, CommitHash
from skerry.protocol.messages import Commit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.hosting import NOTHING
from skerry.protocol.rounds.state import RoundState
from skerry.protocol.rounds.voting import State


def hosting_at(s: RoundState, commit: CommitHash) -> Hosting | None:
    """Return what this peer is to host upon a commit; None: the whole model."""
    hosts = s.chain.settings(commit).hosts
    return hosts.hosting_of(s.me) if s.whole or hosts.names(s.me) else NOTHING


def agrees(s: RoundState, commit: Commit) -> bool:
    """Say whether the parameters here are those upon which a commit builds, as far as it says."""
    held = dict.fromkeys(s.held) if s.held is not None else {}
    hosted = frozenset(s.hosted)
    return not held or all(x in held for x in commit.state if x.shard in hosted)


def agreed_by(s: RoundState, commit: Commit) -> State | None:
    """Return the hosted shards before a commit; None if it does not name all of them."""
    hosted = frozenset(s.hosted)
    named = tuple(entry for entry in commit.state if entry.shard in hosted)
    return named if len(named) == len(s.hosted) else None


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
