"""Which parameters a round is built upon: each shard is voted on by the hosts that announce.

A host of some shards is judged by these alone. A shard of which no host is heard keeps the address
that its last commit vouches for, unless it has changed since.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import Address
from skerry.protocol.messages import Commit, ShardState, SignedAnnounce

State = tuple[ShardState, ...]


def agreeing(announces: Sequence[SignedAnnounce]) -> list[SignedAnnounce]:
    """Return announcements that agree on every shard, in their order; those of the majority.

    They are taken in turn, the one whose shards most others confirm first (of equals the lowest
    digest), as long as they do not contradict those taken before. There is always one.
    """
    votes = Counter(entry for announce in announces for entry in announce.message.state)
    known: dict[str, Address] = {}
    chosen: set[str] = set()
    for announce in sorted(announces, key=lambda announce: _rank(announce, votes)):
        state = announce.message.state
        if all(known.get(entry.shard, entry.address) == entry.address for entry in state):
            known |= {entry.shard: entry.address for entry in state}
            chosen.add(announce.hash)
    return [announce for announce in announces if announce.hash in chosen]


def state_before(
    shards: Iterable[str], parent: Commit, announces: Iterable[SignedAnnounce]
) -> State:
    """Return the state that a commit upon ``parent`` names, given what it includes."""
    known = _unchanged(parent)
    for announce in announces:
        known |= {entry.shard: entry.address for entry in announce.message.state}
    return tuple(ShardState(shard, known[shard]) for shard in shards if shard in known)


def check_state(shards: tuple[str, ...], commit: Commit, parent: Commit) -> None:
    """Check that a commit's state is that of its announcements. Raises: ProtocolError."""
    if commit.state != state_before(shards, parent, commit.announces):
        raise ProtocolError("digest", "the state is not that of the announcements")
    known = {entry.shard: entry.address for entry in commit.state}
    for announce in commit.announces:
        for entry in announce.message.state:
            if known[entry.shard] != entry.address:
                raise ProtocolError("digest", "an announcement is of another state")


def check_vouched(shards: tuple[str, ...], state: State) -> None:
    """Check a state that the signer of a commit alone vouches for. Raises: ProtocolError."""
    named = {entry.shard for entry in state}
    if tuple(entry.shard for entry in state) != tuple(s for s in shards if s in named):
        raise ProtocolError("digest", "the state does not name the model's shards in order")


def _unchanged(parent: Commit) -> dict[str, Address]:
    changed = {shard.shard for announce in parent.announces for shard in announce.message.shards}
    return {entry.shard: entry.address for entry in parent.state if entry.shard not in changed}


def _rank(announce: SignedAnnounce, votes: Counter[ShardState]) -> tuple[float, list[Address]]:
    state = announce.message.state
    support = sum(votes[entry] for entry in state) / max(1, len(state))
    return -support, [entry.address for entry in state]
