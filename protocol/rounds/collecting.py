"""One round: own contribution, the others' contributions, the leader's commit, view changes."""

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Announce, Heartbeat, SignedAnnounce
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.chain import check_announce, most_text_tokens
from skerry.protocol.rounds.events import Checked, Encoded, Trained
from skerry.protocol.rounds.ordering import remind
from skerry.protocol.rounds.planning import candidates_of, nobody_trained, plan_for
from skerry.protocol.rounds.publishing import first_commit, publish
from skerry.protocol.rounds.settings import welcome
from skerry.protocol.rounds.settling import forget_settled, settle
from skerry.protocol.rounds.state import Phase, RoundState, leads
from skerry.protocol.rounds.training import begin_round, encode_trained, enter
from skerry.protocol.rounds.trust import may_judge
from skerry.protocol.shadows import planned

MAX_EARLY_PARENTS = 16


def on_trained(s: RoundState, event: Trained, now: float) -> list[Action]:
    """The inner steps have ended: encode what they brought."""
    s.slowness.hear(s.me, event.block_rate)
    if not s.training or event.parent != s.at:
        return []
    s.trained = True
    return encode_trained(s, now) if s.phase is Phase.TRAINING else []


def on_encoded(s: RoundState, event: Encoded, now: float) -> list[Action]:
    """The contribution is durable: announce it, or let the chain's verdict decide."""
    if s.encoding == event.parent:
        s.encoding = None
    announce = _announce_of(s, event) if event.shards else None
    if announce is not None:
        forget_settled(s)
        s.history.setdefault(event.parent, None)
        s.unsent[event.parent] = announce
    if event.parent != s.at:
        return settle(s) if event.shards and s.goal is None else []
    if s.phase is not Phase.ENCODING:
        return []  # a commit came first; should it lead nowhere, the round goes on with this
    enter(s, Phase.COLLECTING, now)
    if announce is not None:
        return [act.PublishAnnounce(announce)]
    s.idle.add(s.me)
    return progress(s, now)


def note_idle(s: RoundState, peer: PeerId, beat: Heartbeat, now: float) -> list[Action]:
    """Take in whether another peer has trained nothing in this round; then it is not waited for."""
    idle = beat.phase == Phase.IDLE and beat.head == s.at
    if idle == (peer in s.idle):
        return []
    if not idle:
        s.idle.discard(peer)
        return []
    s.idle.add(peer)
    return progress(s, now)


def rejoin(s: RoundState, peer: PeerId, beat: Heartbeat, now: float) -> list[Action]:
    """Begin the round anew with a member of this ring that trains, where nobody has trained yet.

    Each member begins anew when its own patience ends. Unless they come together, one may be
    through whenever another begins. Once in a view, so that it does not keep a leader in office; in
    the first one only who began late, since others may have been passed over.
    """
    trains = beat.phase == Phase.TRAINING and beat.head == s.at
    due = s.phase is Phase.COLLECTING and s.view > s.rejoined and nobody_trained(s)
    if not (trains and due and _shares_ring(s, peer)):
        return []
    s.rejoined, s.round_since = s.view, now
    return begin_round(s, now)


def _shares_ring(s: RoundState, peer: PeerId) -> bool:
    plan = s.hosts.plan
    ring = plan.ring_of(s.me) if plan is not None else None
    return plan is not None and ring is not None and plan.ring_of(peer) == ring


def _announce_of(s: RoundState, event: Encoded) -> Announce:
    number = s.chain.round_of(event.parent) + 1
    most = most_text_tokens(s.rules.chain, number)
    reads = s.chain.settings(event.parent).hosts.reads_text(s.me)
    return Announce(
        run_id=s.rules.chain.run_id,
        round=number,
        parent=event.parent,
        state=s.starts[event.parent],
        text_tokens=min(event.text_tokens, most) if reads else 0,
        round_tokens=event.round_tokens,
        loss=event.loss,
        shards=event.shards,
        norms=event.norms,
    )


def on_announce(s: RoundState, announce: SignedAnnounce, now: float) -> list[Action]:
    """A contribution was announced by another peer, or the own one has been signed."""
    parent = announce.message.parent
    if announce.signer == s.me:
        s.history[parent] = announce
        s.unsent.pop(parent, None)
    if s.phase is Phase.REMOVED:
        return []
    if parent == s.at and s.head is not None:
        return _take(s, announce, now)
    if parent in s.chain and s.chain.round_of(parent) < s.chain.round_of(s.at):
        return [act.Refuse(announce.signer, "stale-round")]
    _keep_early(s, announce)
    return []


def take_early(s: RoundState, now: float) -> list[Action]:
    """Take in what was announced upon ``at`` before this peer got here."""
    actions: list[Action] = []
    for announce in s.early.pop(s.at, {}).values():
        actions += on_announce(s, announce, now)
    s.vetting.clear()
    for author, announce in list(s.announces.items()):
        if author not in accepted(s) | s.unsound:
            actions += [check for check in _inspect(s, announce) if check not in actions]
    return actions


def on_checked(s: RoundState, event: Checked, now: float) -> list[Action]:
    """A contribution was found sound or not; without a compute process nothing can be found."""
    if s.phase is Phase.STARTING:
        return []
    authors = [p for p, a in s.announces.items() if a.hash == event.announce]
    if not authors:
        return []
    (s.unsound if event.reason else s.sound).add(authors[0])
    if event.whole and not event.reason:
        s.vetted.add(authors[0])
    refusal: list[Action] = [act.Refuse(authors[0], event.reason)] if event.reason else []
    return refusal + progress(s, now)


def progress(s: RoundState, now: float) -> list[Action]:
    """Publish the commit if that is this peer's task and time; pass over leaders that fail."""
    if s.phase is not Phase.COLLECTING:
        return []
    if now >= hearing_deadline(s):
        s.unheard.clear()
    _note_completeness(s, now)
    # A ring that is not whole takes long to find out: its repair may come after all deadlines.
    repair = _lead(s, now) if may_repair(s) else []
    view = s.view
    _pass_over_leaders(s, now)
    if s.view != view and nobody_trained(s):
        s.round_since = now  # a ring was not whole in time, perhaps
        return begin_round(s, now)
    return repair + _lead(s, now)


def _lead(s: RoundState, now: float) -> list[Action]:
    """Publish the commit, as who leads, if there can be one and nobody is waited for any more."""
    if not leads(s) or s.published_view == s.view:
        return []
    vetting = _vet(s)
    waits = missing(s) and now < collect_deadline(s)
    if waits or not (may_publish(s) or may_repair(s)):
        return vetting
    published = publish(s)
    if published:
        s.published_view = s.view
    return vetting + published


def may_publish(s: RoundState) -> bool:
    """Say whether this peer leads and a commit by it would be one: only time may be wanting.

    It must know what to state of the contributions before, and some of who goes on must read text.
    """
    due = leads(s) and s.published_view != s.view and bool(s.vetted)
    return due and may_judge(s) and bool(s.hosts.readers(s.live_roster))


def may_repair(s: RoundState) -> bool:
    """Say whether this peer leads, and only a plan that it has made can let anyone train again.

    The origin of a ring must be there, or who was to keep a copy of what only it has: that is not
    made anew while it may come back.
    """
    due = leads(s) and s.published_view != s.view and s.proposal is not None
    kept = bool(s.hosts.readers(s.live_roster)) or _keeps_an_origin(s)
    return due and nobody_trained(s) and kept


def _keeps_an_origin(s: RoundState) -> bool:
    """Say whether a peer is there to which the plan has had an origin's stage copied."""
    holders = {shadow.holder for shadow in planned(s.hosts.plan, s.rules.chain.shards[0])}
    return bool(holders & (s.alive | {s.me}))


def accepted(s: RoundState) -> set[PeerId]:
    """Return the authors whose contributions this peer has seen to be good, as far as it must."""
    return s.vetted if leads(s) else s.sound


def missing(s: RoundState) -> list[PeerId]:
    """Return the peers whose contribution is to be expected and not here yet."""
    found = accepted(s) | s.unsound | s.idle
    return [peer for peer in s.expected_roster if peer not in found]


def hearing_deadline(s: RoundState) -> float:
    """Return when a roster member that was never heard counts as lost."""
    return s.round_since + s.rules.grace


def collect_deadline(s: RoundState) -> float:
    """Return when the leader commits with what it has."""
    return s.round_since + s.deadline.seconds + s.rules.grace


def commit_due(s: RoundState) -> float:
    """Return when the next leader takes over if there is no commit."""
    ready = collect_deadline(s)
    if s.complete_since is not None:
        ready = min(ready, s.complete_since)
    return max(ready, s.view_since) + s.rules.grace


def resend(s: RoundState, now: float) -> list[Action]:
    """Repeat the own announcement now and then: the leader may have missed it."""
    if s.phase is not Phase.COLLECTING or s.own is None or now < s.resent_at + s.rules.grace:
        return []
    s.resent_at = now
    again = [act.Broadcast(s.own.envelope, s.others)] if s.others else []
    return [*again, *remind(s)]


def start_run(s: RoundState) -> list[Action]:
    """As the owner, publish the first commit once enough members are there."""
    ready = s.phase is Phase.WAITING and s.me == s.rules.chain.owner and s.published_view is None
    own = s.members.get(s.me)
    if not ready or s.held is None or own is None:
        return []
    present = [s.members[p] for p in sorted(s.active - {s.me}) if p in s.members]
    admitted = welcome(s.settings, present, s.rules.chain.max_peers - 1)
    if len(admitted) + 1 < s.rules.min_peers:
        return []
    candidates = candidates_of((own, *admitted))
    asked = plan_for(s, candidates)
    if asked or not s.plan_made:
        return asked
    s.published_view = 0
    return first_commit(s, admitted)


def _take(s: RoundState, announce: SignedAnnounce, now: float) -> list[Action]:
    author = announce.signer
    known = s.announces.get(author)
    if known is not None:
        same = known.hash == announce.hash
        return [] if same else [act.Refuse(author, "equivocation")]
    assert s.head is not None
    try:
        check_announce(s.rules.chain, announce.message, author, s.head, s.hosts)
    except ProtocolError as error:
        return [act.Refuse(author, error.reason)]
    s.announces[author] = announce
    s.arrived[author] = now
    if author != s.me:
        return _inspect(s, announce) or progress(s, now)
    s.own = announce
    s.sound.add(s.me)
    s.vetted.add(s.me)
    return progress(s, now)


def _inspect(s: RoundState, announce: SignedAnnounce) -> list[Action]:
    """Look at another's contribution: at the hosted shards, who leads at all of them."""
    hosted, shards = frozenset(s.hosted), announce.message.shards
    wanted = shards if leads(s) else tuple(shard for shard in shards if shard.shard in hosted)
    if not wanted:
        s.sound.add(announce.signer)
        return []
    if len(wanted) == len(shards):
        s.vetting.add(announce.signer)
    return [act.Check(announce, wanted)]


def _vet(s: RoundState) -> list[Action]:
    """Look at what was announced before this peer came to lead, as far as it has not."""
    done = s.vetted | s.vetting | s.unsound
    return [
        check
        for author, announce in list(s.announces.items())
        if author not in done
        for check in _inspect(s, announce)
    ]


def _keep_early(s: RoundState, announce: SignedAnnounce) -> None:
    s.early.setdefault(announce.message.parent, {}).setdefault(announce.signer, announce)
    while len(s.early) > MAX_EARLY_PARENTS:
        del s.early[next(iter(s.early))]


def _note_completeness(s: RoundState, now: float) -> None:
    if missing(s):
        s.complete_since = None
    elif s.complete_since is None:
        s.complete_since = now


def _pass_over_leaders(s: RoundState, now: float) -> None:
    if s.published_view == s.view and leads(s):
        return
    if now >= commit_due(s):
        s.view += 1
        s.view_since = now
    for _ in s.roster:
        if s.leader_alive:
            break
        s.view += 1
        s.view_since = now
