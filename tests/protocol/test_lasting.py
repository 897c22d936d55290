"""Which blobs are synced, and when: no more than what is rested on."""

import os

from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import address_of


def test_only_what_may_be_in_memory_alone_is_synced_and_only_once(tmp_path, monkeypatch):
    store = BlobStore(tmp_path)
    put, brought, other = store.put(b"put"), address_of(b"brought"), address_of(b"other")
    for name, data in ((brought, b"brought"), (other, b"other")):
        partial = store.partial(name, len(data))
        partial.append(data)
        partial.finish()
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):
        store.lasting.make_durable([put, brought, address_of(b"not here")])
    assert synced == [brought, tmp_path.name, tmp_path.name]
    del synced[:]
    BlobStore(tmp_path).lasting.make_durable([other, brought])  # whatever an earlier process did
    assert sorted(synced) == sorted([other, brought, tmp_path.name])


def test_of_what_is_gone_nothing_is_remembered(tmp_path):
    left = BlobStore(tmp_path).put(b"left")
    store = BlobStore(tmp_path)
    store.set_aside([])
    assert store.lasting.unchecked([left]) == set()
    assert not store.lasting._in_memory


def test_only_what_an_earlier_process_left_is_unchecked_and_only_once(tmp_path):
    left = BlobStore(tmp_path).put(b"left")
    store = BlobStore(tmp_path)
    own = store.put(b"own")
    assert store.lasting.unchecked([left, own]) == {left}
    assert store.lasting.unchecked([left, own]) == set()
