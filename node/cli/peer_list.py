"""The peers of a run as lines of text, with what must be whole to be copied: ids and addresses."""

from collections.abc import Iterator

from skerry.node.cli.sentences import peer_state, reputation, seen_text
from skerry.node.cli.wording import count, date_of, loss, name_of, printable
from skerry.proto import control_pb2 as pb

_HEADINGS = (
    "peer",
    "state",
    "link",
    "phase",
    "round",
    "text tokens/s",
    "loss",
    "reputation",
    "seen ago",
    "addresses",
)
_RIGHTS = ("peer", "right", "invite", "invited by", "until", "uses", "now")
_NUMBERS = frozenset({"round", "text tokens/s", "loss", "seen ago"})


def peer_lines(run: pb.RunStatus) -> Iterator[str]:
    """Yield a heading, then a line on each peer, in columns."""
    yield from _table(_HEADINGS, [_cells(peer, run.round) for peer in run.peers])


def admission_lines(run: pb.RunStatus) -> Iterator[str]:
    """Yield a heading, then by what right each peer takes part, in columns."""
    yield from _table(_RIGHTS, [_right_cells(peer) for peer in run.peers])


def _table(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> Iterator[str]:
    rows = [headings, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(headings, row, widths, strict=True)
        aligned = (
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for heading, cell, width in cells
        )
        yield "  ".join(aligned).rstrip()


def _right_cells(peer: pb.PeerStatus) -> tuple[str, ...]:
    right = peer.admission
    until = date_of(right.expires_at)
    by_invite = bool(right.invite)
    return (
        printable(peer.peer_id),
        right.right or "not known",
        right.invite or "-",
        name_of(right.inviter) if by_invite else "-",
        f"{until:%Y-%m-%d %H:%M}Z" if by_invite else "-",
        f"{right.uses} of {right.max_uses or 'any number'}" if by_invite else "-",
        "in the roster" if peer.in_roster else right.refusal or "may be taken in",
    )


def _cells(peer: pb.PeerStatus, round_: pb.RoundStatus) -> tuple[str, ...]:
    return (
        printable(peer.peer_id),
        peer_state(peer, round_),
        peer.link or "-",
        printable(peer.phase) or "-",
        str(peer.head_round),
        count(peer.tokens_per_second),
        loss(peer.loss),
        reputation(peer),
        seen_text(peer),
        " ".join(map(printable, peer.addresses)),
    )
