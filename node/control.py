"""The control API: what the command line asks, answered over a unix socket that only the user
can open. Errors of the catalog travel as FAILED_PRECONDITION with "SK-…: detail".
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from skerry.node.environment import environment_errors
from skerry.node.participation import Participation
from skerry.node.run.journal import Journal
from skerry.node.run.orders import Sender
from skerry.node.run.status import run_status
from skerry.proto import control_pb2 as pb
from skerry.proto.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from skerry.protocol import compute as cp
from skerry.protocol.errors import DaemonError, SkerryError, StateError
from skerry.protocol.ids import PeerId

T = TypeVar("T")
Grpc = Any
"""A grpc.aio.ServicerContext; grpc has no types."""
_MAX_SAMPLE_TOKENS = 4096


class Daemon(Protocol):
    """What the control API needs of the daemon, daemon.Node."""

    @property
    def part(self) -> Participation:
        """The daemon's part in a run."""

    @property
    def journal(self) -> Journal:
        """The event log."""

    @property
    def links(self) -> Mapping[PeerId, str]:
        """How each connected peer is connected: direct, relayed or unknown."""

    def describe(self) -> pb.StatusReply:
        """Return the status without its run."""

    def stop(self) -> None:
        """End the daemon soon."""


class ControlService(ControlServicer):
    """One method per call of proto/control.proto."""

    def __init__(self, daemon: Daemon) -> None:
        """Answer for ``daemon``."""
        self._daemon = daemon

    async def Status(self, request: pb.Empty, grpc: Grpc) -> pb.StatusReply:
        """Say what the node is doing; never waits for anything."""
        return self._status()

    async def Init(self, request: pb.InitRequest, grpc: Grpc) -> pb.RunReply:
        """Start an own run, or go on with one."""
        if request.HasField("resume"):
            return await _coded(grpc, self._daemon.part.resume(request.resume))
        return await _coded(grpc, self._daemon.part.init(request.manifest_toml))

    async def Join(self, request: pb.JoinRequest, grpc: Grpc) -> pb.RunReply:
        """Join a run."""
        return await _coded(grpc, self._daemon.part.join(request.token))

    async def Leave(self, request: pb.Empty, grpc: Grpc) -> pb.Empty:
        """Leave the run."""
        await _coded(grpc, self._daemon.part.leave())
        return pb.Empty()

    async def Pause(self, request: pb.Empty, grpc: Grpc) -> pb.Empty:
        """Stop training; answers when the node has decided so."""
        await _coded(grpc, self._daemon.part.pause(True))
        return pb.Empty()

    async def Resume(self, request: pb.Empty, grpc: Grpc) -> pb.Empty:
        """Train again."""
        await _coded(grpc, self._daemon.part.pause(False))
        return pb.Empty()

    async def Order(self, request: pb.OrderRequest, grpc: Grpc) -> pb.OrderReply:
        """Change the run by this node's key; answers when the others are being told."""
        return await _coded(grpc, self._daemon.part.order(request, Sender("command")))

    async def Invite(self, request: pb.InviteRequest, grpc: Grpc) -> pb.RunReply:
        """Return a fresh token for others to join with."""
        work = self._daemon.part.invite(request.lifetime_seconds, request.max_uses)
        return await _coded(grpc, work)

    async def Stop(self, request: pb.Empty, grpc: Grpc) -> pb.Empty:
        """End the daemon; the answer comes before the end."""
        self._daemon.stop()
        return pb.Empty()

    async def Export(self, request: pb.ExportRequest, grpc: Grpc) -> pb.ExportReply:
        """Write the model as files."""
        reply = await self._compute(
            grpc, lambda n: cp.Export(request=n, directory=request.directory)
        )
        assert isinstance(reply, cp.Exported)
        return pb.ExportReply(directory=reply.directory, state_digest=reply.digest)

    async def Sample(self, request: pb.SampleRequest, grpc: Grpc) -> pb.SampleReply:
        """Continue a text."""

        def build(number: int) -> cp.Request:
            return cp.Sample(
                request=number,
                prompt=request.prompt,
                text_tokens=min(request.text_tokens, _MAX_SAMPLE_TOKENS),
                temperature=request.temperature,
                seed=request.seed,
            )

        reply = await self._compute(grpc, build)
        assert isinstance(reply, cp.Sampled)
        return pb.SampleReply(text=reply.text)

    async def Logs(self, request: pb.LogsRequest, grpc: Grpc) -> AsyncIterator[pb.LogLine]:
        """Give event log lines, the newest and those to come."""
        journal = self._daemon.journal
        if request.follow:
            async for line in journal.follow(request.last):
                yield pb.LogLine(json=line)
        else:
            for line in journal.last(request.last):
                yield pb.LogLine(json=line)

    def _status(self) -> pb.StatusReply:
        status = self._daemon.describe()
        session = self._daemon.part.session
        if session is not None:
            context = session.context
            now = asyncio.get_running_loop().time()
            status.run.CopyFrom(run_status(context, now))
            for peer in status.run.peers:
                peer.link = self._daemon.links.get(PeerId(peer.peer_id), "")
            status.compute, status.warning = context.facts.compute, context.facts.warning
        return status

    async def _compute(self, grpc: Grpc, build: Callable[[int], cp.Request]) -> cp.Reply:
        session = self._daemon.part.session
        if session is None:
            error = DaemonError("SK-DMN-004", "this daemon takes part in no run")
            await grpc.abort(_FAILED, str(error))
            raise error
        return await _coded(grpc, session.ask(build))


_FAILED = grpc.StatusCode.FAILED_PRECONDITION


async def serve_control(daemon: Daemon, socket: Path) -> grpc.aio.Server:
    """Serve the control API at ``socket``, which only this user can open.

    A socket that a killed daemon left behind is replaced; the home's lock says there is none.
    """
    _remove(socket)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    add_ControlServicer_to_server(ControlService(daemon), server)  # type: ignore[no-untyped-call]
    umask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    except RuntimeError as error:  # gRPC's word for an address that it cannot take
        raise StateError("SK-DSK-003", f"{socket} cannot be made: {error}") from None
    finally:
        os.umask(umask)
    return server


def _remove(socket: Path) -> None:
    socket.unlink(missing_ok=True)


async def _coded(grpc: Grpc, work: Awaitable[T]) -> T:
    try:
        with environment_errors():
            return await work
    except SkerryError as error:
        await grpc.abort(_FAILED, str(error))
        raise
