"""Near peers end up together, and tours are short."""

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline.planning.clusters import clusters, gather, short_tour


def distances(points) -> np.ndarray:
    at_N = np.array(points, np.float64)
    return np.abs(at_N[:, None] - at_N[None, :])


def test_groups_are_of_neighbours_and_the_remote_choose_first() -> None:
    hops_NN = distances([0, 100, 1, 101, 2, 102, 500])
    groups, rest = clusters(hops_NN, range(7), lambda group: len(group) == 3, 3)
    assert [set(group) for group in groups] == [{6, 5, 3}, {1, 4, 2}]
    assert rest == [0]


def test_a_group_that_is_never_enough_is_given_up() -> None:
    hops_NN = distances([0, 1, 2])
    assert gather(hops_NN, [0, 1, 2], lambda group: False, 2) is None
    assert clusters(hops_NN, [0, 1, 2], lambda group: False, 9) == ([], [0, 1, 2])


def test_the_last_place_is_for_the_nearest_who_can_lead() -> None:
    hops_NN = distances([0, 1, 2, 3, 4, 50])
    three = lambda group: len(group) == 3  # noqa: E731
    assert gather(hops_NN, list(range(6)), three, 3, {2, 3}) == [5, 4, 3]
    assert gather(hops_NN, list(range(6)), three, 3, {0, 1}) == [5, 4, 1]
    assert gather(hops_NN, list(range(6)), three, 3, {5}) == [5, 4, 3]
    assert gather(hops_NN, list(range(5)), three, 3, {5}) is None


def length(hops_NN, tour) -> float:
    return sum(hops_NN[a, b] for a, b in zip(tour, [*tour[1:], tour[0]], strict=True))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_a_tour_visits_all_and_is_near_the_shortest(points) -> None:
    at_N2 = np.array(points, np.float64)
    hops_NN = np.linalg.norm(at_N2[:, None] - at_N2[None, :], axis=2)
    tour = short_tour(hops_NN, range(len(points)))
    assert sorted(tour) == list(range(len(points)))
    best = min(length(hops_NN, one) for one in permutations(range(len(points))))
    assert length(hops_NN, tour) <= 1.3 * best + 1e-9


def test_crossing_ways_are_taken_out() -> None:
    hops_NN = distances([0, 10, 1, 11, 2, 12])
    assert length(hops_NN, short_tour(hops_NN, range(6))) == 24
