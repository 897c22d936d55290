"""Moving to the winning chain: replay, step back, or download; then begin the next round.

One mechanism for a new commit, for a peer that fell behind, for a joiner, for the side that
loses after a partition and for a peer whose parameters diverged: find the newest state on the
way to the goal that is at hand, load it if need be, and apply the commits that follow.
"""

from itertools import islice

from skerry.protocol.ids import CommitHash, Digest, PeerId, short
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import Commit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.events import Applied, Gathered, StateFailed, StateLoaded
from skerry.protocol.rounds.holding import (
    agreed_by,
    agrees,
    hosting_at,
    keep,
    keeps_shards,
    kept_after,
    remember,
    retain,
)
from skerry.protocol.rounds.hosting import NOTHING
from skerry.protocol.rounds.ordering import remind
from skerry.protocol.rounds.renewing import renewal, told
from skerry.protocol.rounds.settling import settle
from skerry.protocol.rounds.state import (
    KEPT_DIGESTS,
    Phase,
    RoundState,
    contributions_of,
    outcome_key,
)
from skerry.protocol.rounds.training import (
    ROUND,
    begin_round,
    enter,
    evaluate,
    leave_round,
    reset_round,
)
from skerry.protocol.rounds.trust import is_misjudged, judged, spot_checks, with_standing
from skerry.protocol.rounds.voting import State

_MAX_FAILURES = 4
"""Attempts at a state before it counts as lost: two by replay and two by download."""

BUSY = {Phase.LOADING, Phase.APPLYING}
"""The compute process is changing its parameters: a new plan waits for that to end."""


def consider(s: RoundState, now: float) -> list[Action]:
    """Move to the winning commit if this peer is not there or on its way."""
    if s.phase is Phase.STARTING:
        return []
    best, current = s.chain.best(s.banned), s.goal or s.at
    if best == current or s.chain.rank(best) <= s.chain.rank(current):
        return []
    if _passes_over_us(s, best):
        return []
    straight_on = s.phase is not Phase.REMOVED and not _removed_at(s, best)
    straight_on = straight_on and hosting_at(s, best) == s.hosting
    if s.goal is not None and straight_on and s.chain.is_ancestor(s.goal, best):
        s.queue += _between(s, s.goal, best)
        s.goal = best
        return []
    _observe_round(s, best)
    s.goal = best
    if s.phase in BUSY:
        s.queue = []  # the plan in progress led elsewhere; see _continue
        return []
    return plan(s, now)


def _passes_over_us(s: RoundState, best: CommitHash) -> bool:
    """Say whether ``best`` only claims that the roster is gone, while this peer trains in it.

    Such a commit adds no weight (takeover.py): what the roster goes on to commit will beat it,
    and should others have gone on without us, their next commit will beat what we have.
    """
    if s.goal is not None or s.phase not in ROUND or s.me not in s.roster:
        return False
    added = s.chain.weight_of(best) - s.chain.weight_of(s.at)
    if added or not s.chain.is_ancestor(s.at, best):
        return False
    # What only peers of rings sent adds no weight, either: their origins count the text tokens.
    # Nor does a plan for a ring that cannot train, with this peer in it.
    first = s.chain[_between(s, s.at, best)[0]].message
    return not first.announces and s.me not in first.roster


def plan(s: RoundState, now: float) -> list[Action]:
    """Find the way from the newest usable state to the goal and take its first step."""
    s.goal = s.goal or s.chain.best(s.banned)
    s.retry_at, s.queue, child = None, [], None
    if _removed_at(s, s.goal):
        return _stop(s, now)
    if hosting_at(s, s.goal) != s.hosting:
        return _host(s, s.goal, now)
    # A replay that fails again and again (the agreed state differs from ours and nobody keeps
    # it any more) gives way to the newest state, and that in turn if nobody has it.
    replayable = s.rules.replay if s.failures % 4 < 2 else 0
    notes: list[Action] = []
    unproven: tuple[list[CommitHash], CommitHash, Digest] | None = None
    for commit in s.chain.path(s.goal):
        digest = _digest_after(s, commit, child)
        if commit == s.at and child is not None and not agrees(s, child):
            notes = [_reject_own_state(s, child)]
        if _usable(s, digest):
            return notes + _start_from(s, commit, digest, now)
        if digest is None and unproven is None and (own := kept_after(s, commit)):
            unproven = list(s.queue), commit, own
        if len(s.queue) > replayable:
            return notes + (_go_on_from(s, *unproven, now) if unproven else _download(s, now))
        s.queue.insert(0, commit)
        child = s.chain[commit].message
    if unproven:
        return notes + _go_on_from(s, *unproven, now)
    root = s.rules.chain.root
    return notes + _start_from(s, root, _digest_after(s, root, child), now)


def _go_on_from(
    s: RoundState, queue: list[CommitHash], commit: CommitHash, own: Digest, now: float
) -> list[Action]:
    """Start from a kept state that no commit vouches for: the chain here ends where it stands.

    A damaged disk has lost the commits after it. If it is wrong, those that are fetched say so.
    """
    s.queue = queue
    return _start_from(s, commit, own, now)


def _removed_at(s: RoundState, commit: CommitHash) -> bool:
    return s.me in s.chain.settings(commit).removed


def _stop(s: RoundState, now: float) -> list[Action]:
    """Take no further part, since the owner wants it so; a later order may let us in again."""
    left = leave_round(s)
    told = s.phase is Phase.REMOVED
    enter(s, Phase.REMOVED, now)
    if told or s.removal is None:
        return left
    reason = s.removal.reason or "no reason given"
    text = f"{short(s.removal.by)}, who owns the run, has removed this peer from it: {reason}"
    return [*left, act.Note(True, text)]


def on_loaded(s: RoundState, event: StateLoaded, now: float) -> list[Action]:
    """The compute process holds a state: go on from the commit after which it stands."""
    if s.phase is not Phase.LOADING or s.base is None:
        return []
    if s.loading not in (None, event.state.digest):
        return []  # asked for before the compute process was lost
    s.at, s.base, s.begun = s.base, None, frozenset()
    remember(s, s.at, event.state)
    return _continue(s, now)


def on_load_failed(s: RoundState, event: StateFailed, now: float) -> list[Action]:
    """Nobody could give the state: try again, perhaps with a newer one, or do without it."""
    if s.phase is not Phase.LOADING or event.digest != s.loading:
        return []
    if event.digest in s.states:  # there is an older one, or the others have it
        del s.states[event.digest]
        text = f"state {short(event.digest)} is damaged on this disk (SK-DSK-002)"
        return [act.Note(True, text), *plan(s, now)]
    s.failures += 1
    if s.others and s.failures > 1:
        s.begun = frozenset()  # nobody has that any more
    if s.failures >= _MAX_FAILURES and s.queue and not _somebody_applied(s, s.queue[0]):
        why = f"nobody has the state before round {_round(s, s.queue[0])}"
        return _drop(s, s.queue[0], why, now)
    s.retry_at = now + s.rules.grace / 2
    name = short(event.digest) if event.digest else "initial"
    return [act.Note(True, f"state {name} could not be loaded; trying again")]


def on_gathered(s: RoundState, event: Gathered, now: float) -> list[Action]:
    """All payloads of the next commit are here, or cannot be had."""
    if s.phase is not Phase.FETCHING or not s.queue or s.queue[0] != event.commit:
        return []
    if not event.complete:
        return _unavailable(s, event.commit, now)
    enter(s, Phase.APPLYING, now)
    commit = s.chain[event.commit].message
    outer_lr = s.chain.settings(commit.parent).outer_lr
    apply = act.Apply(event.commit, commit.round, with_standing(s, event.commit), outer_lr)
    return [*leave_round(s), *spot_checks(s, event.commit, outer_lr), apply]


def on_applied(s: RoundState, event: Applied, now: float) -> list[Action]:
    """The update of a commit is done."""
    if s.phase is not Phase.APPLYING:
        return []
    s.at = event.commit
    remember(s, event.commit, event.state)
    outcome = outcome_key(s.chain[event.commit].message)
    keep(s.outcomes, outcome, event.state.digest, KEPT_DIGESTS)
    if s.queue and s.queue[0] == event.commit:
        s.queue.pop(0)
    return judged(s, event.commit, event.judgements) + _continue(s, now)


def on_compute_lost(s: RoundState, now: float) -> list[Action]:
    """Nothing that was asked of the compute process will be answered."""
    _forget_parameters(s, now)
    s.training, s.encoding = False, None
    return [act.Note(True, "the compute process ended; it is being restarted")]


def _host(s: RoundState, goal: CommitHash, now: float) -> list[Action]:
    """Host other shards than before: the move to ``goal`` begins once the process is up again."""
    left = leave_round(s)
    _forget_parameters(s, now)
    s.digests.clear()  # of other shards
    s.outcomes.clear()
    s.renewed = frozenset()
    s.hosting, s.rehosting = hosting_at(s, goal), True
    s.hosted = () if s.hosting == NOTHING else s.chain.settings(goal).hosts.shards_of(s.me)
    what = ", ".join(s.hosted) or "nothing" if s.hosting else "the whole model"
    return [*left, act.Note(False, f"hosting {what}"), act.Host(s.hosting)]


def _forget_parameters(s: RoundState, now: float) -> None:
    s.held, s.base, s.queue, s.retry_at = None, None, [], None
    s.verdicts.clear()
    enter(s, Phase.STARTING, now)


def unban(s: RoundState, head: CommitHash) -> None:
    """A live peer has applied ``head``, so the payloads up to there exist."""
    s.banned = {bad for bad in s.banned if not s.chain.is_ancestor(bad, head)}


def _continue(s: RoundState, now: float) -> list[Action]:
    """Go on after a state change: the goal may have moved to another branch meanwhile."""
    if s.goal is not None and not s.queue and s.goal != s.at:
        return plan(s, now)
    return _advance(s, now)


def _advance(s: RoundState, now: float) -> list[Action]:
    left: list[Action] = []
    while s.queue:
        commit = s.chain[s.queue[0]].message
        if not agrees(s, commit):
            return left + _heal(s, commit, now)
        if is_misjudged(s, commit):
            return left + _refuse_commit(s, s.queue[0], now)
        if commit.announces and s.hosted:
            enter(s, Phase.FETCHING, now)
            holders = _holders(s, s.queue[0])
            return [*left, act.Gather(s.queue[0], contributions_of(commit), holders)]
        left += leave_round(s)
        s.at = s.queue.pop(0)
        assert s.loaded is not None
        s.digests[s.at] = s.loaded
    return left + _arrive(s, now)


def _usable(s: RoundState, digest: Digest | None) -> bool:
    return digest is not None and (digest == s.loaded or digest in s.states)


def _start_from(
    s: RoundState, commit: CommitHash, digest: Digest | None, now: float
) -> list[Action]:
    """Begin the move at ``commit``, after which the state ``digest`` stands."""
    if digest is not None and digest == s.loaded:
        left = leave_round(s) if commit != s.at else []
        s.at, s.digests[commit] = commit, digest
        return left + _advance(s, now)
    local = s.states.get(digest) if digest is not None else None
    s.base, s.loading = commit, digest if local else None
    enter(s, Phase.LOADING, now)
    return [*leave_round(s), act.LoadState(s.loading, local, ())]


def _download(s: RoundState, now: float) -> list[Action]:
    """Too far behind to replay: take the newest state that a commit vouches for.

    One whose download was cut short when this node ended goes before: what is here of it need not
    come again, and the rounds since can be replayed.
    """
    assert s.goal is not None
    renew = renewal(s, s.goal)
    if renew is not None:
        return _renew(s, renew, now)
    newest, found, best, most = list[CommitHash](), list[CommitHash](), State(), -1
    for name in islice(s.chain.path(s.goal), s.rules.replay + 1):
        newest.insert(0, name)
        wanted = agreed_by(s, s.chain[name].message)
        here = sum(entry.address in s.begun for entry in wanted or ())
        if wanted is not None and here > most:
            found, best, most = list(newest), wanted, here
    s.queue = found or newest
    if not found:
        return _await_state(s, now)
    text = f"downloading the state before round {_round(s, s.queue[0])}"
    return [act.Note(False, text), *_load_from_peers(s, s.queue[0], best, now)]


def _renew(s: RoundState, renew: act.Renew, now: float) -> list[Action]:
    """Make what nobody else has, for the state before the goal, and go on from there."""
    s.queue, s.base, s.loading = [renew.commit], s.chain[renew.commit].message.parent, None
    s.renewed, s.renewed_after = frozenset(renew.renewed), s.base
    enter(s, Phase.LOADING, now)
    return [*leave_round(s), renew]


def _await_state(s: RoundState, now: float) -> list[Action]:
    """No commit vouches for all that this peer is to host: a host of it has to come back."""
    s.failures += 1
    s.base, s.loading, s.retry_at = None, None, now + s.rules.grace / 2
    enter(s, Phase.LOADING, now)
    text = "nobody vouches for all shards that this peer is to host; waiting for their hosts"
    return [*leave_round(s), act.Note(True, text)]


def _heal(s: RoundState, commit: Commit, now: float) -> list[Action]:
    """Own parameters differ from those the others agreed on: take theirs."""
    assert s.held is not None
    note = _reject_own_state(s, commit)
    theirs = {entry.shard: entry for entry in told(s, commit)}
    wanted = tuple(theirs.get(own.shard, own) for own in s.held)
    return [note, *_load_from_peers(s, s.queue[0], wanted, now)]


def _reject_own_state(s: RoundState, commit: Commit) -> Action:
    """Own parameters are not those upon which ``commit`` builds: say so, and do not keep them."""
    assert s.loaded is not None
    hosted = frozenset(s.hosted)
    agreed = state_digest(entry for entry in commit.state if entry.shard in hosted)
    mine, theirs = short(s.loaded), short(agreed)
    text = f"state {mine} differs from the agreed {theirs} before round {commit.round}: healing"
    s.states.pop(s.loaded, None)
    s.judged.pop(commit.parent, None)  # what diverged here is no measure for others
    mine = s.loaded
    return act.Diverged(True, text, commit.round, mine, agreed)


def _load_from_peers(s: RoundState, name: CommitHash, wanted: State, now: float) -> list[Action]:
    """Load the state before a commit."""
    s.base, s.loading = s.chain[name].message.parent, state_digest(wanted)
    enter(s, Phase.LOADING, now)
    load = act.LoadState(s.loading, s.states.get(s.loading), _holders(s, name), wanted)
    return [*leave_round(s), load]


def _holders(s: RoundState, commit: CommitHash) -> tuple[PeerId, ...]:
    """Return live peers, those that have applied the commit first, then its contributors."""
    signed = s.chain.get(commit)
    authors = {a.signer for a in signed.message.announces} if signed else set()

    def preference(peer: PeerId) -> tuple[bool, bool, PeerId]:
        position = s.positions.get(peer)
        there = position is not None and position.round >= s.chain.round_of(commit)
        return not there, peer not in authors, peer

    return tuple(sorted(s.others, key=preference))


def _unavailable(s: RoundState, commit: CommitHash, now: float) -> list[Action]:
    """Payloads are missing: wait for a peer that has them, jump over them, or drop the commit."""
    s.failures += 1
    if len(s.queue) > 1 and s.failures > 1:
        return _download(s, now)
    if _somebody_applied(s, commit):
        s.retry_at = now + s.rules.grace / 2
        return []
    return _drop(s, commit, f"nobody has all contributions of round {_round(s, commit)}", now)


def _refuse_commit(s: RoundState, commit: CommitHash, now: float) -> list[Action]:
    """A commit judges contributions otherwise than whoever applied them must (trust.py)."""
    leader = s.chain[commit].signer
    why = f"{short(leader)} misjudges contributions in its commit of round {_round(s, commit)}"
    return [act.Refuse(leader, "judgements"), *_drop(s, commit, why, now)]


def _round(s: RoundState, commit: CommitHash) -> int:
    return s.chain.round_of(commit)


def _drop(s: RoundState, commit: CommitHash, why: str, now: float) -> list[Action]:
    """Leave out a commit that cannot be applied, until a peer shows that it can (unban)."""
    s.banned.add(commit)
    s.goal, s.queue, s.failures = None, [], 0
    way = _resume(s, now) if s.loaded is not None else plan(s, now)
    return [act.Note(True, f"{why}: doing without"), *way]


def _somebody_applied(s: RoundState, commit: CommitHash) -> bool:
    return any(_has_applied(s, peer, commit) for peer in s.alive)


def _has_applied(s: RoundState, peer: PeerId, commit: CommitHash) -> bool:
    position = s.positions.get(peer)
    return (
        position is not None
        and keeps_shards(s, peer)
        and position.head in s.chain
        and s.chain.is_ancestor(commit, position.head)
    )


def _resume(s: RoundState, now: float) -> list[Action]:
    """Go back to the round upon ``at`` after a move that led nowhere."""
    s.view += 1
    s.view_since = now
    better = s.chain.best(s.banned)
    if s.chain.rank(better) > s.chain.rank(s.at):
        s.goal = better
        return plan(s, now)
    return begin_round(s, now) if s.round_at == s.at else _arrive(s, now)


def _arrive(s: RoundState, now: float) -> list[Action]:
    """In step with the goal: settle what was sent before, tidy up, begin the next round."""
    s.goal, s.failures = None, 0
    actions = [*settle(s), act.StoreStates(tuple(s.states.values())), *retain(s)]
    actions += evaluate(s)
    if s.round_at != s.at:
        reset_round(s, now)
    return actions + begin_round(s, now) + remind(s)


def _digest_after(s: RoundState, commit: CommitHash, child: Commit | None) -> Digest | None:
    """Return the digest of the state after ``commit``: agreed if its child says it, else own."""
    agreed = agreed_by(s, child) if child is not None else None
    if agreed is not None:
        return state_digest(agreed)
    if not s.hosted:
        return s.loaded
    signed = s.chain.get(commit)
    outcome = s.outcomes.get(outcome_key(signed.message)) if signed else None
    return s.digests.get(commit) or outcome


def _between(s: RoundState, old: CommitHash, new: CommitHash) -> list[CommitHash]:
    """Return the commits after ``old`` up to ``new``, oldest first."""
    found: list[CommitHash] = []
    for commit in s.chain.path(new):
        if commit == old:
            break
        found.insert(0, commit)
    return found


def _observe_round(s: RoundState, best: CommitHash) -> None:
    commit = s.chain[best].message
    if commit.parent != s.at or s.round_at != s.at or s.began_late:
        return
    times = [s.arrived[a.signer] for a in commit.announces if a.signer in s.arrived]
    if times:
        s.deadline.observe(max(0.0, max(times) - s.round_since))
