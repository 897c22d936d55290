"""A joiner's parameters: from several peers, past one that lies, and on after a SIGKILL."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hostile_peer import BEAT_S, PATIENCE_S, HostilePeer
from swarm import Peer, Swarm

from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import CHUNK_BYTES, leaves_bytes
from skerry.protocol.chunked_blob import ChunkedBlob
from skerry.protocol.ids import Address, RunId
from skerry.protocol.layout import layout_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.chaos,
    pytest.mark.asyncio(loop_scope="module"),
]

_SLOWLY = '[bandwidth]\nmax_download = "8mbit"\n'
"""17 MB take 17 seconds: to be killed half-way, and then to learn of both honest peers."""


@pytest.fixture(scope="module")
def honest(swarm: Swarm) -> list[Peer]:
    """Two daemons that go on with a round only when all of its roster have sent something."""
    peers = swarm.start("a", "b")
    large = {"vocab_size": 32768, "d_model": 64}  # 8 chunks of embedding, 8 of head
    swarm.begin(peers, 0, steps=2, deadline_min="20m", deadline_max="20m", replay=1, **large)
    for peer in peers:  # so many that nobody has the payloads of the first any more
        peer.wait_for("applied", patience=PATIENCE_S, round=6)
    return peers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(swarm: Swarm, honest: list[Peer]) -> AsyncIterator[HostilePeer]:
    """An admitted peer that says it has every state, and gives zeros in their place."""
    peer = await HostilePeer.create(swarm.folder / "liar", swarm.token)
    try:
        await peer.enter()

        async def lie(request: pb.BlobRequest) -> AsyncIterator[pb.BlobChunk]:
            size = _state_of(peer).get(Address(request.address.hex()))
            if size is None:  # a payload: of those it has none
                return
            yield pb.BlobChunk(size=size)
            if request.tree:
                yield pb.BlobChunk(tree=bytes(leaves_bytes(size)))
            else:
                yield pb.BlobChunk(data=bytes(min(size, CHUNK_BYTES)))

        peer.otherwise = lie
        yield peer
    finally:
        await peer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def beating(liar: HostilePeer) -> AsyncIterator[asyncio.Task[None]]:
    """The liar's signs of life: in the roster it sends nothing, so no round ends meanwhile."""
    task = asyncio.create_task(liar.beat())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not _is_in_the_roster(liar):
                await asyncio.sleep(BEAT_S)
                await liar.enter()  # the commit may have come before anyone could send it here
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _is_in_the_roster(liar: HostilePeer) -> bool:
    return liar.head is not None and liar.me in liar.head.message.roster


async def test_a_joiner_takes_its_state_from_several_past_a_liar_and_after_a_kill(
    swarm: Swarm, honest: list[Peer], liar: HostilePeer, beating: asyncio.Task[None]
) -> None:
    late = await _joined(swarm, liar)
    refused = await asyncio.to_thread(
        late.wait_for, "refused", 0, peer=liar.me, reason="false-state"
    )
    assert "hash" in refused["detail"] or "chunks" in refused["detail"]
    blobs = BlobStore(late.home.run(RunId(swarm.run_id)).blobs)
    await asyncio.to_thread(_until_some_is_kept, blobs)
    liar.members.pop(late.peer_id)  # who is dead keeps it from beating
    late.kill()
    assert not [event for event in late.recorded() if event["event"] == "state-downloaded"]
    kept = _kept_bytes(blobs, _state_of(liar))
    assert kept >= CHUNK_BYTES

    late.restart()
    await asyncio.to_thread(late.ready)
    downloaded = await asyncio.to_thread(late.wait_for, "state-downloaded", 0, PATIENCE_S)
    sources = downloaded["sources"]
    assert downloaded["bytes"] == kept + sum(sources.values()), "what was kept came again"
    assert sources.keys() == {peer.peer_id for peer in honest}, "not from all who have it"
    moments = await asyncio.to_thread(late.wait_for, "moments", 0, PATIENCE_S)
    assert moments["taken"] and set(moments["givers"]) <= sources.keys()

    beating.cancel()  # nobody waits for it any more
    trained = await asyncio.to_thread(late.wait_for, "trained", 0, PATIENCE_S)
    applied = await asyncio.to_thread(
        late.wait_for, "applied", 0, PATIENCE_S, round=trained["round"]
    )
    theirs = await asyncio.to_thread(
        honest[0].wait_for, "applied", None, PATIENCE_S, round=trained["round"]
    )
    assert applied["digest"] == theirs["digest"]


async def _joined(swarm: Swarm, liar: HostilePeer) -> Peer:
    """Return a new peer that knows the liar before it chooses whom to ask for the state."""
    for number in range(9):
        [late] = await asyncio.to_thread(swarm.start, f"late-{number}", config=_SLOWLY)
        await asyncio.to_thread(late.client.join, swarm.token)
        with late.frozen("compute"):  # so long it cannot begin anywhere
            await liar.enter()
            alive = {liar.me, *liar.others} - {late.peer_id}
            await asyncio.to_thread(
                late.wait_until,
                lambda run, alive=alive: alive <= {p.peer_id for p in run.peers if p.alive},
                "in touch with all",
            )
            begun = late.log.find(lambda event: "downloading" in event.get("text", ""), 0)
        if begun is None:
            return late
        await asyncio.to_thread(late.client.leave)  # it was too quick for us
        liar.members.pop(late.peer_id)
    raise AssertionError("each began before it knew everybody")


def _until_some_is_kept(blobs: BlobStore) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while sum(part.stat().st_blocks * 512 for part in blobs.folder.glob("*.part")) < CHUNK_BYTES:
        assert time.monotonic() < deadline, "nothing is kept"
        time.sleep(0.02)


def _kept_bytes(blobs: BlobStore, state: dict[Address, int]) -> int:
    """Return how much of a state lies in a store, checked."""
    kept = 0
    for address, size in state.items():
        tree = blobs.known_tree(address, size)
        if blobs.size(address) is not None:
            kept += size
        elif tree is not None and blobs.part(address).exists():
            missing = ChunkedBlob(blobs, tree).begin()
            kept += size - sum(tree.length(chunk) for chunk in missing)
    return kept


def _state_of(liar: HostilePeer) -> dict[Address, int]:
    """Return where the shards of the newest state lie, and how large they are."""
    assert liar.head is not None
    sizes = {spec.name: spec.state_bytes for spec in layout_of(liar.manifest.model)}
    return {entry.address: sizes[entry.shard] for entry in liar.head.message.state}
