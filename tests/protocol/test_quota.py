"""What one peer may ask: bursts, forgiveness, ever longer exclusion, and bounded memory."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry.protocol.ids import PeerId
from skerry.protocol.quota import FALSE_STATE, HARMLESS, QUOTA, QuotaLimits, Quotas, Verdict

PEER, OTHER = PeerId("peer"), PeerId("other")
SMALL = QuotaLimits(
    penalty=5.0,
    forgive_s=60.0,
    streams=2,
    stream_burst=4.0,
    streams_per_s=1.0,
    byte_burst=100.0,
    bytes_per_s=10.0,
    knocks=3,
    shut_s=60.0,
    longest_shut_s=200.0,
    amends_s=1000.0,
    peers=4,
)


def flood(quotas: Quotas, count: int, now: float, reason: str = "malformed") -> list[Verdict]:
    return [quotas.charge(PEER, reason, now) for _ in range(count)]


class TestBadMessages:
    def test_a_peer_is_shut_out_after_its_burst_and_heard_again_later(self) -> None:
        quotas = Quotas(SMALL)
        assert flood(quotas, 5, 0.0) == [Verdict.HEARD] * 5
        assert not quotas.shut_out(PEER, 0.0)
        assert flood(quotas, 2, 0.0) == [Verdict.SHUT_OUT, Verdict.HEARD]  # told once
        assert quotas.shut_out(PEER, 59.9) and not quotas.shut_out(PEER, 60.0)
        assert not quotas.shut_out(OTHER, 1.0)

    def test_bad_messages_now_and_then_are_forgiven(self) -> None:
        quotas = Quotas(SMALL)
        for minute in range(100):
            assert set(flood(quotas, 5, 60.0 * minute)) == {Verdict.HEARD}

    def test_what_befalls_honest_peers_is_not_charged(self) -> None:
        quotas = Quotas(SMALL)
        for reason in HARMLESS:
            assert set(flood(quotas, 10, 0.0, reason)) == {Verdict.HEARD}

    def test_some_things_weigh_more(self) -> None:
        assert flood(Quotas(SMALL), 1, 0.0, "bytes") == [Verdict.SHUT_OUT]

    def test_who_gives_false_parameters_again_and_again_is_shut_out(self) -> None:
        quotas = Quotas()
        assert flood(quotas, 10, 0.0, FALSE_STATE) == [Verdict.HEARD] * 10
        assert flood(quotas, 1, 0.0, FALSE_STATE) == [Verdict.SHUT_OUT]

    def test_each_time_is_longer_up_to_a_limit_and_good_conduct_shortens_it(self) -> None:
        quotas, now, times = Quotas(SMALL), 0.0, []
        for _ in range(4):
            flood(quotas, 6, now)
            began = now
            while quotas.shut_out(PEER, now):
                now += 1.0
            times.append(now - began)
        assert times == [60.0, 120.0, 200.0, 200.0]
        now += 2 * SMALL.amends_s
        flood(quotas, 6, now)
        assert quotas.shut_out(PEER, now + 59.0) and not quotas.shut_out(PEER, now + 60.0)

    def test_who_goes_on_knocking_is_disconnected_and_kept_out_for_longer(self) -> None:
        quotas = Quotas(SMALL)
        flood(quotas, 6, 0.0)
        knocks = flood(quotas, 4, 50.0, QUOTA)
        assert knocks == [Verdict.HEARD] * 3 + [Verdict.DISCONNECT]
        assert quotas.shut_out(PEER, 50.0 + 119.0) and not quotas.shut_out(PEER, 50.0 + 120.0)


class TestStreams:
    def test_so_many_at_once(self) -> None:
        quotas = Quotas(SMALL)
        assert [quotas.open_stream(PEER, 0.0) for _ in range(3)] == ["", "", "streams"]
        assert quotas.open_stream(OTHER, 0.0) == ""
        quotas.close_stream(PEER)
        assert quotas.open_stream(PEER, 0.0) == ""

    def test_so_many_in_quick_succession(self) -> None:
        quotas = Quotas(SMALL)
        for expected in ("", "", "", "", "stream-rate"):
            assert quotas.open_stream(PEER, 0.0) == expected
            quotas.close_stream(PEER)
        assert quotas.open_stream(PEER, 1.0) == ""

    def test_none_while_shut_out(self) -> None:
        quotas = Quotas(SMALL)
        flood(quotas, 6, 0.0)
        assert quotas.open_stream(PEER, 1.0) == QUOTA
        assert quotas.receive(PEER, 1, 1.0) == QUOTA


@pytest.mark.parametrize(("at", "then"), [(0.0, "bytes"), (1.0, "bytes"), (5.0, "")])
def test_bytes_in_a_burst_and_in_the_long_run(at: float, then: str) -> None:
    quotas = Quotas(SMALL)
    assert quotas.receive(PEER, 100, 0.0) == ""
    assert quotas.receive(PEER, 50, at) == then


def test_memory_is_bounded_and_whoever_has_a_stream_is_remembered() -> None:
    quotas = Quotas(SMALL)
    quotas.open_stream(PEER, 0.0)
    for number in range(50):
        quotas.charge(PeerId(f"p{number}"), "malformed", 0.0)
    assert len(quotas) == SMALL.peers
    quotas.open_stream(PEER, 0.0)
    assert quotas.open_stream(PEER, 0.0) == "streams"


class QuotaMachine(RuleBasedStateMachine):
    """Any order of uses by two peers: limits hold, and nobody pays for another."""

    def __init__(self) -> None:
        super().__init__()
        self.quotas, self.now = Quotas(SMALL), 0.0
        self.streams, self.received, self.charged = 0, 0, 0

    @rule(seconds=st.floats(0.0, 500.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def open(self) -> None:
        reason = self.quotas.open_stream(PEER, self.now)
        assert (reason == QUOTA) == self.quotas.shut_out(PEER, self.now)
        self.streams += not reason

    @precondition(lambda self: self.streams)
    @rule()
    def close(self) -> None:
        self.quotas.close_stream(PEER)
        self.streams -= 1

    @rule(num_bytes=st.integers(0, 150))
    def receive(self, num_bytes: int) -> None:
        if not self.quotas.receive(PEER, num_bytes, self.now):
            self.received += num_bytes

    @rule(reason=st.sampled_from(["malformed", "bytes", QUOTA, "stale-round"]))
    def refuse(self, reason: str) -> None:
        was_out = self.quotas.shut_out(PEER, self.now)
        verdict = self.quotas.charge(PEER, reason, self.now)
        if verdict is Verdict.SHUT_OUT:
            assert not was_out and reason not in HARMLESS
        if verdict is Verdict.DISCONNECT:
            assert was_out and reason == QUOTA
        if verdict is not Verdict.HEARD:
            assert self.quotas.shut_out(PEER, self.now + SMALL.shut_s - 1.0)
        assert not self.quotas.shut_out(PEER, self.now + SMALL.longest_shut_s)

    @invariant()
    def limits_hold(self) -> None:
        assert self.streams <= SMALL.streams
        assert self.received <= SMALL.byte_burst + SMALL.bytes_per_s * self.now
        assert not self.quotas.shut_out(OTHER, self.now)


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
