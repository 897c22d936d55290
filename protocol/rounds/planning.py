"""When a plan is needed, and for whom. Who leads a round asks for one, and its commit holds it.

Where every peer hosts the whole model there is no plan. The planning itself takes time and is no
decision of this machine: it is asked for (MakePlan) and comes back as an event (Planned).
"""

from collections.abc import Iterable
from dataclasses import replace

from skerry.protocol.errors import ProtocolError
from skerry.protocol.messages import RoleOffer, SignedMember
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.events import Planned
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.rounds.publishing import waiting_members
from skerry.protocol.rounds.slowness import counted_on
from skerry.protocol.rounds.state import RoundState, leads
from skerry.protocol.rounds.training import ROUND


def ask_plan(s: RoundState, now: float) -> list[Action]:
    """As who leads, or is to lead the next round, ask for a plan if the present one does not fit.

    Planning may take longer than a round, and in rings alone another peer leads each.
    """
    if s.phase not in ROUND:
        return []
    if s.slowness.seen != s.at:
        s.slowness.count_round(s.at, s.hosts.plan, s.round)
    if _awaits_suspect(s):
        return []
    return plan_for(s, _candidates(s, now)) if leads(s) or _leads_next(s) else []


def plan_for(s: RoundState, candidates: tuple[Candidate, ...]) -> list[Action]:
    """Ask for a plan if the present one does not fit, once for the same candidates.

    It does not either if a member of a ring is much slower than it was made for.
    """
    slow = s.slowness.due
    if not slow and _fits(s, s.hosts, candidates):
        s.plan_asked, s.plan_made = (), True
        s.proposal = s.hosts.plan if _is_shut_out(s) else None
        return []
    cause = (candidates, frozenset(one.peer for one in slow))
    if s.plan_asked and s.plan_cause == cause:
        return []
    first = not s.plan_asked
    rates = counted_on(s.hosts.plan, s.slowness.told, bool(slow))
    s.plan_cause, s.plan_made, s.proposal = cause, False, None
    s.plan_asked = tuple(replace(one, rate=rates.get(one.peer, 0.0)) for one in candidates)
    return [act.MakePlan(s.plan_asked, s.hosts.plan, first)]


def on_planned(s: RoundState, event: Planned) -> list[Action]:
    """Keep a plan for the next commit of this peer."""
    if event.candidates != s.plan_asked:
        return []
    s.plan_made = True
    if event.plan is None:
        return []
    try:
        hosts = s.hosts.following(event.plan)
    except ProtocolError as error:
        return [act.Note(True, f"a plan that was made here is not used: {error.detail}")]
    if _fits(s, hosts, event.candidates):  # or another would be made upon it, again and again
        s.proposal = event.plan
    return []


def nobody_trained(s: RoundState) -> bool:
    """Say whether there is no contribution of this round that a commit could be made of."""
    return not s.announces and s.at not in s.history


def _is_shut_out(s: RoundState) -> bool:
    """Say whether only a commit with the present plan brings its rings together again.

    Members that were away when a round was committed are not in its roster, and without them the
    others train nothing of which there could be another.
    """
    return nobody_trained(s) and not s.hosts.ringed <= set(s.roster)


def candidates_of(members: Iterable[SignedMember]) -> tuple[Candidate, ...]:
    """Return what members offer, sorted by peer."""
    found = (Candidate(m.signer, m.message.offer) for m in members)
    return tuple(sorted(found, key=lambda candidate: candidate.peer))


def _awaits_suspect(s: RoundState) -> bool:
    """Say whether a member of a ring is silent, but not dead yet: nothing is moved meanwhile."""
    return bool(s.suspects & s.hosts.ringed - s.settings.removed.keys())


def _leads_next(s: RoundState) -> bool:
    """Say whether this peer is to lead the next round, if the roster stays as it lives now."""
    roster = tuple(s.live_roster)
    return leader_of(s.rules.chain.run_id, s.round + 1, 0, roster, s.hosts.partial) == s.me


def _candidates(s: RoundState, now: float) -> tuple[Candidate, ...]:
    """Return who may take part in the next round, sorted."""
    members = [s.members[peer] for peer in s.live_roster if peer in s.members]
    waiting = waiting_members(s) + _arriving(s, now)
    return candidates_of(members + [m for m in waiting if s.settings.admits(m)])


def _arriving(s: RoundState, now: float) -> list[SignedMember]:
    """Return who was planned for in the round before and has a moment to say that it is here, too.

    Without them each round would begin with another question, and no answer that takes longer than
    a round would ever count.
    """
    if s.head is None or now >= s.round_since + s.rules.grace:
        return []
    before = {candidate.peer for candidate in s.plan_cause[0]} & s.active - set(s.roster)
    late = [p for p in sorted(before) if p in s.positions and p in s.members]
    return [s.members[p] for p in late if s.positions[p].head == s.head.parent]


def _fits(s: RoundState, hosts: Hosts, candidates: tuple[Candidate, ...]) -> bool:
    """Say whether everyone has a task that it offers to do, and no ring or copy lacks a peer."""
    here = {candidate.peer for candidate in candidates}
    needed = hosts.ringed | hosts.keepers
    return needed <= here and all(_is_placed(s, hosts, one) for one in candidates)


def _is_placed(s: RoundState, hosts: Hosts, candidate: Candidate) -> bool:
    peer, offer = candidate.peer, candidate.offer
    if not hosts.names(peer):
        whole = offer.is_whole(s.rules.chain.replica_bytes)
        return whole or peer == s.rules.chain.owner
    return offer.role == RoleOffer.AUTO or hosts.is_whole(peer) == (offer.role == RoleOffer.REPLICA)
