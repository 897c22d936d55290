"""Times that can be compared although other programs run: interleaved, minimum, one thread."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is timed, and what must be put back before each time."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def fastest(operations: dict[Name, Operation], repetitions: int) -> dict[Name, float]:
    """Return each operation's shortest time in seconds.

    All take turns, so that a busy spell of the machine falls on all of them alike; the minimum
    is what the operation takes when left alone. Each has run once before it counts.
    """
    for operation in operations.values():
        operation.prepare()
        operation.run()
    best = dict.fromkeys(operations, float("inf"))
    for _ in range(repetitions):
        for name, operation in operations.items():
            operation.prepare()
            began = time.perf_counter()
            operation.run()
            best[name] = min(best[name], time.perf_counter() - began)
    return best
