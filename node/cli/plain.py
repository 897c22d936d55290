"""A status as lines of plain text: for pipes, files and terminals that cannot be drawn on."""

from collections.abc import Iterator

from skerry.node.cli.moment import Moment
from skerry.node.cli.sentences import (
    bytes_text,
    ending_text,
    hosting_text,
    idle_text,
    other_bytes_text,
    pace_text,
    peer_state,
    phase_text,
    round_text,
    seen_text,
    val_loss_text,
    waiting_text,
)
from skerry.node.cli.wording import count, duration, loss, name_of, printable
from skerry.proto import control_pb2 as pb

_TROUBLES = 5


def plain_lines(moment: Moment) -> Iterator[str]:
    """Yield all that a status says: the node, its run, a line on each peer, what went wrong."""
    status = moment.status
    yield f"node {name_of(status.peer_id)} · skerry {printable(status.version)} · pid {status.pid}"
    yield f"home {printable(status.home)} · up {duration(status.uptime_seconds)}"
    if status.page_url:
        yield f"page {printable(status.page_url)}"
    if not status.HasField("run"):
        yield idle_text(moment.status)
    else:
        run = status.run
        yield f"run {printable(run.name)} {run.run_id}"
        yield summary_line(moment)
        if pace := pace_text(run, moment.figures):
            yield pace
        yield bytes_text(run)
        if others := other_bytes_text(run):
            yield others
        yield f"state after round {run.digest_round}: {run.state_digest or '-'}"
        yield from (f"peer {_peer_line(peer, run.round)}" for peer in run.peers)
        for trouble in moment.troubles[-_TROUBLES:]:
            yield f"{trouble.severity} {printable(trouble.line)}"
    if status.warning:
        yield f"warning: {printable(status.warning)}"


def summary_line(moment: Moment) -> str:
    """Return one line on how far the run is and whom it waits for."""
    if not moment.status.HasField("run"):
        return idle_text(moment.status).partition(":")[0]
    run = moment.status.run
    alive = sum(peer.alive for peer in run.peers)
    known = val_loss_text(run, moment.figures)
    parts = [
        round_text(run.round),
        phase_text(run),
        f"loss {loss(run.loss)}",
        f"val loss {loss(run.val_loss)}{f' ({known})' if known else ''}",
        f"{count(run.text_tokens)} text tokens",
        f"{alive} of {len(run.peers)} peers alive",
        ending_text(run, moment.figures, moment.now),
        waiting_text(run.round) if run.round.waiting_for else "",
    ]
    return " · ".join(filter(None, parts))


def _peer_line(peer: pb.PeerStatus, round_: pb.RoundStatus) -> str:
    parts = [
        name_of(peer.peer_id),
        peer_state(peer, round_),
        hosting_text(peer),
        printable(peer.phase) or "not heard yet",
        f"round {peer.head_round}",
        f"step {peer.step}/{peer.steps}",
        f"{count(peer.tokens_per_second)} text tokens/s",
        f"loss {loss(peer.loss)}",
        f"seen {seen_text(peer)} ago" if peer.phase else "",
    ]
    return " · ".join(part for part in parts if part)
