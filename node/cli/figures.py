"""What a run's event log adds to its status: its losses so far, and how fast it goes."""

from dataclasses import dataclass, field

from skerry.node.page.lines import Applied, Began, Committed, Line, Validated

PACE_ROUNDS = 10
"""Newest rounds whose pace counts: recent enough to show a change, enough to be steady."""
_MIN_PACE_ROUNDS = 2
_KEPT_ROUNDS = 10_000


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
    val_loss: float | None = None


@dataclass(slots=True)
class Tally:
    """Adds up the lines of one run's log, oldest first; the newest rounds are kept."""

    _rounds: dict[int, _Round] = field(default_factory=dict)

    def take(self, line: Line) -> None:
        """Take in one line; most say nothing about losses and pace."""
        match line:
            case Began():
                self._row(line.round).began = line.time
            case Applied():
                self._row(line.round).applied = line.time
            case Committed():
                row = self._row(line.round)
                row.text_tokens, row.loss = line.text_tokens, _mean_loss(line)
            case Validated():
                self._row(line.round).val_loss = line.loss

    def figures(self) -> Figures:
        """Return what the lines so far add up to."""
        rows = sorted(self._rounds.items())
        validated = [(number, row.val_loss) for number, row in rows if row.val_loss is not None]
        done = [(number, row.applied) for number, row in rows if row.applied is not None]
        applied, applied_at = done[-1] if done else (0, 0.0)
        rate, round_s = self._pace(applied)
        return Figures(
            losses=tuple(row.loss for _, row in rows if row.loss is not None),
            val_losses=tuple(loss for _, loss in validated),
            val_round=validated[-1][0] if validated else None,
            text_tokens_per_s=rate,
            round_s=round_s,
            applied=applied,
            applied_at=applied_at,
        )

    def _row(self, number: int) -> _Round:
        if number not in self._rounds:
            self._rounds[number] = _Round()
            if len(self._rounds) > _KEPT_ROUNDS:
                del self._rounds[min(self._rounds)]
        return self._rounds[number]

    def _pace(self, number: int) -> tuple[float | None, float | None]:
        """Return text tokens per second and seconds per round, back from a round to a gap."""
        began = ended = None
        rounds = text_tokens = 0
        while rounds < PACE_ROUNDS and number > 0 and (row := self._rounds.get(number)):
            if row.began is None or row.applied is None:
                break
            began, ended = row.began, ended or row.applied
            rounds, text_tokens, number = rounds + 1, text_tokens + row.text_tokens, number - 1
        if rounds < _MIN_PACE_ROUNDS or began is None or ended is None or ended <= began:
            return None, None
        return text_tokens / (ended - began), (ended - began) / rounds


def _mean_loss(line: Committed) -> float | None:
    """Return the contributions' mean loss, weighted by text tokens."""
    weight = sum(part.text_tokens for part in line.included)
    total = sum(part.loss * part.text_tokens for part in line.included)
    return total / weight if weight else None
