"""Going on when everyone who trains a round is gone or paused, so that nobody commits it.

Live peers that are in step but not in the roster wait longer than any commit would take; then
the first of them publishes a commit that includes nothing and puts them into the roster. Its
weight is that of its parent: a commit with contributions beats it, should the old roster turn
out to have gone on elsewhere.
"""

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Commit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.collecting import collect_deadline
from skerry.protocol.rounds.leader import succession
from skerry.protocol.rounds.publishing import in_step
from skerry.protocol.rounds.settings import welcome
from skerry.protocol.rounds.state import Phase, RoundState

_VIEWS = 3
"""Times the grace that a commit may be late before the roster counts as gone."""


def takeover_due(s: RoundState) -> float | None:
    """Return when this peer takes over; None while it is not its place."""
    observing = s.phase is Phase.OBSERVING and s.published_view is None
    if not observing or s.active.intersection(s.roster):
        return None
    here = _in_step(s)
    if s.me not in here:
        return None
    place = succession(s.rules.chain.run_id, s.round, here).index(s.me)
    return collect_deadline(s) + s.rules.grace * (_VIEWS + place)


def take_over(s: RoundState, now: float) -> list[Action]:
    """Publish a commit without contributions whose roster are the live peers in step."""
    due = takeover_due(s)
    if due is None or now < due:
        return []
    assert s.head is not None and s.held is not None
    s.published_view = s.view
    roster = _in_step(s)
    commit = Commit(
        run_id=s.rules.chain.run_id,
        round=s.round,
        view=0,
        parent=s.at,
        state=s.held,
        announces=(),
        roster=roster,
        admissions=tuple(s.members[peer] for peer in roster),
        cursor=s.head.cursor + s.rules.chain.steps * len(s.hosts.readers(s.roster)),
        weight=s.head.weight,
    )
    text = f"nobody of the roster of round {s.round} trains: going on without it"
    return [act.Note(True, text), act.PublishCommit(commit)]


def _in_step(s: RoundState) -> tuple[PeerId, ...]:
    """Return this peer and the others in step that one commit may take in together, sorted.

    Only who hosts the whole model: a ring of the plan is not whole without the roster.
    """
    candidates = [s.me, *(p for p in in_step(s) if p not in s.roster)]
    members = [s.members[peer] for peer in candidates if peer in s.members and _whole(s, peer)]
    found = welcome(s.settings, members, s.rules.chain.max_peers)
    return tuple(sorted(member.signer for member in found))


def _whole(s: RoundState, peer: PeerId) -> bool:
    offer = s.members[peer].message.offer
    return s.hosts.is_whole(peer) and offer.is_whole(s.rules.chain.replica_bytes)
