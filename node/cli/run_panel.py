"""The upper part of the screen: what is wrong, the run in figures, and the round's progress."""

from rich import box
from rich.console import ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from skerry.node.cli.moment import Moment
from skerry.node.cli.sentences import (
    bytes_text,
    ending_text,
    idle_text,
    other_bytes_text,
    pace_text,
    phase_text,
    round_text,
    val_loss_text,
    waiting_text,
)
from skerry.node.cli.sparkline import sparkline
from skerry.node.cli.wording import count, duration, loss, name_of, printable
from skerry.proto import control_pb2 as pb

_FRAME = 4
"""Columns that a panel's border and padding take."""
_LABEL = 9
_MIN_CURVE, _MAX_CURVE = 8, 48
_SHORT_BAR, _LONG_BAR = 10, 30
_PAUSED = "paused here: this node follows the run; skerry resume trains again"
_FINISHED = "finished: skerry export DIR writes the model"


def run_panel(moment: Moment, options: ConsoleOptions) -> RenderableType:
    """Return the upper part for a moment, in a run or in none."""
    notices: list[RenderableType] = [Text(text, style="bold yellow") for text in _notices(moment)]
    if not moment.status.HasField("run"):
        return Group(*notices, _idle(moment.status))
    return Group(*notices, _facts_panel(moment, options), _progress(moment.status.run))


def _notices(moment: Moment) -> list[str]:
    status = moment.status
    found = [moment.notice] if moment.notice else []
    found += [f"warning: {printable(status.warning)}"] if status.warning else []
    return found + ([_PAUSED] if status.run.round.phase == "paused" else [])


def _idle(status: pb.StatusReply) -> Panel:
    lines = Text(f"node {name_of(status.peer_id)}, up {duration(status.uptime_seconds)}\n")
    lines.append(idle_text(status))
    return Panel(lines, title="skerry", title_align="left", box=box.ROUNDED)


def _facts_panel(moment: Moment, options: ConsoleOptions) -> Panel:
    run = moment.status.run
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True, width=_LABEL)
    facts.add_column()
    for label, text in _facts(moment, options):
        facts.add_row(label, text)
    title = f"skerry · {printable(run.name)} · run {run.run_id[:8]} · "
    title += f"node {name_of(moment.status.peer_id)}"
    # Text, not str: a run's name must not be read as markup.
    return Panel(
        facts,
        title=Text(title),
        title_align="left",
        box=box.ROUNDED,
        border_style="yellow" if moment.notice else "green" if run.finished else "none",
    )


def _facts(moment: Moment, options: ConsoleOptions) -> list[tuple[str, Text]]:
    run, figures = moment.status.run, moment.figures
    state = f"{run.state_digest[:12]} after round {run.digest_round} · " if run.state_digest else ""
    refused = f" · {count(run.refused)} refused" if run.refused else ""
    facts = [
        ("round", Text(_position_text(moment))),
        ("trained", Text(_trained_text(moment))),
        ("loss", _curve_text(run.loss, figures.losses, options, "green")),
        ("val loss", _curve_text(run.val_loss, figures.val_losses, options, "cyan")),
        ("", Text(val_loss_text(run, figures), style="dim")),
        ("bytes", Text(bytes_text(run))),
        ("", Text(other_bytes_text(run), style="dim")),
        ("state", Text(f"{state}{count(run.params)} parameters{refused}")),
    ]
    return [(label, text) for label, text in facts if text]


def _position_text(moment: Moment) -> str:
    run = moment.status.run
    parts = [round_text(run.round).removeprefix("round ")]
    if run.finished:
        parts.append(_FINISHED)
    else:
        parts.append(ending_text(run, moment.figures, moment.now))
        parts.append(f"led by {name_of(run.round.leader)}" if run.round.leader else "")
    return " · ".join(filter(None, parts))


def _trained_text(moment: Moment) -> str:
    run = moment.status.run
    pace = pace_text(run, moment.figures)
    return " · ".join(filter(None, (f"{count(run.text_tokens)} text tokens", pace)))


def _curve_text(
    newest: float, values: tuple[float, ...], options: ConsoleOptions, style: str
) -> Text:
    """Return the newest value, and the curve of all with where it began."""
    room = options.max_width - _FRAME - _LABEL - len(" 1.234  from 1.234  ")
    line = sparkline(values, max(_MIN_CURVE, min(_MAX_CURVE, room)), options.ascii_only)
    text = Text(loss(newest))
    return text.append(f" {line}", style).append(f" from {loss(values[0])}") if line else text


def _progress(run: pb.RunStatus) -> RenderableType:
    if run.finished:
        return Group()
    round_ = run.round
    line = Table.grid(padding=(0, 2, 0, 0))
    waits = bool(round_.waiting_for)
    line.add_row(
        Text(printable(phase_text(run)), style="bold"),
        ProgressBar(
            total=max(round_.steps, 1),
            completed=min(round_.step, round_.steps),
            width=_SHORT_BAR if waits else _LONG_BAR,
        ),
        Text(waiting_text(round_), style="bold yellow")
        if waits
        else Text(duration(round_.phase_seconds), style="dim"),
    )
    return line
