"""Which orders this node can give, and what is in force here."""

import asyncio
import time
from dataclasses import replace

import ordered_chain
import pytest
import run_world
from tiny_run import tiny_run_file

from skerry.node.run import orders as orders_module
from skerry.node.run.orders import (
    change_of,
    may_order,
    named_invite,
    named_peer,
    new_order,
    outer_lr,
)
from skerry.node.run.record import initial_state, start_of
from skerry.pipeline.codecs import payload_limits
from skerry.proto import control_pb2 as pb
from skerry.protocol.codec import decode_invite, open_envelope
from skerry.protocol.errors import OrderError, StateError
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import (
    AllowPeer,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
)
from skerry.protocol.rounds import events as ev

OTHER, THIRD = run_world.signer_of(2), run_world.signer_of(3)
REMOVAL = RemovePeer(THIRD.peer_id, "slow")


@pytest.fixture
async def owner(world):
    return await world.member(1)


@pytest.fixture
async def guest(world):
    return await world.member(2)


def refusal(context, change) -> tuple[str, str]:
    with pytest.raises(OrderError) as caught:
        new_order(context, change)
    return caught.value.code, caught.value.detail


class TestAdmission:
    async def test_an_invite_is_named_by_its_beginning_or_in_full(self, guest) -> None:
        context, unknown = guest.context, "0f" * 16
        record = run_world.record_of(OTHER, context.manifest)
        held = decode_invite(record.message.invite.body).nonce
        assert named_invite(context, unknown).hex() == unknown
        context.state.rounds.members[OTHER.peer_id] = record
        assert named_invite(context, held.hex()[:6]) == held
        for name in ("", "zz"):
            with pytest.raises(OrderError, match="no known invite"):
                named_invite(context, name)

    async def test_what_cannot_have_an_effect_is_refused(self, owner) -> None:
        context = owner.context
        assert refusal(context, AllowPeer(OTHER.peer_id))[1].startswith("the run keeps no list")
        assert "one line" in refusal(context, RevokeInvite(b"n" * 16, "a\nb"))[1]
        with pytest.raises(OrderError, match="skerry keys"):
            change_of(context, pb.OrderRequest(allow=OTHER.peer_id[-6:]))
        ordered_chain.obey(context, run_world.OWNER, RevokeInvite(b"m" * 16, ""))
        assert "revoked already" in refusal(context, RevokeInvite(b"m" * 16, ""))[1]

    async def test_requests_become_orders(self, owner) -> None:
        wanted = pb.RevokeRequest(invite="0f" * 16, reason="leaked")
        change = change_of(owner.context, pb.OrderRequest(revoke=wanted))
        assert change == RevokeInvite(bytes.fromhex("0f" * 16), "leaked")
        change = change_of(owner.context, pb.OrderRequest(allow=OTHER.peer_id))
        assert change == AllowPeer(OTHER.peer_id)


class TestWho:
    async def test_owner_may(self, owner) -> None:
        assert may_order(owner.context)
        order = new_order(owner.context, SetOuterLr(0.7))
        assert (order.message.sequence, order.signer) == (1, owner.peer_id)
        assert open_envelope(order.envelope).message == order.message

    async def test_guest_may_not(self, guest) -> None:
        assert not may_order(guest.context)
        assert refusal(guest.context, SetOuterLr(0.7))[0] == "SK-OWN-001"

    async def test_standby_may_until_it_is_removed(self, world, guest) -> None:
        owners = [guest.peer_id]
        text = tiny_run_file(world.folder / "text.txt", name="small", standby=owners)
        context = guest.context
        context.manifest = parse_run_file(text, run_world.OWNER.peer_id)
        limits = payload_limits(context.manifest)
        canonical = context.manifest.canonical()
        start = start_of(guest.peer_id, canonical, limits, 0.2, time.monotonic())
        context.state = initial_state(start)
        assert new_order(context, SetOuterLr(0.7)).signer == guest.peer_id
        code, detail = refusal(context, RemovePeer(run_world.OWNER.peer_id, ""))
        assert code == "SK-OWN-002" and "cannot end" in detail
        ordered_chain.obey(context, run_world.OWNER, RemovePeer(guest.peer_id, ""))
        assert refusal(context, SetOuterLr(0.7))[0] == "SK-OWN-001"


class TestWhat:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (SetOuterLr(0.0), "above 0"),
            (SetOuterLr(11.0), "at most 10"),
            (SetOuterLr(float("nan")), "above 0"),
            (RemovePeer(OTHER.peer_id, "x" * 201), "at most 200"),
            (RemovePeer(OTHER.peer_id, "a\nb"), "one line"),
            (RemovePeer(run_world.OWNER.peer_id, ""), "cannot end"),
            (REMOVAL, "removed already"),
            (ReadmitPeer(OTHER.peer_id), "is not removed"),
        ],
    )
    async def test_order_without_effect_is_refused(self, owner, change, words) -> None:
        ordered_chain.obey(owner.context, run_world.OWNER, REMOVAL)
        code, detail = refusal(owner.context, change)
        assert code == "SK-OWN-002" and words in detail

    async def test_too_many_that_wait_are_refused(self, owner, monkeypatch) -> None:
        monkeypatch.setattr(orders_module, "MAX_PENDING", 0)
        assert "wait for a commit" in refusal(owner.context, SetOuterLr(0.5))[1]

    async def test_run_that_has_ended_is_refused(self, owner) -> None:
        ordered_chain.obey(owner.context, run_world.OWNER)
        rules = owner.context.state.rounds.rules
        owner.context.state.rounds.rules = replace(rules, rounds=1)
        assert "last round" in refusal(owner.context, SetOuterLr(0.5))[1]


class TestWhom:
    async def test_the_end_of_an_id_is_enough(self, owner, guest) -> None:
        owner.knows(guest)
        assert named_peer(owner.context, guest.peer_id[-6:]) == guest.peer_id
        assert named_peer(owner.context, guest.peer_id) == guest.peer_id

    async def test_nobody_and_several_are_refused(self, owner, guest, monkeypatch) -> None:
        owner.knows(guest)
        for name, words in (("nobody", "no peer's id"), ("", "no peer's id")):
            with pytest.raises(OrderError, match=words):
                named_peer(owner.context, name)
        members = owner.context.state.rounds.members
        members["x" + guest.peer_id] = members[guest.peer_id]
        with pytest.raises(OrderError, match="2 peers"):
            named_peer(owner.context, guest.peer_id[-6:])

    async def test_who_was_removed_can_be_named_after_a_restart(self, owner) -> None:
        ordered_chain.obey(owner.context, run_world.OWNER, REMOVAL)
        assert named_peer(owner.context, THIRD.peer_id[-8:]) == THIRD.peer_id


class TestInForce:
    async def test_alpha_is_the_order_s_or_the_run_file_s(self, owner) -> None:
        usual = owner.context.manifest.outer.lr_at(0)
        assert outer_lr(owner.context) == usual
        ordered_chain.obey(owner.context, run_world.OWNER, SetOuterLr(0.25))
        assert outer_lr(owner.context) == 0.25


class TestGiving:
    async def test_it_is_on_disk_and_decided_upon(self, owner) -> None:
        deciding = asyncio.create_task(owner.decide())
        first = await owner.session.order(SetOuterLr(0.5))
        second = await owner.session.order(REMOVAL)
        deciding.cancel()
        assert [first.message.sequence, second.message.sequence] == [1, 2]
        assert owner.context.store.orders.load() == (first, second)
        assert owner.seen == [
            ev.OrderReceived(first, owner.peer_id),
            ev.OrderReceived(second, owner.peer_id),
        ]
        assert owner.context.state.rounds.orders[owner.peer_id] == {1: first, 2: second}

    async def test_one_that_cannot_be_kept_is_not_given(self, owner, monkeypatch) -> None:
        def full(*_, **__) -> None:
            raise StateError("SK-DSK-001", "full")

        monkeypatch.setattr(owner.context.store.orders, "append", full)
        with pytest.raises(StateError):
            await owner.session.order(SetOuterLr(0.5))
        assert owner.context.events.empty()
