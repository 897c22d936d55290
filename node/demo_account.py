"""What the event logs of several peers say of a run: its commits, and what must add up. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


@dataclass(slots=True)
class Account:
    """Grows with each line that is read; the same line from two peers counts once."""

    commits: dict[str, Event] = field(default_factory=dict)
    """By hash; ``time`` is when the first peer had it."""
    _contributed: dict[tuple[str, int, float], int] = field(default_factory=dict)
    """Text tokens of each contribution of who reads text: by author, round and loss."""
    _steps: dict[tuple[str, float], int] = field(default_factory=dict)
    """Inner steps that came to their end, by peer and time."""

    def read(self, peer: str, events: Iterable[Event]) -> None:
        """Take in lines of a peer's event log."""
        for event in events:
            match event["event"]:
                case "committed":
                    self._take_commit(event)
                case "announced":
                    self._take_contribution(event, event["round"])
                case "trained":
                    self._steps[peer, event["time"]] = event["steps"]

    def chain(self, head: str) -> list[Event]:
        """Return the commits up to ``head``, oldest first, as far as they are known."""
        path: list[Event] = []
        while (commit := self.commits.get(head)) is not None:
            path.insert(0, commit)
            head = commit["parent"]
        return path

    def contributed_text_tokens(self, chain: list[Event]) -> int:
        """Return how many text tokens a chain counts at least, if nothing is lost.

        Of each reader that is all it contributed up to its newest contribution that is included:
        what was left out before goes into the next one.
        """
        newest: dict[str, int] = {}
        for commit in chain:
            newest |= {one["peer"]: commit["round"] for one in commit["included"]}
        found = self._contributed.items()
        return sum(n for (peer, number, _), n in found if number <= newest.get(peer, 0))

    def trained_text_tokens(self, step_tokens: int) -> int:
        """Return how many text tokens a chain counts at most, if none counts twice.

        Those of all inner steps that readers have brought to their end. Some may never have been
        contributed: they were lost with a process.
        """
        readers = {peer for peer, _, _ in self._contributed}
        return step_tokens * sum(n for (peer, _), n in self._steps.items() if peer in readers)

    def _take_commit(self, event: Event) -> None:
        known = self.commits.setdefault(event["commit"], event)
        known["time"] = min(known["time"], event["time"])
        for one in event["included"]:
            self._take_contribution(one, event["round"])

    def _take_contribution(self, one: Event, number: int) -> None:
        if one["loss"]:  # who reads no text knows no loss
            self._contributed[one["peer"], number, one["loss"]] = one["text_tokens"]


def counted_text_tokens(chain: list[Event]) -> int:
    """Return the text tokens that the commits of a chain count."""
    return sum(commit["text_tokens"] for commit in chain)


def mean_loss(commit: Event) -> float:
    """Return the mean loss of those who read text for a commit, nats per text token."""
    losses = [one["loss"] for one in commit["included"] if one["loss"]]
    return sum(losses) / len(losses) if losses else 0.0
