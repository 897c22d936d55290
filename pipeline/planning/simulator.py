"""Plays microbatches on routes over peers and links, and says when each is done.

The Python side of kernel.py: it fills the records for the peers that take part, and reads what was
measured. A simulation of one ring costs about 0.2 ms; rings share nothing, so the planner simulates
only those that it changes.
"""

from dataclasses import dataclass
from itertools import accumulate
from math import inf

import numpy as np

from skerry.pipeline.planning import kernel
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.records import (
    CHURN,
    EVENT,
    HOP,
    KIND,
    LINK,
    LOG_COLUMNS,
    PATH,
    PEER,
    ROUTE,
    RULES,
    WORK,
    Ints,
    Records,
    World,
)


@dataclass(frozen=True, slots=True)
class Stop:
    """One hop of a route: who computes how many units there."""

    peer: int
    units: float
    kind: int = 0
    """Which stages: a host of the same kind can stand in for this one."""


@dataclass(frozen=True, slots=True)
class Route:
    """The hops of a microbatch, the origin first."""

    stops: tuple[Stop, ...]
    loss_units: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """A peer comes (``up``) or goes at a time."""

    time_s: float
    peer: int
    up: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated."""

    routes: tuple[Route, ...]
    order: tuple[int, ...]
    """The route of each microbatch, in the order in which origins draw them."""
    slots: int
    changes: tuple[Change, ...] = ()
    hosts: tuple[tuple[int, ...], ...] = ()
    """Who hosts each kind; only asked when a peer is down."""


@dataclass(frozen=True, slots=True)
class Task:
    """One computation: step s < L is the forward of hop s, L the loss, then backward."""

    microbatch: int
    step: int
    peer: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured; peers by their index in the problem."""

    makespan_s: float
    done_s: tuple[float, ...]
    """When each microbatch was done; 0: never."""
    retries: tuple[int, ...]
    computed_s: dict[int, float]
    sent_s: dict[int, float]
    peak_slots: dict[int, int]
    tasks: tuple[Task, ...]


class Simulator:
    """Simulates scenarios among the peers of one problem."""

    def __init__(self, problem: Problem) -> None:
        """Compute every peer's and link's seconds for one microbatch."""
        self._costs = problem.costs
        size, payload = len(problem.peers), problem.traffic.payload_bytes
        peers = np.zeros(size, PEER)
        for index, peer in enumerate(problem.peers):
            peers["forward"][index] = problem.forward_s(index)
            peers["backward"][index] = problem.backward_s(index)
            if problem.costs.downlinks:
                peers["receive"][index] = payload / peer.download
        self._peers_N = peers
        uploads_N = np.array([peer.upload for peer in problem.peers])
        links = np.zeros((size, size), LINK)
        links["busy"] = payload / np.minimum(problem.network.bandwidth_NN, uploads_N[:, None])
        links["delay"] = problem.network.latency_NN + problem.traffic.overhead_s
        self._links_NN = links

    def hop_s(self, sender: int, receiver: int) -> float:
        """Return the seconds of one microbatch from peer to peer over free links."""
        link = self._links_NN[sender, receiver]
        return float(link["busy"] + link["delay"])

    def hops_NN(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return ``hop_s`` of all pairs, averaged over both directions."""
        there_NN = self._links_NN["busy"] + self._links_NN["delay"]
        return np.asarray((there_NN + there_NN.T) / 2)

    def makespan_s(self, scenario: Scenario, limit_s: float = inf) -> float:
        """Return when the last microbatch is done; infinity if that is after the limit."""
        world, _ = self._world(scenario, 0, limit_s)
        kernel.run(world)
        return inf if world.rules["pending"][0] else float(world.work_M["done"].max())

    def play(self, scenario: Scenario, log: bool = False) -> Outcome:
        """Simulate, and return all that was measured."""
        steps = sum(2 * len(scenario.routes[route].stops) + 1 for route in scenario.order)
        lines = steps * (1 + len(scenario.changes)) if log else 0
        world, names = self._world(scenario, lines)
        kernel.run(world)
        done, peers = world.work_M["done"], world.peers_N
        return Outcome(
            makespan_s=float(done.max()),
            done_s=tuple(done.tolist()),
            retries=tuple(world.work_M["retries"].tolist()),
            computed_s=dict(zip(names, peers["computed"].tolist(), strict=True)),
            sent_s=dict(zip(names, peers["sent"].tolist(), strict=True)),
            peak_slots=dict(zip(names, peers["peak"].tolist(), strict=True)),
            tasks=tuple(
                Task(
                    int(line[0]), int(line[1]), names[int(line[2])], float(line[3]), float(line[4])
                )
                for line in world.log_E[: world.rules["logged"][0]]
            ),
        )

    def _world(
        self, scenario: Scenario, lines: int, limit_s: float = inf
    ) -> tuple[World, list[int]]:
        """Fill all records for the peers that take part; return their indices too."""
        names = sorted(_taking_part(scenario))
        local = {peer: place for place, peer in enumerate(names)}
        num_work, num_churn = len(scenario.order), len(scenario.changes)
        index_N = np.array(names)
        peers_N = self._peers_N[index_N]
        peers_N["slots"] = scenario.slots
        paths_P, hops_PH = _paths(scenario, local)
        through_V = _through(scenario, local, peers_N)
        work_M, order_M = _work(scenario, paths_P)
        kinds_K, hosts_X = _kinds(scenario, local)
        churn_C = np.zeros(num_churn, CHURN)
        churn_C["time"] = [change.time_s for change in scenario.changes]
        churn_C["peer"] = [local[change.peer] for change in scenario.changes]
        churn_C["up"] = [change.up for change in scenario.changes]
        pending = kernel.pending_limit(num_work, len(names), num_churn)
        world = World(
            rules=self._rules(limit_s),
            peers_N=peers_N,
            links_NN=self._links_NN[index_N[:, None], index_N],
            paths_P=paths_P,
            hops_PH=hops_PH,
            through_V=through_V,
            work_M=work_M,
            order_M=order_M,
            routes_MH=np.zeros((num_work, hops_PH.shape[1]), ROUTE),
            kinds_K=kinds_K,
            hosts_X=hosts_X,
            churn_C=churn_C,
            events_Q=np.empty(pending, EVENT),
            log_E=np.zeros((lines, LOG_COLUMNS)),
        )
        return world, names

    def _rules(self, limit_s: float) -> Records:
        rules, costs = np.zeros(1, RULES), self._costs
        rules["contended"] = costs.contended
        rules["backward_first"] = costs.backward_first
        rules["bypass"] = costs.bypass
        rules["rest"] = costs.rest_s
        rules["rest_injected"] = costs.rest_injected_s
        rules["ship_after"] = costs.ship_after
        rules["detect"] = costs.detect_s
        rules["limit"] = limit_s
        return rules


def _taking_part(scenario: Scenario) -> set[int]:
    found = {stop.peer for route in scenario.routes for stop in route.stops}
    found |= {peer for hosts in scenario.hosts for peer in hosts}
    return found | {change.peer for change in scenario.changes}


def _paths(scenario: Scenario, local: dict[int, int]) -> tuple[Records, Records]:
    routes = scenario.routes
    paths_P = np.zeros(len(routes), PATH)
    hops_PH = np.zeros((len(routes), max(len(route.stops) for route in routes)), HOP)
    for place, route in enumerate(routes):
        size, row = len(route.stops), hops_PH[place]
        peers = [local[stop.peer] for stop in route.stops]
        paths_P[place]["length"], paths_P[place]["loss"] = size, route.loss_units
        row["peer"][:size] = peers
        row["units"][:size] = [stop.units for stop in route.stops]
        row["kind"][:size] = [stop.kind for stop in route.stops]
    return paths_P, hops_PH


def _through(scenario: Scenario, local: dict[int, int], peers_N: Records) -> Ints:
    """List the paths through each peer, one peer after the other."""
    lists: list[list[int]] = [[] for _ in local]
    for path, route in enumerate(scenario.routes):
        for peer in dict.fromkeys(stop.peer for stop in route.stops):
            lists[local[peer]].append(path)
    ends = list(accumulate(map(len, lists)))
    peers_N["through_end"] = ends
    peers_N["through_first"] = [0, *ends[:-1]]
    return np.array([path for one in lists for path in one], np.int64)


def _work(scenario: Scenario, paths_P: Records) -> tuple[Records, Ints]:
    work_M = np.zeros(len(scenario.order), WORK)
    work_M["path"] = scenario.order
    lists: list[list[int]] = [[] for _ in scenario.routes]
    for work, path in enumerate(scenario.order):
        lists[path].append(work)
    ends = list(accumulate(map(len, lists)))
    paths_P["end"] = ends
    paths_P["first"] = [0, *ends[:-1]]
    return work_M, np.array([work for one in lists for work in one], np.int64)


def _kinds(scenario: Scenario, local: dict[int, int]) -> tuple[Records, Ints]:
    if not scenario.changes:  # nobody will ask
        return np.zeros(1, KIND), np.zeros(0, np.int64)
    lists = scenario.hosts
    num_kinds = 1 + max(stop.kind for route in scenario.routes for stop in route.stops)
    kinds_K = np.zeros(max(num_kinds, len(lists)), KIND)
    ends = list(accumulate(map(len, lists)))
    kinds_K["end"][: len(lists)] = ends
    kinds_K["first"][: len(lists)] = [0, *ends[:-1]]
    return kinds_K, np.array([local[peer] for one in lists for peer in one], np.int64)
