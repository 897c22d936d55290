"""Shadows: the oldest first, one at a time, never faster than the spare uplink."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.recovery.shadowing import ShadowRules, ShadowSchedule, SpareUplink

RULES = ShadowRules(every=10, share=0.1, burst_s=2.0)
SHARDS = ("block.3", "block.4", "block.5")


def test_what_is_lacking_comes_first_then_what_is_oldest():
    schedule = ShadowSchedule(SHARDS, RULES)
    order = []
    for step in range(0, 40, 2):
        shard = schedule.next(step)
        if shard is not None:
            schedule.confirmed(shard, step)
            order.append((step, shard))
    assert order[:3] == [(0, "block.3"), (2, "block.4"), (4, "block.5")]
    assert order[3:6] == [(10, "block.3"), (12, "block.4"), (14, "block.5")]
    assert schedule.age(38) == 38 - 30


def test_one_copy_at_a_time_so_that_a_slow_link_makes_no_queue():
    schedule = ShadowSchedule(SHARDS, RULES)
    assert schedule.next(0) == "block.3"
    assert schedule.next(100) is None
    with pytest.raises(ValueError, match="not under way"):
        schedule.confirmed("block.4", 0)
    schedule.given_up()
    assert schedule.next(100) == "block.3"


def test_what_the_holder_cannot_use_is_due_at_once():
    schedule = ShadowSchedule(SHARDS[:1], RULES)
    schedule.next(0)
    schedule.confirmed("block.3", 0)
    assert schedule.next(9) is None
    schedule.next(10)
    schedule.refused("block.3")
    assert schedule.age(10) is None
    assert schedule.next(11) == "block.3"


def test_a_copy_of_an_older_step_than_now_is_due_again_the_sooner():
    """Of the round's start, say, when some of its steps are over already."""
    schedule = ShadowSchedule(SHARDS[:1], RULES)
    schedule.next(16)
    schedule.confirmed("block.3", 5)
    assert schedule.age(16) == 11
    assert schedule.next(16) == "block.3"


def test_a_round_s_start_is_due_though_the_steps_before_it_were_copied():
    schedule = ShadowSchedule(SHARDS[:1], RULES)
    for step in (0, 10, 20):
        assert schedule.next(step) == "block.3"
        (schedule.confirmed_within if step else schedule.confirmed)("block.3", step)
    assert schedule.next(20) is None
    schedule.begin_round()
    assert (schedule.age(20), schedule.next(20)) == (20, "block.3")


@given(st.lists(st.integers(0, 5), max_size=60))
def test_copies_are_no_older_than_due_and_the_time_all_take(delays):
    """With steps ``delays`` long between a copy and its confirmation."""
    schedule, step = ShadowSchedule(SHARDS, RULES), 0
    for delay in delays:
        shard = schedule.next(step)
        begun, step = step, step + (delay if shard else 1)
        if shard:
            schedule.confirmed(shard, begun)
        age = schedule.age(step)
        assert age is None or 0 <= age <= RULES.every + len(SHARDS) * 5 + 1


def test_shadows_get_a_share_of_the_uplink_and_only_what_is_left_of_it():
    spare = SpareUplink(RULES, uplink=1000.0, at=0.0)
    assert spare.allowed(1.0) == 100
    assert spare.allowed(50.0) == 200  # two seconds' worth
    spare.spend(150, 50.0)
    spare.measured(1000.0, busy=960.0, now=50.0)
    assert (spare.rate, spare.allowed(50.0)) == (40.0, 50)
    spare.measured(1000.0, busy=2000.0, now=50.0)
    assert spare.allowed(1000.0) == 0
    with pytest.raises(ValueError, match="0 are allowed"):
        spare.spend(1, 1000.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1)),
        max_size=40,
    )
)
def test_never_more_is_sent_than_the_share_and_one_burst(history):
    spare = SpareUplink(RULES, uplink=1e6, at=0.0)
    now, sent, most = 0.0, 0, 0.0
    for pause, uplink, busy, part in history:
        now, most = now + pause, most + pause * RULES.share * spare.uplink
        size = int(spare.allowed(now) * part)
        spare.spend(size, now)
        sent += size
        spare.measured(uplink, busy, now)
    assert sent <= most + 1


@pytest.mark.parametrize("changes", [{"every": 0}, {"share": 0}, {"share": 1.1}, {"burst_s": 0}])
def test_settings_under_which_nothing_is_sent_are_refused(changes):
    with pytest.raises(ValueError, match="out of range"):
        ShadowRules(**changes)
