"""What bounds a plan, and what would help: the same search with one thing changed.

Changes are compared with a control, the same short search from the same plan with nothing changed,
so that the search's own progress does not count as theirs.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from skerry.pipeline.planning.annealing import part
from skerry.pipeline.planning.plan import Plan
from skerry.pipeline.planning.planner import USUAL, Budget, make_plan
from skerry.pipeline.planning.problem import Peer, Problem
from skerry.pipeline.planning.rehearsal import rehearse
from skerry.pipeline.planning.replan import replan
from skerry.protocol.errors import ConfigError

_BUSY = 0.75
"""From this share of a step on, a peer's processor or uplink is called the bottleneck."""
_MOVES = 1500
_WORTH = 0.01
"""Gains below this are within the search's noise."""
_THIRD = 1 / 3
_FEW_PEERS = 64
"""With more, no plan is made anew only to advise."""


class Limit(StrEnum):
    """What a ring waits for most."""

    COMPUTE = "compute"
    UPLINK = "uplink"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Use:
    """How busy a peer is during an inner step of the plan, as shares of it."""

    computing: float
    sending: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Why the slowest ring is not faster."""

    ring: int
    limit: Limit
    peer: str
    """The busiest."""
    share: float
    """Of the step in which it computes or sends."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that would help."""

    what: str
    gain: float
    """Relative gain in text tokens per second."""


def uses(plan: Plan, problem: Problem) -> dict[str, Use]:
    """Return how busy each peer of a ring is."""
    outcome = rehearse(plan, problem)
    return {
        problem.peers[place].name: Use(computed / plan.step_s, outcome.sent_s[place] / plan.step_s)
        for place, computed in outcome.computed_s.items()
    }


def bottleneck(plan: Plan, busy: dict[str, Use]) -> Bottleneck:
    """Say what bounds the slowest ring."""
    slowest = max(range(len(plan.rings)), key=lambda place: plan.rings[place].step_s)
    members = [member.peer for member in plan.rings[slowest].members]
    shares = [(busy[peer].computing, Limit.COMPUTE, peer) for peer in members]
    shares += [(busy[peer].sending, Limit.UPLINK, peer) for peer in members]
    share, limit, peer = max(shares, key=lambda one: one[0])
    return Bottleneck(slowest, limit if share >= _BUSY else Limit.WAITING, peer, share)


def remedies(
    plan: Plan, problem: Problem, busy: dict[str, Use], budget: Budget = USUAL
) -> tuple[Remedy, ...]:
    """Return what would help, the most helpful first; nothing that gains less than 1 %."""
    changed = list(_changes(plan, problem, busy))
    bolder = list(_bolder(problem)) if len(problem.peers) <= _FEW_PEERS else []
    parts = range(1 + len(changed) + len(bolder))
    shorts = iter(Budget(budget.seed, _MOVES, part(budget.watch, place, parts)) for place in parts)
    now = replan(plan, problem, next(shorts)).text_tokens_s
    found = [
        Remedy(what, replan(plan, other, next(shorts)).text_tokens_s / now - 1)
        for what, other in changed
    ]
    for what, other in bolder:
        with suppress(ConfigError):  # too few peers for rings that skip
            found.append(Remedy(what, make_plan(other, next(shorts)).text_tokens_s / now - 1))
    budget.watch(1.0)
    worthy = [one for one in found if one.gain >= _WORTH]
    return tuple(sorted(worthy, key=lambda one: -one.gain))


def _changes(plan: Plan, problem: Problem, busy: dict[str, Use]) -> Iterator[tuple[str, Problem]]:
    """Yield what might help, in words, and the problem as it then is."""
    slowest = bottleneck(plan, busy)
    members = [member.peer for member in plan.rings[slowest.ring].members]
    computes = max(members, key=lambda peer: busy[peer].computing)
    yield f"{computes} computes twice as fast", _with_speed(problem, computes, 2.0)
    if len(members) > 1:
        sends = max(members, key=lambda peer: busy[peer].sending)
        yield f"{sends} uploads twice as fast", _with_upload(problem, sends, 2.0)
        traffic = replace(problem.traffic, payload_bytes=problem.traffic.payload_bytes // 2)
        yield "activations take half the bytes", replace(problem, traffic=traffic)
        if plan.rings[slowest.ring].in_flight == problem.limits.slots:
            limits = replace(problem.limits, slots=2 * problem.limits.slots)
            yield f"{limits.slots} slots, twice as many", replace(problem, limits=limits)


def _with_speed(problem: Problem, name: str, factor: float) -> Problem:
    def faster(peer: Peer) -> Peer:
        return replace(peer, forward=peer.forward * factor, backward=peer.backward * factor)

    return _with_peer(problem, name, faster(_peer(problem, name)))


def _with_upload(problem: Problem, name: str, factor: float) -> Problem:
    peer = _peer(problem, name)
    bandwidth_NN = problem.network.bandwidth_NN.copy()
    bandwidth_NN[problem.peers.index(peer)] *= factor
    network = replace(problem.network, bandwidth_NN=np.asarray(bandwidth_NN))
    changed = replace(problem, network=network)
    return _with_peer(changed, name, replace(peer, upload=peer.upload * factor))


def _peer(problem: Problem, name: str) -> Peer:
    return next(peer for peer in problem.peers if peer.name == name)


def _with_peer(problem: Problem, name: str, other: Peer) -> Problem:
    peers = tuple(other if peer.name == name else peer for peer in problem.peers)
    return replace(problem, peers=peers)


def _bolder(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """Yield what changes so much that a plan is made anew."""
    traffic = problem.traffic
    larger = replace(traffic, per_ring=2 * traffic.per_ring, microbatches=2 * traffic.microbatches)
    yield "twice the microbatches in an inner step", replace(problem, traffic=larger)
    if not problem.limits.skip_ratio:
        limits = replace(problem.limits, skip_ratio=_THIRD)
        what = "microbatches skip a third of the stages (skip_ratio), which changes what is trained"
        yield what, replace(problem, limits=limits)
