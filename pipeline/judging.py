"""Which contributions of a round are believed, from what all of them have in common.

The evidence spans all shards: a reversed or random contribution is told from an honest one by a few
hundred entries that it shares with others, and a single shard may have fewer. It consists of
integers and exact norms (compression/agreement.py), so that the same payloads give the same
judgements on every peer. Each rule names its reason:

"norm"         entries are many times as large as those of most others in the same shards, or in all
               where too few have those. (Below that, the clip bounds it.)
"direction"    on entries that others sent too, its signs agree with theirs far less than theirs
               do among each other: the cosine to the leave-one-out mean, of signs, so that large
               values do not outvote many peers.
"copy"         its entries are mostly those of a peer with a higher reputation.
"copy-shared"  the same, of peers with equal reputation: together they count once.
"newcomer", "reputation"  it counts less than those with the highest reputation.

Pairs that share most of their entries do not vote on each other's direction: a copy would vouch for
its original, and one with reversed signs would convict it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import AggregationSection
from skerry.protocol.messages import FULL, Judgement
from skerry.protocol.standing import SHARED, PeerStanding, doubt, influence_of

MIN_JUDGES = 4
"""Contributions below which there is no majority to lean on, as to norm and direction."""
_DEVIATIONS = 3.0
"""Standard deviations of the mean of random signs by which a direction must be off."""


@dataclass(frozen=True, slots=True)
class JudgingRules:
    """The run's settings; 0 switches a rule off."""

    norm_limit: float
    """Times the norm per entry of most others."""
    copy_overlap: float
    """Share of the entries of the larger of two contributions that both name, beyond what two
    usually share."""
    direction_floor: float
    """Share of the median agreement."""


def rules_of(section: AggregationSection) -> JudgingRules:
    """Return the rules that the run file sets."""
    return JudgingRules(section.norm_limit, section.copy_overlap, section.direction_floor)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the contributions of a round have in common, over all shards."""

    authors: tuple[PeerId, ...]
    sent: Sequence[Sequence[int]]
    """[i][j]: entries of i in the shards that j has, too."""
    shared: Sequence[Sequence[int]]
    """Entries that both of a pair name."""
    balance: Sequence[Sequence[int]]
    """Of those, equal signs minus opposite signs."""
    squares: Sequence[Sequence[float]]
    """[i][j]: squared norm of i in the shards that j has, too."""


def judge(
    evidence: Evidence, standings: Sequence[PeerStanding], rules: JudgingRules
) -> tuple[Judgement, ...]:
    """Return the judgements on contributions that are not to count in full, in order of authors.

    Args:
        evidence: of all contributions.
        standings: their authors', as of the round's commit.
        rules: the run's.
    """
    reputations = [standing.reputation for standing in standings]
    copies = _copies(evidence, rules.copy_overlap)
    excluded = dict.fromkeys(_too_long(evidence, rules.norm_limit), "norm")
    off = _misdirected(evidence, reputations, copies, set(excluded), rules.direction_floor)
    excluded |= dict.fromkeys(off, "direction")
    shares = _copy_shares(copies, reputations, set(excluded))
    excluded |= {i: "copy" for i, share in shares.items() if not share}
    counted = [i for i in range(len(evidence.authors)) if i not in excluded]
    highest = max((reputations[i] for i in counted), default=FULL)
    found = [Judgement(evidence.authors[i], 0, reason) for i, reason in excluded.items()]
    for i in counted:
        influence = influence_of(reputations[i], highest)
        reason = SHARED if i in shares else doubt(standings[i])
        influence = max(1, influence // shares.get(i, 1))
        if influence < FULL:
            found.append(Judgement(evidence.authors[i], influence, reason))
    return tuple(sorted(found, key=lambda judgement: judgement.peer))


def _too_long(evidence: Evidence, limit: float) -> list[int]:
    """Return the contributions whose norm per entry is above ``limit`` times that of most others.

    Entries of one shard may be larger by nature than those of another, so two contributions are
    compared over the shards that both have; where too few have any of them, over all.
    """
    everyone = [i for i, sent_by_it in enumerate(evidence.sent) if sent_by_it[i]]
    found: list[int] = []
    for i in everyone:
        alike = [j for j in everyone if evidence.sent[i][j] and evidence.sent[j][i]]
        if len(alike) >= MIN_JUDGES:
            pairs = [(_norm(evidence, i, j), _norm(evidence, j, i)) for j in alike]
        else:
            pairs = [(_norm(evidence, i, i), _norm(evidence, j, j)) for j in everyone]
        above = sum(own > limit * other for own, other in pairs)
        if limit and len(pairs) >= MIN_JUDGES and above > (len(pairs) - 1) // 2:
            found.append(i)
    return found


def _norm(evidence: Evidence, i: int, j: int) -> float:
    """Return the norm per entry of i in the shards that j has, too."""
    return sqrt(evidence.squares[i][j] / evidence.sent[i][j])


def _copies(evidence: Evidence, overlap: float) -> list[set[int]]:
    """Return for each contribution the others that share too much with it.

    How much honest ones share depends on the model and on how far it is trained; what counts is
    how far a pair is from sharing everything, compared with the median pair. Two peers alone are no
    measure for each other.
    """
    number = len(evidence.authors)
    shares: dict[tuple[int, int], float] = {}
    for i in range(number):
        for j in range(i):
            if larger := max(evidence.sent[i][j], evidence.sent[j][i]):
                shares[i, j] = evidence.shared[i][j] / larger
    ordered = sorted(shares.values())
    usual = ordered[(len(ordered) - 1) // 2] if ordered else 1.0
    bound = 1.0 - (1.0 - overlap) * (1.0 - usual)
    found: list[set[int]] = [set() for _ in range(number)]
    for (i, j), share in shares.items():
        if overlap and share > bound:
            found[i].add(j)
            found[j].add(i)
    return found


def _misdirected(
    evidence: Evidence,
    reputations: Sequence[int],
    copies: Sequence[set[int]],
    excluded: set[int],
    floor: float,
) -> list[int]:
    """Return those that disagree with the others, the worst first; each is then asked no more."""
    asked = [i for i, sent in enumerate(evidence.sent) if sent[i] and i not in excluded]
    found: list[int] = []
    while floor and len(asked) >= MIN_JUDGES:
        scores = {i: _score(evidence, reputations, set(asked) - copies[i] - {i}, i) for i in asked}
        ordered = sorted(asked, key=lambda i: (scores[i][0], i))
        worst, median = ordered[0], _middle(ordered, reputations)
        required = floor * (scores[median][0] - scores[median][1])
        if required <= 0 or sum(scores[worst]) >= required:
            break
        found.append(worst)
        asked.remove(worst)
    return found


def _middle(ordered: Sequence[int], reputations: Sequence[int]) -> int:
    """Return the lower median, each counting by its reputation."""
    total, below = sum(reputations[i] for i in ordered), 0
    for i in ordered:
        below += reputations[i]
        if 2 * below >= total:
            return i
    raise ValueError("nobody is there")


def _score(
    evidence: Evidence, reputations: Sequence[int], voters: set[int], i: int
) -> tuple[float, float]:
    """Return the mean agreement of signs with the voters, -1 to 1, and how much chance can move it.

    Voters count by their reputation.
    """
    balance = sum(reputations[k] * evidence.balance[i][k] for k in voters)
    shared = sum(reputations[k] * evidence.shared[i][k] for k in voters)
    entries = sum(evidence.shared[i][k] for k in voters if reputations[k])
    if not shared:
        return 0.0, 1.0
    return balance / shared, _DEVIATIONS / sqrt(entries)


def _copy_shares(
    copies: Sequence[set[int]], reputations: Sequence[int], excluded: set[int]
) -> dict[int, int]:
    """Return of each member of a group of copies among how many it counts once; 0: not at all."""
    shares: dict[int, int] = {}
    for group in _groups(copies, excluded):
        highest = max(reputations[i] for i in group)
        originals = [i for i in group if reputations[i] == highest]
        shares |= {i: len(originals) if i in originals else 0 for i in group}
        if len(originals) == 1:
            del shares[originals[0]]  # it counts as if there were no copies
    return shares


def _groups(copies: Sequence[set[int]], excluded: set[int]) -> list[set[int]]:
    """Return the groups of two and more that are connected by copying."""
    left = {i for i, others in enumerate(copies) if others - excluded} - excluded
    groups: list[set[int]] = []
    while left:
        group: set[int] = set()
        fresh = {min(left)}
        while fresh:
            group |= fresh
            fresh = set().union(*(copies[i] for i in fresh)) - excluded - group
        groups.append(group)
        left -= group
    return groups
