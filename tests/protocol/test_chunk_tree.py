"""Addresses of blobs: a tree over their chunks, in which nothing can stand for anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.chunk_tree import (
    CHUNK_BYTES,
    ChunkTree,
    address_of,
    cut,
    leaves_bytes,
    tree_of,
)
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import HASH_BYTES, content_hash

SIZES = [CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 7]


def data_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@given(st.binary(max_size=50))
def test_a_blob_of_one_chunk_has_its_plain_hash_and_no_list(data):
    tree = tree_of(cut(data), len(data))
    assert (tree.address, tree.leaves, tree.num_chunks) == (content_hash(data), b"", 1)
    assert tree.fits(0, data)
    assert not tree.fits(0, data + b"x")


@pytest.mark.parametrize("size", SIZES)
def test_each_chunk_fits_its_own_place_only(size):
    data = data_of(size)
    tree, chunks = tree_of(cut(data), size), [bytes(chunk) for chunk in cut(data)]
    assert [len(chunk) for chunk in chunks] == [tree.length(i) for i in range(tree.num_chunks)]
    fitting = [
        (place, i)
        for i, chunk in enumerate(chunks)
        for place in range(tree.num_chunks)
        if tree.fits(place, chunk)
    ]
    assert fitting == [(i, i) for i in range(tree.num_chunks)]
    for i, chunk in enumerate(chunks):
        assert not tree.fits(i, chunk[:-1] + bytes([chunk[-1] ^ 1]))
        assert not tree.fits(i, chunk[:-1])
    assert address_of(data) == tree.address != content_hash(data)


def test_equal_chunks_in_two_places_have_two_hashes():
    leaves = tree_of(cut(bytes(2 * CHUNK_BYTES)), 2 * CHUNK_BYTES).leaves
    assert leaves[:HASH_BYTES] != leaves[HASH_BYTES:]


def test_the_list_of_hashes_is_no_blob_of_the_same_address():
    """Or a peer could give the list as if it were the parameters."""
    tree = tree_of(cut(data_of(3 * CHUNK_BYTES)), 3 * CHUNK_BYTES)
    assert address_of(tree.leaves) != tree.address


@given(st.integers(0, 3 * HASH_BYTES - 1), st.integers(1, 255))
def test_a_received_list_is_the_blobs_or_refused(place, change):
    tree = tree_of(cut(bytes(3 * CHUNK_BYTES)), 3 * CHUNK_BYTES)
    assert ChunkTree.received(tree.address, tree.size, tree.leaves) == tree
    altered = bytearray(tree.leaves)
    altered[place] ^= change
    for leaves in (bytes(altered), tree.leaves[:place], tree.leaves + b"x"):
        with pytest.raises(ProtocolError) as caught:
            ChunkTree.received(tree.address, tree.size, leaves)
        assert caught.value.reason == "hash"


def test_a_list_of_another_size_than_announced_is_refused():
    """The size is the layout's: a tree with a chunk more or less is another blob's."""
    tree = tree_of(cut(bytes(3 * CHUNK_BYTES)), 3 * CHUNK_BYTES)
    for size in (2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 1, CHUNK_BYTES):
        with pytest.raises(ProtocolError):
            ChunkTree.received(tree.address, size, tree.leaves)
    assert leaves_bytes(CHUNK_BYTES) == 0
