"""The run in one look: reads the node's state as it is and changes nothing of it."""

from dataclasses import dataclass

from skerry.node.page.models import Bytes, RunHeader
from skerry.node.page.pace import Average, eta_s, goodput_of, pace_of
from skerry.node.page.waterfall import Waterfall
from skerry.node.run.context import RunContext
from skerry.node.run.orders import may_order, outer_lr
from skerry.protocol.rounds.ordering import pending
from skerry.protocol.rounds.state import Phase


@dataclass(frozen=True, slots=True)
class Past:
    """What the history adds to the state at hand."""

    started_at: float | None = None
    """Unix seconds."""
    val_loss_start: float | None = None
    val_loss: float | None = None
    val_loss_round: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a state is read: by both clocks."""

    monotonic: float
    unix: float


def run_header(
    context: RunContext,
    rows: Waterfall,
    past: Past,
    now: Moment,
    warning: str,
    undisturbed: Average,
) -> RunHeader:
    """Return the header, without the join command; ``undisturbed`` takes in the peers' rates."""
    rounds, facts, manifest = context.state.rounds, context.facts, context.manifest
    done = max(0, rounds.chain.round_of(rounds.at))
    number = done if rounds.phase is Phase.DONE else rounds.round
    pace = pace_of(rows.rows)
    over_s = pace.seconds if pace else 0.0
    undisturbed_per_s = undisturbed.sample(now.monotonic, undisturbed_rate(context), over_s)
    row = rows.rows.get(number)
    began = row.started_at if row and row.started_at is not None else now.unix
    measured = facts.validated_round >= 0
    return RunHeader(
        run_id=context.run_id,
        name=manifest.name,
        phase=str(rounds.told_phase),
        phase_s=max(0.0, now.monotonic - rounds.phase_since),
        round=number,
        rounds=manifest.rounds,
        view=rounds.view,
        leader=rounds.leader,
        step=facts.step,
        steps=facts.steps,
        finished=rounds.finished and facts.validated_round >= done,
        eta_s=eta_s(pace, manifest.rounds - done, max(0.0, now.unix - began)),
        started_at=past.started_at,
        goodput=goodput_of(pace, undisturbed_per_s),
        text_tokens=rounds.chain.weight_of(rounds.at),
        loss=facts.loss or None,
        val_loss=facts.val_loss if measured else past.val_loss,
        val_loss_round=facts.validated_round if measured else past.val_loss_round,
        val_loss_start=past.val_loss_start,
        unigram_entropy=facts.unigram_entropy or None,
        params=facts.params,
        state_digest=rounds.digests.get(rounds.at),
        digest_round=done,
        head=rounds.at,
        join_command=None,
        waiting_for=tuple(str(name) for name in context.waiting_for),
        warning=facts.warning or warning or None,
        outer_lr=outer_lr(context),
        outer_lr_ordered=rounds.settings.outer_lr is not None,
        pending_orders=len(pending(rounds)),
        may_order=may_order(context),
        bytes=bytes_of(context),
        refused=dict(facts.refused),
    )


def undisturbed_rate(context: RunContext) -> float:
    """Add up what the peers of the roster say they make while they train, text tokens/s."""
    rounds, facts = context.state.rounds, context.facts
    total = 0.0
    for peer in rounds.roster:
        if peer == rounds.me:
            total += facts.tokens_per_second
        elif peer in rounds.alive and peer in facts.seen:
            total += max(0.0, facts.seen[peer].heartbeat.tokens_per_second)
    return total


def bytes_of(context: RunContext) -> Bytes:
    """Return what was exchanged, by kind."""
    facts = context.facts
    payload = facts.sent_bytes["payload"]
    return Bytes(
        sent=dict(facts.sent_bytes),
        received=dict(facts.received_bytes),
        dense=facts.dense_bytes,
        ratio=facts.dense_bytes / payload if payload else None,
    )
