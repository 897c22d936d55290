"""What a run's event log adds to its status: its losses so far, and how fast it goes.

Pure functions of the log's lines. ``docs/events.md`` says what each line means.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PACE_ROUNDS = 10
"""Newest rounds whose pace counts: recent enough to show a change, enough to be steady."""
_MIN_PACE_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Figures:
    """The newest rounds of a run in numbers; losses in nats per text token."""

    losses: tuple[float, ...] = ()
    """Mean training loss of each committed round, oldest first."""
    val_losses: tuple[float, ...] = ()
    """Each validation loss, oldest first."""
    val_round: int | None = None
    """Round after which the newest of them was measured."""
    text_tokens_per_s: float | None = None
    """Committed text tokens per second, waits included; None while too few rounds are known."""
    round_s: float | None = None
    """Seconds that a round takes."""
    applied: int = 0
    """Newest round that was applied."""
    applied_at: float = 0.0
    """When, in unix seconds."""

    def seconds_left(self, rounds: int, now: float) -> float | None:
        """Return how long it takes to the last of ``rounds`` rounds; None if not known."""
        left = rounds - self.applied
        if self.round_s is None or left <= 0:
            return None
        begun = min(max(0.0, now - self.applied_at), self.round_s)
        return left * self.round_s - begun


@dataclass(slots=True)
class _Round:
    began: float | None = None
    applied: float | None = None
    text_tokens: int = 0
    loss: float | None = None


@dataclass(slots=True)
class _Story:
    rounds: dict[int, _Round] = field(default_factory=dict)
    validated: dict[int, float] = field(default_factory=dict)


def figures_of(lines: Iterable[str], run_id: str) -> Figures:
    """Read the newest lines of an event log, oldest first.

    Lines of other runs, and lines that a crash cut short, are passed over.
    """
    story, of_this_run = _Story(), True
    for line in lines:
        record = record_of(line)
        if record.get("event") == "entered":
            of_this_run = record.get("run") == run_id
        elif of_this_run and isinstance(record.get("round"), int):
            _note(story, record)
    return _summed_up(story)


def record_of(line: str) -> dict[str, Any]:
    """Return a line of the event log as data; empty if it is not a whole one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(record, dict) and _number(record.get("time")) is not None
    return record if whole and isinstance(record.get("event"), str) else {}


def _note(story: _Story, record: Mapping[str, Any]) -> None:
    number, time = record["round"], record["time"]
    row = story.rounds.setdefault(number, _Round())
    match record["event"]:
        case "began":
            row.began = time
        case "applied":
            row.applied = time
        case "committed":
            row.text_tokens = int(_number(record.get("text_tokens")) or 0)
            row.loss = _mean_loss(record.get("included"))
        case "validated" if (loss := _number(record.get("loss"))) is not None:
            story.validated[number] = loss


def _mean_loss(included: object) -> float | None:
    """Return the contributions' mean loss, weighted by text tokens."""
    total = weight = 0.0
    for item in included if isinstance(included, list) else []:
        if not isinstance(item, dict):
            continue
        loss, text_tokens = _number(item.get("loss")), _number(item.get("text_tokens"))
        if loss is not None and text_tokens:
            total, weight = total + loss * text_tokens, weight + text_tokens
    return total / weight if weight else None


def _summed_up(story: _Story) -> Figures:
    numbers = sorted(story.rounds)
    losses = [row.loss for number in numbers if (row := story.rounds[number]).loss is not None]
    done = [number for number in numbers if story.rounds[number].applied is not None]
    rate, round_s = _pace(story.rounds)
    return Figures(
        losses=tuple(loss for loss in losses if loss is not None),
        val_losses=tuple(story.validated[number] for number in sorted(story.validated)),
        val_round=max(story.validated, default=None),
        text_tokens_per_s=rate,
        round_s=round_s,
        applied=done[-1] if done else 0,
        applied_at=(story.rounds[done[-1]].applied or 0.0) if done else 0.0,
    )


def _pace(rounds: Mapping[int, _Round]) -> tuple[float | None, float | None]:
    """Return text tokens per second and seconds per round, over rounds without a gap."""
    newest: list[_Round] = []
    finished = [n for n, row in rounds.items() if row.applied is not None and n > 0]
    number = max(finished, default=0)
    while (row := rounds.get(number)) and len(newest) < PACE_ROUNDS:
        if row.began is None or row.applied is None:
            break
        newest.append(row)
        number -= 1
    if len(newest) < _MIN_PACE_ROUNDS:
        return None, None
    seconds = (newest[0].applied or 0.0) - (newest[-1].began or 0.0)
    if seconds <= 0:
        return None, None
    return sum(row.text_tokens for row in newest) / seconds, seconds / len(newest)


def _number(value: object) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return value if usable and math.isfinite(value) else None  # type: ignore[arg-type, return-value]
    except OverflowError:
        return None
