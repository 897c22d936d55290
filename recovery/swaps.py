"""Stages that learn each other's role, so that one can be copied where the other is lost. Pure.

The two stages at each end of the model have no neighbour on one side to be averaged with. Some of
the microbatches (half in the paper, ``ring.swap_ratio`` of a run) pass them in reverse order, so
that each learns what the other does.

Source: CheckFree+ (arXiv:2506.15461) section 4.3.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise


def learned_roles(orders: Iterable[Sequence[int]]) -> dict[int, int]:
    """Return the pairs of stages, by either, that microbatches pass in both orders.

    Args:
        orders: the stages of each path in the order of visiting; at least one path passes every
            stage in the model's order.
    """
    turned = [
        (later, earlier)
        for stages in orders
        for later, earlier in pairwise(stages)
        if later > earlier
    ]
    return {one: other for pair in turned for one, other in (pair, pair[::-1])}


def swap_partner(stage: int, stages: int) -> int | None:
    """Return which stage swaps places with ``stage``: the two at each end do, others have none.

    Of three stages, the one in the middle swaps with the first.
    """
    pairs = {0: 1, 1: 0} if stages > 1 else {}
    if stages > 2:
        pairs |= {stages - 1: stages - 2}
    if stages > 3:
        pairs |= {stages - 2: stages - 1}
    return pairs.get(stage)


def visiting_order(stages: int, swapped: bool) -> tuple[int, ...]:
    """Return in which order a microbatch passes the stages; CheckFree+ swaps every other one's."""
    order = list(range(stages))
    if swapped:
        for first in {0, stages - 2} if stages > 3 else {0} if stages > 1 else set():
            order[first], order[first + 1] = order[first + 1], order[first]
    return tuple(order)
