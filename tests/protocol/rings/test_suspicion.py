"""Who may have lost microbatches of which nobody says anything."""

from skerry.protocol.rings.suspicion import Suspicion

BAN_S = 10.0


def suspects(suspicion: Suspicion, now: float) -> list[set[int]]:
    return [set(some) for some in suspicion.suspects(now)]


def test_without_a_loss_nobody_is_passed_by():
    assert suspects(Suspicion(BAN_S), 0.0) == [set()]


def test_one_member_of_the_way_is_passed_by_and_told_once():
    suspicion = Suspicion(BAN_S)
    assert suspicion.lost({2, 1}, 0.0) == 1
    assert suspicion.lost({2, 1}, 1.0) is None
    assert suspects(suspicion, 9.9) == [{1}, set()]
    assert suspects(suspicion, 10.0) == [set()]


def test_who_is_on_the_way_of_all_losses_is_found_whoever_was_suspected_first():
    suspicion = Suspicion(BAN_S)
    assert suspicion.lost({1, 3}, 0.0) == 1
    assert suspicion.lost({2, 3}, 1.0) == 3
    assert suspects(suspicion, 2.0) == [{1, 3}, {3}, set()]


def test_who_comes_back_is_cleared_and_so_is_all_that_came_by_it():
    suspicion = Suspicion(BAN_S)
    suspicion.lost({1, 2}, 0.0)
    suspicion.came_back({2})
    assert suspects(suspicion, 1.0) == [{1}, set()]
    suspicion.came_back({1})
    assert suspects(suspicion, 1.0) == [set()]


def test_each_time_is_twice_as_long_as_the_last_up_to_a_bound():
    suspicion, now, times = Suspicion(BAN_S), 0.0, []
    for _ in range(9):
        assert suspicion.lost({1}, now) == 1
        times.append(next(t for t in range(1, 1000) if suspects(suspicion, now + t) == [set()]))
        now += times[-1]
    assert times == [10, 20, 40, 80, 160, 320, 640, 640, 640]


def test_what_comes_back_makes_the_next_time_shorter():
    suspicion = Suspicion(BAN_S)
    suspicion.lost({1}, 0.0)
    suspicion.lost({1}, 10.0)
    for _ in range(2):
        suspicion.came_back({1})
    suspicion.lost({1}, 100.0)
    assert suspects(suspicion, 109.0) == [{1}, set()]
    assert suspects(suspicion, 110.0) == [set()]


def test_with_nobody_on_the_way_there_is_nobody_to_suspect():
    assert Suspicion(BAN_S).lost(set(), 0.0) is None
