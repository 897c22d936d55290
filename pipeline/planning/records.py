"""What the compiled simulator reads and writes: arrays of records, fields named, times in seconds.

Each record holds what is given, what changes while time passes, and what is measured, in this
order. Given fields are filled by simulator.py, the others begin as 0.

Shape suffixes: N peers, P paths, H hops of the longest path, M microbatches, V (peer, path) pairs,
C churn events, K kinds of hop (which stages), X hosts listed by kind, Q events that may be pending,
E log entries.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.void]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LOG_COLUMNS = 5
"""Microbatch, step, peer, start, end."""


def _layout(integers: str, floats: str) -> np.dtype[np.void]:
    fields = [(name, np.int64) for name in integers.split()]
    return np.dtype(fields + [(name, np.float64) for name in floats.split()])


PEER = _layout(
    "slots through_first through_end"
    " used down life running running_step running_life resting waiting peak",
    "forward backward receive uplink_free downlink_free computed sent",
)
"""``waiting``, which begins the queue, and ``running`` are one more than a microbatch, or 0."""
LINK = _layout("", "busy delay")
"""Seconds that one microbatch occupies the sender, and seconds after that until it is there."""
PATH = _layout("length first end drawn", "loss")
"""``first`` to ``end``: its part of ``order_M``, of which ``drawn`` have begun."""
HOP = _layout("peer kind", "units")
WORK = _layout("path next rank urgency life step active ready parked length retries", "at done")
"""``at``: from when on it may begin; ``done`` 0: not done."""
ROUTE = _layout("peer hop held", "")
"""The hops a microbatch takes: those of its path, or what replaces them. ``held``: has, or would
take, a slot of its peer, as all but a peer's second hop of a route do."""
KIND = _layout("first end", "")
CHURN = _layout("peer up", "time")
EVENT = _layout("order what who life", "time")
RULES = _layout(
    "contended backward_first bypass order sequence parked downs logged pending",
    "rest rest_injected ship_after detect limit",
)


class World(NamedTuple):
    """One simulation: all its arrays; ``rules`` has one record."""

    rules: Records
    peers_N: Records
    links_NN: Records
    paths_P: Records
    hops_PH: Records
    through_V: Ints
    work_M: Records
    order_M: Ints
    routes_MH: Records
    kinds_K: Records
    hosts_X: Ints
    churn_C: Records
    events_Q: Records
    log_E: Floats
