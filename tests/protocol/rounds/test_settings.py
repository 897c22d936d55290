"""What is in force after a commit: from the orders on the way to it, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_node import sign
from small_run import BOB, CAROL, DAVE, OWNER, RUN, genesis, member

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import (
    Envelope,
    Kind,
    MemberRecord,
    Order,
    ReadmitPeer,
    RemovePeer,
    SetOuterLr,
)
from skerry.protocol.rounds.settings import INITIAL_SETTINGS, OwnerKeys, Removal, ordered

ERIN = PeerId("erin")
KEYS = OwnerKeys(RUN, OWNER, (CAROL, ERIN))


def order(number: int, change, issuer: PeerId = OWNER, run: RunId = RUN):
    return sign(Order(run, number, change), issuer)


def after(*orders):
    return ordered(INITIAL_SETTINGS, orders, KEYS)


def refusal(*orders) -> str:
    with pytest.raises(ProtocolError) as caught:
        after(*orders)
    return caught.value.reason


def test_orders_take_effect_one_after_the_other():
    settings = after(
        order(1, RemovePeer(BOB, "slow")),
        order(1, SetOuterLr(0.7), CAROL),
        order(2, RemovePeer(DAVE, "")),
        order(3, ReadmitPeer(BOB)),
    )
    assert settings.removed == {DAVE: Removal(OWNER, "")}
    assert settings.outer_lr == 0.7
    assert settings.sequences == {OWNER: 3, CAROL: 1}
    assert settings.next_sequence(CAROL) == 2 and settings.next_sequence(ERIN) == 1


def test_the_run_file_s_rate_can_be_had_back():
    assert after(order(1, SetOuterLr(0.7)), order(2, SetOuterLr(None))).outer_lr is None


def test_what_changes_nothing_is_no_fault():
    # Two owners may want the same at the same time.
    again = after(order(1, RemovePeer(BOB, "a")), order(1, RemovePeer(BOB, "b"), CAROL))
    assert again.removed == {BOB: Removal(CAROL, "b")}
    assert not after(order(1, ReadmitPeer(BOB))).removed


@pytest.mark.parametrize(
    ("orders", "why"),
    [
        ([order(1, SetOuterLr(1.0), BOB)], "order-issuer"),
        ([order(1, SetOuterLr(1.0), run=RunId("00" * 32))], "run"),
        ([order(0, SetOuterLr(1.0))], "order-sequence"),
        ([order(2, SetOuterLr(1.0))], "order-sequence"),
        ([order(1, SetOuterLr(1.0)), order(1, SetOuterLr(1.0))], "order-sequence"),
        ([order(1, SetOuterLr(1.0)), order(3, SetOuterLr(1.0))], "order-sequence"),
        ([order(1, RemovePeer(OWNER, ""))], "order-target"),
        ([order(1, RemovePeer(OWNER, ""), CAROL)], "order-target"),
        ([order(1, RemovePeer(ERIN, ""), CAROL)], "order-target"),
        ([order(1, RemovePeer(CAROL, "")), order(1, SetOuterLr(1.0), CAROL)], "order-issuer"),
    ],
)
def test_what_no_key_allows_is_refused(orders, why):
    assert refusal(*orders) == why


def test_a_standby_that_came_back_goes_on_where_it_was():
    first = [order(1, SetOuterLr(0.5), CAROL), order(1, RemovePeer(CAROL, "lost its key"))]
    back = [order(2, ReadmitPeer(CAROL)), order(2, SetOuterLr(0.6), CAROL)]
    assert after(*first, *back).outer_lr == 0.6
    assert refusal(*first, back[0], order(1, SetOuterLr(0.6), CAROL)) == "order-sequence"


def test_whom_a_removed_standby_invited_is_not_welcome():
    invite = Envelope(Kind.INVITE, b"", CAROL, b"")
    guest = sign(MemberRecord(RUN, (), invite, 99, "test"), DAVE)
    settings = after(order(1, RemovePeer(CAROL, "")))
    assert INITIAL_SETTINGS.admits(guest) and not settings.admits(guest)
    assert settings.admits(member(BOB)) and not settings.admits(member(CAROL))


changes = st.one_of(
    st.builds(RemovePeer, st.sampled_from([BOB, DAVE]), st.text(max_size=3)),
    st.builds(ReadmitPeer, st.sampled_from([BOB, DAVE])),
    st.builds(SetOuterLr, st.none() | st.floats(0.1, 2.0)),
)


@given(st.lists(st.tuples(st.sampled_from([OWNER, CAROL]), changes), max_size=12), st.data())
def test_where_commits_divide_the_orders_does_not_matter(wishes, data):
    count = {OWNER: 0, CAROL: 0}
    orders = []
    for issuer, change in wishes:
        count[issuer] += 1
        orders.append(order(count[issuer], change, issuer))
    cut = data.draw(st.integers(0, len(orders)))
    parts = ordered(after(*orders[:cut]), orders[cut:], KEYS)
    assert parts == after(*orders)
    lowered = [o.message.change for o in orders if isinstance(o.message.change, SetOuterLr)]
    assert parts.outer_lr == (lowered[-1].lr if lowered else None)
    for peer in (BOB, DAVE):
        about = [c for _, c in wishes if getattr(c, "peer", None) == peer]
        assert (peer in parts.removed) == (bool(about) and isinstance(about[-1], RemovePeer))


def test_nothing_is_in_force_at_the_start():
    assert not genesis().message.orders
    assert (INITIAL_SETTINGS.outer_lr, dict(INITIAL_SETTINGS.removed)) == (None, {})
