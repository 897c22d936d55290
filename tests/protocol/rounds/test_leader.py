"""Leaders: the same for all, the whole roster in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import PeerId, RunId, content_hash
from skerry.protocol.rounds.leader import leader_of, succession

rosters = st.sets(st.sampled_from([PeerId(f"p{i}") for i in range(12)]), min_size=1)
runs = st.binary(max_size=4).map(lambda b: RunId(content_hash(b)))


@given(runs, st.integers(0, 1000), rosters)
def test_successive_views_go_through_the_whole_roster_and_around(run, number, roster):
    ordered = tuple(sorted(roster))
    leaders = [leader_of(run, number, view, ordered) for view in range(2 * len(ordered))]
    assert set(leaders[: len(ordered)]) == roster
    assert leaders[: len(ordered)] == leaders[len(ordered) :]


@given(runs, st.integers(0, 1000), rosters, st.randoms())
def test_the_order_of_the_roster_does_not_matter(run, number, roster, random):
    shuffled = list(roster)
    random.shuffle(shuffled)
    assert succession(run, number, tuple(shuffled)) == succession(
        run, number, tuple(sorted(roster))
    )


def test_rounds_and_runs_have_different_leaders():
    roster = tuple(PeerId(f"p{i}") for i in range(8))
    one, other = RunId(content_hash(b"one")), RunId(content_hash(b"other"))
    firsts = [leader_of(one, number, 0, roster) for number in range(400)]
    assert firsts != [leader_of(other, number, 0, roster) for number in range(400)]
    assert set(firsts) == set(roster)
    assert max(Counter(firsts).values()) < 2 * 400 / 8
