"""How fast this node computes the blocks of its stages, measured while a ring trains."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from skerry.node.ring.session import Output
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rings.tasks import Kind, Task, Work

_FORWARDS = {Kind.FORWARD: 1, Kind.INPUT_GRADIENT: 2, Kind.WEIGHT_GRADIENT: 1}
"""What a computation takes, in forwards of the same blocks: an input gradient computes the forward
again. Those of head and loss are not counted."""
_NEWEST, _FEWEST = 256, 16
"""Computations that count, and without which nothing is said."""


class Speedometer:
    """Passes computations on, and measures them."""

    def __init__(self, plan: Plan, compute: Callable[[Work], Awaitable[Output]]) -> None:
        """Have ``compute`` do what ``plan`` asks for; nothing is measured yet."""
        shards = [stage.shards for stage in plan.stages]
        self._blocks = [sum("." in shard for shard in some) for some in shards]
        self._compute = compute
        self._done: deque[tuple[float, float]] = deque(maxlen=_NEWEST)
        """Text tokens through one block, forward, and the seconds that they took."""

    @property
    def rate(self) -> float:
        """Text tokens per second through one block, forward; 0: too few to say."""
        if len(self._done) < _FEWEST:
            return 0.0
        return sum(work for work, _ in self._done) / max(sum(s for _, s in self._done), 1e-9)

    async def compute(self, work: Work) -> Output:
        """Do one computation. Raises: what ``compute`` does; then it is not counted."""
        clock = asyncio.get_running_loop().time
        began = clock()
        output = await self._compute(work)
        if isinstance(work, Task) and (forwards := self._forwards(work)):
            self._done.append((forwards * work.text_tokens, clock() - began))
        return output

    def _forwards(self, task: Task) -> int:
        """Return how many blocks' forwards a computation takes."""
        forwards = _FORWARDS.get(task.kind, 0)
        if task.kind is Kind.WEIGHT_GRADIENT and task.place.hop == 0:
            forwards += _FORWARDS[Kind.INPUT_GRADIENT]  # which nobody waits for there
        return forwards * sum(self._blocks[stage] for stage in task.stages)
