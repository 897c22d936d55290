"""The status reply: what the node knows, put into the schema of proto/control.proto."""

import time

from skerry.node.run.admission import Holders, admission_status, holders_of
from skerry.node.run.context import RunContext
from skerry.node.run.facts import Facts
from skerry.node.run.orders import may_order, outer_lr
from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.rounds.ordering import pending
from skerry.protocol.rounds.state import RoundState
from skerry.protocol.rounds.trust import trust_in


def run_status(context: RunContext, now: float) -> pb.RunStatus:
    """Return the run's part of the status; ``now`` is monotonic seconds."""
    rounds, facts = context.state.rounds, context.facts
    holders = holders_of(context)
    return pb.RunStatus(
        run_id=context.run_id,
        name=context.manifest.name,
        state_digest=rounds.digests.get(rounds.at, ""),
        digest_round=max(0, rounds.chain.round_of(rounds.at)),
        head=rounds.at,
        text_tokens=rounds.chain.weight_of(rounds.at),
        loss=facts.loss,
        val_loss=facts.val_loss,
        val_loss_start=facts.val_loss_start,
        unigram_entropy=facts.unigram_entropy,
        params=facts.params,
        payload_bytes_sent=facts.sent_bytes["payload"],
        dense_bytes=facts.dense_bytes,
        refused=sum(facts.refused.values()),
        refused_by_reason=dict(facts.refused),
        round=_round_status(context, now),
        peers=[_peer_status(context, peer, holders) for peer in _known_peers(rounds)],
        finished=_finished(rounds, facts),
        sent_bytes=dict(facts.sent_bytes),
        received_bytes=dict(facts.received_bytes),
        ring_sent_bytes=dict(facts.ring_sent),
        ring_text_tokens=facts.ring_text_tokens,
        outer_lr=outer_lr(context),
        may_order=may_order(context),
        pending_orders=len(pending(rounds)),
        shard_digests={entry.shard: entry.address for entry in rounds.held or ()},
        plan=rounds.hosts.plan.version if rounds.hosts.plan else 0,
    )


def _round_status(context: RunContext, now: float) -> pb.RoundStatus:
    rounds, facts = context.state.rounds, context.facts
    return pb.RoundStatus(
        round=max(0, rounds.chain.round_of(rounds.at)) if rounds.finished else rounds.round,
        rounds=context.manifest.rounds,
        view=rounds.view,
        phase=str(rounds.told_phase),
        step=facts.step,
        steps=facts.steps,
        waiting_for=[str(name) for name in context.waiting_for],
        leader=rounds.leader or "",
        phase_seconds=max(0.0, now - rounds.phase_since),
    )


def _known_peers(rounds: RoundState) -> list[PeerId]:
    """Return this peer first, then everyone else by id."""
    named = {*rounds.members, *rounds.roster, *rounds.alive, *rounds.settings.removed}
    return [rounds.me, *sorted(named - {rounds.me})]


def _reason(rounds: RoundState, peer: PeerId) -> str:
    removal = rounds.settings.removed.get(peer)
    return removal.reason if removal else ""


def _peer_status(context: RunContext, peer: PeerId, holders: Holders) -> pb.PeerStatus:
    rounds, facts = context.state.rounds, context.facts
    trust = trust_in(rounds, peer)
    if peer == rounds.me:
        return pb.PeerStatus(
            peer_id=peer,
            self=True,
            alive=True,
            in_roster=peer in rounds.roster,
            phase=str(rounds.told_phase),
            head_round=max(0, rounds.chain.round_of(rounds.at)),
            step=facts.step,
            steps=facts.steps,
            tokens_per_second=0.0 if rounds.paused else facts.tokens_per_second,
            loss=facts.loss,
            addresses=context.transport.addresses,
            removed=peer in rounds.settings.removed,
            removed_reason=_reason(rounds, peer),
            admission=admission_status(context, peer, holders),
            reputation=trust.reputation,
            strikes=trust.strikes,
            influence=trust.influence,
            doubt=trust.doubt,
            role=_role(rounds, peer),
            shards=_part(rounds, peer),
        )
    member, seen = rounds.members.get(peer), facts.seen.get(peer)
    status = pb.PeerStatus(
        peer_id=peer,
        alive=peer in rounds.alive,
        in_roster=peer in rounds.roster,
        addresses=member.message.addresses if member else (),
        seen_seconds_ago=time.monotonic() - seen.at if seen else 0.0,
        removed=peer in rounds.settings.removed,
        removed_reason=_reason(rounds, peer),
        admission=admission_status(context, peer, holders),
        reputation=trust.reputation,
        strikes=trust.strikes,
        influence=trust.influence,
        doubt=trust.doubt,
        role=_role(rounds, peer),
        shards=_part(rounds, peer),
        standing=_standing(context, peer),
        evidence=[one.detail for one in context.state.register.evidence(peer)],
    )
    if seen is not None:
        beat = seen.heartbeat
        status.phase, status.head_round = beat.phase, beat.head_round
        status.step, status.steps = beat.step, beat.steps
        status.tokens_per_second, status.loss = beat.tokens_per_second, beat.loss
    return status


def _standing(context: RunContext, peer: PeerId) -> str:
    standing = context.state.register.standing(peer)
    return "" if standing is None else standing.name.lower()


def _finished(rounds: RoundState, facts: Facts) -> bool:
    """Say whether the run is over here; who hosts a part measures no validation loss."""
    measured = facts.validated_round >= rounds.chain.round_of(rounds.at)
    return rounds.finished and (measured or rounds.hosting is not None)


def _role(rounds: RoundState, peer: PeerId) -> str:
    """Say what a peer is in the round being worked on; empty for one without a task."""
    if peer not in rounds.roster:
        return ""
    return "replica" if rounds.hosts.is_whole(peer) else "stage"


def _part(rounds: RoundState, peer: PeerId) -> tuple[str, ...]:
    """Return the shards of a peer that hosts only some."""
    partial = peer in rounds.roster and not rounds.hosts.is_whole(peer)
    return rounds.hosts.shards_of(peer) if partial else ()
