"""From event logs to seconds: when what was killed was missed, given away, brought, and trained.

Pure: the logs of all daemons of one machine, whose clock they share. What was lost trains again
with the first inner step that has trained all of it where it is now; what was trained counts with
the first commit that includes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
Logs = Mapping[str, Sequence[Event]]
"""By peer id, each in the order of time."""
_MISSING = ("peer-suspect", "peer-down")
OWN_DISK = "own disk"
"""The rung of who comes back with what it had."""


@dataclass(frozen=True, slots=True)
class Injury:
    """What was killed at once."""

    time: float
    """Unix seconds."""
    hosts: Mapping[str, str]
    """The peer that trained each shard which was lost."""
    comes_back: bool
    """Whether it is started again with what it has on its disk."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of it, in seconds since the kill but for transfer and rebuild."""

    rung: str
    """By which all of it came back; several, joined by commas, if it was not one for all."""
    missed_s: float | None
    """Somebody doubted that the peer was there, or its daemon saw the compute process end; None if
    nobody was left to."""
    planned_s: float | None
    """Somebody follows a plan that gives the stage to whoever takes it over."""
    given_s: float | None
    """It has begun to bring it back: a compute process for the stage is there."""
    transfer_s: float
    """So long it waited for parameters of other peers."""
    rebuild_s: float
    """So long it took to make what nobody had, in a process of its own."""
    trains_s: float
    """The first inner step has trained all that was lost."""
    counts_s: float
    """A commit includes what was trained of it."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A shard that trains again."""

    peer: str
    healed: Event | None
    step: Event

    @property
    def rung(self) -> str:
        return str((self.healed or {}).get("rung", OWN_DISK))


def recovery_of(injury: Injury, logs: Logs) -> Recovery | None:
    """Return what became of an injury; None as long as it is not over."""
    later = {
        peer: [event for event in log if event["time"] > injury.time] for peer, log in logs.items()
    }
    found = [_return_of(shard, injury, later) for shard in injury.hosts]
    back = [one for one in found if one is not None]
    last = max(back, key=lambda one: one.step["time"], default=None)
    if last is None or len(back) < len(found):
        return None
    commit = _commit(back, later)
    if commit is None:
        return None
    own = later[last.peer]
    planned = _planned(last.peer, later) if last.healed else None
    given = _first(own, lambda e: e["event"] == "healing")
    healed = last.healed or {}
    return Recovery(
        rung=", ".join(sorted({one.rung for one in back})),
        missed_s=_since(injury, _missed(injury, later)),
        planned_s=_since(injury, planned),
        given_s=_since(injury, given),
        transfer_s=float(healed.get("transfer", 0.0)),
        rebuild_s=float(healed.get("rebuild", 0.0)),
        trains_s=round(last.step["time"] - injury.time, 3),
        counts_s=round(commit["time"] - injury.time, 3),
    )


def _return_of(shard: str, injury: Injury, later: Logs) -> _Return | None:
    """Return where and when a shard trains again."""
    healings = [
        (event, peer)
        for peer, log in later.items()
        for event in log
        if event["event"] == "healed" and shard in event["shards"]
    ]
    healed, peer = min(healings, key=lambda one: one[0]["time"], default=(None, None))
    if peer is None and injury.comes_back:
        peer = injury.hosts[shard]
    begun = healed or _first(later.get(peer or "", ()), lambda e: e["event"] == "compute-ready")
    if peer is None or begun is None:
        return None
    step = _first(later[peer], lambda e: e["event"] == "first-step" and e["time"] >= begun["time"])
    return None if step is None else _Return(peer, healed, step)


def _commit(back: Sequence[_Return], later: Logs) -> Event | None:
    """Return the first commit with contributions that everything lost was trained for."""
    peers = {one.peer for one in back}
    begun = max(one.step["round"] for one in back)
    commits = [
        event
        for log in later.values()
        for event in log
        if event["event"] == "committed"
        and event["round"] >= begun
        and peers <= {one["peer"] for one in event["included"]}
    ]
    return _earliest(commits)


def _missed(injury: Injury, later: Logs) -> Event | None:
    """Return when the first one noticed."""
    victims = set(injury.hosts.values())
    found = [
        event
        for peer, log in later.items()
        for event in log
        if (event["event"] in _MISSING and event["peer"] in victims and peer not in victims)
        or (event["event"] == "compute-lost" and peer in victims)
    ]
    return _earliest(found)


def _planned(taker: str, later: Logs) -> Event | None:
    """Return when the first one followed a plan with the taker in a ring."""
    found = [
        event
        for log in later.values()
        for event in log
        if event["event"] == "planned" and any(taker in ring for ring in event["rings"])
    ]
    return _earliest(found)


def _first(log: Sequence[Event], test: Callable[[Event], bool]) -> Event | None:
    return next(filter(test, log), None)


def _earliest(events: Sequence[Event]) -> Event | None:
    return min(events, key=lambda event: float(event["time"]), default=None)


def _since(injury: Injury, event: Event | None) -> float | None:
    return None if event is None else round(event["time"] - injury.time, 3)
