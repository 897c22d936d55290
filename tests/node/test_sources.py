from hypothesis import given
from hypothesis import strategies as st

from skerry.node.net.sources import MAX_DETOURS, in_order
from skerry.protocol.ids import PeerId

NAMES = [PeerId(name) for name in "abcdefgh"]
LINKS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["direct", "relayed", "unknown"]), max_size=8
)


def test_direct_holders_are_asked_before_relayed_ones() -> None:
    links = {NAMES[1]: "relayed", NAMES[2]: "direct"}
    assert in_order(NAMES[:4], links) == (NAMES[0], NAMES[2], NAMES[3], NAMES[1])


def test_a_relayed_author_waits_for_a_few_only() -> None:
    links = {NAMES[0]: "relayed", **dict.fromkeys(NAMES[1:], "direct")}
    found = in_order(NAMES, links)
    assert found == (*NAMES[1 : 1 + MAX_DETOURS], NAMES[0], *NAMES[1 + MAX_DETOURS :])


def test_where_all_are_relayed_nothing_changes() -> None:
    assert in_order(NAMES, dict.fromkeys(NAMES, "relayed")) == tuple(NAMES)
    assert in_order([], {}) == ()


@given(st.permutations(NAMES), LINKS)
def test_nobody_is_lost_or_asked_twice(holders, links) -> None:
    assert sorted(in_order(holders, links)) == NAMES
