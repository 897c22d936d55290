"""Blobs that stay for a while longer, because somebody is downloading a state.

A state is kept for a few rounds only, and rounds may be shorter than its download. Whoever asks
for a shard of one finds all of it until nothing was asked for ``IDLE_S``, and the payloads of the
rounds since, by which it catches up. What that takes of the disk is bounded: ``MAX_STATES`` states,
and the payloads of ``MAX_ROUNDS`` rounds, which for four peers and 0.13 bit a parameter come to
about one state more. Pure: the time comes in as an argument.
"""

from collections import deque
from collections.abc import Iterable

from skerry.protocol.ids import Address

IDLE_S = 60.0
"""A holder is left sooner than that if nothing comes (node/net/fetch.py)."""
MAX_STATES = 2
"""Held at once besides those that are kept anyway; joiners of one time ask for the same ones."""
MAX_ROUNDS = 64

State = frozenset[Address]
"""Where the shards of one state lie."""


class Leases:
    """What must not be removed yet."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._kept: tuple[State, ...] = ()
        self._held: dict[State, float] = {}
        """When each was last asked for, the longest ago first."""
        self._retained: frozenset[Address] = frozenset()
        self._stale = frozenset[Address]()
        """Of states that were kept before and are no more."""
        self._dropped: deque[frozenset[Address]] = deque(maxlen=MAX_ROUNDS)
        """Payloads by the round in which they were no longer wanted here."""

    def offer(self, states: Iterable[State]) -> None:
        """Take in which states are kept from now on."""
        before, self._kept = self._kept, tuple(states)
        self._stale = self._stale.union(*before).difference(*self._kept)

    def asked(self, address: Address, now: float) -> None:
        """Hold the states of which somebody is getting a shard; payloads are nothing to hold."""
        for state in {*self._kept, *self._held}:
            if address in state:
                self._held.pop(state, None)
                self._held[state] = now
        while len(self._held.keys() - set(self._kept)) > MAX_STATES:
            gone = next(state for state in self._held if state not in self._kept)
            del self._held[gone]

    def retain(self, addresses: frozenset[Address], now: float) -> frozenset[Address]:
        """Return what is to stay if only ``addresses`` are wanted here."""
        self._held = {state: at for state, at in self._held.items() if now < at + IDLE_S}
        states = self._stale.union(*self._kept, *self._held)
        dropped = self._retained - addresses - states
        self._retained, self._stale = addresses, frozenset()
        if not self._held:
            self._dropped.clear()
            return addresses
        self._dropped.append(dropped)
        return addresses.union(*self._held, *self._dropped)
