"""The token bucket of bad messages: bursts, forgiveness, and bounded memory."""

from skerry.node.run.quota import HARMLESS, MAX_PEERS, BadMessages
from skerry.protocol.ids import PeerId

PEER, OTHER = PeerId("peer"), PeerId("other")


def flood(bad: BadMessages, count: int, now: float, peer: PeerId = PEER) -> list[bool]:
    return [bad.charge(peer, "malformed", now) for _ in range(count)]


def test_peer_is_shut_out_after_its_burst_and_heard_again_later() -> None:
    bad = BadMessages(limit=5, refill_s=60.0)
    assert flood(bad, 5, 0.0) == [False] * 5
    assert not bad.exceeded(PEER, 0.0)
    assert flood(bad, 1, 0.0) == [True]  # told once
    assert flood(bad, 3, 1.0) == [False] * 3
    assert bad.exceeded(PEER, 59.9)
    assert not bad.exceeded(PEER, 60.0)
    assert flood(bad, 6, 60.0)[-1]  # and from then on it has a new burst


def test_other_peers_are_not_concerned() -> None:
    bad = BadMessages(limit=1)
    flood(bad, 9, 0.0)
    assert not bad.exceeded(OTHER, 0.0)


def test_bad_messages_now_and_then_are_forgiven() -> None:
    bad = BadMessages(limit=5, refill_s=60.0)
    for minute in range(100):
        assert flood(bad, 5, 60.0 * minute) == [False] * 5


def test_what_befalls_honest_peers_is_not_charged() -> None:
    bad = BadMessages(limit=1)
    for reason in HARMLESS:
        for _ in range(10):
            assert not bad.charge(PEER, reason, 0.0)
    assert not bad.exceeded(PEER, 0.0)


def test_memory_is_bounded_and_the_oldest_forgotten() -> None:
    bad = BadMessages(limit=1)
    flood(bad, 2, 0.0, PeerId("first"))
    for number in range(MAX_PEERS):
        flood(bad, 2, 0.0, PeerId(f"p{number}"))
    assert not bad.exceeded(PeerId("first"), 0.0)
    assert bad.exceeded(PeerId("p0"), 0.0)
    assert len(bad._buckets) == MAX_PEERS
