"""The live view: one status, what the event log adds, and the newest events, on one screen.

Pure functions of what is shown; who asks the daemon, and how often, is ``watch``'s business.
From top to bottom: the run, the round's progress, the peers, the events. The last two stand side
by side where the terminal is wide, and give way where it is not high.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from skerry.node.cli.figures import Figures
from skerry.node.cli.sentences import (
    bytes_text,
    ending_text,
    pace_text,
    peer_state,
    phase_text,
    round_text,
    seen_text,
    val_loss_text,
    waiting_text,
)
from skerry.node.cli.sparkline import sparkline
from skerry.node.cli.wording import count, duration, loss, name_of, printable
from skerry.proto import control_pb2 as pb

WIDE = 130
"""Columns from which peers and events stand side by side."""
_NARROW = 66
"""Columns below which the peers' table leaves out what matters least."""
_FRAME = 4
"""Columns that a panel's border and padding take."""
_CURVE = 24
_LABEL = 9
_BAR_WIDTH = 10
_MIN_EVENTS = 3
_BUSY = frozenset({"training", "applying", "fetching", "collecting"})
_STATE_STYLES = {"lost": "bold red", "this node": "cyan", "paused": "yellow"}


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown at one time."""

    status: pb.StatusReply
    figures: Figures = field(default_factory=Figures)
    events: Sequence[str] = ()
    """Newest lines of the event log as text, oldest first; as many as fit are shown."""
    now: float = 0.0
    """Unix seconds."""
    notice: str = ""
    """What is wrong with the view itself: it shows the past while no daemon answers."""


class Screen:
    """A moment, drawn to the width and, where it is bounded, to the height of the terminal."""

    def __init__(self, moment: Moment) -> None:
        """Draw ``moment``."""
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the parts above each other; what is left of the height is for peers and events."""
        moment = self._moment
        loose = options.update(height=None)
        top = Group(*_notices(moment), *_head(moment, options))
        foot = Group(*_foot(moment.status))
        yield top
        if moment.status.HasField("run"):
            room = None
            if options.height is not None:
                taken = [console.render_lines(part, loose, pad=False) for part in (top, foot)]
                room = options.height - sum(map(len, taken))
            yield _body(moment, options.max_width, room)
        yield foot


def _notices(moment: Moment) -> list[RenderableType]:
    notices: list[RenderableType] = []
    if moment.notice:
        notices.append(Text(moment.notice, style="bold yellow"))
    if moment.status.warning:
        notices.append(Text(f"warning: {printable(moment.status.warning)}", style="bold yellow"))
    return notices


def _head(moment: Moment, options: ConsoleOptions) -> list[RenderableType]:
    if not moment.status.HasField("run"):
        return [_idle(moment.status)]
    return [_run(moment, options), _progress(moment.status.run)]


def _foot(status: pb.StatusReply) -> list[RenderableType]:
    if not status.page_url:
        return []
    return [Text(f"page {printable(status.page_url)}", style="dim", no_wrap=True)]


def _idle(status: pb.StatusReply) -> Panel:
    lines = Text(f"node {name_of(status.peer_id)}, up {duration(status.uptime_seconds)}\n")
    lines.append("in no run: start one with skerry init RUN.toml, or skerry join TOKEN")
    return Panel(lines, title="skerry", title_align="left", box=box.ROUNDED)


def _run(moment: Moment, options: ConsoleOptions) -> Panel:
    run = moment.status.run
    title = f"skerry · {printable(run.name)} · run {run.run_id[:8]} · "
    title += f"node {name_of(moment.status.peer_id)}"
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True, width=_LABEL)
    facts.add_column()
    for label, text in _facts(moment, options):
        facts.add_row(label, text)
    style = "green" if run.finished else "none"
    # Text, not str: a run's name must not be read as markup.
    return Panel(facts, title=Text(title), title_align="left", box=box.ROUNDED, border_style=style)


def _facts(moment: Moment, options: ConsoleOptions) -> list[tuple[str, Text]]:
    run, figures = moment.status.run, moment.figures
    width = min(_CURVE, options.max_width - _FRAME - _LABEL - 12)
    losses = sparkline(figures.losses, width, options.ascii_only)
    position = [
        round_text(run.round).removeprefix("round "),
        "finished" if run.finished else ending_text(run, figures, moment.now),
        f"{count(run.text_tokens)} text tokens",
    ]
    state = f"{run.state_digest[:12]} after round {run.digest_round} · " if run.state_digest else ""
    refused = f" · {count(run.refused)} refused" if run.refused else ""
    return [
        ("round", Text(" · ".join(filter(None, position)))),
        ("speed", Text(pace_text(run, figures) or "-")),
        ("loss", Text(loss(run.loss)).append(f" {losses}" if losses else "", style="green")),
        ("val loss", Text(val_loss_text(run, figures))),
        ("bytes", Text(bytes_text(run))),
        ("state", Text(f"{state}{count(run.params)} parameters{refused}")),
    ]


def _progress(run: pb.RunStatus) -> Table:
    round_ = run.round
    line = Table.grid(padding=(0, 2, 0, 0))
    waits = bool(round_.waiting_for)
    line.add_row(
        Text(printable(phase_text(run)), style="bold"),
        _bar(round_.step, round_.steps, _BAR_WIDTH if waits else 3 * _BAR_WIDTH),
        Text(waiting_text(round_), style="bold yellow")
        if waits
        else Text(duration(round_.phase_seconds), style="dim"),
    )
    return line


def _body(moment: Moment, width: int, room: int | None) -> RenderableType:
    """Return peers and events in ``room`` lines, or in as many as they need."""
    known = list(moment.status.run.peers)
    if width >= WIDE and moment.events:
        both = Table.grid(padding=(0, 3, 0, 0), expand=True)
        both.add_column(no_wrap=True)
        both.add_column(ratio=1, no_wrap=True)
        both.add_row(_peers(known, width, room), _events(moment.events, room))
        return both
    if room is None:
        return Group(_peers(known, width, None), _events(moment.events, None))
    for_events = min(len(moment.events), _MIN_EVENTS) + 1 if moment.events else 0
    table = _peers(known, width, max(3, room - for_events))
    used = min(len(known), max(1, room - for_events - 2)) + 2
    return Group(table, _events(moment.events, max(0, room - used)))


def _peers(known: Sequence[pb.PeerStatus], width: int, room: int | None) -> Table:
    """Return a line on each peer; in fewer than that, on the first and how many more there are."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    columns = _columns(width)
    for heading, is_number in columns.items():
        bar = _BAR_WIDTH if heading == "steps" else None
        justify = "right" if is_number else "left"
        table.add_column(heading, justify=justify, no_wrap=True, width=bar)  # type: ignore[arg-type]
    rows = len(known) if room is None else max(1, room - 2)
    shown = known if len(known) <= rows else known[: max(1, rows - 1)]
    for peer in shown:
        cells = _cells(peer)
        table.add_row(*(cells[heading] for heading in columns))
    if len(shown) < len(known) and rows > 1:
        table.add_row(Text(f"{len(known) - len(shown)} more", style="dim"))
    return table


def _columns(width: int) -> dict[str, bool]:
    """Return the headings that fit, each with whether numbers stand below it."""
    columns = {"peer": False, "state": False, "phase": False, "round": True, "steps": False}
    columns |= {"tokens/s": True, "loss": True, "seen ago": True}
    if width < _NARROW:
        del columns["steps"], columns["seen ago"]
    return columns


def _cells(peer: pb.PeerStatus) -> dict[str, RenderableType]:
    state = peer_state(peer)
    return {
        "peer": Text(name_of(peer.peer_id), style="bold" if peer.self else ""),
        "state": Text(state, style=_STATE_STYLES.get(state, "")),
        "phase": Text(printable(peer.phase), style="green" if peer.phase in _BUSY else ""),
        "round": str(peer.head_round),
        "steps": _bar(peer.step, peer.steps, _BAR_WIDTH),
        "tokens/s": count(peer.tokens_per_second),
        "loss": loss(peer.loss),
        "seen ago": seen_text(peer),
    }


def _events(lines: Sequence[str], room: int | None) -> RenderableType:
    """Return the newest events below a heading; nothing if there is no room for one."""
    shown = list(lines) if room is None else list(lines)[-(room - 1) :] if room > 1 else []
    if not shown:
        return Group()
    text = Text("events\n", style="bold", no_wrap=True, overflow="ellipsis")
    return text.append("\n".join(shown), style="not bold dim")


def _bar(step: int, steps: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(steps, 1), completed=min(step, steps), width=width)
