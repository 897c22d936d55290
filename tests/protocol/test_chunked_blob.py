"""Downloads by chunks: any order, any number of attempts, nothing unchecked on disk."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import CHUNK_BYTES, cut, tree_of
from skerry.protocol.chunked_blob import ChunkedBlob
from skerry.protocol.errors import ProtocolError

DATA = bytes(range(251)) * (4 * 2**20 // 251)
CHUNKS = [bytes(chunk) for chunk in cut(DATA)]
TREE = tree_of(CHUNKS, len(DATA))
PLACES = range(len(CHUNKS))


@settings(max_examples=20)
@given(st.permutations(PLACES), st.integers(0, len(CHUNKS)))
def test_chunks_in_any_order_and_after_a_restart_are_the_blob(tmp_path_factory, order, before):
    folder = tmp_path_factory.mktemp("blobs")
    first = ChunkedBlob(BlobStore(folder), TREE)
    assert first.begin() == list(PLACES)
    for i in order[:before]:
        first.keep(i, CHUNKS[i])
    store = BlobStore(folder)
    assert store.size(TREE.address) is None
    assert store.known_tree(TREE.address, len(DATA)) == TREE
    again = ChunkedBlob(store, TREE)
    assert again.begin() == sorted(order[before:])
    for i in order[before:]:
        again.keep(i, CHUNKS[i])
    again.publish()
    assert store.read(TREE.address) == DATA
    assert list(store.chunks(store.tree(TREE.address), 0, len(CHUNKS))) == CHUNKS


def test_a_false_chunk_is_not_kept(tmp_path):
    blob = ChunkedBlob(BlobStore(tmp_path), TREE)
    blob.begin()
    for data in (CHUNKS[0], CHUNKS[1][:-1], bytes(CHUNK_BYTES)):
        with pytest.raises(ProtocolError) as caught:
            blob.keep(1, data)
        assert caught.value.reason == "hash"
    assert blob.begin() == list(PLACES)


def test_what_was_damaged_between_two_attempts_is_missing_again(tmp_path):
    store = BlobStore(tmp_path)
    blob = ChunkedBlob(store, TREE)
    blob.begin()
    for i in PLACES:
        blob.keep(i, CHUNKS[i])
    damaged = bytearray(DATA + b"longer")
    damaged[2 * CHUNK_BYTES] ^= 1
    store.part(TREE.address).write_bytes(damaged)
    assert blob.begin() == [2]
    blob.keep(2, CHUNKS[2])
    blob.publish()
    assert store.read(TREE.address) == DATA
