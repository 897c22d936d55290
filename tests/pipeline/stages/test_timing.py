"""Timing one block: the fastest of several counts, and what has no room is not begun."""

from collections.abc import Iterator

import pytest
import torch

from skerry.pipeline.planning.block_speed import BlockSpeed, SpeedRequest
from skerry.pipeline.stages import timing
from skerry.protocol.errors import ComputeError


def clock(*lengths_s: float) -> Iterator[float]:
    """What a clock says at the begin and the end of each of several things."""
    now = 5.0
    for length in lengths_s:
        yield now
        now += length
        yield now


def test_the_fastest_counts_and_nothing_before_it_is_set_up(ring_manifest, monkeypatch):
    times = clock(0.2, 0.1, 0.2, 0.4, 0.4, 0.2)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    speed = timing.time_block(ring_manifest())
    assert speed.forward == pytest.approx(2 * 12 / 0.1)
    assert speed.backward == pytest.approx(2 * 12 / 0.2)
    assert next(times, None) is None, "three of each fill the time; the first ones are not timed"


def test_what_is_too_fast_for_the_clock_has_a_speed_nonetheless(ring_manifest, monkeypatch):
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 5.0)
    speed = timing.time_block(ring_manifest())
    assert BlockSpeed.from_json(speed.to_json()) == speed


def test_a_block_is_timed_with_the_threads_that_it_will_have(ring_manifest):
    before = torch.get_num_threads()
    request = SpeedRequest(ring_manifest().canonical().decode(), 2, 2**30)
    assert SpeedRequest.from_json(request.to_json()) == request
    try:
        speed = timing.answer(request)
    finally:
        torch.set_num_threads(before)
    assert speed.threads == 2
    assert min(speed.forward, speed.backward) > 0


def test_where_there_is_no_room_for_a_block_none_is_timed(ring_manifest):
    request = SpeedRequest(ring_manifest().canonical().decode(), 1, 1000)
    with pytest.raises(ComputeError) as caught:
        timing.answer(request)
    assert caught.value.code == "SK-MEM-001"
