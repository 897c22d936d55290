"""The peers of a run as lines of text, with what must be whole to be copied: ids and addresses."""

from collections.abc import Iterator

from skerry.node.cli.sentences import peer_state, seen_text
from skerry.node.cli.wording import count, loss, printable
from skerry.proto import control_pb2 as pb

_HEADINGS = ("peer", "state", "phase", "round", "text tokens/s", "loss", "seen ago", "addresses")
_NUMBERS = frozenset({"round", "text tokens/s", "loss", "seen ago"})


def peer_lines(run: pb.RunStatus) -> Iterator[str]:
    """Yield a heading, then a line on each peer, in columns."""
    rows = [_HEADINGS, *(_cells(peer, run.round) for peer in run.peers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(_HEADINGS, row, widths, strict=True)
        aligned = (
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for heading, cell, width in cells
        )
        yield "  ".join(aligned).rstrip()


def _cells(peer: pb.PeerStatus, round_: pb.RoundStatus) -> tuple[str, ...]:
    return (
        printable(peer.peer_id),
        peer_state(peer, round_),
        printable(peer.phase) or "-",
        str(peer.head_round),
        count(peer.tokens_per_second),
        loss(peer.loss),
        seen_text(peer),
        " ".join(map(printable, peer.addresses)),
    )
