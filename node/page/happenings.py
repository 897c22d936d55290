"""Failures, recoveries, comings and goings: the timeline, folded from lines of the event log.

What breaks and is mended later is one entry: it says "recovered", and how long it took, once
the matching line has come.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.node.cli.wording import duration, printable, size
from skerry.node.page import lines as ln
from skerry.node.page.models import Severity, TimelineEntry, TimelineKind
from skerry.protocol.ids import short
from skerry.protocol.quota import FALSE_STATE

_COMPUTE = "compute"
_DAEMON = "daemon"
_REPEAT_S = 600.0
"""The same refusal of the same peer is told again after so long."""
_SAME_S = 0.02
"""A warning that comes with a line of its own is not told twice."""
_MAX_OPEN = 1000
_MAX_TEXT = 300
_COMINGS_AND_GOINGS = frozenset({"daemon-started", "daemon-stopped", "run-entered", "run-left"})
_AT_WORK = frozenset(
    {"observing", "training", "encoding", "collecting", "paused", "removed", "done"}
)
"""Phases in which this node is in step again."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry before it has a number."""

    kind: TimelineKind
    text: str
    severity: Severity = "info"
    peer: str | None = None
    round: int | None = None


class Happenings:
    """The timeline of one run."""

    def __init__(self, entries: Iterable[TimelineEntry] = (), last_time: float = 0.0) -> None:
        """Go on after ``entries``, oldest first, and a last line of the log at ``last_time``.

        A peer that is down may still come back, and so may this daemon.
        """
        self._last_time, self._last_stopped = last_time, True
        self._next = 1
        self._open: dict[str, TimelineEntry] = {}
        """What may recover, by peer id or a word for an own part."""
        for entry in entries:
            self._next = entry.id + 1
            if entry.kind in _COMINGS_AND_GOINGS:
                self._last_stopped = entry.kind in ("daemon-stopped", "run-left")
            if entry.kind == "peer-down" and entry.recovery_s is None and entry.peer:
                self._open[entry.peer] = entry
        self._told: dict[tuple[str, str], float] = {}
        self._worded_at = 0.0
        """When a line came whose warning in words follows."""

    def take(self, line: ln.Line) -> list[TimelineEntry]:
        """Fold in one line; return the entries that are new or have changed."""
        found = self._fold(line)
        self._last_time = line.time
        if isinstance(line, ln.Diverged | ln.ComputeTurned):
            self._worded_at = line.time
        return found

    def _fold(self, line: ln.Line) -> list[TimelineEntry]:
        match line:
            case ln.Started() | ln.Stopped() | ln.Entered() | ln.Left():
                return self._daemon(line)
            case ln.Paused():
                text = f"the user has {line.event} this node"
                return self._new(line, _Found(line.event, text))
            case ln.PeerTurned():
                return self._peer(line)
            case ln.ComputeTurned(event="compute-lost"):
                text = "the compute process died; it is being restarted and healed"
                return self._opening(_COMPUTE, line, _Found("compute-died", text, "error"))
            case ln.Phased() if line.phase in _AT_WORK:
                return [*self._mended(_COMPUTE, line.time), *self._mended(_DAEMON, line.time)]
            case ln.ViewChanged() | ln.Diverged() | ln.Downloaded() | ln.Healed():
                return self._new(line, _state_found(line))
            case ln.Planned() | ln.Slow():
                return self._new(line, _plan_found(line))
            case ln.Ordered() | ln.AlphaSet():
                return self._ordered(line)
            case ln.Refused() | ln.Warned() | ln.Failed():
                return self._trouble(line)
            case _:
                return []

    def _daemon(self, line: ln.Started | ln.Stopped | ln.Entered | ln.Left) -> list[TimelineEntry]:
        match line:
            case ln.Started() if not self._last_stopped:
                away = duration(max(0.0, line.time - self._last_time))
                text = f"the daemon is back; it ended without notice and was away for {away}"
                return self._opening(_DAEMON, line, _Found("daemon-started", text, "warning"))
            case ln.Started():
                self._last_stopped = False
                return self._new(line, _Found("daemon-started", "the daemon started"))
            case ln.Stopped():
                self._last_stopped = True
                return self._new(line, _Found("daemon-stopped", "the daemon was stopped"))
            case ln.Entered():
                self._last_stopped = False
                return self._new(line, _Found("run-entered", f"takes part in run {line.name}"))
            case ln.Left():
                return self._new(line, _Found("run-left", "took leave of the run"))

    def _peer(self, line: ln.PeerTurned) -> list[TimelineEntry]:
        peer, name = line.peer, short(line.peer)
        if line.event == "peer-down":
            found = _Found("peer-down", f"{name} fell silent", "error", peer)
            return self._opening(peer, line, found)
        if line.event == "peer-dead":
            newest = f": {line.evidence[-1]}" if line.evidence else ""
            text = f"{name} is given up, others get its stages{newest}"
            return self._new(line, _Found("peer-dead", text, "warning", peer))
        if line.event == "peer-left":
            self._open.pop(peer, None)
            return self._new(line, _Found("peer-left", f"{name} left", "info", peer))
        if peer in self._open:
            return self._mended(peer, line.time)
        return self._new(line, _Found("peer-up", f"{name} is here", "info", peer))

    def _ordered(self, line: ln.Ordered | ln.AlphaSet) -> list[TimelineEntry]:
        match line:
            case ln.AlphaSet(outer_lr=None):
                text = "the outer learning rate is that of the run file again"
                return self._new(line, _Found("outer-lr", text, round=line.round))
            case ln.AlphaSet():
                text = f"an owner has set the outer learning rate to {line.outer_lr:g}"
                return self._new(line, _Found("outer-lr", text, round=line.round))
            case ln.Ordered(event="removed"):
                self._open.pop(line.peer, None)
                text = (
                    f"an owner has removed {short(line.peer)}: {line.reason or 'no reason given'}"
                )
                found = _Found("peer-removed", text, "warning", line.peer, line.round)
                return self._new(line, found)
            case ln.Ordered():
                text = f"an owner lets {short(line.peer)} in again"
                return self._new(line, _Found("peer-readmitted", text, "info", line.peer))

    def _trouble(self, line: ln.Refused | ln.Warned | ln.Failed) -> list[TimelineEntry]:
        match line:
            case ln.Refused():
                text = f"refused something of {short(line.peer)}: {line.reason}"
                if line.reason == FALSE_STATE:
                    text = f"{short(line.peer)} sent false parameters; they come from others"
                found = _Found("refused", text, "warning", line.peer)
                return self._new(line, found) if self._is_news(line) else []
            case ln.Warned() if line.time - self._worded_at < _SAME_S:
                return []
            case ln.Warned():
                return self._new(line, _Found("warning", line.text, "warning"))
            case ln.Failed():
                return self._new(line, _Found("warning", line.text or line.error, "error"))

    def _is_news(self, line: ln.Refused) -> bool:
        key = (line.peer, line.reason)
        before = self._told.get(key)
        if before is not None and line.time - before < _REPEAT_S:
            return False
        if len(self._told) >= _MAX_OPEN:
            self._told.clear()
        self._told[key] = line.time
        return True

    def _opening(self, key: str, line: ln.Line, found: _Found) -> list[TimelineEntry]:
        """Tell of something that may be mended."""
        (entry,) = self._new(line, found)
        if len(self._open) < _MAX_OPEN:
            self._open[key] = entry
        return [entry]

    def _mended(self, key: str, time: float) -> list[TimelineEntry]:
        entry = self._open.pop(key, None)
        if entry is None:
            return []
        update = {"severity": "recovered", "recovery_s": max(0.0, time - entry.time)}
        return [entry.model_copy(update=update)]

    def _new(self, line: ln.Line, found: _Found) -> list[TimelineEntry]:
        number, self._next = self._next, self._next + 1
        entry = TimelineEntry(
            id=number,
            time=line.time,
            kind=found.kind,
            severity=found.severity,
            peer=found.peer,
            round=found.round,
            text=printable(found.text)[:_MAX_TEXT],
            recovery_s=None,
        )
        return [entry]


def _plan_found(line: ln.Planned | ln.Slow) -> _Found:
    match line:
        case ln.Planned():
            rings = ", ".join(" - ".join(map(short, ring)) for ring in line.rings)
            standing_by = f"; {len(line.spares)} standing by" if line.spares else ""
            text = f"a plan is in force from round {line.round} on: {rings}{standing_by}"
            return _Found("planned", text, round=line.round)
        case ln.Slow():
            text = f"{short(line.peer)} takes {line.times:.1f} times as long as planned"
            return _Found("slow", text, "warning", line.peer, line.round)


def _state_found(line: ln.ViewChanged | ln.Diverged | ln.Downloaded | ln.Healed) -> _Found:
    match line:
        case ln.ViewChanged():
            who = short(line.passed_over) if line.passed_over else "nobody"
            after = short(line.leader) if line.leader else "nobody"
            text = f"{who} gave no commit; {after} leads round {line.round} now"
            return _Found("view-change", text, "warning", line.passed_over, line.round)
        case ln.Diverged():
            text = f"own state {short(line.mine)} is not the agreed {short(line.agreed)}; healing"
            return _Found("diverged", text, "error", None, line.round)
        case ln.Downloaded():
            return _Found("state-downloaded", f"took a state of {size(line.bytes)} from others")
        case ln.Healed():
            return _Found(line.event, line.text, "warning" if line.event == "healing" else "info")
