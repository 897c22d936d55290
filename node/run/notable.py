"""What of a decision belongs in the event log: rounds, announcements, commits, peers.

``Notables`` compares where the node stood before an event with where it stands after it, and
says what changed as lines of the event log. It reads the state and decides nothing. The status
page's history (node/page/) is made of these lines alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skerry.node.run.facts import Facts
from skerry.node.run.state import LEAVING, NodeEvent, NodeState
from skerry.protocol.ids import CommitHash, PeerId, short
from skerry.protocol.messages import Announce, SignedAnnounce, SignedCommit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.settings import Settings
from skerry.protocol.rounds.slowness import SlowPeer
from skerry.protocol.rounds.state import Phase, RoundState
from skerry.recovery.standing import Standing, Turn

MAX_COMMITS = 8
"""Commits of one event that are told: of a long chain, only its newest are news."""

Line = tuple[str, dict[str, Any]]
"""Name and details of a line."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is compared."""

    phase: Phase
    round_at: CommitHash | None
    view: int
    leader: PeerId | None
    alive: frozenset[PeerId]
    announced: frozenset[PeerId]
    checked: frozenset[PeerId]
    settings: Settings
    slow: tuple[SlowPeer, ...]


class Notables:
    """Follows one node's state; call ``after`` once for each event."""

    def __init__(self, state: NodeState, facts: Facts) -> None:
        """Begin where ``state`` is; ``facts`` gives the bytes exchanged."""
        self._state, self._facts = state, facts
        self._before = _standing(state.rounds)

    def after(self, event: NodeEvent, actions: list[Action]) -> Iterator[Line]:
        """Yield what an event and the decision upon it changed."""
        rounds = self._state.rounds
        before, now = self._before, _standing(rounds)
        self._before = now
        yield from _peer_lines(event, before, now)
        yield from _turn_lines(self._state)
        yield from _compute_lines(event)
        yield from _commit_lines(rounds, actions)
        if now.settings is not before.settings:
            yield from _settings_lines(rounds, before.settings, now.settings)
            yield from _plan_lines(rounds, before.settings, now.settings)
        yield from _slow_lines(rounds, before, now)
        yield from _divergence(actions)
        if now.round_at != before.round_at:
            yield _began(rounds, self._facts) if not rounds.finished else _ended(self._facts)
        elif now.view != before.view:
            yield _view_changed(rounds, before)
        yield from _announce_lines(rounds, event, before, now)
        if now.phase is not before.phase:
            leader = short(now.leader) if now.leader else ""
            yield "phase", {"phase": str(now.phase), "round": rounds.round, "leader": leader}


def contributed(announce: SignedAnnounce) -> dict[str, Any]:
    """Return what the log says of one contribution."""
    message: Announce = announce.message
    return {
        "peer": announce.signer,
        "text_tokens": message.round_tokens,
        "loss": round(message.loss, 5),
        "bytes": sum(shard.size for shard in message.shards),
    }


def committed(chain: Chain, signed: SignedCommit) -> dict[str, Any]:
    """Return what the log says of a commit."""
    commit = signed.message
    parent = chain.get(commit.parent)
    roster = parent.message.roster if parent else ()
    included = {announce.signer for announce in commit.announces}
    return {
        "round": commit.round,
        "view": commit.view,
        "commit": signed.hash,
        "parent": commit.parent,
        "leader": signed.signer,
        "included": [contributed(announce) for announce in commit.announces],
        "late": [peer for peer in roster if peer not in included],
        "text_tokens": commit.weight - (parent.message.weight if parent else 0),
        "total_text_tokens": commit.weight,
    }


def _standing(s: RoundState) -> _Standing:
    return _Standing(
        phase=s.phase,
        round_at=s.round_at,
        view=s.view,
        leader=s.leader,
        alive=frozenset(s.alive),
        announced=frozenset(s.announces),
        checked=frozenset(s.sound | s.unsound),
        settings=s.settings,
        slow=s.slowness.due,
    )


def _peer_lines(event: NodeEvent, before: _Standing, now: _Standing) -> Iterator[Line]:
    for peer in sorted(now.alive - before.alive):
        yield "peer-up", {"peer": peer}
    # Of a removed peer nothing is taken any more: that it falls silent is no news.
    for peer in sorted(before.alive - now.alive - now.settings.removed.keys()):
        yield "peer-left" if _leaves(event, peer) else "peer-down", {"peer": peer}


def _turn_lines(state: NodeState) -> Iterator[Line]:
    """Tell who stands elsewhere now, and by what evidence."""
    for turn in state.turns:
        if turn.peer in state.rounds.settings.removed:
            continue
        match turn.after:
            case Standing.ALIVE:
                yield "peer-alive", _against(turn)
            case Standing.SUSPECT:
                yield "peer-suspect", _against(turn)
            case Standing.DEAD:
                yield "peer-dead", _against(turn)
            case Standing.EVICTED:
                yield "peer-evicted", _against(turn)


def _against(turn: Turn) -> dict[str, Any]:
    evidence = [f"{one.sign}: {one.detail} ({short(one.by)})" for one in turn.evidence]
    return {"peer": turn.peer, "evidence": evidence}


def _leaves(event: NodeEvent, peer: PeerId) -> bool:
    if not isinstance(event, ev.HeartbeatReceived):
        return False
    return event.heartbeat.signer == peer and event.heartbeat.message.phase == LEAVING


def _compute_lines(event: NodeEvent) -> Iterator[Line]:
    match event:
        case ev.ComputeLost():
            yield "compute-lost", {}
        case ev.ComputeReady():
            yield "compute-ready", {}
        case _:
            pass


def _commit_lines(s: RoundState, actions: list[Action]) -> Iterator[Line]:
    for action in actions:
        if isinstance(action, act.StoreCommits):
            for signed in action.commits[-MAX_COMMITS:]:
                yield "committed", committed(s.chain, signed)


def _settings_lines(s: RoundState, before: Settings, now: Settings) -> Iterator[Line]:
    """Tell what the owner's orders have changed, or what a change of branch has undone."""
    for peer, removal in sorted(now.removed.items()):
        if peer not in before.removed:
            yield (
                "removed",
                {"round": s.round, "peer": peer, "by": removal.by, "reason": removal.reason},
            )
    for peer in sorted(before.removed.keys() - now.removed.keys()):
        yield "readmitted", {"round": s.round, "peer": peer}
    for nonce in sorted(now.revoked.keys() - before.revoked.keys()):
        end = now.revoked[nonce]
        yield (
            "invite-revoked",
            {"round": s.round, "invite": nonce.hex(), "by": end.by, "reason": end.reason},
        )
    for peer in sorted((now.allowed or frozenset()) - (before.allowed or frozenset())):
        yield "allowed", {"round": s.round, "peer": peer}
    if now.outer_lr != before.outer_lr:
        yield "outer-lr", {"round": s.round, "outer_lr": now.outer_lr}


def _plan_lines(s: RoundState, before: Settings, now: Settings) -> Iterator[Line]:
    plan = now.hosts.plan
    if plan is not None and plan != before.hosts.plan:
        rings = [[member.peer for member in ring.members] for ring in plan.rings]
        yield (
            "planned",
            {
                "round": s.round,
                "version": plan.version,
                "rings": rings,
                "spares": list(plan.spares),
            },
        )


def _slow_lines(s: RoundState, before: _Standing, now: _Standing) -> Iterator[Line]:
    known = {one.peer for one in before.slow}
    for one in now.slow:
        if one.peer not in known:
            yield (
                "slow",
                {
                    "round": s.round,
                    "peer": one.peer,
                    "planned": round(one.planned, 1),
                    "measured": round(one.measured, 1),
                    "times": round(one.times, 2),
                },
            )


def _divergence(actions: list[Action]) -> Iterator[Line]:
    """Tell of own parameters that are not those the others agreed on (following.py heals it)."""
    for action in actions:
        if isinstance(action, act.Diverged):
            yield (
                "diverged",
                {"round": action.round, "mine": action.mine, "agreed": action.agreed},
            )


def _began(s: RoundState, facts: Facts) -> Line:
    return "began", {
        "round": s.round,
        "parent": s.at,
        "leader": s.leader,
        "roster": list(s.roster),
        "sent": dict(facts.sent_bytes),
        "received": dict(facts.received_bytes),
    }


def _ended(facts: Facts) -> Line:
    return "ended", {"sent": dict(facts.sent_bytes), "received": dict(facts.received_bytes)}


def _view_changed(s: RoundState, before: _Standing) -> Line:
    return "view", {
        "round": s.round,
        "view": s.view,
        "leader": s.leader,
        "passed_over": before.leader,
    }


def _announce_lines(
    s: RoundState, event: NodeEvent, before: _Standing, now: _Standing
) -> Iterator[Line]:
    same = now.round_at == before.round_at
    for peer in sorted(now.announced - (before.announced if same else frozenset())):
        yield "announced", {"round": s.round, **contributed(s.announces[peer])}
    for peer in sorted(now.checked - (before.checked if same else frozenset())):
        reason = event.reason if isinstance(event, ev.Checked) else ""
        yield "checked", {"round": s.round, "peer": peer, "reason": reason}
