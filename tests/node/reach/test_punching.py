from hypothesis import given
from hypothesis import strategies as st

from skerry.node.reach.nat import Nat
from skerry.node.reach.punching import DELAYS_S, PunchBook
from skerry.protocol.ids import PeerId

A, B = PeerId("a"), PeerId("b")
WHERE = {A: ("/ip4/51.10.0.1/tcp/1",)}
CONE = Nat.ENDPOINT_INDEPENDENT


def test_a_new_peer_is_tried_at_once_and_later_after_each_failure() -> None:
    book, now = PunchBook(), 100.0
    for delay in DELAYS_S:
        assert book.due(WHERE, CONE, now + delay - 0.001) == ([] if delay else [A])
        now += delay
        assert book.due(WHERE, CONE, now) == [A]
        book.failed(A, now)
    assert book.due(WHERE, CONE, now + DELAYS_S[-1] - 1) == []
    assert book.due(WHERE, CONE, now + DELAYS_S[-1]) == [A]


def test_behind_a_symmetric_nat_hardly_anything_is_tried() -> None:
    book = PunchBook()
    assert book.due(WHERE, Nat.SYMMETRIC, 0.0) == []
    assert book.due(WHERE, Nat.SYMMETRIC, DELAYS_S[-1]) == [A]


def test_news_make_a_try_worth_it() -> None:
    book = PunchBook()
    assert book.due(WHERE, Nat.UNKNOWN, 0.0) == [A]
    book.failed(A, 0.0)
    assert book.due(WHERE, Nat.UNKNOWN, 1.0) == []
    assert book.due(WHERE, CONE, 1.0) == [A]
    book.failed(A, 1.0)
    assert book.due({A: ("/ip4/51.10.0.2/tcp/1",)}, CONE, 1.5) == [A]


def test_a_connection_that_ended_is_worth_a_try_soon_but_not_at_once() -> None:
    book = PunchBook()
    book.due(WHERE, CONE, 0.0)
    book.succeeded(A, 0.0)
    assert book.due({}, CONE, 1.0) == []
    assert book.due(WHERE, CONE, DELAYS_S[1] - 0.1) == []
    assert book.due(WHERE, CONE, DELAYS_S[1]) == [A]


def test_who_waits_longest_comes_first() -> None:
    book = PunchBook()
    both = {B: (), A: ()}
    assert book.due({B: ()}, CONE, 0.0) == [B]
    assert book.due(both, CONE, 1.0) == [B, A]


@given(st.lists(st.floats(0.0, 2000.0), max_size=40))
def test_tries_of_one_peer_are_never_closer_than_their_delays(waits) -> None:
    book, now, last, failures = PunchBook(), 0.0, None, 0
    for wait in waits:
        now += wait
        for peer in book.due(WHERE, CONE, now):
            # Not now - last: in floating point the sum of both may be now all the same.
            assert last is None or now >= last + DELAYS_S[min(failures, len(DELAYS_S) - 1)]
            book.failed(peer, now)
            last, failures = now, failures + 1
