"""What peers of a run have come to: their reputations, as a pure function of the chain.

Reputation grows slowly while a peer behaves, and halves with each fault. A newcomer begins low and
rises to full trust over some rounds, so that a fresh identity is worth little. Reputations are
integers, and influence is relative to the highest one of a round: at the start of a run, where all
are new, nobody is held back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import AggregationSection
from skerry.protocol.messages import FULL, Judgement

MAX_KNOWN = 512
"""Peers whose standing is remembered."""

NEWCOMER = "newcomer"
DOUBTED = "reputation"
SHARED = "copy-shared"
"""Of a contribution that counts once together with its copy: nobody's proven fault."""
_BLAMELESS = frozenset({NEWCOMER, DOUBTED, SHARED})


@dataclass(frozen=True, slots=True)
class Ramp:
    """The run's settings of reputation."""

    newcomer: int
    """Reputation of a peer that was never judged, 1 to FULL."""
    rounds: int
    """Rounds without fault from there to FULL."""

    @property
    def gain(self) -> int:
        """What a round without fault adds."""
        return -((self.newcomer - FULL) // self.rounds)


FLAT = Ramp(FULL, 1)
"""All have the highest reputation from the start."""


def ramp_of(section: AggregationSection) -> Ramp:
    """Return the ramp that the run file sets."""
    return Ramp(max(1, round(FULL * section.newcomer_trust)), section.ramp_rounds)


@dataclass(frozen=True, slots=True)
class PeerStanding:
    """What is known of one peer."""

    reputation: int
    """0 to FULL."""
    strikes: int = 0
    """How often it was found at fault."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The peers that were judged so far."""

    ramp: Ramp
    peers: Mapping[PeerId, PeerStanding]

    def of(self, peer: PeerId) -> PeerStanding:
        """Return a peer's standing."""
        return self.peers.get(peer) or PeerStanding(self.ramp.newcomer)

    def after(
        self, contributors: Iterable[PeerId], judgements: Iterable[Judgement], harmful: set[PeerId]
    ) -> "Standing":
        """Return the standing after a round.

        Args:
            contributors: whose contributions the round's commit includes.
            judgements: those that counted less than in full, or not at all.
            harmful: whose contributions to an earlier round did harm, as spot checks found.
        """
        reasons = {judgement.peer: judgement.reason for judgement in judgements}
        peers = dict(self.peers)
        for peer in sorted({*contributors, *harmful}):
            reason = reasons.get(peer, "")
            if peer in harmful or is_fault(reason):
                peers[peer] = _punished(self.of(peer))
            elif reason != SHARED:
                peers[peer] = _rewarded(self.of(peer), self.ramp.gain)
        return self if peers == self.peers else Standing(self.ramp, _remembered(peers))


def influence_of(reputation: int, highest: int) -> int:
    """Return the influence, 1 to FULL, of a reputation beside the highest one in the round."""
    return max(1, FULL * reputation // max(1, highest))


def is_fault(reason: str) -> bool:
    """Say whether a judgement's reason speaks against its author."""
    return bool(reason) and reason not in _BLAMELESS


def doubt(standing: PeerStanding) -> str:
    """Return why a peer's influence is below that of others."""
    return DOUBTED if standing.strikes else NEWCOMER


def _rewarded(known: PeerStanding, gain: int) -> PeerStanding:
    return PeerStanding(min(FULL, known.reputation + gain), known.strikes)


def _punished(known: PeerStanding) -> PeerStanding:
    return PeerStanding(known.reputation // 2, known.strikes + 1)


def _remembered(peers: Mapping[PeerId, PeerStanding]) -> Mapping[PeerId, PeerStanding]:
    """Return at most MAX_KNOWN peers: forgetting must not clear anyone of a fault."""
    if len(peers) <= MAX_KNOWN:
        return peers
    ordered = sorted(peers, key=lambda peer: (-peers[peer].strikes, peers[peer].reputation, peer))
    return {peer: peers[peer] for peer in ordered[:MAX_KNOWN]}
