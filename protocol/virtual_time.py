"""An asyncio event loop whose clock jumps to the next timer instead of waiting.

A hundred virtual seconds of a simulated network take milliseconds, and the same program gives
the same schedule every time, as long as it neither waits for another thread or process nor
depends on the order of a set.
"""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualDeadlock(RuntimeError):
    """Every task waits for another and no timer is set: the program would hang for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s; ``time()`` moves only when there is nothing left to do."""

    def __init__(self) -> None:
        """Make a loop that is not running yet."""
        self._now = 0.0
        super().__init__(_JumpingSelector(self))
        # Timers this close count as due. The usual nanosecond vanishes beside a clock that shows
        # months, and a timer that is due now but never run would stop the loop for ever.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the virtual seconds that have passed."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let ``seconds`` pass at once; at least one float, so that a timer is always reached."""
        self._now = max(self._now + seconds, math.nextafter(self._now, math.inf))


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at real files without waiting, and lets virtual time pass instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise VirtualDeadlock(f"nothing will ever happen after {self._loop.time():.3f} s")
        self._loop.jump(timeout)
        return ready


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a fresh VirtualTimeLoop and return its result.

    Raises: VirtualDeadlock, after all tasks were cancelled.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
