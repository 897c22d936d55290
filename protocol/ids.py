"""The distinct kinds of names that travel through skerry, and how content is addressed."""

from hashlib import blake2b
from typing import NewType

PeerId = NewType("PeerId", str)
"""libp2p peer id in base58; an Ed25519 id (``12D3Koo…``) carries its own public key."""

RunId = NewType("RunId", str)
"""BLAKE2b-256 of the canonical manifest, 64 hex digits."""

CommitHash = NewType("CommitHash", str)
"""BLAKE2b-256 of a commit's signed body, 64 hex digits."""

Address = NewType("Address", str)
"""Root of the BLAKE2b-256 tree over a blob's chunks (chunk_tree.py), 64 hex digits."""

Digest = NewType("Digest", str)
"""State digest: hash over the addresses of all parameter shards, 64 hex digits."""

HASH_BYTES = 32


def content_hash(data: bytes | memoryview) -> str:
    """Return the BLAKE2b-256 of ``data`` as 64 hex digits."""
    return blake2b(data, digest_size=HASH_BYTES).hexdigest()


def is_hash(text: str) -> bool:
    """Say whether ``text`` is 64 lower-case hex digits."""
    return len(text) == 2 * HASH_BYTES and all(c in "0123456789abcdef" for c in text)


def short(name: str) -> str:
    """Return the few characters by which people tell ids apart in logs."""
    return name[-6:] if name.startswith("12D3") else name[:8]
