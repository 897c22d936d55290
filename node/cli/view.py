"""What a status reply looks like: a live view for terminals, plain lines for everything else.

Pure functions of the reply; who asks the daemon, and how often, is ``watch``'s business.
"""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from skerry.node.cli.wording import count, duration, loss, name_of, printable, size
from skerry.proto import control_pb2 as pb

_BAR_WIDTH = 10
_BUSY = frozenset({"training", "applying", "fetching", "collecting"})


def render(status: pb.StatusReply) -> RenderableType:
    """Return the live view of one moment."""
    if not status.HasField("run"):
        parts: list[RenderableType] = [_idle(status)]
    else:
        parts = [_header(status), _phase(status.run.round), _peers(status.run)]
    if status.page_url:
        parts.append(Text(f"page {printable(status.page_url)}", style="dim"))
    if status.warning:
        parts.append(Text(f"warning: {printable(status.warning)}", style="bold yellow"))
    return Group(*parts)


def plain_lines(status: pb.StatusReply) -> Iterator[str]:
    """Yield the same as lines of plain text: first the node and its run, then one per peer."""
    yield f"node {name_of(status.peer_id)} · skerry {printable(status.version)} · pid {status.pid}"
    yield f"home {printable(status.home)} · up {duration(status.uptime_seconds)}"
    if status.page_url:
        yield f"page {printable(status.page_url)}"
    if not status.HasField("run"):
        yield "in no run"
    else:
        run = status.run
        yield f"run {printable(run.name)} {run.run_id}"
        yield summary_line(status)
        yield _bytes_text(run)
        yield f"state after round {run.digest_round}: {run.state_digest or '-'}"
        yield from (f"peer {_peer_line(peer)}" for peer in run.peers)
    if status.warning:
        yield f"warning: {printable(status.warning)}"


def summary_line(status: pb.StatusReply) -> str:
    """Return one line on how far the run is and whom it waits for."""
    if not status.HasField("run"):
        return "in no run"
    run = status.run
    alive = sum(peer.alive for peer in run.peers)
    parts = [
        _round_text(run.round),
        _phase_text(run),
        f"loss {loss(run.loss)}",
        f"val loss {_val_loss_text(run)}",
        f"{count(run.text_tokens)} text tokens",
        f"{alive} of {len(run.peers)} peers alive",
    ]
    if run.round.waiting_for:
        parts.append(waiting_text(run.round))
    return " · ".join(parts)


def waiting_text(round_: pb.RoundStatus) -> str:
    """Name whom or what the round waits for, and since when."""
    names = ", ".join(name_of(name) for name in round_.waiting_for)
    return f"waiting for {names} ({duration(round_.phase_seconds)})"


def _idle(status: pb.StatusReply) -> Panel:
    lines = Text(f"node {name_of(status.peer_id)}, up {duration(status.uptime_seconds)}\n")
    lines.append("in no run: start one with skerry init RUN.toml, or skerry join TOKEN")
    return Panel(lines, title="skerry", title_align="left", box=box.ROUNDED)


def _header(status: pb.StatusReply) -> Panel:
    run = status.run
    facts = Table.grid(padding=(0, 3))
    facts.add_row(_round_text(run.round), f"{count(run.text_tokens)} text tokens")
    facts.add_row(f"loss {loss(run.loss)}", f"val loss {_val_loss_text(run)}")
    facts.add_row(f"{count(run.params)} parameters", _bytes_text(run))
    digest = f"state {run.state_digest[:12]} after round {run.digest_round}"
    refused = f"{count(run.refused)} refused" if run.refused else ""
    facts.add_row(digest if run.state_digest else "", refused)
    title = f"skerry · {printable(run.name)} · run {run.run_id[:8]} · {name_of(status.peer_id)}"
    style = "green" if run.finished else "none"
    # Text, not str: a run's name must not be read as markup.
    return Panel(facts, title=Text(title), title_align="left", box=box.ROUNDED, border_style=style)


def _phase(round_: pb.RoundStatus) -> Table:
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(printable(round_.phase), style="bold"),
        _bar(round_.step, round_.steps, 30),
        f"step {round_.step}/{round_.steps}" if round_.steps else "",
        Text(waiting_text(round_), style="bold yellow")
        if round_.waiting_for
        else Text(duration(round_.phase_seconds), style="dim"),
    )
    return line


def _peers(run: pb.RunStatus) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("peer", "", "phase", "round"):
        table.add_column(heading, no_wrap=True)
    table.add_column("steps", no_wrap=True, width=_BAR_WIDTH)
    for heading in ("text\ntokens/s", "loss", "seen ago"):
        table.add_column(heading, justify="right", no_wrap=True)
    for peer in run.peers:
        table.add_row(
            Text(name_of(peer.peer_id), style="bold" if peer.self else ""),
            peer_state(peer),
            Text(printable(peer.phase), style="green" if peer.phase in _BUSY else ""),
            str(peer.head_round),
            _bar(peer.step, peer.steps, _BAR_WIDTH),
            count(peer.tokens_per_second),
            loss(peer.loss),
            _seen_text(peer),
        )
    return table


def _bar(step: int, steps: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(steps, 1), completed=min(step, steps), width=width)


def peer_state(peer: pb.PeerStatus) -> Text:
    """Say in a word or two what a peer is to the run."""
    if not peer.alive:
        return Text("lost", style="bold red")
    if peer.self:
        return Text("this node", style="cyan")
    if peer.phase == "paused":
        return Text("paused", style="yellow")
    # The last commit's roster is the last there is: who comes back later has all the same arrived.
    return Text("alive" if peer.in_roster or peer.phase == "done" else "joining")


def _peer_line(peer: pb.PeerStatus) -> str:
    parts = [
        name_of(peer.peer_id),
        peer_state(peer).plain,
        printable(peer.phase),
        f"round {peer.head_round}",
        f"step {peer.step}/{peer.steps}",
        f"{count(peer.tokens_per_second)} text tokens/s",
        f"loss {loss(peer.loss)}",
        f"seen {_seen_text(peer)} ago",
    ]
    return " · ".join(parts)


def _seen_text(peer: pb.PeerStatus) -> str:
    return duration(0 if peer.self else peer.seen_seconds_ago)


def _round_text(round_: pb.RoundStatus) -> str:
    return f"round {round_.round} of {round_.rounds}" if round_.rounds else f"round {round_.round}"


def _phase_text(run: pb.RunStatus) -> str:
    if run.finished:
        return "finished"
    round_ = run.round
    step = f" {round_.step}/{round_.steps}" if round_.steps else ""
    view = f" (view {round_.view})" if round_.view else ""
    return f"{printable(round_.phase)}{step}{view}"


def _val_loss_text(run: pb.RunStatus) -> str:
    start = f"start {loss(run.val_loss_start)}, " if run.val_loss_start else ""
    return f"{loss(run.val_loss)} ({start}unigram entropy {loss(run.unigram_entropy)})"


def _bytes_text(run: pb.RunStatus) -> str:
    sent, dense = run.payload_bytes_sent, run.dense_bytes
    if not sent:
        return "no pseudo-gradients sent yet"
    ratio = f", dense fp32 would be {size(dense)} ({dense / sent:.0f}x)" if dense else ""
    return f"sent {size(sent)} of pseudo-gradients{ratio}"
