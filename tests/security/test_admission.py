"""Whoever has no right to take part is refused by name and counted; the others go on."""

import time

import ordered_chain
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from door import Door, Refused

from skerry.node.run.peers import member_record
from skerry.protocol.messages import RevokeInvite
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite

NONCE, OTHER_NONCE = b"n" * 16, b"o" * 16


@pytest.fixture
def door(tmp_path) -> Door:
    return Door(tmp_path)


def in_an_hour() -> int:
    return int(time.time()) + 3600


async def refused_as(door: Door, reason: str, **changes) -> None:
    """Knock; be refused, counted and kept out, while whoever has a right is let in."""
    with pytest.raises(Refused, match=f"^{reason}$"):
        await door.hello(door.record(**changes))
    assert door.refused == {reason: 1}
    assert door.peer.peer_id not in door.context.state.rounds.members
    assert await door.deliver(door.heartbeat()) == "not-admitted"


async def test_without_invite(door) -> None:
    await refused_as(door, "invite-missing", invite=None)


async def test_expired_invite(door) -> None:
    old = make_invite(door.owner, door.manifest.run_id, int(time.time()) - 1, NONCE)
    await refused_as(door, "invite-expired", invite=old)


async def test_forged_invite(door) -> None:
    own = make_invite(door.peer, door.manifest.run_id, in_an_hour(), NONCE)
    await refused_as(door, "invite-forged", invite=own)


async def test_invite_of_another_run(door) -> None:
    other = make_invite(door.owner, "cd" * 32, in_an_hour(), NONCE)
    await refused_as(door, "invite-other-run", invite=other)


async def test_revoked_invite(door) -> None:
    leaked = make_invite(door.owner, door.manifest.run_id, in_an_hour(), OTHER_NONCE)
    ordered_chain.obey(door.context, door.owner, RevokeInvite(OTHER_NONCE, "it leaked"))
    await refused_as(door, "invite-revoked", invite=leaked)


async def test_invite_that_is_used_up(door) -> None:
    run_id = door.manifest.run_id
    single = make_invite(door.owner, run_id, in_an_hour(), OTHER_NONCE, max_uses=1)
    first = Signer(Ed25519PrivateKey.generate())
    rounds = door.context.state.rounds
    ordered_chain.obey(door.context, door.owner)
    taken = rounds.settings.with_guest(member_record(first, run_id, (), single))
    rounds.chain._settings[rounds.at] = taken
    await refused_as(door, "invite-used-up", invite=single)


async def test_record_signed_by_another_peer(door) -> None:
    someone = Signer(Ed25519PrivateKey.generate())
    invite = make_invite(door.owner, door.manifest.run_id, in_an_hour(), NONCE)
    record = member_record(someone, door.manifest.run_id, (), invite)
    with pytest.raises(Refused, match=r"^signature$"):
        await door.hello(record)
    assert door.refused == {"signature": 1}
