"""How a fault gets to where it is to strike: the same for simulated and for real victims.

Some phases come round by themselves. Into the others the victim is brought: to JOIN it is ended,
what it kept of the run is removed, and it enters anew; for a TRANSFER it is kept away until it
cannot replay what it missed; for a SHUTDOWN it is told to end. A victim that has passed through
the phase between two looks is brought there again, and hit sooner.
"""

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Protocol

from fault_plan import Fault, Kind, Phase

BROUGHT = (Phase.JOIN, Phase.TRANSFER, Phase.SHUTDOWN)
"""Phases that no peer is in unless it is brought there."""
HARMLESS = (
    Kind.COMPUTE, Kind.NETWORK, Kind.DELAY, Kind.LOSS, Kind.CORRUPT, Kind.SLOW, Kind.CLOCK,
)  # fmt: skip
"""Kinds after which the victim still counts as one of the living."""
TRIES = 3
"""How often a victim is brought into a phase."""


class Victim(Protocol):
    """A peer that things can be done to."""

    @property
    def is_there(self) -> bool:
        """Whether its process runs, and no fault keeps it from that."""

    @property
    def is_able(self) -> bool:
        """Whether it is there and has the parameters of the run."""

    @property
    def doing(self) -> str:
        """What it is doing, in a word."""

    def is_in(self, phase: Phase) -> bool:
        """Say whether it is in a phase now."""

    def is_past(self, phase: Phase, since: int) -> bool:
        """Say whether it has left a phase behind that it was brought into in round ``since``."""

    def can_suffer(self, kind: Kind) -> bool:
        """Say whether there is anything that such a fault could hit."""

    def window_s(self, kind: Kind, phase: Phase) -> float:
        """Return how long it stays in a phase, or for so long as it can suffer such a fault."""

    def renew(self) -> None:
        """End it, remove what it kept of the run, and let it enter as a newcomer."""

    def take_away(self) -> None:
        """End it without a word and keep it from starting again."""

    def bring_back(self) -> None:
        """Let it start again."""

    def end(self) -> None:
        """Tell it to end; it is started again when it has."""

    def look_after(self) -> None:
        """Do what has to be done now: start it again if it has ended, let it into the run."""


class Verdict(Enum):
    """What is to be done with a fault now."""

    WAIT = "wait"
    STRIKE = "strike"
    MISSED = "missed"


class Approach:
    """One fault on its way: due, its victim brought into the phase, and seen there."""

    def __init__(
        self, fault: Fault, victim: Victim, dice: Random, away: int, patience: int
    ) -> None:
        """Begin before it is due.

        Args:
            away: rounds after which nobody can replay what it missed.
            patience: rounds to wait for a phase that comes round by itself.
        """
        self.fault, self.victim, self._most_late = fault, victim, patience
        self._dice, self._away = dice, away
        self._begins = max(1, fault.round - (away if fault.phase is Phase.TRANSFER else 0))
        self._since: int | None = None
        """Round in which it came to be due, or the victim was brought."""
        self._tries = 0
        self._is_brought = fault.phase not in BROUGHT
        self._back_at: int | None = None
        self._seen_at: float | None = None
        self._lag_s = 0.0

    @property
    def holds(self) -> bool:
        """Whether the victim has been taken out of its work for this fault."""
        return self._tries > 0 and self._is_brought

    def look(self, reached: int, now: float, is_spare: Callable[[Victim], bool]) -> Verdict:
        """Bring the victim on, and say whether it is time to strike.

        Args:
            reached: the swarm's newest round.
            now: in seconds.
            is_spare: says whether enough peers are left without the victim.
        """
        if reached < self._begins:
            return Verdict.WAIT
        self._since = reached if self._since is None else self._since
        if not self._is_brought:
            return self._bring(reached, is_spare)
        if self._back_at is not None:
            return self._await_return(reached)
        if self.victim.is_in(self.fault.phase):
            return self._aim(reached, now, is_spare)
        return self._look_back(reached)

    def drop(self) -> None:
        """Undo what was done for a fault that does not come any more."""
        if self._back_at is not None:
            self.victim.bring_back()

    def _bring(self, reached: int, is_spare: Callable[[Victim], bool]) -> Verdict:
        if not (self.victim.is_able and is_spare(self.victim)):
            return Verdict.WAIT
        match self.fault.phase:
            case Phase.JOIN:
                self.victim.renew()
            case Phase.TRANSFER:
                self.victim.take_away()
                self._back_at = reached + self._away
            case _:
                self.victim.end()
        self._since, self._is_brought, self._seen_at = reached, True, None
        self._tries += 1
        window = self.victim.window_s(self.fault.kind, self.fault.phase)
        # At any moment of the phase; if it was shorter than thought, sooner and then at once.
        self._lag_s = self._dice.uniform(0.0, window) * (1 - (self._tries - 1) / (TRIES - 1))
        return Verdict.WAIT

    def _await_return(self, reached: int) -> Verdict:
        if self._back_at is not None and reached >= self._back_at:
            self._back_at, self._since = None, reached
            self.victim.bring_back()
        return Verdict.WAIT

    def _aim(self, reached: int, now: float, is_spare: Callable[[Victim], bool]) -> Verdict:
        fault = self.fault
        self._seen_at = now if self._seen_at is None else self._seen_at
        if now < self._seen_at + self._lag_s:
            return Verdict.WAIT
        free = fault.phase in BROUGHT or fault.kind in HARMLESS or is_spare(self.victim)
        if free and self.victim.can_suffer(fault.kind):
            return Verdict.STRIKE
        return Verdict.WAIT if fault.phase in BROUGHT else self._patience(reached)

    def _look_back(self, reached: int) -> Verdict:
        """It is not in the phase: not yet, or not any more."""
        if self.fault.phase not in BROUGHT:
            return self._patience(reached)
        if not self.victim.is_past(self.fault.phase, self._since or 0):
            return Verdict.WAIT
        self._since = reached
        self._is_brought = self._tries == TRIES
        return Verdict.MISSED if self._is_brought else Verdict.WAIT

    def _patience(self, reached: int) -> Verdict:
        late = reached - (self._since or reached)
        return Verdict.MISSED if late > self._most_late else Verdict.WAIT
