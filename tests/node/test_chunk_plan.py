"""Who brings which chunk: all of them once, however fast each holder is and whoever fails."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.node.net.chunk_plan import ChunkPlan
from skerry.protocol.ids import PeerId

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def test_a_second_holder_gets_half_and_a_third_half_of_the_longest():
    plan = ChunkPlan(range(8))
    assert plan.take(A) == range(8)
    assert plan.take(B) == range(4, 8)
    assert plan.take(C) == range(2, 4)
    assert [chunk for chunk in range(8) if plan.is_due(A, chunk)] == [0, 1]


def test_who_is_done_takes_half_of_what_a_slow_one_has_left():
    plan = ChunkPlan(range(8))
    plan.take(A), plan.take(B)
    for chunk in range(4, 8):
        assert plan.done(chunk)
    assert plan.take(B) == range(2, 4)


def test_what_a_holder_gives_up_is_taken_first():
    plan = ChunkPlan([0, 1, 2, 5, 6])
    assert plan.take(A) == range(3)
    assert plan.take(B) == range(5, 7)
    plan.done(0)
    plan.give_up(A)
    assert plan.take(C) == range(1, 3)


def test_who_was_overtaken_in_the_middle_goes_on_with_its_own():
    plan = ChunkPlan(range(4))
    plan.take(A)
    assert plan.take_over(B) == range(1)
    plan.give_up(B)
    assert plan.take(A) == range(4)


def test_the_last_chunk_of_another_is_only_taken_over_when_asked_for():
    plan = ChunkPlan([3])
    plan.take(A)
    assert plan.take(B) is None
    assert plan.take_over(B) == range(3, 4)
    assert not plan.is_due(A, 3)
    assert plan.done(3)
    assert not plan.done(3)  # it came from the other one, too
    assert (plan.missing, plan.take_over(A)) == (0, None)


@given(st.sets(st.integers(0, 40)), st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans())))
def test_any_course_brings_every_chunk(missing, course):
    plan = ChunkPlan(missing)
    came: set[int] = set()
    runs: dict[PeerId, list[int]] = {}
    honest = [(A, False)] * (2 * len(missing) + 1)
    for holder, fails in [*course, *honest]:
        if fails:
            plan.give_up(holder)
            runs.pop(holder, None)
            continue
        due = [chunk for chunk in runs.get(holder, []) if plan.is_due(holder, chunk)]
        if not due:
            run = plan.take(holder) or plan.take_over(holder)
            assert run is not None or not plan.missing
            due = runs[holder] = list(run or ())
        if due:
            assert plan.done(due[0]) == (due[0] not in came)
            came.add(due[0])
    assert (came, plan.missing) == (missing, 0)
