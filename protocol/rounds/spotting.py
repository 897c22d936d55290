"""Spot checks: who tries whose contribution on held-out text, and what follows; pure.

Nobody can know before a commit exists whom it will have checked, nor by whom: both follow from its
hash. Each subject has a few verifiers, drawn from the other contributors who are trusted. They must
all find harm before it counts, so that an honest one among them protects an honest subject; a
hostile one can acquit a hostile subject, until others are drawn.
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.standing import Standing

VERIFIERS = 3
"""Of each subject; with fewer trusted contributors there are fewer, but no fewer than two."""
_LEAST = 2

Duties = Mapping[PeerId, tuple[PeerId, ...]]
"""The verifiers of each subject, sorted."""


def duties(
    commit: CommitHash,
    contributors: Collection[PeerId],
    standing: Standing,
    number: int,
    partial: frozenset[PeerId] = frozenset(),
) -> Duties:
    """Return whom ``number`` spot checks of a commit's contributions concern, and who does them.

    Args:
        contributors: those whose contributions the commit includes.
        standing: as of the commit.
        partial: who hosts less than the whole model, and so cannot measure its loss.
    """
    highest = max((standing.of(peer).reputation for peer in contributors), default=0)
    able = [peer for peer in contributors if peer not in partial]
    trusted = [peer for peer in able if 2 * standing.of(peer).reputation >= highest]
    found = {}
    for subject in _drawn(f"{commit}/subject", contributors)[:number]:
        others = [peer for peer in trusted if peer != subject]
        drawn = _drawn(f"{commit}/verifier/{subject}", others)[:VERIFIERS]
        if len(drawn) >= _LEAST:
            found[subject] = tuple(sorted(drawn))
    return found


def harmful(assigned: Duties, findings: Iterable[tuple[PeerId, PeerId]]) -> set[PeerId]:
    """Return the subjects that all of their verifiers found harmful.

    Args:
        findings: of harm, as (verifier, subject).
    """
    found = set(findings)
    return {
        subject
        for subject, verifiers in assigned.items()
        if all((verifier, subject) in found for verifier in verifiers)
    }


def _drawn(lot: str, peers: Iterable[PeerId]) -> list[PeerId]:
    return sorted(peers, key=lambda p: (blake2b(f"{lot}/{p}".encode(), digest_size=16).digest(), p))
