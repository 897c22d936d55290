"""gRPC through p2pd: identity, errors, deadlines, quotas, and that nothing hangs or stays."""

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import p2pd_swarm
import pytest

from skerry.node.net import rpc
from skerry.node.net.rpc import MAX_MESSAGE_BYTES, RpcClient, RpcServer
from skerry.node.net.rpc_errors import refuse, translate, translated
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.quota import QuotaLimits, Quotas
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL

STRANGER = peer_id_of(bytes(range(32)))
pair = p2pd_swarm.pair


_REFUSALS = {
    b"run": ProtocolError("run", "another run", "SK-PRO-002"),
    b"missing": StateError("SK-DSK-002", "not here"),
}


class Servicer(PeerServicer):
    """Answers one peer; what it does is told by the request."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Hello(self, request, context):
        if request.run_id == b"bug":
            raise ZeroDivisionError("a bug")
        if request.run_id in _REFUSALS:
            await refuse(context, _REFUSALS[request.run_id])
        return pb.HelloReply(protocol=request.protocol + 1, manifest=pb.Envelope(signer=self.peer))

    async def Deliver(self, request, context):
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def Blob(self, request, context):
        yield pb.BlobChunk(data=bytes(request.first))


class Net:
    """``left`` calls, ``right`` serves."""

    def __init__(self, left, right, idle_seconds: float) -> None:
        self.left, self.right = left, right
        self.client = RpcClient(left)
        self.servicers: dict[str, Servicer] = {}
        self.server = RpcServer(right, self._servicer_for, idle_seconds)

    def _servicer_for(self, peer) -> Servicer:
        self.servicers[peer] = Servicer(peer)
        return self.servicers[peer]

    def stub(self, protocol=CONTROL_PROTOCOL):
        return self.client.stub(self.right.peer_id, protocol)

    @property
    def servicer(self) -> Servicer:
        return self.servicers[self.left.peer_id]

    async def hello(self, protocol=CONTROL_PROTOCOL, **options):
        with translate(self.right.peer_id):
            return await self.stub(protocol).Hello(
                pb.HelloRequest(protocol=1), timeout=60, **options
            )


@pytest.fixture
async def net(pair, request):
    net = Net(*pair, getattr(request, "param", rpc.IDLE_SECONDS))
    await net.server.start()
    yield net
    await net.client.close()
    await net.server.close()


async def until(condition) -> None:
    """Wait for what announces itself by no event; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_servicer_knows_the_proven_caller_on_both_protocols(net):
    for protocol in (CONTROL_PROTOCOL, BULK_PROTOCOL):
        reply = await net.hello(protocol)
        assert (reply.protocol, reply.manifest.signer) == (2, net.left.peer_id)
    assert net.server.serving == 1
    assert net.stub() is net.stub()


async def test_long_transfers_have_streams_of_their_own_up_to_a_number(net):
    with ExitStack() as stack:
        lanes = [
            stack.enter_context(net.client.lane(net.right.peer_id, BULK_PROTOCOL))
            for _ in range(rpc.MAX_LANES + 1)
        ]
        assert len(set(map(id, lanes))) == rpc.MAX_LANES
        assert lanes[-1] is lanes[0] is net.stub(BULK_PROTOCOL)
        for stub in lanes:
            with translate(net.right.peer_id):
                await stub.Hello(pb.HelloRequest(protocol=1), timeout=60)
        assert net.server.refused == 0
    with net.client.lane(net.right.peer_id, BULK_PROTOCOL) as again:
        assert again in lanes


async def test_traffic_is_counted_at_both_sides(net):
    size = 500_000
    with translate(net.right.peer_id):
        call = net.stub(BULK_PROTOCOL).Blob(pb.BlobRequest(first=size))
        assert len((await call.read()).data) == size
    assert size < net.client.traffic.received < size + 10_000
    assert size < net.server.traffic.sent < size + 10_000
    assert 0 < net.server.traffic.received < 10_000


async def test_deadline_ends_the_call_at_both_sides(net):
    deadline_s = 0.25
    while not (net.servicers and net.servicer.entered.is_set()):
        deadline_s *= 2  # on a slow machine the call has not even arrived by then
        error = pytest.raises(PeerUnavailable, match="deadline")
        with error as caught, translate(net.right.peer_id):
            await net.stub().Deliver(pb.Envelope(), timeout=deadline_s)
        assert net.right.peer_id in caught.value.detail
    await net.servicer.cancelled.wait()


async def test_own_cancellation_stays_a_cancellation_and_reaches_the_server(net):
    async def call():
        with translate(net.right.peer_id):
            await net.stub().Deliver(pb.Envelope())

    calling = asyncio.create_task(call())
    await until(lambda: net.servicers and net.servicer.entered.is_set())
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await net.servicer.cancelled.wait()


async def test_drop_under_a_call_is_peer_unavailable_and_calls_work_again(net):
    async def call():
        with translate(net.right.peer_id):
            await net.stub().Deliver(pb.Envelope())

    calling = asyncio.create_task(call())
    await until(lambda: net.servicers and net.servicer.entered.is_set())
    await net.client.drop(net.right.peer_id)
    with pytest.raises(PeerUnavailable):
        await calling
    assert (await net.hello()).protocol == 2


async def test_stub_of_a_dropped_peer_is_peer_unavailable(net):
    old = net.stub()
    await net.client.drop(net.right.peer_id)
    with pytest.raises(PeerUnavailable), translate(net.right.peer_id):
        await old.Hello(pb.HelloRequest())


async def test_unreachable_peer_fails_at_once(net):
    with pytest.raises(PeerUnavailable, match=STRANGER), translate(STRANGER):
        await net.client.stub(STRANGER, CONTROL_PROTOCOL).Hello(pb.HelloRequest(), timeout=60)


async def test_refusals_keep_code_and_reason(net):
    with pytest.raises(ProtocolError, match="another run") as caught, translate(net.right.peer_id):
        await net.stub().Hello(pb.HelloRequest(run_id=b"run"))
    assert (caught.value.code, caught.value.reason) == ("SK-PRO-002", "run")


async def test_what_the_peer_has_not_got_is_unavailable(net):
    with pytest.raises(PeerUnavailable, match="not here"), translate(net.right.peer_id):
        await net.stub().Hello(pb.HelloRequest(run_id=b"missing"))


async def test_bug_of_the_peer_is_its_protocol_error(net):
    with pytest.raises(ProtocolError) as caught, translate(net.right.peer_id):
        await net.stub().Hello(pb.HelloRequest(run_id=b"bug"))
    assert (caught.value.code, caught.value.reason) == ("SK-PRO-004", "unknown")


@pytest.mark.parametrize("protocol", [CONTROL_PROTOCOL, BULK_PROTOCOL])
async def test_answers_are_taken_up_to_their_limit_only(net, protocol):
    limit = MAX_MESSAGE_BYTES[protocol]
    for size, fits in ((limit - 16, True), (limit, False)):
        with translate(net.right.peer_id):
            call = net.stub(protocol).Blob(pb.BlobRequest(first=size))
            if fits:
                assert len((await call.read()).data) == size
                continue
            with pytest.raises(ProtocolError) as caught, translate(net.right.peer_id):
                await call.read()
            assert caught.value.reason == "size"


async def test_calls_work_again_after_the_servers_p2pd_was_killed(net):
    await net.hello()
    back = asyncio.Event()

    async def hook() -> None:
        await net.right.connect(net.left.peer_id, net.left.addresses)
        back.set()

    net.right.add_restart_hook(hook)
    async with asyncio.TaskGroup() as group:

        async def call():
            with pytest.raises(PeerUnavailable), translate(net.right.peer_id):
                await net.stub().Deliver(pb.Envelope())

        group.create_task(call())
        await net.servicer.entered.wait()
        os.kill(net.right.daemon.pid, signal.SIGKILL)
    await back.wait()
    assert (await net.hello(wait_for_ready=True)).protocol == 2


async def test_streams_over_the_quota_are_ended_and_others_live_on(net):
    await net.hello()
    streams = [
        await net.left.open_stream(net.right.peer_id, CONTROL_PROTOCOL)
        for _ in range(QuotaLimits().streams)
    ]
    await until(lambda: net.server.refused == 1)  # one was taken by hello
    assert (await net.hello()).protocol == 2
    for stream in streams:
        await stream.close()


async def test_bytes_over_the_quota_end_the_stream_by_name(pair):
    left, right = pair
    told = asyncio.get_running_loop().create_future()
    quotas = Quotas(QuotaLimits(byte_burst=50_000.0, bytes_per_s=1.0))
    server = RpcServer(
        right, Servicer, on_bad=lambda peer, why: told.set_result((peer, why)), quotas=quotas
    )
    await server.start()
    client = RpcClient(left)
    try:
        stub = client.stub(right.peer_id, CONTROL_PROTOCOL)
        request = pb.HelloRequest(member=pb.Envelope(body=bytes(200_000)))
        with pytest.raises(PeerUnavailable), translate(right.peer_id):
            await stub.Hello(request)
        assert await told == (left.peer_id, "bytes")
        assert server.traffic.received <= 50_000
    finally:
        await client.close()
        await server.close()


async def test_garbage_instead_of_grpc_harms_only_its_stream(net):
    stream = await net.left.open_stream(net.right.peer_id, CONTROL_PROTOCOL)
    with suppress(PeerUnavailable):  # refused while it still comes, the stream may be reset
        await stream.write(os.urandom(100_000))
        while await stream.read(2**16):
            pass
    await stream.close()
    assert (await net.hello()).protocol == 2


@pytest.mark.parametrize("net", [0.2], indirect=True)
async def test_server_of_an_idle_peer_is_stopped_and_comes_back(net):
    await net.hello()
    await asyncio.sleep(0.5)  # longer than the idle time, but the stream is open
    assert net.server.serving == 1
    await net.client.drop(net.right.peer_id)
    await until(lambda: net.server.serving == 0)
    assert (await net.hello()).protocol == 2


async def test_closed_server_ends_calls_and_serves_no_more(net):
    await net.hello()

    async def call():
        with translate(net.right.peer_id):
            await net.stub().Deliver(pb.Envelope())

    calling = asyncio.create_task(call())
    await net.servicer.entered.wait()
    await net.server.close()
    with pytest.raises(PeerUnavailable):
        await calling
    with pytest.raises(PeerUnavailable):
        await net.hello()


async def test_sockets_are_private_and_removed(net):
    await net.hello()
    folders: list[Path] = [net.client._folder.path, net.server._folder.path]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    await net.client.close()
    await net.server.close()
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize(
    ("code", "details", "kind", "error_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, PeerUnavailable, "SK-NET-003"),
        (grpc.StatusCode.CANCELLED, "x", PeerUnavailable, "SK-NET-003"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls", PeerUnavailable, "SK-NET-003"),
        (grpc.StatusCode.UNIMPLEMENTED, "SK-PRO-999: no", ProtocolError, "SK-PRO-004"),
        (grpc.StatusCode.FAILED_PRECONDITION, "SK-CFG-001: no", ProtocolError, "SK-PRO-004"),
        (grpc.StatusCode.FAILED_PRECONDITION, "SK-PRO-001: old", ProtocolError, "SK-PRO-001"),
    ],
)
def test_every_status_becomes_one_of_ours(code, details, kind, error_code):
    nothing = grpc.aio.Metadata()
    error = translated(STRANGER, grpc.aio.AioRpcError(code, nothing, nothing, details))
    assert type(error) is kind
    assert error.code == error_code


@pytest.mark.parametrize("reason", ["", "x" * 41])
def test_reason_of_a_stranger_is_bounded(reason):
    code, nothing = grpc.StatusCode.FAILED_PRECONDITION, grpc.aio.Metadata()
    trailing = grpc.aio.Metadata(("skerry-reason", reason))
    error = translated(STRANGER, grpc.aio.AioRpcError(code, nothing, trailing, "y" * 10_000))
    assert isinstance(error, ProtocolError)
    assert error.reason == "failed-precondition"
    assert len(error.detail) < 700
