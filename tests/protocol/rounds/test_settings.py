"""What is in force after a commit: from the orders on the way to it, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_node import sign
from small_run import BOB, CAROL, DAVE, OWNER, RUN, genesis, member

from skerry.protocol.codec import encode_invite
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import (
    AllowPeer,
    Envelope,
    Invite,
    Kind,
    MemberRecord,
    Order,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
)
from skerry.protocol.rounds.settings import OwnerKeys, Removal, Settings, admitted, ordered, welcome

ERIN, FRED = PeerId("erin"), PeerId("fred")
NONCE, OTHER_NONCE = b"n" * 16, b"o" * 16
KEYS = OwnerKeys(RUN, OWNER, (CAROL, ERIN))


def order(number: int, change, issuer: PeerId = OWNER, run: RunId = RUN):
    return sign(Order(run, number, change), issuer)


def after(*orders):
    return ordered(Settings(), orders, KEYS)


def invited(peer: PeerId, max_uses: int = 0, nonce: bytes = NONCE, by: PeerId = OWNER):
    """Return the record of a peer that holds an invite."""
    body = encode_invite(Invite(RUN, 99, nonce, max_uses))
    return sign(MemberRecord(RUN, (), Envelope(Kind.INVITE, body, by, b""), 99, "test"), peer)


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
    guest = invited(DAVE, by=CAROL)
    settings = after(order(1, RemovePeer(CAROL, "")))
    assert Settings().admits(guest) and settings.refusal(guest) == "invite-revoked"
    assert settings.admits(member(BOB)) and not settings.admits(member(CAROL))


def test_an_invite_for_two_lets_in_two_and_they_may_come_again():
    guests = [invited(peer, max_uses=2) for peer in (BOB, DAVE, FRED)]
    assert [m.signer for m in welcome(Settings(), guests, 9)] == [BOB, DAVE]
    full = admitted(admitted(Settings(), guests[:1]), guests[:2])
    assert full.guests == {NONCE: {BOB, DAVE}}
    assert full.refusal(guests[2]) == "invite-used-up" and full.admits(guests[0])
    assert full.admits(invited(FRED, max_uses=2, nonce=OTHER_NONCE))
    with pytest.raises(ProtocolError) as caught:
        admitted(full, guests[2:])
    assert caught.value.reason == "invite-used-up"


def test_an_invite_without_a_number_is_not_counted():
    assert admitted(Settings(), [invited(BOB), member(DAVE)]) == Settings()


def test_a_revoked_invite_lets_nobody_in_whoever_made_it():
    settings = after(order(1, RevokeInvite(NONCE, "it leaked"), CAROL))
    assert settings.revoked == {NONCE: Removal(CAROL, "it leaked")}
    assert settings.refusal(invited(BOB)) == "invite-revoked"
    assert settings.admits(invited(BOB, nonce=OTHER_NONCE)) and settings.admits(member(BOB))


def test_where_a_list_is_kept_it_alone_counts():
    listed = Settings(allowed=frozenset([BOB]), by_invite=False, owners=frozenset([OWNER]))
    assert [listed.refusal(invited(p, 1)) for p in (OWNER, BOB, DAVE)] == ["", "", "not-listed"]
    more = ordered(listed, [order(1, AllowPeer(DAVE))], KEYS)
    assert more.admits(member(DAVE)) and not listed.admits(member(DAVE))
    assert ordered(Settings(), [order(1, AllowPeer(DAVE))], KEYS).allowed is None
    out = ordered(more, [order(2, RemovePeer(DAVE, ""))], KEYS)
    assert out.refusal(member(DAVE)) == "removed"


def test_an_owner_needs_no_invite():
    settings = Settings(owners=frozenset([CAROL]), revoked={NONCE: Removal(OWNER, "")})
    assert settings.admits(invited(CAROL, max_uses=1))
    assert admitted(settings, [invited(CAROL, max_uses=1)]).guests == {}


def test_only_as_many_are_welcome_as_there_is_room_and_no_one_refused_takes_it():
    settings = after(order(1, RevokeInvite(NONCE, "")))
    waiting = [invited(BOB), member(DAVE), member(ERIN)]
    assert [m.signer for m in welcome(settings, waiting, 1)] == [DAVE]
    assert welcome(settings, waiting, -1) == ()


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
    assert (Settings().outer_lr, dict(Settings().removed)) == (None, {})
