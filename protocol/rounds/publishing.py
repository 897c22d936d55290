"""The leader's commit: sound contributions from the agreed state, the next roster, and its plan."""

from dataclasses import dataclass, replace

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Commit, SignedMember
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.hosting import Hosts, plan_version
from skerry.protocol.rounds.ordering import orders_for
from skerry.protocol.rounds.settings import Settings, welcome
from skerry.protocol.rounds.state import RoundState
from skerry.protocol.rounds.trust import findings_for
from skerry.protocol.rounds.voting import agreeing, state_before


@dataclass(frozen=True, slots=True)
class _Next:
    """Who trains the next round, under which plan."""

    roster: tuple[PeerId, ...]
    admissions: tuple[SignedMember, ...]
    plan: Plan | None


def publish(s: RoundState) -> list[Action]:
    """Build the commit of this round; without contributions it is one for its plan alone."""
    assert s.head is not None
    chosen = [s.announces[p] for p in sorted(s.vetted)]
    agreed = agreeing(chosen)
    refused: list[Action] = [
        act.Refuse(a.signer, "state-digest") for a in chosen if a not in agreed
    ]
    staying = set(s.live_roster) | {a.signer for a in agreed} - s.resting
    orders, settings = orders_for(s, frozenset(staying))
    # What a peer sent that leaves now is not wanted either; without any other it must do.
    included = tuple(a for a in agreed if a.signer not in settings.removed) or tuple(agreed)
    following = _next_round(s, settings, staying - settings.removed.keys())
    if not included and following.plan is None:
        return refused
    commit = Commit(
        run_id=s.rules.chain.run_id,
        round=s.round,
        view=s.view,
        parent=s.at,
        state=state_before(s.rules.chain.shards, s.head, included),
        announces=included,
        roster=following.roster,
        admissions=following.admissions,
        cursor=s.head.cursor + s.rules.chain.steps * len(s.hosts.readers(s.roster)),
        weight=s.head.weight + sum(a.message.text_tokens for a in included),
        orders=orders,
        judgements=s.judged.get(s.at, ()) if included else (),
        findings=findings_for(s) if included else (),
        plan=following.plan,
    )
    return [*refused, act.PublishCommit(commit)]


def first_commit(s: RoundState, welcomed: tuple[SignedMember, ...]) -> list[Action]:
    """As the owner, begin the run with those who can host all of the model, or are in a plan."""
    assert s.held is not None
    hosts, plan = s.hosts, None
    if s.proposal is not None:
        plan = replace(s.proposal, version=plan_version(0, 0))
        hosts = hosts.following(plan)
    admitted = tuple(member for member in welcomed if _has_task(s, hosts, member))
    commit = Commit(
        run_id=s.rules.chain.run_id,
        round=0,
        view=0,
        parent=s.at,
        state=s.held,
        announces=(),
        roster=tuple(sorted([s.me, *(m.signer for m in admitted)])),
        admissions=admitted,
        cursor=0,
        weight=0,
        plan=plan,
    )
    return [act.PublishCommit(commit)]


def in_step(s: RoundState) -> list[PeerId]:
    """Return the other peers that stand at the same commit and want to train, sorted."""
    there = sorted(s.active - {s.me})
    return [p for p in there if p in s.positions and s.positions[p].head == s.at]


def waiting_members(s: RoundState) -> list[SignedMember]:
    """Return the live members that are in step but not in the roster, sorted by peer."""
    return [s.members[p] for p in in_step(s) if p not in s.roster and p in s.members]


def _next_round(s: RoundState, settings: Settings, staying: set[PeerId]) -> _Next:
    """Take in who can be, by the proposed plan if all its rings come about, else by the present."""
    if s.proposal is not None:
        plan = replace(s.proposal, version=plan_version(s.round, s.view))
        hosts = settings.hosts.following(plan)
        roster, newcomers = _roster(s, settings, staying, hosts)
        if hosts.ringed <= roster and hosts.readers(roster):
            return _Next(tuple(sorted(roster)), newcomers, plan)
    roster, newcomers = _roster(s, settings, staying, settings.hosts)
    return _Next(tuple(sorted(roster)), newcomers, None)


def _roster(
    s: RoundState, settings: Settings, staying: set[PeerId], hosts: Hosts
) -> tuple[set[PeerId], tuple[SignedMember, ...]]:
    """Return who trains under ``hosts``, and the records of those that are new."""
    stay = {peer for peer in staying if hosts.shards_of(peer)}
    able = [member for member in waiting_members(s) if _has_task(s, hosts, member)]
    newcomers = welcome(settings, able, s.rules.chain.max_peers - len(s.roster))
    return stay | {member.signer for member in newcomers}, newcomers


def _has_task(s: RoundState, hosts: Hosts, member: SignedMember) -> bool:
    """Say whether a peer is in a ring of the plan, or can host the whole model."""
    if hosts.names(member.signer):
        return bool(hosts.shards_of(member.signer))
    return member.message.offer.is_whole(s.rules.chain.replica_bytes)
