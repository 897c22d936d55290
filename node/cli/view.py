"""The screen that mirrors the status page: one moment, fitted into a terminal.

From top to bottom: the run, the round's progress, the peers, failures and recoveries, events.
The last two stand beside the others where the terminal is wide, and give way where it is low.
"""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from skerry.node.cli.history import Happening
from skerry.node.cli.moment import Moment
from skerry.node.cli.peer_table import HEADING_LINES, peer_table
from skerry.node.cli.run_panel import run_panel
from skerry.node.cli.wording import printable

WIDE = 130
"""Columns from which failures and events stand beside the rest."""
_LEFT_COLUMNS = 80, 100
_GAP = 3
_UNBOUNDED_TROUBLES, _UNBOUNDED_EVENTS = 5, 10
"""Shown of each where the height is not bounded."""
_FEWEST_PEERS, _MOST_TROUBLES, _FEWEST_EVENTS = 3, 4, 3
"""Lines of each that the others do not take, while there are any."""
_STYLES = {"error": "red", "warning": "yellow", "recovered": "green", "info": "dim"}


class Screen:
    """A moment, drawn to the width of the terminal, and to its height if it is to fill it."""

    def __init__(self, moment: Moment, height: int | None = None) -> None:
        """Draw ``moment`` in ``height`` lines; None: in as many as it takes."""
        self._moment, self._height = moment, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw all parts; those below the first share what is left of the height."""
        options = options.update(height=None)
        moment = self._moment
        foot = _foot(moment)
        room = None if self._height is None else self._height - len(foot)
        if options.max_width >= WIDE and (moment.troubles or moment.events):
            yield _beside(moment, console, options, room)
        else:
            yield _above(moment, console, options, room)
        yield from foot


def _beside(
    moment: Moment, console: Console, options: ConsoleOptions, room: int | None
) -> RenderableType:
    low, high = _LEFT_COLUMNS
    width = max(low, min(high, options.max_width // 2))
    both = Table.grid(padding=(0, _GAP, 0, 0), expand=True)
    both.add_column(width=width)
    both.add_column(ratio=1, no_wrap=True)
    left = replace(moment, troubles=(), events=())
    happened = _happened(moment, room)
    both.add_row(_above(left, console, options.update(width=width), room), happened)
    return both


def _above(
    moment: Moment, console: Console, options: ConsoleOptions, room: int | None
) -> RenderableType:
    """Return the parts above each other in ``room`` lines."""
    head = run_panel(moment, options)
    if not moment.status.HasField("run"):
        return Group(head, _happened(moment, None))
    run, width = moment.status.run, options.max_width
    if room is None:
        return Group(head, peer_table(run, width, None), _happened(moment, None))
    room = max(0, room - len(console.render_lines(head, options, pad=False)))
    kept = _lines_kept(moment)
    for_peers = HEADING_LINES + min(len(run.peers), max(_FEWEST_PEERS, room - kept - HEADING_LINES))
    return Group(head, peer_table(run, width, for_peers), _happened(moment, room - for_peers))


def _lines_kept(moment: Moment) -> int:
    """Return how many lines below the peers are not given up for more of them."""
    troubles = min(len(moment.troubles), _MOST_TROUBLES)
    events = min(len(moment.events), _FEWEST_EVENTS)
    return sum(lines + 1 for lines in (troubles, events) if lines)


def _happened(moment: Moment, room: int | None) -> RenderableType:
    """Return the newest failures and the newest events, each below a heading."""
    if room is None:
        most_troubles, most_events = _UNBOUNDED_TROUBLES, _UNBOUNDED_EVENTS
    else:
        most_troubles = min(_MOST_TROUBLES, room - 1)
        used = min(len(moment.troubles), max(0, most_troubles))
        most_events = room - 1 - (used + 1 if used else 0)
    return Group(
        *_listed("failures and recoveries", moment.troubles, most_troubles),
        *_listed("events", moment.events, most_events),
    )


def _listed(heading: str, happenings: Sequence[Happening], most: int) -> list[Text]:
    if not happenings or most < 1:
        return []
    lines = [Text(heading, style="bold", no_wrap=True)]
    for happening in happenings[-most:]:
        style = _STYLES[happening.severity]
        text = printable(happening.line)
        lines.append(Text(text, style=style, no_wrap=True, overflow="ellipsis"))
    return lines


def _foot(moment: Moment) -> list[Text]:
    url = moment.status.page_url
    if not url:
        return []
    return [Text(f"page {printable(url)}", style="dim", no_wrap=True, overflow="ellipsis")]
