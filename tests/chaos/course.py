"""A plan of faults under way, in the simulated swarm or among real daemons."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Generic, TypeVar

from approach import BROUGHT, HARMLESS, Approach, Verdict, Victim
from fault_plan import Fault, FaultPlan, Phase
from tally import Tally

LIVING = 2
"""Peers that are spared: without any there is nobody to go on."""
OWNER = 0
"""It begins the run, and nobody can let it in."""
V = TypeVar("V", bound=Victim)
BringAbout = Callable[[Fault, list[V]], Callable[[], None] | None]


class Course(Generic[V]):
    """Lets each fault of a plan strike when its first victim is in the phase, and ends it."""

    def __init__(
        self,
        plan: FaultPlan,
        victims: Sequence[V],
        bring_about: BringAbout[V],
        replay: int,
        patience: int,
        unable: Callable[[Fault], str],
    ) -> None:
        """Begin before the first fault.

        Args:
            victims: by number.
            bring_about: lets a fault happen to some, and returns what ends it, if it lasts.
            replay: rounds of which payloads are kept.
            patience: rounds to wait for a phase, and for a victim that another fault keeps away.
            unable: says why a fault cannot be brought about here; "" if it can.
        """
        self._victims, self._bring_about, self._unable = victims, bring_about, unable
        dice = Random(plan.seed)
        self._coming = [
            Approach(fault, victims[fault.victims[0]], dice, replay + 2, patience)
            for fault in plan.faults
        ]
        self._ends: list[tuple[int, Callable[[], None]]] = []
        self.tally = Tally()

    @property
    def is_over(self) -> bool:
        """Whether nothing more goes wrong and all that went wrong has ended."""
        return not self._coming and not self._ends

    @property
    def left(self) -> list[str]:
        """What is still to come, for the message of a failed run."""
        return [f"{one.fault} ({one.victim.doing})" for one in self._coming]

    def step(self, reached: int, now: float) -> None:
        """Look after everybody, end what has lasted long enough, and let strike what is ripe."""
        if not reached:
            return
        for victim in self._victims:
            victim.look_after()
        for due, end in [one for one in self._ends if one[0] <= reached]:
            self._ends.remove((due, end))
            end()
        for one in list(self._coming):
            self._look(one, reached, now)

    def close(self) -> None:
        """The run is over: end what lasts, and give up what is still to come."""
        for one in self._coming:
            one.drop()
            self.tally.skip(one.fault, "the run was over")
        self._coming.clear()
        while self._ends:
            self._ends.pop(0)[1]()

    def _look(self, one: Approach, reached: int, now: float) -> None:
        fault = one.fault
        why = self._unable(fault)
        if fault.phase is Phase.JOIN and fault.victims[0] == OWNER:
            why = "nobody can let the owner in"
        verdict = Verdict.MISSED if why else one.look(reached, now, self._is_spare)
        if verdict is Verdict.WAIT:
            return
        self._coming.remove(one)
        if why:
            self.tally.skip(fault, why)
        else:
            self._strike(fault, reached, verdict)

    def _strike(self, fault: Fault, reached: int, verdict: Verdict) -> None:
        first = self._victims[fault.victims[0]]
        where = first.doing if verdict is Verdict.MISSED else ""
        hit = self._hit(fault, verdict)
        if not hit:
            self.tally.skip(fault, "away, or too few would be left")
            return
        self.tally.struck(fault, len(hit), where)
        end = self._bring_about(fault, hit)
        if end is not None:
            self._ends.append((reached + fault.rounds, end))

    def _hit(self, fault: Fault, verdict: Verdict) -> list[V]:
        """Return those of its victims that are there, as long as enough others are left."""
        living = sum(victim.is_able for victim in self._victims)
        found = []
        for number, victim in ((number, self._victims[number]) for number in fault.victims):
            in_hand = number == fault.victims[0] and verdict is Verdict.STRIKE
            there = in_hand or (victim.is_there and victim.can_suffer(fault.kind))
            away = in_hand and fault.phase in BROUGHT
            costs = fault.kind not in HARMLESS and victim.is_able and not away
            if there and (not costs or living > LIVING):
                living -= costs
                found.append(victim)
        return found

    def _is_spare(self, victim: Victim) -> bool:
        """Say whether a victim is in no other fault's hands, and enough are left without it."""
        if any(one.holds and one.victim is victim for one in self._coming):
            return False
        others = sum(other.is_able for other in self._victims if other is not victim)
        return others >= LIVING
