"""Judging contributions together: own judgements, the commit's, and spot checks.

Every peer judges the contributions of a commit when it applies them, from the same bytes and the
same standing, and so all come to the same judgements. The next commit states them; whoever applied
the same state knows what it must say, and does without a commit that says otherwise. What the
chain states is what counts: reputations follow from it alone (standings.py).
"""

from dataclasses import dataclass

from skerry.protocol.codec import MAX_FINDINGS
from skerry.protocol.compute import Contribution
from skerry.protocol.ids import CommitHash, PeerId, short
from skerry.protocol.messages import FULL, Commit, Finding, Judgement, SignedFinding
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.events import Tried
from skerry.protocol.rounds.state import RoundState, contributions_of
from skerry.protocol.standing import is_fault

VIEWS_TO_WAIT = 2
"""Leaders that may know better than one who has restarted."""
KEPT = 8
"""Commits whose judgements and findings are remembered."""


def with_standing(s: RoundState, name: CommitHash) -> tuple[Contribution, ...]:
    """Return a commit's contributions with their authors' standing."""
    standing = s.chain.standing(name)
    found = []
    for one in contributions_of(s.chain[name].message):
        known = standing.of(one.author)
        sent = (one.author, one.round_tokens, one.shards)
        found.append(Contribution(*sent, known.reputation, known.strikes))
    return tuple(found)


def spot_checks(s: RoundState, name: CommitHash, outer_lr: float | None) -> list[Action]:
    """Return the tries that fall to this peer before it applies a commit; none to catch up."""
    if s.goal != name:
        return []
    subjects = [one for one, verifiers in s.chain.duties(name).items() if s.me in verifiers]
    commit = s.chain[name].message
    sent = {one.author: one for one in contributions_of(commit)}
    return [act.Try(name, commit.round, sent[subject], outer_lr) for subject in subjects]


def on_tried(s: RoundState, event: Tried) -> list[Action]:
    """A contribution was tried on held-out text: tell the others if it does harm."""
    if event.gain >= 0 or event.commit not in s.chain:
        return []
    text = f"the contribution of {short(event.subject)} raises the loss by {-event.gain:.4f}"
    finding = Finding(s.rules.chain.run_id, event.commit, event.subject, event.gain)
    return [act.Note(True, text), act.PublishFinding(finding)]


def on_finding(s: RoundState, finding: SignedFinding) -> list[Action]:
    """Keep a verifier's finding for the next commit."""
    name, subject = finding.message.commit, finding.message.subject
    if name not in s.chain or s.chain.round_of(name) < s.chain.round_of(s.at):
        return []  # too late to count, or not to be judged yet
    if finding.signer not in s.chain.duties(name).get(subject, ()):
        return [act.Refuse(finding.signer, "finding")]
    s.findings.setdefault(name, {})[finding.signer, subject] = finding
    while len(s.findings) > KEPT:
        del s.findings[next(iter(s.findings))]
    return []


def findings_for(s: RoundState) -> tuple[SignedFinding, ...]:
    """Return the findings that a commit upon the present one states."""
    known = sorted(s.findings.get(s.at, {}).items())
    return tuple(finding for _, finding in known)[:MAX_FINDINGS]


def judged(s: RoundState, name: CommitHash, judgements: tuple[Judgement, ...]) -> list[Action]:
    """Remember own judgements of a commit's contributions, and name who is at fault."""
    s.judged.pop(name, None)
    s.judged[name] = judgements
    while len(s.judged) > KEPT:
        del s.judged[next(iter(s.judged))]
    return [act.Refuse(one.peer, one.reason) for one in judgements if is_fault(one.reason)]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a peer is trusted, for people to read."""

    reputation: int
    """In thousandths, as the chain says up to now."""
    strikes: int
    """How often it was found at fault."""
    influence: int
    """Of its newest contribution, thousandths."""
    doubt: str
    """Why that is below FULL; empty if it is not."""


def trust_in(s: RoundState, peer: PeerId) -> Trust:
    """Return what this node knows of a peer's standing and its newest contribution."""
    known = s.chain.standing(s.at).of(peer)
    judgements = {one.peer: one for one in s.judged.get(s.at, ())}
    newest = judgements.get(peer)
    influence, doubt = (newest.influence, newest.reason) if newest else (FULL, "")
    return Trust(known.reputation, known.strikes, influence, doubt)


def may_judge(s: RoundState) -> bool:
    """Say whether this peer may publish a commit, which states what was judged before.

    After a restart it does not know and lets others go first. Should none of them know either,
    the commit states nothing, and nobody contradicts.
    """
    unknown = s.head is not None and bool(s.head.announces) and s.at not in s.judged
    return not unknown or s.view >= VIEWS_TO_WAIT


def is_misjudged(s: RoundState, commit: Commit) -> bool:
    """Say whether a commit upon the own state says otherwise of contributions judged here."""
    own = s.judged.get(commit.parent)
    return bool(commit.announces) and own is not None and own != commit.judgements
