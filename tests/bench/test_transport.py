"""The transport benchmark: the shaped link's arithmetic, the verdict, and one real run."""

import json

import pytest

import transport
from transport_bench.results import Claims, Skipped, Transfer
from transport_bench.shaper import Direction


def test_a_direction_serialises_and_then_delays() -> None:
    way = Direction(bits_per_s=8000, delay_s=0.5, queue_bytes=10**6)  # 1 ms per byte
    way.offer(b"a" * 100, now=0.0)
    way.offer(b"b" * 100, now=0.0)
    way.offer(b"c" * 100, now=1.0)
    assert way.next_at() == pytest.approx(0.6)
    assert way.arrived(0.59) == []
    assert way.arrived(0.7001) == [b"a" * 100, b"b" * 100]
    assert way.next_at() == pytest.approx(1.6)
    assert way.passed_bytes == 300


def test_what_does_not_fit_into_the_queue_is_dropped() -> None:
    way = Direction(bits_per_s=8000, delay_s=0.0, queue_bytes=150)
    for _ in range(5):
        way.offer(bytes(100), now=0.0)
    assert way.dropped == 3
    assert len(way.arrived(10.0)) == 2


def result(stack: str, payload_mb: float, streams: int, of_link: float | None) -> Transfer:
    return Transfer(
        link="any",
        stack=stack,
        streams=streams,
        payload_mb=payload_mb,
        first_mb_s=1.0,
        mb_s=1.0,
        cpu_s_per_gb=1.0,
        of_link=of_link,
        of_socket=None,
    )


def test_the_goal_holds_for_the_best_number_of_streams_and_the_worst_payload() -> None:
    found = [
        result("socket", 16, 1, 0.5),
        result("p2pd", 1, 1, 0.1),
        result("p2pd", 16, 1, 0.7),
        result("p2pd", 16, 4, 0.92),
        result("p2pd", 64, 1, 0.95),
        result("py-libp2p", 128, 1, None),
    ]
    assert transport.claims(found) == Claims(goal=0.9, best={"p2pd": 0.92}, passed=True)
    found.append(result("py-libp2p", 16, 1, 0.89))
    assert not transport.claims(found).passed
    assert not transport.claims([]).passed


def test_without_root_the_shaped_link_is_left_out_and_said_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(transport, "LOOPBACK_MB", 1)
    assert transport.main(["--json", "--stacks", "socket", "--repeats", "1", "--check"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["transfer", "skipped", "claims"]
    assert lines[0]["mb_s"] > 0
    assert "root" in Skipped(reason=lines[1]["reason"]).reason
