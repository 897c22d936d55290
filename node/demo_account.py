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
    _began: set[tuple[str, str]] = field(default_factory=set)
    """Who trained upon which commit."""

    def read(self, peer: str, events: Iterable[Event]) -> None:
        """Take in lines of a peer's event log."""
        for event in events:
            match event["event"]:
                case "committed":
                    self._take_commit(event)
                case "announced":
                    self._take_contribution(event, event["round"])
                case "began" if peer in event["roster"]:
                    self._began.add((peer, event["parent"]))

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

    def begun_text_tokens(self, round_tokens: int) -> int:
        """Return how many text tokens a chain counts at most, if none counts twice.

        That is what readers have read if they ended every round that they began. Some was never
        contributed by itself: it went into the next contribution, or was lost with a process.
        """
        readers = {peer for peer, _, _ in self._contributed}
        return round_tokens * sum(author in readers for author, _ in self._began)

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
