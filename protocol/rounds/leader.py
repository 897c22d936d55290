"""Who leads a round: a pure function that every peer computes alike (DESIGN 7.2)."""

from functools import lru_cache
from hashlib import blake2b

from skerry.protocol.ids import PeerId, RunId

MAX_VIEW = 4096
"""Views beyond this are refused: nobody waits that long, so it is a forged claim."""


def leader_of(
    run_id: RunId,
    round_number: int,
    view: int,
    roster: tuple[PeerId, ...],
    partial: frozenset[PeerId] = frozenset(),
) -> PeerId:
    """Return the leader of a view; successive views of a round go through the whole roster.

    ``partial`` are peers that host less than the whole model: who leads looks at the payloads of
    all shards, so they come last.
    """
    return succession(run_id, round_number, roster, partial)[view % len(roster)]


@lru_cache(maxsize=64)  # asked for at every event of a round, of that round alone
def succession(
    run_id: RunId,
    round_number: int,
    peers: tuple[PeerId, ...],
    partial: frozenset[PeerId] = frozenset(),
) -> tuple[PeerId, ...]:
    """Return ``peers`` in the order in which they lead a round."""

    def place(peer: PeerId) -> tuple[bool, bytes]:
        return peer in partial, _rank(run_id, round_number, peer)

    return tuple(sorted(peers, key=place))


def _rank(run_id: RunId, round_number: int, peer: PeerId) -> bytes:
    return blake2b(f"{run_id}/{round_number}/{peer}".encode(), digest_size=16).digest()
