from skerry.node.reach.service import MIN_GAP_SECONDS, Gaps
from skerry.protocol.ids import PeerId

A, B = PeerId("a"), PeerId("b")


def test_the_same_question_is_answered_once_in_a_while() -> None:
    gaps = Gaps()
    assert gaps.allow(A, "look", 10.0)
    assert not gaps.allow(A, "look", 9.9 + MIN_GAP_SECONDS)
    assert gaps.allow(A, "look", 10.0 + MIN_GAP_SECONDS)


def test_other_questions_and_peers_are_answered_meanwhile() -> None:
    gaps = Gaps()
    assert all(gaps.allow(peer, kind, 1.0) for peer in (A, B) for kind in ("look", "punch"))


def test_a_crowd_fills_no_memory() -> None:
    gaps = Gaps()
    allowed = [gaps.allow(PeerId(str(i)), "look", 1.0) for i in range(5000)]
    assert 0 < sum(allowed) < 5000 and allowed[0]
    assert gaps.allow(A, "look", 1.0 + MIN_GAP_SECONDS)
