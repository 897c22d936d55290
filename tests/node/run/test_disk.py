"""What is on disk after a power cut: a state is named there only with all that it rests on."""

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from pathlib import Path

import event_strategies
import forgetful_disk
import pytest

from skerry.node.home import RunHome
from skerry.node.run.disk import DiskWriter
from skerry.node.run.store import RunStore
from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import address_of
from skerry.protocol.messages import Announce, Commit, ShardPayload
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.events import LocalState

COMMITS = tuple({commit.hash: commit for commit in event_strategies.signed(Commit)}.values())
OWN = tuple(event_strategies.signed(Announce))


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """Where what is synced from now on is noted."""
    monkeypatch.setattr(os, "fsync", os.fsync)  # to have it back afterwards
    forgetful_disk.note_syncs(str(tmp_path), str(tmp_path.with_name(f"{tmp_path.name}.synced")))
    return tmp_path.with_name(f"{tmp_path.name}.synced")


@asynccontextmanager
async def writer_of(member):
    async with asyncio.TaskGroup() as group:
        yield DiskWriter(member.context, group)


async def done(writer: DiskWriter) -> None:
    """Wait until the disk has done what was asked so far; nothing is written in the end."""
    await writer._begin(lambda: None)
    writer._thread.shutdown()


def fetched(blobs: BlobStore, data: bytes) -> ShardPayload:
    """Bring a blob as a download does."""
    partial = blobs.partial(address_of(data), len(data))
    partial.append(data)
    partial.finish()
    return ShardPayload("embed", address_of(data), len(data))


def state(letter: str, *shards: ShardPayload) -> LocalState:
    return LocalState(letter * 64, shards, after=COMMITS[1].hash)


async def test_a_state_is_there_with_its_chain_and_its_blobs(member, kept, tmp_path) -> None:
    one = await member()
    blobs, home = one.context.blobs, RunHome(one.folder / "run")
    put = ShardPayload("head", blobs.put(b"made here"), 9)
    named = state("1", fetched(blobs, b"of another peer"), put)
    async with writer_of(one) as writer:
        writer.write(act.StoreCommits(COMMITS[:1]))
        writer.write(act.StoreCommits(COMMITS[1:2]))
        writer.write(act.StoreStates((named,)))
        writer.write(act.StoreCommits(COMMITS[2:3]))
        await done(writer)
    forgetful_disk.cut(tmp_path, kept)
    store = RunStore(home)
    assert store.chain.load() == COMMITS[:2]
    assert store.load_states() == (named,)
    assert [BlobStore(home.blobs).size(shard.address) for shard in named.shards] == [15, 9]


async def test_of_commits_that_no_state_rests_on_none_need_be_there(member, kept, tmp_path) -> None:
    """And so a missing sync would be seen above."""
    one = await member()
    async with writer_of(one) as writer:
        writer.write(act.StoreCommits(COMMITS))
        await done(writer)
    forgetful_disk.cut(tmp_path, kept)
    assert RunStore(RunHome(one.folder / "run")).chain.load() == ()


async def test_one_sync_does_for_all_commits_since_the_last_state(member, monkeypatch) -> None:
    one, synced, real = await member(), [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition(".")[0])
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with writer_of(one) as writer:
        for commit in COMMITS[:3]:
            writer.write(act.StoreCommits((commit,)))
        for _ in range(2):
            writer.write(act.StoreStates(()))
        await done(writer)
    assert synced.count("chain") == 1
    assert synced.count("states") == 2


async def test_an_own_announcement_is_there_once_it_may_be_sent(member, kept, tmp_path) -> None:
    one = await member()
    async with writer_of(one) as writer:
        await writer.keep_own(OWN[0])
        await done(writer)
    forgetful_disk.cut(tmp_path, kept)
    assert RunStore(RunHome(one.folder / "run")).load_own() == OWN[:1]


async def test_a_state_is_not_named_while_its_chain_cannot_be_written(member, monkeypatch) -> None:
    one = await member()
    blobs, store = one.context.blobs, one.context.store
    old, new = (ShardPayload("embed", blobs.put(data), 3) for data in (b"old", b"new"))
    real, full = os.fsync, True

    def fsync(descriptor: int) -> None:
        if full and os.readlink(f"/proc/self/fd/{descriptor}").endswith("chain.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    async with writer_of(one) as writer:
        writer.write(act.StoreStates((state("1", old),)))
        await writer._begin(lambda: None)
        monkeypatch.setattr(os, "fsync", fsync)
        writer.write(act.StoreCommits(COMMITS[:1]))
        writer.write(act.StoreStates((state("2", new),)))
        writer.write(act.Retain(frozenset({new.address})))
        await writer._begin(lambda: None)
        assert store.load_states() == (state("1", old),)
        # What the list names is still there: the next start finds it again.
        BlobStore(blobs.folder).clear_leftovers()
        assert blobs.read(old.address) == b"old"
        full = False
        writer.write(act.StoreStates((state("2", new),)))
        writer.write(act.Retain(frozenset({new.address})))
        await done(writer)
    assert store.load_states() == (state("2", new),)
    assert list(blobs.folder.iterdir()) == [blobs.path(new.address)]
