"""Printing the replay of a recording, as text or as JSON lines."""

import time
from pathlib import Path
from typing import Any

import typer

from skerry.node.cli.options import Format
from skerry.node.cli.output import print_json
from skerry.node.cli.wording import printable
from skerry.node.run.replay import Ending, Step, replay
from skerry.node.run.story import action_words, change_words, event_words
from skerry.protocol.rounds.events import HeartbeatReceived, Tick

_INDENT = " " * 14


def print_replay(path: Path, output: Format) -> bool:
    """Print every step; return whether all was decided as recorded. Raises: ConfigError."""
    agreed = True
    for item in replay(path):
        if output is Format.JSON:
            print_json(_step_data(item) if isinstance(item, Step) else _ending_data(item))
        else:
            lines = _step_lines(item) if isinstance(item, Step) else [_ending_line(item)]
            for line in lines:
                typer.echo(printable(line))
        if isinstance(item, Ending):
            agreed = item.mismatches == 0
    return agreed


def _step_lines(step: Step) -> list[str]:
    """Return a line on the event, and one on each thing that follows from it."""
    changes = change_words(step.before, step.after)
    quiet = isinstance(step.event, Tick | HeartbeatReceived) and not step.actions
    if quiet and not changes and not step.mismatch:
        return []
    lines = [f"{_clock(step.time)}  {event_words(step.event)}"]
    lines += [f"{_INDENT}-> {action_words(action)}" for action in step.actions]
    lines += [f"{_INDENT}=  {'; '.join(changes)}"] if changes else []
    return lines + ([f"{_INDENT}!! {step.mismatch}"] if step.mismatch else [])


def _ending_line(ending: Ending) -> str:
    if ending.mismatches:
        verdict = f"{ending.mismatches} were decided otherwise by skerry {ending.version}"
    else:
        verdict = "all decided as recorded"
    cut = f"; the recording ends early: {ending.reason}" if ending.reason else ""
    return f"{ending.events} events replayed, {verdict}{cut}"


def _step_data(step: Step) -> dict[str, Any]:
    after = step.after
    return {
        "time": round(step.time, 3),
        "event": type(step.event).__name__,
        "text": event_words(step.event),
        "decisions": [
            {"action": type(action).__name__, "text": action_words(action)}
            for action in step.actions
        ],
        "changes": change_words(step.before, after),
        "phase": str(after.phase),
        "round": after.round,
        "view": after.view,
        "leader": after.leader or "",
        "waiting_for": list(after.waiting_for),
        "mismatch": step.mismatch,
    }


def _ending_data(ending: Ending) -> dict[str, Any]:
    return {
        "event": "end",
        "events": ending.events,
        "mismatches": ending.mismatches,
        "reason": ending.reason,
        "version": ending.version,
    }


def _clock(seconds: float) -> str:
    """Return local time to the millisecond."""
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03d}"
