"""How blobs are addressed: the root of a hash tree over their chunks, two levels high.

A commit names the parameters of a shard by this root, so whoever knows the commit can check the
list of the chunks' hashes when it comes, and each chunk by itself as soon as it is here, whoever
sent it. A blob of one chunk is addressed by its plain hash, and has no list.

Source: BLAKE2 (Aumasson, Neves, Wilcox-O'Hearn, Winnerlein 2013, section 2.10, tree hashing):
unlimited fan-out, depth 2; place and level of a node are parameters of its hash, so neither a leaf
nor the root can stand for anything else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import HASH_BYTES, Address, content_hash

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ChunkTree:
    """What the bytes of one blob must be, chunk by chunk."""

    address: Address
    size: int
    """Of the blob, in bytes."""
    leaves: bytes
    """The hashes of all chunks, one after another; empty where there is one chunk."""

    @classmethod
    def received(cls, address: Address, size: int, leaves: bytes) -> Self:
        """Return the tree that a peer sent. Raises: ProtocolError("hash") if it is another's."""
        if len(leaves) != leaves_bytes(size) or (leaves and _root(leaves) != address):
            raise ProtocolError("hash", f"blob {address[:8]} does not consist of these chunks")
        return cls(address, size, leaves)

    @property
    def num_chunks(self) -> int:
        """How many chunks there are; an empty blob is one."""
        return num_chunks(self.size)

    def length(self, index: int) -> int:
        """Return the size of a chunk in bytes."""
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)

    def fits(self, index: int, data: bytes | memoryview) -> bool:
        """Say whether ``data`` is the chunk of that number."""
        if not self.leaves:
            return content_hash(data) == self.address
        start = index * HASH_BYTES
        found = _leaf(data, index, self.num_chunks)
        return len(data) == self.length(index) and found == self.leaves[start : start + HASH_BYTES]


def num_chunks(size: int) -> int:
    """Return how many chunks a blob of ``size`` bytes has."""
    return max(1, -(-size // CHUNK_BYTES))


def leaves_bytes(size: int) -> int:
    """Return how long the list of hashes of a blob of ``size`` bytes is."""
    return num_chunks(size) * HASH_BYTES if size > CHUNK_BYTES else 0


def tree_of(chunks: Iterable[bytes | memoryview], size: int) -> ChunkTree:
    """Return the tree of ``size`` bytes that come in chunks of CHUNK_BYTES, the last shorter."""
    if size <= CHUNK_BYTES:
        return ChunkTree(Address(content_hash(b"".join(chunks))), size, b"")
    count = num_chunks(size)
    leaves = b"".join(_leaf(chunk, index, count) for index, chunk in enumerate(chunks))
    return ChunkTree(_root(leaves), size, leaves)


def address_of(data: bytes | memoryview) -> Address:
    """Return the address of a blob."""
    return tree_of(cut(data), len(data)).address


def cut(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the chunks of a blob, without a copy."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def _leaf(data: bytes | memoryview, index: int, count: int) -> bytes:
    return blake2b(
        data,
        digest_size=HASH_BYTES,
        fanout=0,
        depth=2,
        leaf_size=CHUNK_BYTES,
        inner_size=HASH_BYTES,
        node_offset=index,
        node_depth=0,
        last_node=index == count - 1,
    ).digest()


def _root(leaves: bytes) -> Address:
    root = blake2b(
        leaves,
        digest_size=HASH_BYTES,
        fanout=0,
        depth=2,
        leaf_size=CHUNK_BYTES,
        inner_size=HASH_BYTES,
        node_depth=1,
        last_node=True,
    )
    return Address(root.hexdigest())
