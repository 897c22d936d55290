"""Replaying a recording: the same decisions again, checked against those that were recorded.

Nothing but ``apply`` decides, so a replay shows exactly what a node did and why, on any machine
and long after. ``skerry logs --replay FILE`` prints it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skerry.node.run.record import Json, decisions, initial_state, read_event
from skerry.node.run.state import NodeEvent, NodeState, apply
from skerry.protocol.errors import ConfigError, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.state import Phase
from skerry.protocol.rounds.waiting import waiting_for


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a node stood between two events."""

    phase: Phase
    round: int
    view: int
    leader: PeerId | None
    alive: frozenset[PeerId]
    waiting_for: tuple[str, ...]
    """Peer ids, or a phrase."""


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what it led to."""

    time: float
    """Unix seconds."""
    event: NodeEvent
    actions: tuple[Action, ...]
    before: Situation
    after: Situation
    mismatch: str
    """How the recorded decisions differ from these; empty if they agree or were not recorded."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a recording."""

    events: int
    mismatches: int
    reason: str
    """Why it ends before the node did; empty if there is no sign of that."""
    version: str
    """Of the skerry that recorded; another one may decide otherwise."""


def replay(path: Path) -> Iterator[Step | Ending]:
    """Yield every step of a recording, and last its ending.

    Raises: ConfigError("SK-CFG-003") if the file is not a recording. What ``apply`` itself
    raises is passed on: it is the fault that ended the node.
    """
    reader = _Reader(path)
    state = reader.read_start()
    events = mismatches = 0
    while (found := reader.read_event()) is not None:
        event, now, recorded = found
        before = _situation(state)
        actions = apply(state, event, now)
        mismatch = _compared(recorded, actions)
        events, mismatches = events + 1, mismatches + bool(mismatch)
        after = _situation(state)
        time = reader.started_at + now
        yield Step(time, event, tuple(actions), before, after, mismatch)
    yield Ending(events, mismatches, reader.ended, reader.version)


def _situation(state: NodeState) -> Situation:
    rounds = state.rounds
    waiting = tuple(str(name) for name in waiting_for(rounds))
    alive = frozenset(rounds.alive)
    return Situation(rounds.phase, rounds.round, rounds.view, rounds.leader, alive, waiting)


def _compared(recorded: Json | None, actions: list[Action]) -> str:
    """Return how recorded decisions (None: unknown) differ from ``actions``."""
    if recorded is None:
        return ""
    own = decisions(actions)
    if recorded["did"] != own["did"]:
        return f"recorded: {', '.join(map(str, recorded['did'])) or 'nothing'}"
    if actions and recorded["digest"] != own["digest"]:
        return "recorded: the same decisions with other contents"
    return ""


class _Reader:
    """Reads a recording entry by entry; a last line that a crash cut short is its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = _lines(path)
        self._number = 0
        self._next: Json | None = None
        self.started_at = 0.0
        """Unix time when the node's monotonic clock was zero."""
        self.ended = self.version = ""

    def read_start(self) -> NodeState:
        entry = self._entry()
        if entry is None:
            raise ConfigError("SK-CFG-003", f"{self._path} is empty")
        try:
            start = entry["start"]
            self.started_at = float(start["time"]) - float(start["now"])
            self.version = str(start["version"])
            state = initial_state(start)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from None
        self._next = self._entry()
        return state

    def read_event(self) -> tuple[NodeEvent, float, Json | None] | None:
        """Return an event, its time and its decisions: None if not even none were recorded."""
        entry = self._next
        if entry is None:
            return None
        try:
            if "ended" in entry:
                self.ended = str(entry["ended"])
                return None
            event, now = read_event(entry), float(entry["t"])
        except (ValueError, KeyError, TypeError, AttributeError, ProtocolError) as error:
            raise self._damaged(error) from None
        self._next = self._entry()
        if self._next is None:
            return event, now, None
        if "did" not in self._next:
            return event, now, {"did": []}
        recorded, self._next = self._next, self._entry()
        return event, now, recorded

    def _entry(self) -> Json | None:
        line = next(self._lines, None)
        self._number += 1
        if line is None:
            return None
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            if not line.endswith("\n"):
                self.ended = "its last line was cut short"
                return None
            raise self._damaged(error) from None
        return entry

    def _damaged(self, error: Exception) -> ConfigError:
        detail = f"{self._path}, line {self._number}: not a recorded event ({error!r})"
        return ConfigError("SK-CFG-003", detail[:500])


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError as error:
        raise ConfigError("SK-CFG-003", f"{path} cannot be read: {error.strerror}") from None
