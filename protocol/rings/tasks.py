"""What a peer of a ring computes, and in which order: backward, then forward, then weights."""

from dataclasses import dataclass, field
from enum import IntEnum

from skerry.protocol.rings.frames import Place, StageVisits

At = tuple[int, int]
"""Round and inner step."""


class Kind(IntEnum):
    """The computations of one microbatch, the most urgent first.

    What others wait for goes first, and the gradient before the activation: it frees slots.
    """

    LOSS = 0
    """Head and loss; returns the gradient of the head's input, and adds to the head's gradient."""
    MEASURE = 1
    """The loss alone, of a step that is forward only."""
    INPUT_GRADIENT = 2
    FORWARD = 3
    WEIGHT_GRADIENT = 4


@dataclass(frozen=True, slots=True)
class Task:
    """One computation for one microbatch at one position of its route."""

    kind: Kind
    at: At
    place: Place
    stages: tuple[int, ...]
    """What is computed, in this order; empty: the embedding, or head and loss."""
    counts: tuple[int, ...] = ()
    """Stages whose gradient this adds to: none of them has this microbatch yet."""
    text_tokens: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Divide each stage's gradient by its own text tokens, clip, step."""

    at: At
    visits: tuple[StageVisits, ...]


@dataclass(frozen=True, slots=True)
class DropGradients:
    """Throw the gradients of an inner step away."""

    at: At


Work = Task | TakeStep | DropGradients


@dataclass(slots=True)
class TaskQueue:
    """Tasks that are ready, and when they became so."""

    _waiting: list[tuple[At, Kind, int, Task, float]] = field(default_factory=list)
    _serial: int = 0

    def __len__(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def put(self, task: Task, now: float) -> None:
        """Add a task."""
        self._serial += 1
        self._waiting.append((task.at, task.kind, self._serial, task, now))

    def take(self, until: At) -> tuple[Task, float] | None:
        """Remove and return the most urgent task of the steps up to ``until``, and since when."""
        ready = [entry for entry in self._waiting if entry[0] <= until]
        if not ready:
            return None
        first = min(ready, key=lambda entry: entry[:3])
        self._waiting.remove(first)
        return first[3], first[4]

    def drop(self, at: At, place: Place) -> None:
        """Forget the tasks of one visit."""
        self._waiting = [e for e in self._waiting if (e[3].at, e[3].place) != (at, place)]

    def holds(self, at: At) -> bool:
        """Say whether tasks of this step wait."""
        return any(entry[0] == at for entry in self._waiting)
