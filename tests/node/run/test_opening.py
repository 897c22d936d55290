"""Joining by token: which answer of which bootstrap peer is believed, and when it is given up."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import NodeConfig
from skerry.node.home import Home
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.rpc_errors import refuse
from skerry.node.run import opening
from skerry.node.run.journal import Journal
from skerry.node.run.opening import NodeParts, begin, check_manifest, go_on, join, new_token
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.codec import decode_invite, envelope_to_pb
from skerry.protocol.errors import (
    ComputeError,
    ConfigError,
    NetworkError,
    OrderError,
    ProtocolError,
    SkerryError,
    StateError,
    TokenError,
)
from skerry.protocol.ids import RunId
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.memory import Limits, VirtualNetwork
from skerry.protocol.messages import PROTOCOL_VERSION, Envelope, Kind
from skerry.protocol.rounds.settings import Settings
from skerry.protocol.signing import Signer
from skerry.protocol.token import JoinToken, decode_token, encode_token, make_invite

Answer = Callable[[], pb.HelloReply | ProtocolError | None]
OWNER = Signer(Ed25519PrivateKey.generate())
MANIFEST = parse_run_file('name = "first"', OWNER.peer_id)
SIGNED = OWNER.sign(Kind.MANIFEST, MANIFEST.canonical())


def reply(manifest: Envelope = SIGNED, protocol: int = PROTOCOL_VERSION) -> pb.HelloReply:
    return pb.HelloReply(protocol=protocol, manifest=envelope_to_pb(manifest))


def forged() -> pb.HelloReply:
    thief = Signer(Ed25519PrivateKey.generate())
    return reply(thief.sign(Kind.MANIFEST, MANIFEST.canonical()))


class Servicer(PeerServicer):
    """Answers hello with what the test says; with None it never does."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def Hello(self, request, grpc):
        answer = self._answer()
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, ProtocolError):
            await refuse(grpc, answer)
        return answer


@dataclass
class World:
    """A node that wants to join, and peers that a token may name."""

    network: VirtualNetwork
    parts: NodeParts
    servers: list[RpcServer]

    async def peer(self, answer: Answer) -> str:
        """Start a bootstrap peer; returns its full address."""
        transport = self.network.transport(Signer(Ed25519PrivateKey.generate()).peer_id)
        server = RpcServer(transport, lambda peer: Servicer(answer))
        await server.start()
        self.servers.append(server)
        return f"{transport.addresses[0]}/p2p/{transport.peer_id}"

    def nobody(self) -> str:
        return f"/memory/9/p2p/{Signer(Ed25519PrivateKey.generate()).peer_id}"

    def token(self, *bootstrap: str, expires_in: float = 60.0) -> JoinToken:
        expires_at = int(time.time() + expires_in)
        invite = make_invite(OWNER, MANIFEST.run_id, expires_at, b"n" * 16)
        return JoinToken(bootstrap, MANIFEST.run_id, OWNER.peer_id, invite)

    async def ask(self, *bootstrap: str) -> Envelope:
        envelope, _ = await opening._fetch_manifest(self.parts, self.token(*bootstrap))
        return envelope

    def left(self) -> list[str]:
        """Return what there is of runs in the home."""
        home = self.parts.home.path
        return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.fixture
async def world(tmp_path):
    network = VirtualNetwork(seed=1, limits=Limits(connect_s=0.2, stall_s=0.2))
    signer = Signer(Ed25519PrivateKey.generate())
    transport = network.transport(signer.peer_id)
    client = RpcClient(transport)
    home = Home(tmp_path / "home")
    home.create()
    parts = NodeParts(home, NodeConfig(), signer, transport, client, Journal(home.events_file))
    world = World(network, parts, [])
    yield world
    await client.close()
    for server in world.servers:
        await server.close()
    await transport.close()


class TestStandby:
    """A machine whose key the manifest names beside the owner's."""

    def test_token_by_a_standby_is_one_of_the_run(self, world) -> None:
        standby = world.parts.signer
        manifest = parse_run_file(f'standby = ["{standby.peer_id}"]', OWNER.peer_id)
        envelope = OWNER.sign(Kind.MANIFEST, manifest.canonical())
        expires_at = int(time.time()) + 60
        good = make_invite(standby, manifest.run_id, expires_at, b"n" * 16)
        token = JoinToken((world.nobody(),), manifest.run_id, OWNER.peer_id, good)
        assert check_manifest(envelope, token) == manifest
        thief = Signer(Ed25519PrivateKey.generate())
        bad = make_invite(thief, manifest.run_id, expires_at, b"n" * 16)
        with pytest.raises(TokenError, match="SK-TOK-002"):
            check_manifest(envelope, replace(token, invite=bad))

    def test_fresh_token_names_this_machine_first(self, world) -> None:
        signer = world.parts.signer
        manifest = parse_run_file(f'standby = ["{signer.peer_id}"]', OWNER.peer_id)
        first = world.nobody()
        context = SimpleNamespace(
            me=signer.peer_id,
            manifest=manifest,
            bootstrap=(first,),
            state=SimpleNamespace(rounds=SimpleNamespace(settings=Settings())),
        )
        token = new_token(world.parts, context, 60.0, max_uses=3)
        assert decode_token(encode_token(token)) == token
        assert token.invite is not None and token.invite.signer == signer.peer_id
        assert token.bootstrap[0].endswith(signer.peer_id) and token.bootstrap[-1] == first
        assert (token.run_id, token.owner) == (manifest.run_id, OWNER.peer_id)
        invite = decode_invite(token.invite.body)
        assert invite.expires_at <= time.time() + 60 and invite.max_uses == 3
        with pytest.raises(OrderError, match="SK-OWN-002"):
            new_token(world.parts, context, max_uses=2**21)
        for wrong in (-1.0, 1e12, float("nan")):
            with pytest.raises(OrderError, match="SK-OWN-002"):
                new_token(world.parts, context, wrong)
        context.manifest = MANIFEST
        with pytest.raises(OrderError, match="SK-OWN-001"):
            new_token(world.parts, context, 60.0)


class TestFetchManifest:
    async def test_from_the_only_peer(self, world) -> None:
        assert await world.ask(await world.peer(reply)) == SIGNED

    async def test_one_good_peer_is_enough_whatever_the_others_say(self, world) -> None:
        others = [
            world.nobody(),
            await world.peer(forged),
            await world.peer(lambda: None),
            await world.peer(lambda: ProtocolError("run", "not in it", "SK-PRO-002")),
        ]
        assert await world.ask(*others, await world.peer(reply)) == SIGNED

    async def test_nobody_there(self, world) -> None:
        with pytest.raises(NetworkError, match="SK-NET-001"):
            await world.ask(world.nobody(), world.nobody())

    async def test_nobody_answers_in_time(self, world, monkeypatch) -> None:
        monkeypatch.setattr(opening, "JOIN_SECONDS", 0.3)
        with pytest.raises(NetworkError, match="SK-NET-001: no answer within"):
            await world.ask(await world.peer(lambda: None))

    async def test_refusal_says_more_than_silence(self, world) -> None:
        refusing = await world.peer(lambda: ProtocolError("run", "not in it", "SK-PRO-002"))
        with pytest.raises(ProtocolError, match="SK-PRO-002"):
            await world.ask(world.nobody(), refusing)

    async def test_answer_in_another_version(self, world) -> None:
        with pytest.raises(ProtocolError, match="SK-PRO-001"):
            await world.ask(await world.peer(lambda: reply(protocol=PROTOCOL_VERSION + 1)))

    async def test_forged_manifest(self, world) -> None:
        with pytest.raises(TokenError, match="SK-MAN-001"):
            await world.ask(await world.peer(forged))


class TestCheckManifest:
    @pytest.mark.parametrize(
        "envelope",
        [
            Envelope(Kind.INVITE, SIGNED.body, SIGNED.signer, SIGNED.signature),
            Envelope(Kind.MANIFEST, SIGNED.body + b" ", SIGNED.signer, SIGNED.signature),
            OWNER.sign(Kind.MANIFEST, SIGNED.body.replace(b"first", b"other")),
            OWNER.sign(Kind.MANIFEST, b"{}"),
            OWNER.sign(Kind.MANIFEST, SIGNED.body + b" "),
        ],
        ids=["kind", "changed", "other run", "no manifest", "not canonical"],
    )
    def test_what_is_not_the_run_of_the_token(self, envelope) -> None:
        token = JoinToken((), MANIFEST.run_id, OWNER.peer_id, None)
        with pytest.raises(TokenError, match="SK-MAN-001"):
            check_manifest(envelope, token)

    def test_the_run_of_the_token(self) -> None:
        token = JoinToken((), MANIFEST.run_id, OWNER.peer_id, None)
        assert check_manifest(SIGNED, token) == MANIFEST


class TestNothingHalfWritten:
    async def test_own_token(self, world) -> None:
        me = world.parts.signer
        invite = make_invite(me, MANIFEST.run_id, 2**33, b"n" * 16)
        address = world.nobody()
        token = encode_token(JoinToken((address,), MANIFEST.run_id, me.peer_id, invite))
        with pytest.raises(ConfigError, match="SK-CFG-002"):
            await join(world.parts, token)
        assert world.left() == []

    async def test_expired_token(self, world) -> None:
        with pytest.raises(TokenError, match="SK-TOK-003"):
            await join(world.parts, encode_token(world.token(world.nobody(), expires_in=-5)))
        assert world.left() == []

    @pytest.mark.parametrize(
        ("toml", "code"),
        [
            ("rounds = -1", "SK-CFG-002"),
            ("[model]\nlayers = 512\nd_model = 65536", "SK-MEM-001"),
            ('[data]\nsource = "text"\npath = "/nowhere/at/all"', "SK-DAT-001"),
        ],
        ids=["bad file", "too large", "no text"],
    )
    async def test_run_that_cannot_begin(self, world, toml, code) -> None:
        with pytest.raises(SkerryError, match=code) as caught:
            await begin(world.parts, toml, b"n" * 16)
        assert isinstance(caught.value, ConfigError | ComputeError)
        assert set(world.left()) <= {"compute.log"}
        assert not list(world.parts.home.runs.glob("*"))

    async def test_full_disk(self, world, monkeypatch) -> None:
        def no_space(*_: object) -> None:
            raise StateError("SK-DSK-001", "no space left")

        monkeypatch.setattr(opening, "Recorder", no_space)
        with pytest.raises(StateError):
            await begin(world.parts, "", b"n" * 16)
        assert not list(world.parts.home.runs.glob("*"))

    async def test_run_that_was_kept_is_not_removed_by_a_failed_start(self, world) -> None:
        folder = world.parts.home.run(RunId("ab" * 32)).folder
        folder.mkdir(parents=True)
        (folder / "manifest.bin").write_bytes(b"damaged")
        with pytest.raises(ProtocolError):
            await go_on(world.parts, RunId("ab" * 32))
        assert (folder / "manifest.bin").read_bytes() == b"damaged"
