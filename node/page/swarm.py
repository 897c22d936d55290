"""The peers of a run, and what each of them hosts."""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from skerry.node.page.header import Moment
from skerry.node.page.models import (
    Link,
    Peer,
    PeerState,
    ReplicaPlan,
    Role,
    ShardPlan,
    StagePlan,
)
from skerry.node.page.rates import Rate
from skerry.node.run.context import RunContext
from skerry.node.run.facts import Seen
from skerry.node.run.peers import AGENT
from skerry.node.run.state import LEAVING
from skerry.protocol.ids import PeerId, short
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import FULL
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.trust import trust_in
from skerry.recovery.standing import Standing

_SUSPECT_PATIENCE = 0.5
"""Share of a peer's patience after which its silence is shown."""
_GONE: frozenset[PeerState] = frozenset({"dead", "left", "removed"})
_DOING = ("phase", "step", "steps", "text_tokens_per_s")
"""What a peer says of the moment; its round and its loss stay true after it has gone."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the page itself has found out about peers, beside what the run's state says."""

    rates: Mapping[PeerId, Rate] = field(default_factory=dict)
    links: Mapping[PeerId, Link] = field(default_factory=dict)
    veterans: Set[PeerId] = frozenset()
    """Who has been in a roster before."""


def peers_of(context: RunContext, now: Moment, observed: Observed) -> tuple[Peer, ...]:
    """Return this peer first, then everyone else by id."""
    rounds = context.state.rounds
    named = {*rounds.members, *rounds.roster, *rounds.alive, *rounds.settings.removed}
    others = sorted(named - {rounds.me})
    return (_own_row(context, observed), *(_row(context, peer, now, observed) for peer in others))


def shard_plans(context: RunContext) -> tuple[ShardPlan, ...]:
    """Return who of the roster hosts each shard."""
    roster, hosts = context.state.rounds.roster, context.state.rounds.hosts
    return tuple(
        ShardPlan(
            shard=spec.name,
            params=spec.numel,
            hosts=tuple(peer for peer in roster if spec.name in hosts.shards_of(peer)),
        )
        for spec in layout_of(context.manifest.model)
    )


def replica_plans(context: RunContext) -> tuple[ReplicaPlan, ...]:
    """Return the copies of the model: one on each peer that hosts all of it, one on each ring."""
    rounds = context.state.rounds
    whole = [(peer,) for peer in rounds.roster if rounds.hosts.is_whole(peer)]
    rings = rounds.hosts.plan.rings if rounds.hosts.plan else ()
    several = [tuple(m.peer for m in ring.members) for ring in rings if len(ring.members) > 1]
    return tuple(
        ReplicaPlan(
            name=short(peers[0]),
            stages=tuple(_stage_plan(rounds.hosts, peer) for peer in peers),
        )
        for peers in (*whole, *several)
    )


def _stage_plan(hosts: Hosts, peer: PeerId) -> StagePlan:
    shards = hosts.shards_of(peer)
    blocks = [int(name.partition(".")[2]) for name in shards if "." in name]
    return StagePlan(
        peer=peer,
        shards=shards,
        first_block=min(blocks, default=None),
        last_block=max(blocks, default=None),
    )


def state_of(context: RunContext, peer: PeerId, now: Moment) -> PeerState:
    """Say how a peer other than this one is."""
    rounds, seen = context.state.rounds, context.facts.seen.get(peer)
    standing = context.state.register.standing(peer)
    if peer in rounds.settings.removed:
        return "removed"
    if peer in rounds.alive:
        return _state_of_heard(context, peer, standing, now)
    if seen is not None and seen.heartbeat.phase == LEAVING:
        return "left"
    if standing is Standing.SUSPECT:
        return "suspect"
    return "dead" if peer in rounds.lost or seen is not None else "joining"


def _state_of_heard(
    context: RunContext, peer: PeerId, standing: Standing | None, now: Moment
) -> PeerState:
    rounds, seen = context.state.rounds, context.facts.seen.get(peer)
    patience = context.state.detector.patience_s(peer)
    silent = now.monotonic - seen.at if seen else 0.0
    is_late = patience is not None and silent > _SUSPECT_PATIENCE * patience
    if is_late or standing is Standing.SUSPECT:
        return "suspect"
    if standing in (Standing.DEAD, Standing.EVICTED):
        return "joining"  # it is back, and heals
    # The last commit's roster is the last there is: whoever comes back later is not joining.
    # Nor is who has paused: it is there, and asks for no place in a roster.
    settled = peer in rounds.roster or peer in rounds.resting or rounds.finished
    return "alive" if settled else "joining"


def _own_row(context: RunContext, observed: Observed) -> Peer:
    rounds, facts = context.state.rounds, context.facts
    in_roster = rounds.me in rounds.roster
    return Peer(
        peer=rounds.me,
        name=short(rounds.me),
        self=True,
        state="removed" if rounds.removal else "alive",
        evidence=(),
        role=role_of(context, rounds.me, observed.veterans),
        in_roster=in_roster,
        leader=rounds.leader == rounds.me,
        owner=rounds.me == context.manifest.owner,
        standby=rounds.me in context.manifest.standby,
        removed_reason=_removed_reason(context, rounds.me),
        agent=AGENT,
        version=_version(AGENT),
        addresses=context.transport.addresses,
        shards=rounds.hosts.shards_of(rounds.me),
        phase=str(rounds.told_phase),
        head_round=max(0, rounds.chain.round_of(rounds.at)),
        behind=0,
        step=facts.step,
        steps=facts.steps,
        text_tokens_per_s=0.0 if rounds.paused else facts.tokens_per_second,
        loss=facts.loss or None,
        up_bytes_per_s=None,
        down_bytes_per_s=None,
        sent_bytes=None,
        received_bytes=None,
        round_trip_ms=None,
        link="unknown",
        reputation=trust_in(rounds, rounds.me).reputation / FULL,
        last_seen_s=0.0,
        refused=0,
    )


def _row(context: RunContext, peer: PeerId, now: Moment, observed: Observed) -> Peer:
    rounds = context.state.rounds
    member, seen = rounds.members.get(peer), context.facts.seen.get(peer)
    traffic, rate = context.facts.traffic.get(peer), observed.rates.get(peer)
    in_roster = peer in rounds.roster
    trip = traffic.round_trip_s if traffic else None
    state = state_of(context, peer, now)
    agent = member.message.agent if member else None
    return Peer(
        peer=peer,
        name=short(peer),
        self=False,
        state=state,
        evidence=tuple(one.detail for one in context.state.register.evidence(peer)),
        role=role_of(context, peer, observed.veterans),
        in_roster=in_roster,
        leader=rounds.leader == peer,
        owner=peer == context.manifest.owner,
        standby=peer in context.manifest.standby,
        removed_reason=_removed_reason(context, peer),
        agent=agent,
        version=_version(agent) if agent else None,
        addresses=member.message.addresses if member else (),
        shards=rounds.hosts.shards_of(peer) if in_roster else (),
        up_bytes_per_s=rate.up if rate else None,
        down_bytes_per_s=rate.down if rate else None,
        sent_bytes=traffic.sent if traffic else None,
        received_bytes=traffic.received if traffic else None,
        round_trip_ms=1000 * trip if trip is not None else None,
        link=observed.links.get(peer, "unknown"),
        reputation=trust_in(rounds, peer).reputation / FULL,
        last_seen_s=max(0.0, now.monotonic - seen.at) if seen else None,
        refused=traffic.refused if traffic else 0,
        **_told(seen, max(0, rounds.chain.round_of(rounds.at)), state),
    )


def _told(seen: Seen | None, own_round: int, state: PeerState) -> dict[str, Any]:
    """Return what a peer's newest heartbeat says; of who is gone, not what it is doing."""
    names = ("phase", "head_round", "behind", "step", "steps", "text_tokens_per_s", "loss")
    if seen is None:
        return dict.fromkeys(names)
    beat = seen.heartbeat
    behind = own_round - beat.head_round
    rate = beat.tokens_per_second if beat.tokens_per_second >= 0 else None
    loss = beat.loss if beat.loss and math.isfinite(beat.loss) else None
    figures = (beat.phase, beat.head_round, behind, beat.step, beat.steps, rate, loss)
    told = dict(zip(names, figures, strict=True))
    return told | dict.fromkeys(_DOING) if state in _GONE else told


def _removed_reason(context: RunContext, peer: PeerId) -> str | None:
    removal = context.state.rounds.settings.removed.get(peer)
    return removal.reason if removal else None


def role_of(context: RunContext, peer: PeerId, veterans: Set[PeerId]) -> Role:
    """Say what a peer is in the run; ``veterans`` have been in a roster before."""
    rounds = context.state.rounds
    paused = rounds.paused if peer == rounds.me else peer in rounds.resting
    here = peer == rounds.me or peer in rounds.alive
    if peer in rounds.roster:
        return "replica"
    if not here or paused or rounds.finished or peer in rounds.settings.removed:
        return "member"
    return "returning" if peer in veterans else "newcomer"


def _version(agent: str) -> str | None:
    _, slash, number = agent.partition("/")
    return number if slash else None
