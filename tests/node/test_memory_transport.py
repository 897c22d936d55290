"""The in-memory transport passes the common suite, and gRPC runs over it as over p2pd."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transport_conformance import ECHO, Pair, TransportConformance, connect, echo

from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.rpc_errors import translate
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId
from skerry.protocol.memory import Limits, Link, VirtualNetwork
from skerry.protocol.signing import Signer
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL

LINKS = [Link(), Link(delay_s=0.002, jitter_s=0.004, loss=0.05, retransmit_s=0.005)]


@pytest.fixture(params=LINKS, ids=["perfect", "lossy"])
async def network(request: pytest.FixtureRequest):
    return VirtualNetwork(seed=1, link=request.param, limits=Limits(connect_s=5.0, stall_s=0.2))


@pytest.fixture
async def pair(network: VirtualNetwork):
    left, right = (
        network.transport(Signer(Ed25519PrivateKey.generate()).peer_id) for _ in range(2)
    )
    yield await connect((left, right))
    await left.close()
    await right.close()


class MortalPeer:
    """A peer on the virtual network that can crash."""

    def __init__(self, network: VirtualNetwork, peer_id: PeerId) -> None:
        self._network, self.peer_id = network, peer_id
        self.addresses: tuple[str, ...] = ()

    async def revive(self) -> None:
        transport = self._network.transport(self.peer_id)
        self.addresses = transport.addresses
        await transport.handle(ECHO, echo)

    async def kill(self) -> None:
        self._network.crash(self.peer_id)


@pytest.fixture
async def mortal(network: VirtualNetwork):
    transport = network.transport(Signer(Ed25519PrivateKey.generate()).peer_id)
    peer = MortalPeer(network, Signer(Ed25519PrivateKey.generate()).peer_id)
    await peer.revive()
    await transport.connect(peer.peer_id, peer.addresses)
    yield transport, peer
    await transport.close()
    await peer.kill()


class TestMemoryTransport(TransportConformance):
    pass


class Servicer(PeerServicer):
    """Answers with the id of the caller that the transport has proven."""

    def __init__(self, caller: PeerId) -> None:
        self._caller = caller

    async def Deliver(self, request, context):
        return pb.DeliverReply(refused=self._caller)

    async def Blob(self, request, context):
        yield pb.BlobChunk(size=3 * 2**19)
        for part in range(3):
            yield pb.BlobChunk(data=bytes([part]) * 2**19)


@pytest.fixture
async def rpc(pair: Pair):
    left, right = pair
    server, client = RpcServer(right, Servicer), RpcClient(left)
    await server.start()
    yield client
    await client.close()
    await server.close()


async def test_calls_over_memory_streams(pair: Pair, rpc: RpcClient) -> None:
    left, right = pair
    stub = rpc.stub(right.peer_id, CONTROL_PROTOCOL)
    reply = await stub.Deliver(pb.Envelope(body=b"x"), timeout=60, wait_for_ready=True)
    assert reply.refused == left.peer_id
    bulk = rpc.stub(right.peer_id, BULK_PROTOCOL)
    chunks = [chunk async for chunk in bulk.Blob(pb.BlobRequest(), timeout=60, wait_for_ready=True)]
    data = b"".join(chunk.data for chunk in chunks)
    assert chunks[0].size == len(data) == 3 * 2**19
    assert data[2**19] == 1


async def test_partition_fails_calls_and_healing_brings_them_back(
    network: VirtualNetwork, pair: Pair, rpc: RpcClient
) -> None:
    left, right = pair
    stub = rpc.stub(right.peer_id, CONTROL_PROTOCOL)
    await stub.Deliver(pb.Envelope(), timeout=60, wait_for_ready=True)
    network.set_partition([[left.peer_id], [right.peer_id]])
    with pytest.raises(PeerUnavailable), translate(right.peer_id):
        await stub.Deliver(pb.Envelope(), timeout=60)
    network.heal()
    await left.connect(right.peer_id, right.addresses)
    reply = await stub.Deliver(pb.Envelope(), timeout=60, wait_for_ready=True)
    assert reply.refused == left.peer_id
