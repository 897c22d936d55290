"""Which state a round is built upon, shard by shard."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_node import sign
from small_run import RUN, genesis

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import Address, CommitHash, PeerId, content_hash
from skerry.protocol.messages import Announce, ShardPayload, ShardState
from skerry.protocol.rounds.voting import agreeing, check_state, check_vouched, state_before

SHARDS = ("embed", "block.0", "head")


def address(text: str) -> Address:
    return Address(content_hash(text.encode()))


def state(**values: str) -> tuple[ShardState, ...]:
    """Return states of shards, ``b`` being block.0, in layout order."""
    names = {"e": "embed", "b": "block.0", "h": "head"}
    return tuple(ShardState(names[key], address(value)) for key, value in values.items())


def announce(author: str, **values: str):
    named = state(**values)
    shards = tuple(ShardPayload(entry.shard, address(author + entry.shard), 5) for entry in named)
    message = Announce(RUN, 1, CommitHash("00" * 32), named, 8, 8, 1.0, shards)
    return sign(message, PeerId(author))


def authors(announces) -> list[str]:
    return [one.signer for one in agreeing(announces)]


PARENT = replace(genesis().message, state=state(e="0", b="0", h="0"))


def test_a_host_of_a_part_confirms_the_part_that_it_hosts():
    full, other = announce("full", e="1", b="1", h="1"), announce("other", e="1", b="2", h="1")
    assert authors([announce("body", b="1"), full, other]) == ["body", "full"]
    assert authors([announce("body", b="2"), full, other]) == ["body", "other"]


def test_a_diverged_host_of_a_part_is_outvoted_by_what_the_others_share():
    origin, full = announce("origin", e="1", h="1"), announce("full", e="1", b="1", h="1")
    assert authors([announce("body", b="x"), full, origin]) == ["full", "origin"]


def test_hosts_of_different_shards_do_not_contradict_one_another():
    assert authors([announce("a", e="1", h="1"), announce("b", b="9")]) == ["a", "b"]


values = st.sampled_from("123")


@given(
    st.lists(
        st.builds(
            lambda keys, value: {key: value for key in "ebh" if key in keys},
            st.sets(st.sampled_from("ebh"), min_size=1),
            values,
        ),
        min_size=1,
        max_size=7,
    ),
    st.randoms(),
)
def test_some_agree_with_each_other_whatever_is_announced_in_whatever_order(drawn, random):
    announces = [announce(f"p{i}", **one) for i, one in enumerate(drawn)]
    chosen = agreeing(announces)
    assert chosen
    known: dict[str, str] = {}
    for entry in (entry for one in chosen for entry in one.message.state):
        assert known.setdefault(entry.shard, entry.address) == entry.address
    shuffled = list(announces)
    random.shuffle(shuffled)
    assert {one.hash for one in agreeing(shuffled)} == {one.hash for one in chosen}
    commit = replace(PARENT, announces=tuple(chosen))
    check_state(
        SHARDS, replace(commit, state=state_before(SHARDS, PARENT, commit.announces)), PARENT
    )


def test_shards_that_did_not_change_keep_their_address_and_others_are_not_named():
    changed = replace(PARENT, announces=(announce("body", b="0"),))
    assert state_before(SHARDS, changed, [announce("origin", e="0", h="0")]) == state(e="0", h="0")
    assert state_before(SHARDS, changed, [announce("body", b="1")]) == state(e="0", b="1", h="0")


@pytest.mark.parametrize(
    "wrong",
    [
        state(e="1", b="1"),
        state(e="1", b="1", h="2"),
        state(e="1", h="1", b="1"),
        (*state(e="1", b="1", h="1"), ShardState("block.1", address("1"))),
    ],
)
def test_a_commit_names_what_its_announcements_say_and_nothing_else(wrong):
    commit = replace(PARENT, announces=(announce("full", e="1", b="1", h="1"),))
    check_state(SHARDS, replace(commit, state=state(e="1", b="1", h="1")), PARENT)
    with pytest.raises(ProtocolError, match="announcements"):
        check_state(SHARDS, replace(commit, state=wrong), PARENT)


def test_two_states_in_one_commit_are_refused():
    both = (announce("a", b="1"), announce("b", b="2"))
    commit = replace(PARENT, announces=both)
    named = state_before(SHARDS, PARENT, both)
    with pytest.raises(ProtocolError, match="another state"):
        check_state(SHARDS, replace(commit, state=named), PARENT)


def test_a_signer_vouches_for_shards_of_the_model_in_their_order():
    check_vouched(SHARDS, state(e="1", h="1"))
    for wrong in (state(h="1", e="1"), (*state(e="1"), ShardState("block.7", address("1")))):
        with pytest.raises(ProtocolError, match="order"):
            check_vouched(SHARDS, wrong)
