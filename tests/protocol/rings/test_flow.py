"""A sender and a link of given rate and delay, step by step: busy, and without a queue."""

from collections import deque

import pytest

from skerry.protocol.rings.flow import Flow

CHUNK = 16_384
TICK_S = 0.001


def transfer(rate: float, delay_s: float, seconds: float, idle_until: float = 0.0):
    """Send as much as is allowed; return the flow, the bytes taken in and the longest queue."""
    flow, now, free_at, taken, queue_s = Flow(), 0.0, 0.0, 0, 0.0
    news: deque[float] = deque()
    while now < seconds:
        while news and news[0] <= now:
            news.popleft()
            flow.taken(CHUNK, now)
            taken += CHUNK
        busy = now >= idle_until or not news
        while busy and flow.room() >= CHUNK:
            flow.sent(CHUNK, now)
            free_at = max(free_at, now) + CHUNK / rate
            news.append(free_at + 2 * delay_s)
            queue_s = max(queue_s, free_at - now)
            busy = now >= idle_until
        now += TICK_S
    return flow, taken, queue_s


@pytest.mark.parametrize("rate", [1e6, 2.5e6, 12.5e6])
@pytest.mark.parametrize("delay_s", [0.002, 0.025, 0.1])
def test_the_link_is_busy_and_its_queue_short(rate, delay_s):
    flow, taken, queue_s = transfer(rate, delay_s, 6.0)
    assert taken > 0.75 * 6.0 * rate
    assert queue_s < 0.07 + 2 * delay_s  # a round trip while it is still learning
    assert flow.rate == pytest.approx(rate, rel=0.3)


def test_a_sender_with_little_to_send_does_not_seem_to_have_a_slow_link():
    flow, _, _ = transfer(2.5e6, 0.02, 3.0)
    fast = flow.rate
    for step in range(100):  # one chunk a second
        flow.room()
        flow.sent(CHUNK, 3.0 + step)
        flow.taken(CHUNK, 3.05 + step)
    assert flow.rate == fast


def test_without_news_no_more_than_the_limit_is_under_way():
    flow, sent = Flow(), 0
    while flow.room() >= CHUNK:
        flow.sent(CHUNK, 0.0)
        sent += CHUNK
    assert sent == flow.limit == 64 * 1024
    assert flow.room() == 0
