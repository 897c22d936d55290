"""Times that can be compared although other programs run: interleaved, minimum, of one thread."""

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
    """Return each operation's shortest time in seconds, of the processor for this thread.

    The clock stands still while other programs have the core. What they do to caches and memory
    is left: so all take turns, for a busy spell of the machine to fall on all of them alike, and
    the minimum counts. Each has run once before.
    """
    for operation in operations.values():
        operation.prepare()
        operation.run()
    best = dict.fromkeys(operations, float("inf"))
    for _ in range(repetitions):
        for name, operation in operations.items():
            operation.prepare()
            began = time.thread_time()
            operation.run()
            best[name] = min(best[name], time.thread_time() - began)
    return best
