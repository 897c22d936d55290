"""A run of ours with its door, and a peer that knocks at it: no network, no compute process."""

import asyncio
import time
from dataclasses import replace

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.home import Home
from skerry.node.net.rpc_errors import REASON_KEY
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.node.run.peers import member_record
from skerry.node.run.record import initial_state, start_of
from skerry.node.run.servicer import RunServicer
from skerry.node.run.state import apply
from skerry.node.run.store import RunStore
from skerry.pipeline.codecs import payload_limits
from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import BlobStore
from skerry.protocol.codec import envelope_to_pb, sign_message
from skerry.protocol.ids import CommitHash
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import PROTOCOL_VERSION, Heartbeat, Kind
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite

TINY = "[model]\nlayers = 1\nd_model = 32\nheads = 2\nkv_heads = 1\nffn_dim = 64\ncontext = 32\n"


class Refused(Exception):
    """What abort raises in a call."""


class FakeCall:
    """Stands for grpc.aio.ServicerContext."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.details, self.reason = "", ""

    async def abort(self, code, details="", trailing_metadata=()):
        self.code, self.details = code, details
        self.reason = dict(trailing_metadata).get(REASON_KEY, "")
        raise Refused(self.reason)


class Door:
    """A run of ours, and a peer that knocks."""

    def __init__(self, folder, admission: str = "") -> None:
        self.owner = Signer(Ed25519PrivateKey.generate())
        self.peer = Signer(Ed25519PrivateKey.generate())
        self.manifest = parse_run_file(TINY + admission, self.owner.peer_id)
        home = Home(folder)
        run = home.run(self.manifest.run_id)
        limits = payload_limits(self.manifest)
        start = start_of(
            self.owner.peer_id, self.manifest.canonical(), limits, 1.0, time.monotonic()
        )
        self.context = RunContext(
            signer=self.owner,
            manifest=self.manifest,
            manifest_envelope=self.owner.sign(Kind.MANIFEST, self.manifest.canonical()),
            invite=None,
            transport=None,
            client=None,
            store=RunStore(run),
            blobs=BlobStore(run.blobs),
            journal=Journal(home.path / "events.jsonl"),
            state=initial_state(start),
            heartbeat_s=1.0,
            announced=(),
            bootstrap=(),
        )
        self.run: RunContext | None = self.context
        self.servicer = RunServicer(self.peer.peer_id, lambda: self.run)
        self.run_id = bytes.fromhex(self.manifest.run_id)

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.context.facts.refused)

    def record(self, **changes):
        run_id = self.manifest.run_id
        invite = make_invite(self.owner, run_id, int(time.time()) + 60, b"n" * 16)
        honest = member_record(self.peer, run_id, ("/ip4/127.0.0.1/tcp/1",), invite).message
        return sign_message(self.peer, replace(honest, **changes))

    async def hello(self, record=None, **changes):
        fields = {"protocol": PROTOCOL_VERSION, "run_id": self.run_id, **changes}
        member = envelope_to_pb((record or self.record()).envelope)
        deciding = asyncio.create_task(self._decide())
        try:
            return await self.servicer.Hello(pb.HelloRequest(member=member, **fields), FakeCall())
        finally:
            deciding.cancel()

    async def _decide(self) -> None:
        """Stand for the session's loop."""
        while True:
            apply(self.context.state, await self.context.events.get(), 0.0)
            self.context.events.task_done()

    async def deliver(self, envelope) -> str:
        return (await self.servicer.Deliver(envelope_to_pb(envelope), FakeCall())).refused

    def heartbeat(self, signer=None, **changes):
        beat = Heartbeat(
            self.manifest.run_id, CommitHash(self.manifest.run_id), 0, 0, "x", 0, 0, 0.0, 0.0
        )
        return sign_message(signer or self.peer, replace(beat, **changes)).envelope
