"""What waits because no plan gives it a place: lost stages, and peers that offer a part. Pure.

Who leads finds that no plan can be made, and says so; who has no place says what it waits for.
"""

from collections.abc import Collection

from skerry.protocol.ids import short
from skerry.protocol.rings.plan import ORIGIN
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.state import Phase, RoundState
from skerry.protocol.rounds.waiting import NO_PLACE
from skerry.recovery.healing_words import named, unplaced


def texts_without_plan(
    hosts: Hosts, candidates: Collection[Candidate], replica_bytes: int, bypass: int
) -> tuple[str, ...]:
    """Say what waits for a joiner, since nobody can make a plan for these peers.

    Args:
        bypass: stages that a microbatch may pass over.
    """
    lost = hosts.unhosted({one.peer for one in candidates})
    if not lost:
        return _without_place(hosts, candidates, replica_bytes)
    numbers = [number for stages in lost.values() for number in stages]
    passed_over = ORIGIN not in numbers and len(numbers) <= bypass
    return tuple(
        unplaced(hosts.shards_in(stages), peer, passed_over) for peer, stages in lost.items()
    )


def why_no_place(s: RoundState) -> str:
    """Say why this peer has nothing to host yet; empty if it has a place, or waits for another."""
    if s.phase is not Phase.OBSERVING or s.hosted or s.hosts.names(s.me):
        return ""
    lost = s.hosts.unhosted(s.alive | {s.me})
    if not lost:
        return f"{NO_PLACE}: those here make no ring with it yet"
    parts = [
        f"{named(s.hosts.shards_in(stages))} lost with peer {short(peer)}"
        for peer, stages in lost.items()
    ]
    return f"{NO_PLACE}: {' and '.join(parts)} still wait{'s' * (len(parts) == 1)} for room"


def _without_place(
    hosts: Hosts, candidates: Collection[Candidate], replica_bytes: int
) -> tuple[str, ...]:
    idle = [
        one.peer
        for one in candidates
        if not hosts.names(one.peer) and not one.offer.is_whole(replica_bytes)
    ]
    if not idle:
        return ()
    verb = "waits" if len(idle) == 1 else "wait"
    text = f"{' and '.join(map(short, idle))} {verb} for a joiner to share the model with"
    return (f"{text}: those who offer to host a part have no room for all of it",)
