"""Rounds as rows of the waterfall, folded from lines of the event log.

A row is a ``Round`` of the API and nothing else: what is stored, what is sent and what the next
line is folded into are the same, so a restart goes on with the rows it finds.
"""

from collections.abc import Iterable
from typing import Any, get_args

from skerry.node.page import lines as ln
from skerry.node.page.round import Contribution, Round, Span, SpanName, Waited
from skerry.protocol.ids import short

KEPT_ROWS = 64
"""Rows that a late line, such as a validation loss, may still change."""
_MIN_WAIT_S = 0.05
"""Shorter waits are the time that messages travel."""
_SPANS = frozenset(get_args(SpanName))


class Waterfall:
    """The newest rows of one run."""

    def __init__(self, me: str, dense_bytes: int, rows: Iterable[Round] = ()) -> None:
        """Go on with ``rows``; ``dense_bytes`` is the size of one dense fp32 contribution."""
        self._me, self.dense_bytes = me, dense_bytes
        self.rows: dict[int, Round] = {row.round: row for row in rows}
        self._open: int | None = None
        """Round whose last span goes on."""
        self._totals: tuple[dict[str, int], dict[str, int]] | None = None
        """Bytes sent and received when the current round began."""

    def take(self, line: ln.Line) -> set[int]:
        """Fold in one line; return the rounds whose rows it changed."""
        match line:
            case ln.Started() | ln.Entered() | ln.Stopped() | ln.Left():
                self._totals, self._open = None, None
                return set()
            case ln.Began():
                return self._begin(line)
            case ln.Ended():
                return self._exchange(max(self.rows, default=0), line)
            case ln.Phased():
                return self._enter_phase(line)
            case ln.ViewChanged():
                return self._change(line.round, view=line.view, leader=line.leader)
            case ln.Announced() | ln.Checked():
                return self._contribution(line)
            case ln.Committed():
                return self._commit(line)
            case ln.Applied():
                return self._applied(line)
            case ln.Validated():
                return self._change(line.round, val_loss=line.loss)
            case _:
                return set()

    def take_from_chain(self, line: ln.Committed) -> set[int]:
        """Fold in a commit that came before this node took part: it has no times."""
        return self._commit(line, timed=False)

    def live(self, number: int, now: float) -> Round | None:
        """Return a row, its last span as long as it is by ``now`` (unix seconds)."""
        row = self.rows.get(number)
        if row is None or number != self._open:
            return row
        return row.model_copy(update={"spans": _closed(row, now)})

    # -- one method per kind of line -------------------------------------------------------

    def _begin(self, line: ln.Began) -> set[int]:
        number = line.round
        changed = self._finish(number - 1, line.time) | self._exchange(number - 1, line)
        changed |= self._drop_false_start(number)
        known = self._row(number)
        parts = {part.peer: _timeless(part) for part in known.contributions}
        parts |= {peer: _part(peer) for peer in line.roster if peer not in parts}
        self._put(
            known.model_copy(
                update={
                    "parent": line.parent,
                    "leader": line.leader,
                    "view": 0,
                    "started_at": line.time,
                    "commit_s": None,
                    "fetch_s": None,
                    "apply_s": None,
                    "duration_s": None,
                    "spans": (),
                    "waited": (),
                    "contributions": _sorted(parts),
                }
            )
        )
        self._open = None
        return changed | {number}

    def _enter_phase(self, line: ln.Phased) -> set[int]:
        changed = self._close(line.time)
        row = self._row(line.round)
        if line.phase not in _SPANS or row.duration_s is not None:
            return changed
        started_at = line.time if row.started_at is None else row.started_at
        span = Span.model_validate(
            {"name": line.phase, "start_s": _passed(started_at, line.time), "duration_s": 0.0}
        )
        self._put(row.model_copy(update={"started_at": started_at, "spans": (*row.spans, span)}))
        self._open = line.round
        return changed | {line.round}

    def _contribution(self, line: ln.Announced | ln.Checked) -> set[int]:
        row = self._row(line.round)
        known = {part.peer: part for part in row.contributions}
        since = _since(row, line.time)
        update: dict[str, Any]
        if isinstance(line, ln.Announced):
            update = {"announced_s": since, **_figures(line)}
        else:
            update = {"checked_s": since, "refused": line.reason or None}
        part = known.get(line.peer, _part(line.peer))
        known[line.peer] = part.model_copy(update=update)
        row = row.model_copy(update={"contributions": _sorted(known)})
        return self._put(row.model_copy(update={"waited": _waited(row, self._me)}))

    def _commit(self, line: ln.Committed, timed: bool = True) -> set[int]:
        row = self._row(line.round)
        if row.commit == line.commit:
            return set()
        known = {part.peer: part for part in row.contributions}
        included = {part.peer: part for part in line.included}
        for peer in {*known, *included, *line.late}:
            known[peer] = known.get(peer, _part(peer)).model_copy(
                update={"included": peer in included, "late": peer in line.late}
                | (_figures(included[peer]) if peer in included else {})
            )
        tokens = sum(part.text_tokens for part in line.included)
        loss = sum(part.loss * part.text_tokens for part in line.included) / max(1, tokens)
        update = {
            "parent": line.parent,
            "commit": line.commit,
            "leader": line.leader,
            "view": line.view,
            "contributions": _sorted(known),
            "text_tokens": max(0, line.text_tokens),
            "total_text_tokens": max(0, line.total_text_tokens),
            "loss": loss if tokens else None,
            "payload_bytes": sum(part.bytes for part in line.included),
            "dense_bytes": len(line.included) * self.dense_bytes,
        }
        if timed and row.duration_s is None:
            update["commit_s"] = _since(row, line.time)
        row = row.model_copy(update=update)
        return self._put(row.model_copy(update={"waited": _waited(row, self._me)}))

    def _applied(self, line: ln.Applied) -> set[int]:
        changed = self._close(line.time) | self._finish(line.round, line.time)
        row = self._row(line.round)
        lasted = {span.name: span.duration_s for span in row.spans}
        update = {
            "digest": line.digest,
            "fetch_s": lasted.get("fetching"),
            "apply_s": lasted.get("applying"),
        }
        return changed | self._put(row.model_copy(update=update))

    # -- rows ------------------------------------------------------------------------------

    def _row(self, number: int) -> Round:
        return self.rows.get(number) or _blank(number)

    def _put(self, row: Round) -> set[int]:
        self.rows[row.round] = row
        while len(self.rows) > KEPT_ROWS:
            del self.rows[min(self.rows)]
        return {row.round} & self.rows.keys()

    def _change(self, number: int, **update: object) -> set[int]:
        if number not in self.rows:
            return set()
        return self._put(self.rows[number].model_copy(update=update))

    def _close(self, time: float) -> set[int]:
        """End the span that goes on."""
        if self._open is None:
            return set()
        row, self._open = self._row(self._open), None
        return self._put(row.model_copy(update={"spans": _closed(row, time)}))

    def _finish(self, number: int, time: float) -> set[int]:
        """End a round that is committed; it changes no more."""
        row = self.rows.get(number)
        if row is None or row.duration_s is not None or row.started_at is None or not row.commit:
            return set()
        closed = self._close(time) if self._open == number else set()
        return closed | self._change(number, duration_s=_passed(row.started_at, time))

    def _exchange(self, number: int, line: ln.Began | ln.Ended) -> set[int]:
        """Give the round that ended what was sent and received since it began."""
        before, self._totals = self._totals, (line.sent, line.received)
        if before is None:
            return set()
        sent, received = _grown(before[0], line.sent), _grown(before[1], line.received)
        return self._change(number, sent=sent, received=received)

    def _drop_false_start(self, number: int) -> set[int]:
        """Take the times from round 0 if this node has joined later, or came back."""
        row = self.rows.get(0)
        if number <= 1 or row is None or row.duration_s is not None:
            return set()
        return self._put(row.model_copy(update={"spans": (), "started_at": None, "commit_s": None}))


def _blank(number: int) -> Round:
    return Round(
        round=number,
        parent=None,
        commit=None,
        leader=None,
        view=0,
        started_at=None,
        commit_s=None,
        fetch_s=None,
        apply_s=None,
        duration_s=None,
        spans=(),
        contributions=(),
        waited=(),
        text_tokens=None,
        total_text_tokens=None,
        loss=None,
        val_loss=None,
        digest=None,
        payload_bytes=None,
        dense_bytes=None,
        sent={},
        received={},
    )


def _part(peer: str) -> Contribution:
    return Contribution(
        peer=peer,
        name=short(peer),
        announced_s=None,
        checked_s=None,
        included=None,
        late=False,
        refused=None,
        text_tokens=None,
        loss=None,
        bytes=None,
    )


def _timeless(part: Contribution) -> Contribution:
    return part.model_copy(update={"announced_s": None, "checked_s": None})


def _figures(part: ln.Part) -> dict[str, Any]:
    return {"text_tokens": part.text_tokens, "loss": part.loss, "bytes": part.bytes}


def _sorted(parts: dict[str, Contribution]) -> tuple[Contribution, ...]:
    return tuple(parts[peer] for peer in sorted(parts))


def _since(row: Round, time: float) -> float | None:
    return None if row.started_at is None else _passed(row.started_at, time)


def _passed(since: float, until: float) -> float:
    """Return seconds, as exact as the log's times are."""
    return round(max(0.0, until - since), 3)


def _closed(row: Round, time: float) -> tuple[Span, ...]:
    if not row.spans or row.started_at is None:
        return row.spans
    last = row.spans[-1]
    duration_s = _passed(row.started_at + last.start_s, time)
    return (*row.spans[:-1], last.model_copy(update={"duration_s": duration_s}))


def _waited(row: Round, me: str) -> tuple[Waited, ...]:
    """Return for whom this node waited once its own contribution was announced."""
    since = next((span.start_s for span in row.spans if span.name == "collecting"), None)
    if since is None:
        return ()
    waits: dict[str, float] = {}
    for part in row.contributions:
        until = row.commit_s if part.announced_s is None else part.announced_s
        if part.peer != me and until is not None:
            waits[part.peer] = _passed(since, until)
    arrivals = [part.announced_s for part in row.contributions if part.announced_s is not None]
    if row.commit_s is not None and row.leader not in (None, me):
        last = max([since, *arrivals])
        waits[str(row.leader)] = max(waits.get(str(row.leader), 0.0), _passed(last, row.commit_s))
    found = [Waited(peer=p, duration_s=s) for p, s in waits.items() if s >= _MIN_WAIT_S]
    return tuple(sorted(found, key=lambda wait: (-wait.duration_s, wait.peer)))


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {kind: max(0, total - before.get(kind, 0)) for kind, total in sorted(after.items())}
