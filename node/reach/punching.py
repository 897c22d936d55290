"""When to try to get from a relayed connection to a direct one. Pure.

Every failure makes the next try later; a new address of either side, or another NAT, makes all of
it worth another try at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.node.reach.nat import Nat
from skerry.protocol.ids import PeerId

DELAYS_S = (0.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Before the first try, the second and so on; the last one is for all others, too."""
_HOPELESS = len(DELAYS_S) - 1
"""Where we begin if our holes cannot be found by others, unless what we believe is wrong."""
_MAX_PEERS = 1024


@dataclass(slots=True)
class _Record:
    facts: object
    failures: int
    due: float


@dataclass(slots=True)
class PunchBook:
    """What has been tried; one per node."""

    _records: dict[PeerId, _Record] = field(default_factory=dict)

    def due(self, relayed: Mapping[PeerId, tuple[str, ...]], nat: Nat, now: float) -> list[PeerId]:
        """Return whom to try now, the longest due first.

        Args:
            relayed: who is connected through relays alone, with the addresses it announces.
            nat: our own.
            now: seconds of a monotonic clock.
        """
        for peer, addresses in relayed.items():
            facts = (frozenset(addresses), nat)
            if peer not in self._records or self._records[peer].facts != facts:
                # From ever new ports nobody can be met in the middle: seldom tried.
                failures = _HOPELESS if nat is Nat.SYMMETRIC else 0
                self._records[peer] = _Record(facts, failures, now + DELAYS_S[failures])
        if len(self._records) > _MAX_PEERS:
            self._records = {p: r for p, r in self._records.items() if p in relayed}
        late = [peer for peer in relayed if self._records[peer].due <= now]
        return sorted(late, key=lambda peer: (self._records[peer].due, peer))

    def failed(self, peer: PeerId, now: float) -> None:
        """Note that no direct way came of a try; the next one is later."""
        record = self._records.get(peer)
        if record is not None:
            record.failures = min(record.failures + 1, len(DELAYS_S) - 1)
            record.due = now + DELAYS_S[record.failures]

    def succeeded(self, peer: PeerId, now: float) -> None:
        """Note that there is a direct way; should it end, it is worth another try soon."""
        record = self._records.get(peer)
        if record is not None:
            record.failures, record.due = 0, now + DELAYS_S[1]
