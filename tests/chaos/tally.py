"""What the faults of a plan hit, and what they did not. Plain data."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fault_plan import Fault, Kind, Phase


@dataclass(slots=True)
class Tally:
    """What became of each fault of a plan; every one of them is in one of the three."""

    hits: Counter[tuple[Kind, Phase]] = field(default_factory=Counter)
    """Faults whose first victim was in the phase that the plan wanted."""
    elsewhere: list[str] = field(default_factory=list)
    """Those that struck, but never saw the phase: which one, and what the victim did instead."""
    skipped: list[str] = field(default_factory=list)
    """Those that could not be brought about, and why."""
    failures: int = 0
    """Peers that a fault has hit, counted each time."""

    def struck(self, fault: Fault, victims: int, where: str) -> None:
        """Note a fault; ``where`` is what the first victim did, if that is not the phase."""
        self.failures += victims
        if where:
            self.elsewhere.append(f"{told(fault)}: {where}")
        else:
            self.hits[fault.kind, fault.phase] += 1

    def skip(self, fault: Fault, why: str) -> None:
        """Note a fault that nobody was hit by."""
        self.skipped.append(f"{told(fault)}: {why}")

    def add(self, other: "Tally") -> None:
        """Take in another run's."""
        self.hits += other.hits
        self.elsewhere += other.elsewhere
        self.skipped += other.skipped
        self.failures += other.failures

    def phases(self) -> Counter[Phase]:
        """Return how many faults hit each phase."""
        found: Counter[Phase] = Counter()
        for (_, phase), count in self.hits.items():
            found[phase] += count
        return found

    def fields(self) -> dict[str, object]:
        """Return it as JSON has it: hits by kind and phase."""
        hits: dict[str, dict[str, int]] = {}
        for (kind, phase), count in sorted(self.hits.items()):
            hits.setdefault(kind, {})[phase] = count
        return {
            "failures": self.failures,
            "hits": hits,
            "elsewhere": self.elsewhere,
            "skipped": self.skipped,
        }


def told(fault: Fault) -> str:
    """Return a fault in words."""
    return f"{fault.kind} in {fault.phase}"


def table(tally: Tally, kinds: Iterable[Kind] = Kind, phases: Iterable[Phase] = Phase) -> str:
    """Return the hits as a table in Markdown, kinds by phases."""
    columns = list(phases)
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for kind in kinds:
        counts = (str(tally.hits[kind, phase]) for phase in columns)
        lines.append(f"| {kind} | {' | '.join(counts)} |")
    return "\n".join(lines)
