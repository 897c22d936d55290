"""The peers on the screen: one line each, as many as there is room for."""

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from skerry.node.cli.sentences import peer_state, seen_text
from skerry.node.cli.wording import count, loss, name_of, printable
from skerry.proto import control_pb2 as pb

HEADING_LINES = 2
_SPARE = {"steps": 80, "seen ago": 70}
"""Columns below which a heading is left out: what matters least, first."""
_BAR_WIDTH = 6
_BUSY = frozenset({"training", "applying", "fetching", "collecting", "encoding"})
_STATE_STYLES = {
    "lost": "bold red",
    "suspect": "yellow",
    "healing": "yellow",
    "awaited": "bold yellow",
    "this node": "cyan",
    "paused": "yellow",
}
_IN_NEED = {"awaited": 0, "lost": 1, "suspect": 2, "healing": 3}
_NUMBERS = frozenset({"round", "text tokens/s", "loss", "seen ago"})


def peer_table(run: pb.RunStatus, width: int, room: int | None) -> Table:
    """Return the peers in at most ``room`` lines; None: in as many as they need.

    Where not all fit, this node, those waited for and those lost come first, and a last line
    counts the others.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    headings = _headings(width)
    for heading in headings:
        number = heading in _NUMBERS
        table.add_column(
            heading,
            justify="right" if number else "left",
            no_wrap=True,
            width=_BAR_WIDTH if heading == "steps" else None,
        )
    shown = _shown(run, len(run.peers) if room is None else max(1, room - HEADING_LINES))
    for peer in shown:
        cells = _cells(peer, run.round)
        table.add_row(*(cells[heading] for heading in headings))
    if len(shown) < len(run.peers):
        table.add_row(Text(f"{len(run.peers) - len(shown)} more", style="dim"))
    return table


def _shown(run: pb.RunStatus, rows: int) -> Sequence[pb.PeerStatus]:
    peers = list(run.peers)
    if len(peers) <= rows:
        return peers
    others = sorted(
        peers[1:], key=lambda peer: _IN_NEED.get(peer_state(peer, run.round), len(_IN_NEED))
    )
    return [*peers[:1], *others][: max(1, rows - 1)]


def _headings(width: int) -> list[str]:
    """Return the headings that fit."""
    headings = ["peer", "state", "phase", "round", "steps", "text tokens/s", "loss", "seen ago"]
    return [heading for heading in headings if width >= _SPARE.get(heading, 0)]


def _cells(peer: pb.PeerStatus, round_: pb.RoundStatus) -> dict[str, RenderableType]:
    state = peer_state(peer, round_)
    steps = max(peer.steps, 1)
    return {
        "peer": Text(name_of(peer.peer_id), style="bold" if peer.self else ""),
        "state": Text(state, style=_STATE_STYLES.get(state, "")),
        "phase": Text(printable(peer.phase), style="green" if peer.phase in _BUSY else ""),
        "round": str(peer.head_round),
        "steps": ProgressBar(total=steps, completed=min(peer.step, steps), width=_BAR_WIDTH),
        "text tokens/s": count(peer.tokens_per_second),
        "loss": loss(peer.loss),
        "seen ago": seen_text(peer),
    }
