"""The directory over real p2pd processes: found through one peer, and closed to forgers."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.p2p import PeerID
from hivemind.utils import MSGPackSerializer
from p2pd_swarm import start

from skerry.node.net.directory import Directory
from skerry.node.net.p2pd import P2pdTransport
from skerry.node.net.record_validator import run_key
from skerry.protocol.codec import encode_envelope, open_member, sign_message
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import RunId, content_hash
from skerry.protocol.messages import MemberRecord, SignedMember
from skerry.protocol.signing import Signer

RUN = RunId(content_hash(b"a run"))
pytestmark = pytest.mark.timeout(120)


class Peer:
    """A p2pd, its signer and its directory."""

    def __init__(self, transport: P2pdTransport, signer: Signer, directory: Directory) -> None:
        self.transport, self.signer, self.directory = transport, signer, directory

    @property
    def full_address(self) -> str:
        return f"{self.transport.addresses[0]}/p2p/{self.signer.peer_id}"

    def record(self, lifetime_s: float = 600.0, run_id: RunId = RUN) -> SignedMember:
        return record_of(self.signer, self.transport.addresses, lifetime_s, run_id)


def record_of(
    signer: Signer, addresses: tuple[str, ...] = (), lifetime_s: float = 600.0, run_id: RunId = RUN
) -> SignedMember:
    expires_at = int(time.time() + lifetime_s)
    message = MemberRecord(run_id, addresses, None, expires_at, "skerry/0.1.0")
    return open_member(sign_message(signer, message).envelope)


async def start_peer(folder: Path, bootstrap: tuple[str, ...] = (), admit=None) -> Peer:
    key = Ed25519PrivateKey.generate()
    transport = await start(folder, key)
    directory = await Directory.create(transport, bootstrap, RUN, admit)
    return Peer(transport, Signer(key), directory)


@pytest.fixture
async def three(tmp_path: Path):
    first = await start_peer(tmp_path / "a")
    others = [await start_peer(tmp_path / name, (first.full_address,)) for name in "bc"]
    peers = [first, *others]
    yield peers
    for peer in peers:
        await peer.directory.close()
        await peer.transport.close()


@pytest.fixture
async def intruder(three: list[Peer], tmp_path: Path):
    """A plain DHTNode without any validator, connected to the first peer."""
    transport = await start(tmp_path / "x")
    await transport.connect(three[0].signer.peer_id, three[0].transport.addresses)
    node = await DHTNode.create(p2p=transport.daemon.p2p)
    yield node
    await node.shutdown()
    await transport.close()


async def store_at(
    node: DHTNode, victim: Peer, value: bytes, expires_at: float, subkey: object, key: str
) -> list[bool] | None:
    target = PeerID.from_base58(victim.signer.peer_id)
    key_id = DHTID.generate(source=key)
    return await node.protocol.call_store(
        target, [key_id], [MSGPackSerializer.dumps(value)], [expires_at], [subkey]
    )


async def test_alone_it_knows_itself(tmp_path: Path) -> None:
    peer = await start_peer(tmp_path / "a")
    assert await peer.directory.members() == []
    record = peer.record()
    assert await peer.directory.publish(record)
    assert await peer.directory.members() == [record]
    await peer.directory.close()
    await peer.directory.close()
    with pytest.raises(PeerUnavailable):
        await peer.directory.members()
    await peer.transport.close()


async def test_all_are_found_through_one_bootstrap_peer(three: list[Peer]) -> None:
    records = [peer.record() for peer in three]
    for peer, record in zip(three, records, strict=True):
        assert await peer.directory.publish(record)
    expected = sorted(records, key=lambda record: record.signer)
    for peer in three:
        assert await peer.directory.members() == expected
    found = {record.signer: record.message.addresses for record in expected}
    _, second, third = three
    await second.transport.connect(third.signer.peer_id, found[third.signer.peer_id])


async def test_newer_record_replaces_older_and_not_the_other_way(three: list[Peer]) -> None:
    older, newer = three[1].record(300.0), three[1].record(600.0)
    assert await three[1].directory.publish(newer)
    assert not await three[1].directory.publish(older)
    for peer in three:
        assert await peer.directory.members() == [newer]


async def test_expired_record_is_gone(three: list[Peer]) -> None:
    lasting, lifetime_s, asked = three[0].record(), 1.5, False
    await three[0].directory.publish(lasting)
    while not asked:
        lifetime_s *= 2  # on a slow machine it may be over before anyone has asked
        fleeting = three[1].record(lifetime_s)
        await three[1].directory.publish(fleeting)
        found = await three[2].directory.members()
        asked = time.time() < fleeting.message.expires_at
    assert found == sorted([lasting, fleeting], key=lambda record: record.signer)
    await asyncio.sleep(fleeting.message.expires_at - time.time() + 0.01)
    for peer in three:
        assert await peer.directory.members() == [lasting]


async def test_honest_foreign_node_may_store_what_is_signed(
    three: list[Peer], intruder: DHTNode
) -> None:
    record = record_of(Signer(Ed25519PrivateKey.generate()))
    value, expires_at = encode_envelope(record.envelope), float(record.message.expires_at)
    stored = await store_at(intruder, three[0], value, expires_at, str(record.signer), run_key(RUN))
    assert stored == [True]
    assert record in await three[1].directory.members()


async def test_forged_records_are_refused(three: list[Peer], intruder: DHTNode) -> None:
    victim = three[0]
    record, mallory = victim.record(), record_of(Signer(Ed25519PrivateKey.generate()))
    assert await victim.directory.publish(record)
    good, expires_at = encode_envelope(record.envelope), float(record.message.expires_at)
    later, subkey, key = expires_at + 1000.0, str(victim.signer.peer_id), run_key(RUN)
    own = encode_envelope(mallory.envelope)
    own_expiry, own_subkey = float(mallory.message.expires_at), str(mallory.signer)
    other_run = record_of(victim.signer, run_id=RunId(content_hash(b"other")))
    attempts = {
        "another peer's place": (own, own_expiry, subkey, key),
        "broken signature": (good[:-1] + bytes([good[-1] ^ 1]), later, subkey, key),
        "later expiry": (good, later, subkey, key),
        "no place": (own, own_expiry, None, key),
        "place of no peer": (own, own_expiry, 7, key),
        "another key": (own, own_expiry, own_subkey, "anything"),
        "garbage": (b"\xff" * 100, later, subkey, key),
        "too large": (own + bytes(5000), own_expiry, own_subkey, key),
        "another run": (encode_envelope(other_run.envelope), later, subkey, key),
    }
    for what, attempt in attempts.items():
        assert await store_at(intruder, victim, *attempt) == [False], what
    for peer in three:
        assert await peer.directory.members() == [record]
    assert sum(victim.directory.refused.values()) >= len(attempts)


async def test_forged_answers_are_not_believed(three: list[Peer], intruder: DHTNode) -> None:
    victim = three[1]
    record = victim.record()
    assert await victim.directory.publish(record)
    key_id = DHTID.generate(source=run_key(RUN))
    mallory = encode_envelope(record_of(Signer(Ed25519PrivateKey.generate())).envelope)
    packed, later = MSGPackSerializer.dumps(mallory), time.time() + 10_000
    intruder.protocol.storage.store(key_id, packed, later, subkey=str(victim.signer.peer_id))
    await intruder.protocol.call_ping(PeerID.from_base58(three[0].signer.peer_id))
    assert await three[0].directory.members() == [record]


async def test_own_record_that_nobody_would_take_is_named(three: list[Peer]) -> None:
    other = three[0].record(run_id=RunId(content_hash(b"other")))
    with pytest.raises(ProtocolError, match="SK-PRO-002"):
        await three[0].directory.publish(other)
    with pytest.raises(ProtocolError, match="lives too long"):
        await three[0].directory.publish(three[0].record(lifetime_s=10**7))


async def test_only_admitted_peers_get_a_place(tmp_path: Path) -> None:
    admitted: set[str] = set()

    def admit(member: SignedMember) -> None:
        if member.signer not in admitted:
            raise ProtocolError("invite-missing", "not admitted", "SK-PRO-003")

    host = await start_peer(tmp_path / "a", admit=admit)
    guest = await start_peer(tmp_path / "b", (host.full_address,))
    await guest.directory.publish(guest.record(300.0))
    assert await host.directory.members() == []
    admitted.add(guest.signer.peer_id)
    record = guest.record()
    await guest.directory.publish(record)
    assert await host.directory.members() == [record]
    for peer in (host, guest):
        await peer.directory.close()
        await peer.transport.close()


async def test_unreachable_bootstrap_is_counted_not_raised(three: list[Peer]) -> None:
    nobody = Signer(Ed25519PrivateKey.generate()).peer_id
    wrong = (f"/ip4/127.0.0.1/tcp/1/p2p/{nobody}", "/ip4/127.0.0.1/tcp/1", "nonsense")
    assert await three[0].directory.bootstrap(wrong) == 0
    assert await three[0].directory.bootstrap((*wrong, three[1].full_address)) == 1


async def test_survives_the_death_of_its_p2pd(three: list[Peer]) -> None:
    for peer in three:
        await peer.directory.publish(peer.record())
    assert len(await three[1].directory.members()) == 3
    victim = three[1]
    restarted = asyncio.Event()

    async def hook() -> None:
        restarted.set()

    victim.transport.add_restart_hook(hook)  # runs after the directory's own
    assert victim.transport.daemon.pid is not None
    os.kill(victim.transport.daemon.pid, signal.SIGKILL)
    await restarted.wait()
    assert len(await victim.directory.members()) == 3
    for peer in three:
        assert victim.signer.peer_id in [m.signer for m in await peer.directory.members()]
